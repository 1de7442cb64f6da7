"""Switches behind a load balancer under load: requests that failed, beside the same load without a switch."""

import time

from common import Load, median, ms, say, table
from ecs_bed import ACCOUNT, REGION, Controller, Emulator

CONNECTIONS = 4
BLOCKS = 4
ALONE = 10  # seconds of the load without a switch, after each block


class Balancer:
    """A load balancer with one rule between two target groups."""

    def __init__(self, elb):
        balancer = elb.create_load_balancer(Name="bench", Subnets=["subnet-1"])["LoadBalancers"][0]["LoadBalancerArn"]
        self.blue, self.green = (
            elb.create_target_group(Name=f"bench-{it}", Protocol="HTTP", Port=8080, VpcId="vpc-1", TargetType="ip",
                                    HealthCheckPath="/healthz")["TargetGroups"][0]["TargetGroupArn"] for it in ("blue", "green"))
        forward = [{"Type": "forward", "ForwardConfig": {"TargetGroups": [
            {"TargetGroupArn": self.blue, "Weight": 100}, {"TargetGroupArn": self.green, "Weight": 0}]}}]
        listener = elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=forward)["Listeners"][0]
        self.rule = elb.create_rule(ListenerArn=listener["ListenerArn"], Priority=10, Actions=forward,
                                    Conditions=[{"Field": "path-pattern", "Values": ["/*"]}])["Rules"][0]["RuleArn"]


def desired(emulator, balancer, tag):
    return (f'aws: {{account: "{ACCOUNT}", region: {REGION}}}\nservices:\n  web:\n    image: localhost:{emulator.port}/web\n'
            f"    tag: {tag}\n    replicas: 2\n    ecs: {{cluster: bench, services: {{blue: web, green: web-green}}, family: family-web}}\n"
            f'    traffic:\n      alb:\n        rule: "{balancer.rule}"\n'
            f'        targetGroups: {{blue: "{balancer.blue}", green: "{balancer.green}"}}\n'
            "    rollout: {strategy: blueGreen, drain: 1s, bake: 1s}\n")


def add(sum_, counts):
    return {key: sum_.get(key, 0) + value for key, value in counts.items()}


def row_of(name, switches, counts):
    return [name, switches, f"{counts['requests']:,}", counts["non2xx"], counts["errors"], counts["closedReused"],
            f"{counts['requests'] / counts['seconds']:.0f}/s"]


def bench(options):
    took, ours, bare = [], {}, {}
    with Emulator(options.emulator_python) as emulator:
        emulator.repository("web")
        balancer = Balancer(emulator.elb)
        emulator.service("web", target_group=balancer.blue)
        registries = f'registries: [{{host: "localhost:{emulator.port}", kind: ecr, region: {REGION}}}]'

        def load():
            return Load(options, "keepalive", 0, emulator.port, CONNECTIONS, "/_alb/bench/")
        with Controller(options.binary, emulator.endpoint, [registries], resync="2s") as controller:
            controller.desire(desired(emulator, balancer, "v1"))
            controller.start()
            controller.await_event("v1 to be adopted", lambda it: it["kind"] == "settled")
            tag = "v1"
            # In turns, so that both meet the same machine: a block of switches, then the load alone.
            for _ in range(BLOCKS):
                running = load()
                for _ in range(options.switches // BLOCKS):
                    tag = "v2" if tag == "v1" else "v1"
                    since = len(controller.events)
                    began = controller.desire(desired(emulator, balancer, tag))
                    # Settled is after the drain and the bake, with the old colour scaled to nothing.
                    settled = controller.await_event(f"{tag} to settle", lambda it: it["kind"] == "settled" and tag in it["message"], since)
                    took.append(settled["at"] - began)
                ours = add(ours, running.end())
                running = load()
                time.sleep(ALONE)  # the thing measured is time
                bare = add(bare, running.end())
    failed = ours["non2xx"] + ours["errors"]
    table(f"Blue/green behind a load balancer under load, {CONNECTIONS} connections",
          [row_of("holdfast", len(took), ours), row_of("no switch", 0, bare)],
          ["what", "switches", "requests", "non-2xx", "errors", "closed", "rate"], holdfast=ours, bare=bare, seconds=took)
    say(f"failed requests in {len(took)} switches: {failed} (goal: 0); an edit to settled {ms(median(took))}, drain and bake included")
