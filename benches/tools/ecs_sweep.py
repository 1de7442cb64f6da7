"""The steady sweep: what N settled services cost against a stand-in of the ECS API with 50 ms a call."""

import json
import os
import subprocess
import sys
import time
from collections import Counter

import ecs_api
from common import get, median, resident, say, table, until
from ecs_bed import ACCOUNT, REGION, Controller, client, free_port

LATENCY = 0.05
MEMORY = 64  # MiB, at 1,000 services


class StandIn:
    def __init__(self, count):
        self.count, self.port = count, free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, ecs_api.__file__, str(self.port), str(self.count), str(LATENCY)])
        until("the stand-in", lambda: get(self.port, "/calls")[0] == 200, gap=0.02)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)

    def calls(self, since=0.0):
        return [call for call in json.loads(get(self.port, "/calls", timeout=10)[1]) if call[0] >= since]


def desired(port, count):
    lines = [f'aws: {{account: "{ACCOUNT}", region: {REGION}}}', "services:"]
    for name in map(ecs_api.name_of, range(count)):
        lines += [f"  {name}:", f"    image: localhost:{port}/{name}", f"    tag: v1@{ecs_api.digest_of(name)}", "    replicas: 2",
                  f"    ecs: {{cluster: {ecs_api.CLUSTER}, service: {name}, family: family-{name}}}", "    rollout: {strategy: rolling}"]
    return "\n".join(lines) + "\n"


def busy(pid):
    """Seconds its threads have had a core."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                total += int(file.read().split()[0])
        except OSError:
            continue  # a thread that ended
    return total / 1e9


def sweeps_of(calls, quiet):
    """DescribeServices calls, grouped where nothing was asked for `quiet` seconds."""
    groups = []
    for at, action, names in calls:
        if action == "DescribeServices":
            if not groups or at - groups[-1][-1][0] > quiet:
                groups.append([])
            groups[-1].append((at, names))
    return groups


def bare_sweep(stand_in, sweeps):
    """CPU of the same questions by boto3, a sweep."""
    ecs = client(stand_in.endpoint, "ecs")
    names = [ecs_api.name_of(it) for it in range(stand_in.count)]
    ecs.describe_services(cluster=ecs_api.CLUSTER, services=names[:10], include=["TAGS"])
    began = time.process_time()
    for _ in range(sweeps):
        for at in range(0, len(names), 10):
            ecs.describe_services(cluster=ecs_api.CLUSTER, services=names[at:at + 10], include=["TAGS"])
    return (time.process_time() - began) / sweeps


def measure(options, count):
    # A sweep of 1,000 takes 5 s of latency alone.
    resync = 2 if count <= 100 else 15
    settings = [f'registries: [{{host: "localhost:PORT", kind: ecr, region: {REGION}}}]', "aws: {budget: 100%}"]
    with StandIn(count) as stand_in:
        settings[0] = settings[0].replace("PORT", str(stand_in.port))
        with Controller(options.binary, stand_in.endpoint, settings, resync=f"{resync}s") as controller:
            controller.desire(desired(stand_in.port, count))
            began = time.monotonic()
            controller.start()
            until("every service to settle", lambda: controller.all_settled(count), 600, gap=0.5)
            first = time.monotonic() - began
            # The looks of the start spread over a resync; the third sweep is like any other.
            time.sleep(2.5 * resync)
            pid = controller.process.pid
            since, used = time.time(), busy(pid)
            time.sleep(resync * (options.sweeps if count <= 100 else max(3, options.sweeps // 2)))
            until_, used = time.time(), busy(pid) - used
            calls = [it for it in stand_in.calls(since) if it[0] <= until_]
            memory, settled = resident(pid), controller.all_settled(count)
        bare = bare_sweep(stand_in, 3 if count <= 100 else 1)
    if not settled:
        raise SystemExit("error: not every service stayed settled")
    groups = sweeps_of(calls, 0.3 * resync)
    whole = groups[1:-1]  # the first and the last are cut by the window
    if not whole:
        raise SystemExit(f"error: no whole sweep among {len(calls)} calls in {until_ - since:.0f} s")
    apart = [after[0][0] - before[0][0] for before, after in zip(whole, whole[1:])]
    return {
        "services": count, "sweeps": len(whole), "expected": -(-count // 10),
        "callsASweep": [len(group) for group in whole],
        "namedOnce": all(Counter(name for _, names in group for name in names) == Counter({ecs_api.name_of(it): 1 for it in range(count)})
                         for group in whole),
        "others": Counter(action for _, action, _ in calls if action != "DescribeServices"),
        "interval": median(apart) if apart else None, "resync": resync, "firstSettled": first,
        "cpu": used / ((until_ - since) / resync) / count, "bareCpu": bare / count, "memory": memory,
    }


def bench(options):
    found = []
    for count in options.sizes:
        figures = measure(options, count)
        say(f"{count} services: all settled {figures['firstSettled']:.1f} s after the start, a sweep every "
            f"{figures['interval'] or 0:.1f} s (resync {figures['resync']} s)")
        for action, times in figures["others"].items():
            say(f"FINDING: {times} x {action} while {count} services were settled")
        found.append(figures)
    rows = []
    for it in found:
        few, many = min(it["callsASweep"]), max(it["callsASweep"])
        exact = few == many == it["expected"] and it["namedOnce"] and not it["others"]
        rows.append([f"{it['services']:,}", it["sweeps"], it["expected"], few if few == many else f"{few}-{many}",
                     sum(it["others"].values()), "yes" if exact else "NO"])
    table("Steady sweeps: calls to AWS", rows, ["services", "sweeps", "expected", "a sweep", "others", "exact"], figures=found)
    rows = [[f"{it['services']:,}", f"{it['cpu'] * 1e6:.0f} us", f"{it['bareCpu'] * 1e6:.0f} us", f"{it['cpu'] / it['bareCpu']:.2f}",
             f"{it['memory']:.1f} MiB", f"<= {MEMORY} MiB" if it["services"] == 1000 else "",
             ("yes" if it["memory"] <= MEMORY else "NO") if it["services"] == 1000 else ""] for it in found]
    table("Steady sweeps: CPU of a service and sweep (bare: boto3, the calls alone), memory", rows,
          ["services", "holdfast", "bare", "ratio", "resident", "goal", "met"])
