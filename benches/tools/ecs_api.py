#!/usr/bin/env python3
"""A stand-in of the ECS API for the steady sweep: N services that are as the file says, an answer after a fixed latency.

    ecs_api.py PORT SERVICES LATENCY_SECONDS

Answers DescribeServices, DescribeTaskDefinition, GetCallerIdentity, GetAuthorizationToken and a manifest's HEAD; anything
else is refused, and everything is kept: `GET /calls` tells when which call was made of how many names. A service is
described at its usual size, with the hundred events ECS keeps of each.
"""

import asyncio
import hashlib
import json
import sys
import time

REGION, ACCOUNT, CLUSTER = "ap-northeast-2", "000000000000", "bench"
HTTP = {200: "200 OK", 400: "400 Bad Request"}


def name_of(number):
    return f"service-{number:04}"


def digest_of(name):
    return "sha256:" + hashlib.sha256(name.encode()).hexdigest()


def image_of(port, name):
    return f"localhost:{port}/{name}@{digest_of(name)}"


def arn(kind):
    return f"arn:aws:ecs:{REGION}:{ACCOUNT}:{kind}"


def service(name):
    definition, at = arn(f"task-definition/family-{name}:1"), 1764000000.123
    deployment = {"id": f"ecs-svc/{int(digest_of(name)[7:22], 16)}", "status": "PRIMARY", "taskDefinition": definition, "desiredCount": 2,
                  "pendingCount": 0, "runningCount": 2, "failedTasks": 0, "createdAt": at, "updatedAt": at, "launchType": "FARGATE",
                  "platformVersion": "1.4.0", "platformFamily": "Linux", "rolloutState": "COMPLETED",
                  "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1", "subnet-2"], "securityGroups": ["sg-1"],
                                                                   "assignPublicIp": "DISABLED"}},
                  "rolloutStateReason": "ECS deployment completed."}
    events = [{"id": f"{digest_of(name + str(it))[7:43]}", "createdAt": at - 21600 * it,
               "message": f"(service {name}) has reached a steady state."} for it in range(100)]
    return {"serviceArn": arn(f"service/{CLUSTER}/{name}"), "serviceName": name, "clusterArn": arn(f"cluster/{CLUSTER}"),
            "loadBalancers": [], "serviceRegistries": [], "status": "ACTIVE", "desiredCount": 2, "runningCount": 2, "pendingCount": 0,
            "launchType": "FARGATE", "platformVersion": "LATEST", "platformFamily": "Linux", "taskDefinition": definition,
            "deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": True, "rollback": True}, "maximumPercent": 200,
                                        "minimumHealthyPercent": 100}, "deployments": [deployment],
            "roleArn": f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS", "events": events,
            "createdAt": at, "placementConstraints": [], "placementStrategy": [], "schedulingStrategy": "REPLICA",
            "deploymentController": {"type": "ECS"}, "enableECSManagedTags": True, "propagateTags": "NONE", "enableExecuteCommand": False,
            "networkConfiguration": deployment["networkConfiguration"], "healthCheckGracePeriodSeconds": 0,
            "tags": [{"key": "team", "value": "bench"}]}


def definition(port, name):
    log = {"logDriver": "awslogs", "options": {"awslogs-group": f"/ecs/{name}", "awslogs-region": REGION, "awslogs-stream-prefix": "ecs"}}
    container = {"name": "app", "image": image_of(port, name), "cpu": 0, "essential": True, "mountPoints": [], "volumesFrom": [],
                 "portMappings": [{"containerPort": 8080, "hostPort": 8080, "protocol": "tcp"}], "logConfiguration": log,
                 "environment": [{"name": f"VARIABLE_{it}", "value": f"value {it} of {name}"} for it in range(12)],
                 "secrets": [{"name": "PASSWORD", "valueFrom": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}"}]}
    return {"taskDefinition": {"taskDefinitionArn": arn(f"task-definition/family-{name}:1"), "family": f"family-{name}", "revision": 1,
                               "containerDefinitions": [container], "networkMode": "awsvpc", "status": "ACTIVE", "volumes": [],
                               "taskRoleArn": f"arn:aws:iam::{ACCOUNT}:role/{name}", "placementConstraints": [], "cpu": "256",
                               "memory": "512", "compatibilities": ["EC2", "FARGATE"], "requiresCompatibilities": ["FARGATE"],
                               "requiresAttributes": [{"name": "ecs.capability.task-eni"}], "registeredAt": 1764000000.1}, "tags": []}


class Api:
    def __init__(self, port, count, latency):
        self.port, self.latency, self.calls = port, latency, []
        names = [name_of(it) for it in range(count)]
        self.services = {name: json.dumps(service(name)) for name in names}

    def answer(self, action, body):
        """Status, type and body."""
        if action == "DescribeServices":
            asked = [it.rsplit("/", 1)[-1] for it in body["services"]]
            found = ",".join(self.services[it] for it in asked if it in self.services)
            missing = [{"arn": arn(f"service/{CLUSTER}/{it}"), "reason": "MISSING"} for it in asked if it not in self.services]
            return 200, f'{{"services":[{found}],"failures":{json.dumps(missing)}}}'
        if action == "DescribeTaskDefinition":
            family = body["taskDefinition"].rsplit("/", 1)[-1].split(":")[0]
            return 200, json.dumps(definition(self.port, family.removeprefix("family-")))
        if action == "GetCallerIdentity":
            return 200, ("<GetCallerIdentityResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><GetCallerIdentityResult>"
                         f"<Arn>arn:aws:iam::{ACCOUNT}:user/bench</Arn><UserId>bench</UserId><Account>{ACCOUNT}</Account>"
                         "</GetCallerIdentityResult></GetCallerIdentityResponse>")
        if action == "GetAuthorizationToken":
            return 200, json.dumps({"authorizationData": [{"authorizationToken": "QVdTOmJlbmNo", "expiresAt": time.time() + 43200,
                                                           "proxyEndpoint": f"http://localhost:{self.port}"}]})
        return 400, json.dumps({"__type": "InvalidParameterException", "message": f"the stand-in has no {action}"})

    async def serve(self, reader, writer):
        try:
            while True:
                method, path, headers, body = await read_request(reader)
                if path == "/calls":
                    await send(writer, 200, json.dumps(self.calls), "application/json")
                    continue
                target, form = headers.get("x-amz-target", ""), dict(it.split("=", 1) for it in body.split("&") if "=" in it)
                action = target.rsplit(".", 1)[-1] or form.get("Action", "") or f"{method} {path}"
                asked = json.loads(body) if target and body else {}
                self.calls.append([time.time(), action, asked.get("services", [])])
                await asyncio.sleep(self.latency)
                if path.startswith("/v2/"):
                    more = f"Docker-Content-Digest: {digest_of(path.split('/')[2])}\r\n"
                    await send(writer, 200, "", "application/vnd.oci.image.manifest.v1+json", more)
                    continue
                status, answer = self.answer(action, asked)
                await send(writer, status, answer, "application/x-amz-json-1.1" if target else "text/xml")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def read_request(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return method, path, headers, body.decode()


async def send(writer, status, body, kind, more=""):
    data = body.encode()
    writer.write(f"HTTP/1.1 {HTTP[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n{more}\r\n".encode() + data)
    await writer.drain()


async def main():
    port, count, latency = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    server = await asyncio.start_server(Api(port, count, latency).serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
