"""Edit to settled: a rolling update of two tasks by a bare loop, by Holdfast and by ecs-deploy, in turns."""

import os
import subprocess
import sys
import time

from common import median, ms, table
from ecs_bed import ACCOUNT, REGION, Controller, Emulator, environment

POLL = 0.25
GOAL = 1.1


def bare_loop(emulator, name, digest):
    """What the shortest deploy job does: registers, updates, asks every 250 ms."""
    began = time.monotonic()
    arn = emulator.ecs.register_task_definition(**emulator.definition(name, f"@{digest}"))["taskDefinition"]["taskDefinitionArn"]
    reply = emulator.ecs.update_service(cluster="bench", service=name, taskDefinition=arn)["service"]
    deployment = next(it["id"] for it in reply["deployments"] if it["status"] == "PRIMARY")
    while not emulator.is_done(name, deployment):
        time.sleep(POLL)
    return time.monotonic() - began


def ecs_deploy(emulator, name, tag):
    """As a CI job calls it, its own start included."""
    program = os.path.join(os.path.dirname(sys.executable), "ecs")
    began = time.monotonic()
    done = subprocess.run([program, "deploy", "bench", name, "--tag", tag, "--region", REGION, "--no-deregister", "--timeout", "60"],
                          env=environment(emulator.endpoint), capture_output=True, text=True)
    took = time.monotonic() - began
    if done.returncode != 0:
        raise SystemExit(f"error: ecs deploy: {done.stdout}{done.stderr}")
    return took


def desired(emulator, name, tag):
    return (f'aws: {{account: "{ACCOUNT}", region: {REGION}}}\nservices:\n  {name}:\n    image: localhost:{emulator.port}/{name}\n'
            f"    tag: {tag}\n    replicas: 2\n    ecs: {{cluster: bench, service: {name}, family: family-{name}}}\n"
            "    rollout: {strategy: rolling}\n")


def holdfast(controller, emulator, name, tag):
    """From the rename of the file to the word `settled`; where the time went beside it."""
    since = len(controller.events)
    began = controller.desire(desired(emulator, name, tag))

    def event(what, met):
        return controller.await_event(what, lambda it: it["service"] == name and met(it), since)["at"] - began
    settled = event("it to settle", lambda it: it["kind"] == "settled" and tag in it["message"])
    updated = event("the update", lambda it: it["kind"] == "step" and it["message"].startswith("update "))
    begun = event("the attempt", lambda it: it["message"].startswith("begin "))
    committed = event("the commit", lambda it: it["message"].startswith("commit "))
    return {"settled": settled, "begun": begun, "updated": updated, "committed": committed}


def bench(options):
    names = ("bare", "ours", "peer")
    floors, ours, peers = [], [], []
    # An image of its own for each round: nothing is there already. The first round does not count: connections are made.
    tags = [f"r{round_}" for round_ in range(options.rounds + 1)]
    with Emulator(options.emulator_python, ["v1", *tags]) as emulator:
        digests = {name: emulator.repository(name) for name in names}
        for name in names:
            emulator.service(name)
        registries = f'registries: [{{host: "localhost:{emulator.port}", kind: ecr, region: {REGION}}}]'
        with Controller(options.binary, emulator.endpoint, [registries]) as controller:
            controller.desire(desired(emulator, "ours", "v1"))
            controller.start()
            controller.await_event("v1 to be adopted", lambda it: it["kind"] == "settled")
            for round_, tag in enumerate(tags):
                figures = (bare_loop(emulator, "bare", digests["bare"][tag]), holdfast(controller, emulator, "ours", tag),
                           ecs_deploy(emulator, "peer", tag))
                if round_ > 0:
                    for list_, figure in zip((floors, ours, peers), figures):
                        list_.append(figure)
    report(options, floors, ours, peers)


def report(options, floors, ours, peers):
    floor = median(floors)
    ratio = median([it["settled"] for it in ours]) / floor
    rows = [["a bare loop, 250 ms", ms(floor), "1.00", "", ""],
            ["holdfast", ms(ratio * floor), f"{ratio:.2f}", f"<= {GOAL}", "yes" if ratio <= GOAL else "NO"],
            ["ecs-deploy 1.17", ms(median(peers)), f"{median(peers) / floor:.2f}", "", ""]]
    table(f"Edit to settled, two tasks, rolling (medians of {options.rounds}, in turns)", rows,
          ["what", "took", "ratio", "goal", "met"], bare=floors, holdfast=ours, ecsDeploy=peers)
    parts = [("the edit is seen, a rollout begun", "begun", None), ("registered, tagged, updated", "updated", "begun"),
             ("ECS brings it up, the end is seen", "committed", "updated"), ("committed to settled", "settled", "committed")]
    rows = [[what, ms(median([it[end] - (it[begin] if begin else 0) for it in ours]))] for what, end, begin in parts]
    table("Where holdfast's time goes", rows, ["from one to the next", "median"])
