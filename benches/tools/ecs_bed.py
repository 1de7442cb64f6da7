"""What the ECS benchmarks run on: an emulator and a controller of their own, and what the controller tells."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from datetime import datetime

import boto3
from botocore.config import Config

from common import get, sh, until

REGION, ACCOUNT = "ap-northeast-2", "000000000000"
ID = "holdfast-bench"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def environment(endpoint):
    """The environment of a client of `endpoint`, whatever the user's own says."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    return own | {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_ACCESS_KEY_ID": "bench",
                  "AWS_SECRET_ACCESS_KEY": "bench", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
                  "AWS_EC2_METADATA_DISABLED": "true"}


def client(endpoint, service):
    return boto3.client(service, region_name=REGION, endpoint_url=endpoint, aws_access_key_id="bench", aws_secret_access_key="bench",
                        config=Config(retries={"max_attempts": 1}))


class Emulator:
    """ECS, ECR and a load balancer on a port of their own; every container and image goes with it."""

    def __init__(self, python, tags=("v1", "v2")):
        self.python, self.tags, self.port = python, tags, free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.home = tempfile.mkdtemp(prefix="holdfast-bench-aws-")
        self.log = open(os.path.join(self.home, "log"), "w")
        self.process = None

    def __enter__(self):
        env = os.environ | {"GATEWAY_PORT": str(self.port), "BIND_HOST": "127.0.0.1", "MINISTACK_REGION": REGION, "TMPDIR": self.home,
                            "MINISTACK_HOSTNAME": ID, "S3_DATA_DIR": os.path.join(self.home, "s3"), "LOG_LEVEL": "WARNING"}
        script = os.path.join(ROOT, "scripts", "emulator.py")
        self.process = subprocess.Popen([self.python, script], env=env, stdout=self.log, stderr=self.log)
        try:
            until("the emulator", lambda: get(self.port, "/_ministack/health")[0] == 200, gap=0.02)
            self.ecs, self.ecr, self.elb = (client(self.endpoint, it) for it in ("ecs", "ecr", "elbv2"))
            self.ecs.create_cluster(clusterName="bench")
            sh(os.path.join(ROOT, "scripts", "build-app.sh"), "--repository", "holdfast-bench", *self.tags)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()
        ids = sh("docker", "ps", "-aq", "--filter", f"label=ministack.instance={ID}:{self.port}").split()
        if ids:
            sh("docker", "rm", "-f", "-v", *ids, check=False)
        rows = [line.split() for line in sh("docker", "images", "--format", "{{.Repository}} {{.Tag}} {{.ID}}").splitlines()]
        ours = {id_ if tag == "<none>" else f"{name}:{tag}" for name, tag, id_ in rows if name.startswith(f"localhost:{self.port}/")}
        if ours:
            sh("docker", "rmi", "-f", *ours, check=False)
        shutil.rmtree(self.home, ignore_errors=True)

    def repository(self, name):
        """A repository with an image for each tag; the digests by tag."""
        self.ecr.create_repository(repositoryName=name)
        for tag in self.tags:
            image = f"localhost:{self.port}/{name}:{tag}"
            sh("docker", "tag", f"holdfast-bench:{tag}", image)
            sh("docker", "push", "-q", image)
        seen = self.ecr.describe_images(repositoryName=name)["imageDetails"]
        return {tag: it["imageDigest"] for it in seen for tag in it["imageTags"]}

    def definition(self, name, image):
        """The arguments that register the task definition of `name` with `image`."""
        container = {"name": "app", "image": f"localhost:{self.port}/{name}{image}", "essential": True, "memory": 64,
                     "portMappings": [{"containerPort": 8080, "hostPort": 0}], "environment": [{"name": "KEPT", "value": "yes"}]}
        return {"family": f"family-{name}", "networkMode": "bridge", "containerDefinitions": [container]}

    def service(self, name, count=2, target_group=None):
        """A service as a person makes it; it runs when this returns."""
        arn = self.ecs.register_task_definition(**self.definition(name, ":v1"))["taskDefinition"]["taskDefinitionArn"]
        balanced = [{"targetGroupArn": target_group, "containerName": "app", "containerPort": 8080}] if target_group else []
        self.ecs.create_service(
            cluster="bench", serviceName=name, taskDefinition=arn, desiredCount=count, loadBalancers=balanced,
            deploymentConfiguration={"maximumPercent": 200, "minimumHealthyPercent": 100,
                                     "deploymentCircuitBreaker": {"enable": True, "rollback": True}})
        until(f"{name} to run", lambda: self.is_done(name) and self.describe(name)["runningCount"] == count, gap=0.1)

    def describe(self, name):
        return self.ecs.describe_services(cluster="bench", services=[name])["services"][0]

    def is_done(self, name, deployment=None):
        """One deployment, completed, with all its tasks: what a deploy job waits for."""
        seen = self.describe(name)
        first = seen["deployments"][0]
        return (len(seen["deployments"]) == 1 and first["rolloutState"] == "COMPLETED" and seen["runningCount"] == seen["desiredCount"]
                and (deployment is None or first["id"] == deployment))


class Controller:
    """A controller in a folder of its own, and the events it tells."""

    def __init__(self, binary, endpoint, settings=(), resync="5s"):
        self.binary, self.env, self.port = binary, environment(endpoint), free_port()
        self.home = tempfile.mkdtemp(prefix="holdfast-bench-ecs-")
        self.config, self.file = os.path.join(self.home, "holdfast.yaml"), os.path.join(self.home, "desired", "services.yaml")
        self.process, self.events, self.told = None, [], threading.Condition()
        os.mkdir(os.path.join(self.home, "desired"))
        lines = [f"controller: {ID}", f"source: {self.home}/desired", f"stateDir: {self.home}/state", f"listen: 127.0.0.1:{self.port}",
                 f"resync: {resync}", *settings]
        with open(self.config, "w") as file:
            file.write("\n".join(lines) + "\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
        shutil.rmtree(self.home, ignore_errors=True)

    def desire(self, text):
        """Makes `text` the desired state; returns when it was there."""
        with open(self.file + ".new", "w") as file:
            file.write(text)
        moment = time.time()
        os.rename(self.file + ".new", self.file)
        return moment

    def start(self):
        log = open(os.path.join(self.home, "log"), "ab")
        self.process = subprocess.Popen([self.binary, "run", "--config", self.config], stdout=log, stderr=log, env=self.env)
        log.close()
        until("the controller", lambda: get(self.port, "/healthz")[0] == 200, gap=0.02)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request("GET", "/api/v1/events/stream?after=0")
            for line in connection.getresponse():
                if line.startswith(b"data: {\""):
                    event = json.loads(line[6:])
                    event["at"] = datetime.fromisoformat(event["at"]).timestamp()
                    with self.told:
                        self.events.append(event)
                        self.told.notify_all()
        except (OSError, http.client.HTTPException):
            return  # it was stopped

    def await_event(self, what, met, since=0, seconds=90):
        """The first event after the first `since` ones that meets `met`, as soon as it is told."""
        give_up = time.monotonic() + seconds
        with self.told:
            while True:
                for event in self.events[since:]:
                    if met(event):
                        return event
                if time.monotonic() > give_up or self.process.poll() is not None:
                    with open(os.path.join(self.home, "log"), errors="replace") as log:
                        raise SystemExit("".join(log.readlines()[-20:]) + f"error: waited in vain for {what}")
                self.told.wait(0.5)

    def status(self):
        code, body = get(self.port, "/api/v1/services", timeout=10)
        return json.loads(body)["services"] if code == 200 else []

    def all_settled(self, count):
        seen = self.status()
        return len(seen) == count and all(it["phase"] == "Settled" for it in seen)
