"""Starts the AWS emulator (ministack) with weighted forward actions, which it lacks.

ministack's load balancer keeps one target group an action. Real ones keep a `ForwardConfig` of several groups with
weights and stickiness; Holdfast reads and writes that. Here its parser, its answers and its choice of a target group
learn it; everything else is the emulator's own. Run it with the Python that has ministack installed.
"""

import random
import sys

from ministack import app
from ministack.services import alb

parse_actions = alb._parse_actions
action_xml = alb._action_xml


class Weighted(dict):
    """An action whose target group is chosen anew for each request."""

    def get(self, key, default=None):
        if key != "TargetGroupArn":
            return super().get(key, default)
        groups = [group for group in self["ForwardConfig"]["groups"] if group["weight"] > 0]
        if not groups:
            return default
        return random.choices([group["arn"] for group in groups], [group["weight"] for group in groups])[0]


def forward_config(params, prefix):
    groups = []
    while arn := alb._p(params, f"{prefix}.TargetGroups.member.{len(groups) + 1}.TargetGroupArn"):
        weight = alb._p(params, f"{prefix}.TargetGroups.member.{len(groups) + 1}.Weight", "1")
        groups.append({"arn": arn, "weight": int(weight)})
    sticky = f"{prefix}.TargetGroupStickinessConfig"
    enabled = alb._p(params, f"{sticky}.Enabled")
    duration = alb._p(params, f"{sticky}.DurationSeconds")
    return {"groups": groups, "enabled": enabled, "duration": duration}


def parse(params, prefix="DefaultActions"):
    actions = parse_actions(params, prefix)
    for index, action in enumerate(actions, start=1):
        config = forward_config(params, f"{prefix}.member.{index}.ForwardConfig")
        if config["groups"]:
            actions[index - 1] = Weighted(action, ForwardConfig=config)
    return actions


def xml(action):
    text = action_xml(action)
    config = action.get("ForwardConfig")
    if not config:
        return text
    groups = "".join(
        f"<member><TargetGroupArn>{group['arn']}</TargetGroupArn><Weight>{group['weight']}</Weight></member>"
        for group in config["groups"]
    )
    sticky = ""
    if config["enabled"]:
        duration = f"<DurationSeconds>{config['duration']}</DurationSeconds>" if config["duration"] else ""
        sticky = f"<Enabled>{config['enabled']}</Enabled>{duration}"
        sticky = f"<TargetGroupStickinessConfig>{sticky}</TargetGroupStickinessConfig>"
    inner = f"<ForwardConfig><TargetGroups>{groups}</TargetGroups>{sticky}</ForwardConfig>"
    return text.removesuffix("</member>") + inner + "</member>"


alb._parse_actions = parse
alb._action_xml = xml
sys.exit(app.main())
