#!/usr/bin/env python3
"""The figures of README.md: what Holdfast needs, beside what the same work by hand needs, in the same run."""

import argparse
import json
import os
import shutil
import subprocess
import time

from common import Load, get, keep_tables, median, ms, print_kept, resident, say, sh, table, ticks, until
from world import API, ID, IMAGE, WEB, World

HAND = 23910
SEED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "seed.sh")


def run_by_hand(name, port, tag):
    return subprocess.Popen(
        ["docker", "run", "-d", "--name", name, "-p", f"127.0.0.1:{port}:8080", f"{IMAGE}:{tag}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def floor_of_edit(world, tag, replicas):
    """docker run, first 200 of each, the servers file, nginx -s reload, first new answer."""
    sh("docker", "ps", "-q")  # the client is warm, as it would be in a script
    began = time.monotonic()
    started = [run_by_hand(f"hfbench-{n}", HAND + n, tag) for n in range(replicas)]
    for process in started:
        if process.wait() != 0:
            raise SystemExit(f"error: docker run: {process.stderr.read().decode()}")
    for n in range(replicas):
        until("the app", lambda: get(HAND + n, "/healthz")[0] == 200)
    world.write_servers("".join(f"server 127.0.0.1:{HAND + n};\n" for n in range(replicas)))
    world.reload()
    until("the new version", lambda: get(world.web)[1] == tag)
    took = time.monotonic() - began
    # The next round answers with another tag only once this one is gone.
    world.write_servers("server 127.0.0.1:1 down;\n")
    world.reload()
    sh("docker", "rm", "-f", *[f"hfbench-{n}" for n in range(replicas)])
    until("the old workers", lambda: get(world.web)[0] in (502, 503), gap=0.01)
    return took


def bench_edit(options):
    rows = []
    for replicas in (1, 4):
        floors, ours = [], []
        with World(options.binary) as world, World(options.binary, web=WEB + 2) as by_hand:
            world.start_nginx()
            by_hand.start_nginx()
            tag = "v1"
            world.desire(tag, replicas)
            world.start()
            world.settled(tag)
            # In turns, so that both meet the same machine.
            for _ in range(options.rounds):
                tag = "v2" if tag == "v1" else "v1"
                floors.append(floor_of_edit(by_hand, tag, replicas))
                began = time.monotonic()
                world.desire(tag, replicas)
                # By hand nothing is asked while the engine works, and asking takes a core from it. It is never done earlier.
                time.sleep(0.6 * min(floors))
                until("the new version", lambda: get(WEB)[1] == tag)
                ours.append(time.monotonic() - began)
                world.settled(tag)
        bound = 1.1 if replicas == 1 else 1.2
        ratio = median(ours) / median(floors)
        rows.append([replicas, ms(median(floors)), ms(median(ours)), f"{ratio:.2f}", f"<= {bound}", "yes" if ratio <= bound else "NO"])
    table(f"Edit of the tag to the first new response through nginx (medians of {options.rounds})", rows,
          ["replicas", "by hand", "holdfast", "ratio", "goal", "met"])


def row_of(name, mode, switches, counts):
    return [name, mode, switches, f"{counts['requests']:,}", counts["non2xx"], counts["errors"], counts["closedReused"],
            f"{counts['retriedOk']} of {counts['closedReused']}"]


def add(sum_, counts):
    return {key: sum_.get(key, 0) + value for key, value in counts.items()}


def bench_load(options):
    rows = []
    blocks = 5
    for mode in ("keepalive", "close"):
        ours, bare = {}, {}
        with World(options.binary) as world:
            world.start_nginx()
            world.desire("v1", colour="blue", bake="1h")
            world.start()
            world.settled("v1", 60)
            colour, took = "blue", []
            # In turns, so that both meet the same machine: a block of switches, a block of as many bare reloads.
            for _ in range(blocks):
                load = Load(options, mode, options.requests // 2 // blocks, WEB)
                for _ in range(options.switches // blocks):
                    colour = "green" if colour == "blue" else "blue"
                    before = world.workers()
                    began = time.monotonic()
                    world.desire("v1", colour=colour, bake="1h")
                    until(f"{colour} to serve", lambda: world.status()["activeColour"] == colour, gap=0.01)
                    until("the old workers to leave", lambda: not (before & world.workers()), gap=0.01)
                    took.append(time.monotonic() - began)
                ours = add(ours, load.end())
                load = Load(options, mode, 0, WEB)
                for _ in range(options.switches // blocks):
                    before, began = world.workers(), time.monotonic()
                    world.reload()
                    until("the old workers to leave", lambda: not (before & world.workers()), gap=0.01)
                    time.sleep(max(0.0, median(took) - (time.monotonic() - began)))
                bare = add(bare, load.end())
        rows.append(row_of("holdfast", mode, options.switches, ours))
        rows.append(row_of("bare nginx -s reload", mode, options.switches, bare))

        with World(options.binary) as world:
            world.start_nginx(f"server 127.0.0.1:{HAND + 1};\nserver 127.0.0.1:{HAND};\n")
            seed = [SEED, "v1", IMAGE, world.conf, str(HAND), str(HAND + 1), "hfbench"]
            sh(*seed, check=False)
            until("the seed's first deploy", lambda: get(WEB)[0] == 200)
            load = Load(options, mode, 0, WEB)
            for _ in range(options.seed_runs):
                sh(*seed, check=False)
            rows.append(row_of("the seed's script", mode, options.seed_runs, load.end()))
    table("Colour switches under load, 16 connections", rows,
          ["what", "connections", "switches", "requests", "non-2xx", "errors", "closed, reused", "retry answered"])
    ours = [row for row in rows if row[0] == "holdfast"]
    total = sum(int(row[3].replace(",", "")) for row in ours)
    say(f"requests during holdfast's switches: {total:,} (goal: at least 1,000,000)")


def bench_kill(options):
    losses = (("docker kill", ["docker", "kill"]), ("docker rm -f", ["docker", "rm", "-f"]))
    floors = []
    at_death, ours, after = ({name: [] for name, _ in losses} for _ in range(3))

    def loss(port, command, name):
        """Sends the command; returns at the first request that is not answered, where everything is timed from."""
        script = f"{' '.join(command)} {name} >/dev/null; date +%s%N"
        process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
        until("the loss", lambda: get(port, "/healthz")[0] != 200, 20)
        return process, time.monotonic()

    with World(options.binary) as world:
        for _ in range(options.rounds):
            began = time.monotonic()
            run_by_hand("hfbench-0", HAND, "v1").wait()
            until("the app", lambda: get(HAND, "/healthz")[0] == 200)
            floors.append(time.monotonic() - began)
            # The engine takes one network down while it makes the other: the same by hand, for comparison.
            for name, command in losses:
                process, began = loss(HAND, command, "hfbench-0")
                run_by_hand("hfbench-1", HAND + 1, "v1").wait()
                until("the app", lambda: get(HAND + 1, "/healthz")[0] == 200)
                at_death[name].append(time.monotonic() - began)
                process.wait()
                sh("docker", "rm", "-f", "hfbench-1", *(["hfbench-0"] if name == "docker kill" else []))
                if name == "docker kill":
                    run_by_hand("hfbench-0", HAND, "v1").wait()
                    until("the app", lambda: get(HAND, "/healthz")[0] == 200)
        world.start_nginx()
        world.desire("v1")
        world.start()
        for name, command in losses:
            for _ in range(options.rounds):
                # Without the backoff that repeated losses earn: a service of its own for each round.
                world.stop()
                world.remove_containers()
                shutil.rmtree(world.path("state"))
                os.mkdir(world.path("state"))
                world.start()
                world.settled("v1")
                victim = sh("docker", "ps", "--filter", f"label=holdfast.controller={ID}", "--format", "{{.Names}}")
                process, began = loss(WEB, command, victim)
                # As in `edit`.
                time.sleep(0.6 * min(floors))
                until("an answer", lambda: get(WEB)[0] == 200)
                ours[name].append(time.monotonic() - began)
                back = time.time()
                after[name].append(back - int(process.communicate()[0]) / 1e9)
    rows = []
    for name, _ in losses:
        ratio, late = median(ours[name]) / median(floors), median(after[name]) / median(floors)
        rows.append([name, ms(median(floors)), ms(median(at_death[name])), ms(median(ours[name])), f"{ratio:.2f}",
                     ms(median(after[name])), f"{late:.2f}"])
    table(f"A lost replica to its replacement serving (medians of {options.rounds}; goal 1.15)", rows,
          ["loss", "docker run + first 200", "by hand at the loss", "holdfast", "ratio", "after the command's end", "ratio"])


def bench_idle(options):
    with World(options.binary, resync="1s") as world:
        world.desire("v1", replicas=50, nginx=False)
        world.start()
        world.settled("v1", 240)
        pid, since = world.controller.pid, time.time()
        before, began = ticks(pid), time.monotonic()
        time.sleep(options.resyncs)  # the thing measured is time: one resync a second
        busy = (ticks(pid) - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began)
        # Every mutating call leaves an event at the engine; looks leave none.
        events = sh("docker", "events", "--since", f"{since:.9f}", "--until", f"{time.time():.9f}", "--format",
                    "{{.Type}} {{.Action}} {{index .Actor.Attributes \"holdfast.controller\"}}").splitlines()
        ours = [line for line in events if line.endswith(ID) or line.startswith("image ")]
        for line in ours[:10]:
            say(f"an event while settled: {line}")
        rows = [
            ["mutating calls", len(ours), "0", "yes" if not ours else "NO"],
            ["resident", f"{resident(pid):.1f} MiB", "<= 30 MiB", "yes" if resident(pid) <= 30 else "NO"],
            ["CPU, of one core", f"{busy * 100:.2f} %", "<= 0.5 %", "yes" if busy <= 0.005 else "NO (at resync 1s)"],
        ]
    table(f"Settled, 50 containers, {options.resyncs} resyncs of 1 s", rows, ["", "measured", "goal", "met"])


def bench_start(options):
    figures = []
    with World(options.binary) as world:
        world.start_nginx()
        world.desire("v1")
        for _ in range(options.rounds):
            began = time.monotonic()
            done = subprocess.run([options.binary, "plan", "--config", world.config], capture_output=True)
            figures.append(time.monotonic() - began)
            if done.returncode != 2:
                raise SystemExit(f"error: plan ended with {done.returncode}: {done.stderr.decode()}")
    size = os.path.getsize(options.binary) / 1e6
    table("Start", [["process start to its first plan, and gone again", ms(median(figures)), "< 100 ms"],
                    ["binary", f"{size:.1f} MB", "-"]], ["", "measured", "goal"])


def bench_seen(options):
    """From the last write of a file to the controller's acceptance, for the ways editors and mounts replace files."""

    def rename_over(world, text):
        with open(world.path("desired.new"), "w") as file:
            file.write(text)
        os.rename(world.path("desired.new"), world.path("desired/api.yaml"))

    def truncate(world, text):
        with open(world.path("desired/api.yaml"), "w") as file:
            file.write(text)

    def symlink_swap(world, text):
        # As Kubernetes swaps a mounted config map: api.yaml -> ..data/api.yaml, ..data -> a folder of its own.
        folder = world.path(f"desired/..{time.monotonic_ns()}")
        os.mkdir(folder)
        with open(os.path.join(folder, "api.yaml"), "w") as file:
            file.write(text)
        link = world.path("desired/..data")
        os.symlink(folder, link + "_tmp")
        os.rename(link + "_tmp", link)
        if not os.path.islink(world.path("desired/api.yaml")):
            os.remove(world.path("desired/api.yaml"))
            os.symlink("..data/api.yaml", world.path("desired/api.yaml"))

    rows = []
    with World(options.binary) as world:
        world.desire("v1", replicas=0, nginx=False)
        with open(world.path("desired/api.yaml")) as file:
            text = file.read()
        world.start()
        for name, write in (("rename over it", rename_over), ("truncate and write", truncate), ("..data link swapped", symlink_swap)):
            took = []
            for round_ in range(options.rounds + 1):
                known = len(json.loads(get(API, "/api/v1/events?limit=1000")[1]))
                write(world, f"{text}# {name} {round_}\n")
                began = time.monotonic()
                until("the edit to be seen", lambda: len(json.loads(get(API, "/api/v1/events?limit=1000")[1])) > known)
                took.append(time.monotonic() - began)
            # The first swap makes the links; it is no swap yet.
            worst = max(took[1:])
            rows.append([name, ms(median(took[1:])), ms(worst), "yes" if worst <= 0.1 else "NO"])
    table(f"From the last write to an accepted edit ({options.rounds} each; 20 ms of it are the wait for quiet)", rows,
          ["way", "median", "worst", "within 100 ms"])


def main():
    sections = {"seen": bench_seen, "edit": bench_edit, "load": bench_load, "kill": bench_kill, "idle": bench_idle, "start": bench_start}
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True, type=os.path.abspath)
    parser.add_argument("--load", required=True, type=os.path.abspath)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--switches", type=int, default=50)
    parser.add_argument("--seed-runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--resyncs", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("sections", nargs="*", help=", ".join(sections))
    options = parser.parse_args()
    for section in options.sections:
        if section not in sections:
            parser.error(f"no section {section}; there are {', '.join(sections)}")
    if options.json:
        keep_tables()
    engine = sh("docker", "version", "--format", "{{.Server.Version}}")
    say(f"{os.cpu_count()} cores, engine {engine}, {subprocess.run(['nginx', '-v'], capture_output=True, text=True).stderr.strip()}")
    for section in options.sections or list(sections):
        sections[section](options)
    print_kept()


if __name__ == "__main__":
    main()
