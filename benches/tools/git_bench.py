#!/usr/bin/env python3
"""The figures of the git source, beside the bare git commands that do the same, in the same run."""

import argparse
import hashlib
import hmac
import http.client
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from common import get, keep_tables, median, ms, print_kept, say, sh, table, until
from git_server import GitServer

ID, API = "holdfast-bench-git", 23903
IMAGE = "holdfast-bench"
SECRET = "the secret of the hook"


def git(folder, *args):
    return sh("git", "-C", folder, "-c", "user.name=Bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgSign=false", *args)


class Site:
    """A repository on a server, a checkout that pushes to it, and a controller that follows it."""

    def __init__(self, options, server, root, name, more=(), interval="30s"):
        self.options, self.home = options, tempfile.mkdtemp(prefix="holdfast-bench-git-")
        self.checkout, self.url = os.path.join(self.home, "checkout"), server.url(name)
        bare = os.path.join(root, f"{name}.git")
        sh("git", "init", "-q", "--bare", "-b", "main", bare)
        sh("git", "-C", bare, "config", "http.receivepack", "true")
        sh("git", "init", "-q", "-b", "main", self.checkout)
        git(self.checkout, "remote", "add", "origin", self.url)
        self.more, self.interval, self.process = list(more), interval, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        ids = sh("docker", "ps", "-aq", "--filter", f"label=holdfast.controller={ID}", check=False).split()
        if ids:
            sh("docker", "rm", "-f", "-v", *ids, check=False)
        shutil.rmtree(self.home, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.home, name)

    def write(self, name, text):
        path = os.path.join(self.checkout, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)

    def commit(self, subject):
        git(self.checkout, "add", "-A")
        git(self.checkout, "commit", "-q", "-m", subject)
        return git(self.checkout, "rev-parse", "HEAD")

    def push(self):
        git(self.checkout, "push", "-q", "origin", "HEAD:main")

    def start(self):
        with open(self.path("secret"), "w") as file:
            file.write(SECRET)
        with open(self.path("holdfast.yaml"), "w") as file:
            file.write(
                f"controller: {ID}\nstateDir: {self.home}/state\nlisten: 127.0.0.1:{API}\nports: 23860-23899\nresync: 30s\n"
                f"git:\n  url: {self.url}\n  path: prod\n  allow: [http]\n  interval: {self.interval}\n"
                f"  webhookSecretFile: {self.home}/secret\n")
        os.makedirs(self.path("state"), exist_ok=True)
        log = open(self.path("log"), "ab")
        began = time.monotonic()
        self.process = subprocess.Popen([self.options.binary, "run", "--config", self.path("holdfast.yaml"),
                                         "--state-dir", self.path("state"), "--listen", f"127.0.0.1:{API}", *self.more],
                                        stdout=log, stderr=log)
        return began

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
            self.process = None

    def status(self):
        code, body = get(API, "/api/v1/services", timeout=10)
        return json.loads(body) if code == 200 else None

    def in_force(self, commit):
        status = self.status()
        return bool(status) and status["source"]["revision"] == commit

    def settled(self):
        status = self.status()
        return bool(status) and bool(status["services"]) and all(it["phase"] == "Settled" for it in status["services"])

    def rested(self):
        """Looks begin at least a second apart: what is measured is a push that comes alone."""
        until("a second without a look", lambda: self.status()["source"]["checked"] >= 2, 60, 0.2)

    def hook(self):
        body = b'{"ref":"refs/heads/main"}'
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        connection = http.client.HTTPConnection("127.0.0.1", API, timeout=10)
        connection.request("POST", "/hooks/git", body, {"X-Hub-Signature-256": f"sha256={signature}"})
        status = connection.getresponse().status
        if status != 202:
            raise SystemExit(f"error: the hook was answered with {status}")

    def cpu(self):
        """Seconds of CPU of the controller and of every git it has run."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return sum(int(it) for it in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def service(tag):
    return (f"services:\n  bench-git:\n    image: {IMAGE}\n    tag: {tag}\n    docker: {{pull: never, port: 8080}}\n"
            "    health: {http: {path: /healthz}, successes: 1}\n    rollout: {strategy: rolling}\n")


class Created:
    """When the engine made a container, as it tells itself."""

    def __enter__(self):
        self.process = subprocess.Popen(["docker", "events", "--filter", "event=create", "--format", "{{.Actor.Attributes.name}}"],
                                        stdout=subprocess.PIPE, text=True)
        time.sleep(0.5)
        return self

    def __exit__(self, *_):
        self.process.kill()

    def next(self):
        if not self.process.stdout.readline():
            raise SystemExit("error: docker events ended")
        return time.monotonic()


def bench_push(options):
    """From the end of `git push` to the engine's create event."""
    rows = []
    with tempfile.TemporaryDirectory() as root, GitServer(root) as server, Created() as created:
        with Site(options, server, root, "push", interval="5s") as site:
            tag = "v1"
            site.write("prod/api.yaml", service(tag))
            site.commit("v1")
            site.push()
            site.start()
            until("it to settle", site.settled, 60, 0.05)
            created.next()
            clone = site.path("clone")
            sh("git", "clone", "-q", "--bare", "--depth=1", site.url, clone)
            by_hand, hooked, polled = [], [], []
            for way in ["hook", "hand"] * options.rounds + ["poll"] * options.rounds:
                tag = "v2" if tag == "v1" else "v1"
                site.write("prod/api.yaml", service(tag))
                site.commit(tag)
                if way == "hook":
                    site.rested()
                if way == "hand":
                    # The controller stands still while a script does it.
                    site.process.send_signal(signal.SIGSTOP)
                    site.push()
                    began = time.monotonic()
                    sh("git", "-C", clone, "fetch", "-q", "origin", "main")
                    sh("git", "-C", clone, "show", "FETCH_HEAD:prod/api.yaml")
                    sh("docker", "create", "--name", "hfbench-git", f"{IMAGE}:{tag}")
                    by_hand.append(created.next() - began)
                    sh("docker", "rm", "-f", "hfbench-git")
                    site.process.send_signal(signal.SIGCONT)
                    site.hook()
                    created.next()
                else:
                    site.push()
                    began = time.monotonic()
                    if way == "hook":
                        site.hook()
                    (hooked if way == "hook" else polled).append(created.next() - began)
                until("it to settle", lambda: site.settled() and site.status()["services"][0]["serving"]["tag"] == tag, 60, 0.05)
            floor = median(by_hand)
            for name, took, limit in (("git fetch, git show, docker create", by_hand, None), ("webhook", hooked, 2.0), ("poll of 5 s", polled, 7.0)):
                worst = max(took)
                rows.append([name, ms(median(took)), ms(worst), f"{median(took) / floor:.2f} x",
                             "" if limit is None else f"{limit:.0f} s: {'yes' if worst < limit else 'NO'}"])
    table(f"From the end of git push to the engine's create event ({options.rounds} each)", rows,
          ["way", "median", "worst", "ratio", "goal"])


def bench_idle(options):
    """CPU of a poll that finds nothing new."""
    with tempfile.TemporaryDirectory() as root, GitServer(root) as server, \
            Site(options, server, root, "idle", more=["--sandbox"], interval="1s") as site:
        site.write("prod/api.yaml", service("v1").replace("rollout", "replicas: 0\n    rollout"))
        site.commit("v1")
        site.push()
        site.start()
        until("it to settle", site.settled, 60, 0.05)
        time.sleep(2)
        before, began = site.cpu(), time.monotonic()
        time.sleep(options.polls)
        took, polls = site.cpu() - before, time.monotonic() - began
        site.stop()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(options.polls):
            sh("git", "ls-remote", site.url, "refs/heads/main")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        bare = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        ours, floor = took / polls, bare / options.polls
        rows = [["git ls-remote", f"{floor * 1000:.1f} ms", ""],
                ["a poll of the controller", f"{ours * 1000:.1f} ms", f"{ours / floor:.2f} x"]]
        table(f"CPU of a look that finds nothing new (over HTTP, about {options.polls} of them; goal below 50 ms)", rows, ["", "CPU", "ratio"])


def bench_large(options):
    """A repository of 10,000 files, 500 of them services."""
    with tempfile.TemporaryDirectory() as root, GitServer(root) as server, \
            Site(options, server, root, "large", more=["--sandbox"], interval="10m") as site:
        for n in range(500):
            text = f"services:\n  svc-{n:03}:\n    image: app\n    tag: v1\n    replicas: 0\n    docker: {{port: 8080}}\n"
            site.write(f"prod/svc-{n:03}.yaml", text)
        for n in range(9500):
            site.write(f"other/{n % 100}/file-{n}.txt", f"{n}\n" * 40)
        commit = site.commit("all of it")
        site.push()

        def clones(n):
            began = time.monotonic()
            sh("git", "clone", "-q", "--bare", "--depth=1", site.url, site.path(f"clone-{n}"))
            return time.monotonic() - began

        floor_first = median([clones(n) for n in range(3)])
        firsts = []
        for n in range(3):
            began = site.start()
            until("the first commit", lambda: site.in_force(commit), 120, 0.01)
            firsts.append(time.monotonic() - began)
            if n < 2:
                site.stop()
                shutil.rmtree(site.path("state"))
        until("all to settle", site.settled, 300, 0.2)
        changes, floors = [], []
        for n in range(options.rounds):
            site.write("prod/svc-250.yaml", f"services:\n  svc-250:\n    image: app\n    tag: v{n + 2}\n    replicas: 0\n    docker: {{port: 8080}}\n")
            commit = site.commit(f"svc-250: tag v{n + 2}")
            site.push()
            began = time.monotonic()
            sh("git", "-C", site.path("clone-0"), "fetch", "-q", "origin", "main")
            floors.append(time.monotonic() - began)
            site.rested()
            began = time.monotonic()
            site.hook()
            until("the change", lambda: site.in_force(commit), 60, 0.02)
            changes.append(time.monotonic() - began)
            until("it to settle", site.settled, 60, 0.05)
        with open(f"/proc/{site.process.pid}/status") as file:
            memory = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in file if line.startswith(("VmRSS", "VmHWM"))}
        rows = [["first read", ms(floor_first), ms(median(firsts)), f"{median(firsts) / floor_first:.2f} x"],
                ["one line changed", ms(median(floors)), ms(median(changes)), f"{median(changes) / median(floors):.2f} x"]]
        table("10,000 files, 500 of them services: git clone --depth=1 or git fetch, and until the commit is in force", rows,
              ["", "bare git", "holdfast", "ratio"])
        say(f"memory: {memory['VmRSS']:.1f} MiB, at most {memory['VmHWM']:.1f} MiB")


def main():
    sections = {"git-push": bench_push, "git-idle": bench_idle, "git-large": bench_large}
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True, type=os.path.abspath)
    parser.add_argument("--load", help="unused here: the other benchmarks take it")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--polls", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("sections", nargs="*", help=", ".join(sections))
    options = parser.parse_args()
    for section in options.sections:
        if section not in sections:
            parser.error(f"no section {section}; there are {', '.join(sections)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.json:
        keep_tables()
    say(f"{os.cpu_count()} cores, {sh('git', '--version')}")
    for section in options.sections or list(sections):
        sections[section](options)
    print_kept()


if __name__ == "__main__":
    main()
