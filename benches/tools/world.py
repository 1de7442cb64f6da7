"""A folder, an nginx and a controller of the benchmark's own, on the Docker Engine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from common import get, sh, until

IMAGE = "holdfast-bench"
ID = "holdfast-bench"
WEB, API, PORTS = 23900, 23901, "23920-23999"


class World:
    """A folder, an nginx and a controller of the benchmark's own."""

    def __init__(self, binary, resync="5s", web=WEB):
        self.binary, self.resync, self.web = binary, resync, web
        self.home = tempfile.mkdtemp(prefix="holdfast-bench-")
        os.chmod(self.home, 0o755)
        for folder in ("desired", "state", "nginx", "env"):
            os.mkdir(self.path(folder))
        self.servers, self.conf, self.pid = self.path("nginx/api.servers"), self.path("nginx/nginx.conf"), self.path("nginx/pid")
        self.controller = None
        self.config = self.path("holdfast.yaml")
        with open(self.config, "w") as file:
            file.write(
                f"controller: {ID}\nsource: {self.home}/desired\nstateDir: {self.home}/state\nlisten: 127.0.0.1:{API}\n"
                f"resync: {resync}\nports: {PORTS}\nenvRoot: {self.home}/env\n"
                f"nginx: {{binary: nginx, config: {self.conf}, pid: {self.pid}}}\n"
            )

    def path(self, name):
        return os.path.join(self.home, name)

    def __enter__(self):
        self.remove_containers()
        return self

    def __exit__(self, *_):
        self.stop()
        if os.path.exists(self.pid):
            sh("nginx", "-c", self.conf, "-s", "stop", check=False)
        self.remove_containers()
        shutil.rmtree(self.home, ignore_errors=True)

    def remove_containers(self):
        for filter_ in (f"label=holdfast.controller={ID}", "name=^hfbench-"):
            ids = sh("docker", "ps", "-aq", "--filter", filter_).split()
            if ids:
                sh("docker", "rm", "-f", "-v", *ids, check=False)

    def start_nginx(self, servers="server 127.0.0.1:1 down;\n"):
        self.write_servers(servers)
        folder = self.path("nginx")
        with open(self.conf, "w") as file:
            file.write(
                f"user root;\npid {self.pid};\nerror_log {folder}/error.log warn;\nworker_processes 2;\n"
                "worker_shutdown_timeout 8s;\nevents { worker_connections 1024; }\nhttp { access_log off; keepalive_requests 1000000;\n"
                + "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
                + f"upstream api {{ include {self.servers}; keepalive 32; }}\n"
                f"server {{ listen 127.0.0.1:{self.web}; location / {{ proxy_pass http://api; proxy_http_version 1.1; "
                "proxy_set_header Connection ''; } } }\n"
            )
        sh("nginx", "-c", self.conf)
        until("nginx", lambda: get(self.web)[0] != 0)

    def write_servers(self, text):
        with open(self.servers + ".new", "w") as file:
            file.write(text)
        os.rename(self.servers + ".new", self.servers)

    def reload(self):
        sh("nginx", "-c", self.conf, "-s", "reload")

    def workers(self):
        with open(self.pid) as file:
            master = file.read().strip()
        with open(f"/proc/{master}/task/{master}/children") as file:
            return frozenset(file.read().split())

    def desire(self, tag, replicas=1, colour=None, bake="1s", nginx=True):
        lines = [
            "services:", "  api:", f"    image: {IMAGE}", f"    tag: {tag}", f"    replicas: {replicas}",
            *([f"    activeColour: {colour}"] if colour else []),
            "    docker: {pull: never, port: 8080}",
            "    health: {http: {path: /healthz}, successes: 1}",
            *([f"    traffic: {{nginx: {{file: {self.servers}}}}}", f"    rollout: {{drain: 3s, bake: {bake}}}"]
              if nginx else ["    rollout: {strategy: rolling}"]),
        ]
        with open(self.path("desired.new"), "w") as file:
            file.write("\n".join(lines) + "\n")
        os.rename(self.path("desired.new"), self.path("desired/api.yaml"))

    def start(self):
        log = open(self.path("log"), "ab")
        self.controller = subprocess.Popen([self.binary, "run", "--config", self.config], stdout=log, stderr=log)
        until("the controller", lambda: self.status() is not None, gap=0.01)

    def stop(self):
        if self.controller:
            self.controller.send_signal(signal.SIGTERM)
            self.controller.wait(30)
            self.controller = None

    def status(self):
        code, body = get(API, "/api/v1/services")
        services = json.loads(body)["services"] if code == 200 else []
        return services[0] if services else None

    def settled(self, tag=None, seconds=120):
        def met():
            status = self.status()
            return bool(status) and status["phase"] == "Settled" and (tag is None or (status["serving"] or {}).get("tag") == tag)
        try:
            until(f"{tag or 'it'} to settle", met, seconds, gap=0.02)
        except SystemExit:
            with open(self.path("log"), errors="replace") as log:
                print(json.dumps(self.status(), indent=1), "".join(log.readlines()[-20:]), file=sys.stderr)
            raise
