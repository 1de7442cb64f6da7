//! From the JSON of ECS to what a look saw.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::model::ecs::seen::{Breaker, Definition, DeploymentSeen, Owner, RolloutState, ServiceSeen, StoppedTask};
use crate::model::ecs::tags;
use crate::model::ecs::task_definition::{TaskDefinition, sorted_keys};
use crate::model::names::ControllerId;
use crate::model::snapshot::{Fact, Why};

/// One description of `DescribeServices`, before anything else is asked. A deleted service is absent.
pub(super) fn service(description: &Arc<Value>, ours: &[ControllerId]) -> Fact<ServiceSeen> {
    let status = text(description, "status");
    if status == "INACTIVE" {
        return Fact::Absent;
    }
    let tags = tags_of(description);
    let configuration = description.get("deploymentConfiguration").cloned().unwrap_or_default();
    Fact::Seen(ServiceSeen {
        arn: text(description, "serviceArn").to_owned(),
        name: text(description, "serviceName").to_owned(),
        draining: status == "DRAINING",
        desired: count(description, "desiredCount"),
        daemon: text(description, "schedulingStrategy") == "DAEMON",
        running: count(description, "runningCount"),
        pending: count(description, "pendingCount"),
        task_definition: text(description, "taskDefinition").to_owned(),
        definition: Fact::Unreadable("nobody asked".to_owned()),
        deployments: list(description, "deployments").map(deployment).collect(),
        other_controller: other_controller(description),
        owner: owner(&tags, ours),
        tags,
        breaker: breaker(&configuration),
        deployment_configuration: canonical(&configuration),
        alarming: Fact::Absent,
        target_groups: list(description, "loadBalancers")
            .map(|it| text(it, "targetGroupArn").to_owned())
            .filter(|arn| !arn.is_empty())
            .collect(),
        digests: BTreeMap::new(),
        stopped: Vec::new(),
        youngest: None,
        description: Arc::clone(description),
    })
}

/// The alarms a deployment is watched by; empty when that is off.
pub(super) fn alarms(description: &Value) -> Vec<String> {
    let Some(alarms) = description.get("deploymentConfiguration").and_then(|it| it.get("alarms")) else {
        return Vec::new();
    };
    let enabled = alarms.get("enable").and_then(Value::as_bool).unwrap_or(false);
    let names = list(alarms, "alarmNames").filter_map(Value::as_str).map(str::to_owned);
    if enabled { names.collect() } else { Vec::new() }
}

/// A reply of `DescribeTaskDefinition`.
pub(super) fn definition(reply: &Value) -> Result<(Definition, bool), Why> {
    let described = reply.get("taskDefinition").ok_or("ecs:DescribeTaskDefinition answered without one")?;
    let content = TaskDefinition::new(described).map_err(|why| format!("a task definition that {why}"))?;
    let arn = text(described, "taskDefinitionArn").to_owned();
    let active = text(described, "status") != "INACTIVE";
    Ok((Definition { arn, content: Arc::new(content), tags: tags_of(reply) }, active))
}

/// Whether a task was stopped by the scheduler or by a person, which says nothing of its release. A failed health check
/// is the scheduler's doing too, and says a lot.
pub(super) fn is_ordinary(task: &Value) -> bool {
    let reason = text(task, "stoppedReason").to_lowercase();
    let by_order = matches!(text(task, "stopCode"), "ServiceSchedulerInitiated" | "UserInitiated");
    reason.is_empty() || (by_order && !reason.contains("health"))
}

/// A task that stopped, in the words of ECS and of its containers.
pub(super) fn stopped(task: &Value) -> StoppedTask {
    let mut reason = text(task, "stoppedReason").to_owned();
    for container in list(task, "containers") {
        let name = text(container, "name");
        if let Some(code) = container.get("exitCode").and_then(Value::as_i64).filter(|code| *code != 0) {
            reason.push_str(&format!("; {name} exited with {code}"));
        }
        let why = text(container, "reason");
        if !why.is_empty() && !reason.contains(why) {
            reason.push_str(&format!("; {name}: {why}"));
        }
    }
    StoppedTask {
        task_definition: text(task, "taskDefinitionArn").to_owned(),
        reason: crate::model::words::shortened(reason.trim_start_matches("; "), 240),
        at: time(task, "stoppedAt").or_else(|| time(task, "stoppingAt")),
    }
}

fn deployment(value: &Value) -> DeploymentSeen {
    DeploymentSeen {
        id: text(value, "id").to_owned(),
        primary: text(value, "status") == "PRIMARY",
        task_definition: text(value, "taskDefinition").to_owned(),
        desired: count(value, "desiredCount"),
        running: count(value, "runningCount"),
        failed: count(value, "failedTasks"),
        rollout: match text(value, "rolloutState") {
            "IN_PROGRESS" => RolloutState::InProgress,
            "COMPLETED" => RolloutState::Completed,
            "FAILED" => RolloutState::Failed,
            _ => RolloutState::Unknown,
        },
        reason: text(value, "rolloutStateReason").to_owned(),
        created_at: time(value, "createdAt"),
    }
}

/// Who deploys, when it is not ECS's own rolling update.
fn other_controller(description: &Value) -> Option<String> {
    let kind = description.get("deploymentController").map_or("", |it| text(it, "type"));
    if !kind.is_empty() && kind != "ECS" {
        return Some(kind.to_owned());
    }
    let strategy = description.get("deploymentConfiguration").map_or("", |it| text(it, "strategy"));
    (!strategy.is_empty() && strategy != "ROLLING").then(|| format!("ECS itself ({strategy})"))
}

fn breaker(configuration: &Value) -> Breaker {
    let flag = |key: &str| {
        configuration.get("deploymentCircuitBreaker").and_then(|it| it.get(key)).and_then(Value::as_bool) == Some(true)
    };
    Breaker { enabled: flag("enable"), rollback: flag("rollback") }
}

/// The configuration with its defaults left out: absent and default are no difference.
fn canonical(configuration: &Value) -> String {
    let mut value = configuration.clone();
    if let Value::Object(map) = &mut value {
        let is = |value: Option<&Value>, default: &Value| value == Some(default);
        for (key, default) in [
            ("maximumPercent", serde_json::json!(200)),
            ("minimumHealthyPercent", serde_json::json!(100)),
            ("strategy", serde_json::json!("ROLLING")),
            ("bakeTimeInMinutes", serde_json::json!(0)),
        ] {
            if is(map.get(key), &default) {
                map.remove(key);
            }
        }
        let off = |it: &Value| it.get("enable").and_then(Value::as_bool) != Some(true);
        for key in ["deploymentCircuitBreaker", "alarms"] {
            if map.get(key).is_some_and(off) {
                map.remove(key);
            }
        }
        map.retain(|_, value| !value.is_null() && *value != serde_json::json!([]));
    }
    sorted_keys(&value).to_string()
}

fn owner(tags: &BTreeMap<String, String>, ours: &[ControllerId]) -> Owner {
    match tags.get(tags::CONTROLLER) {
        None => Owner::Nobody,
        Some(id) if ours.iter().any(|it| it.as_str() == id) => Owner::Us,
        Some(id) => Owner::Another(id.clone()),
    }
}

/// `[{key, value}]` as a map.
pub(super) fn tags_of(value: &Value) -> BTreeMap<String, String> {
    list(value, "tags").map(|it| (text(it, "key").to_owned(), text(it, "value").to_owned())).collect()
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn count(value: &Value, key: &str) -> u32 {
    value.get(key).and_then(Value::as_u64).and_then(|it| u32::try_from(it).ok()).unwrap_or(0)
}

/// Seconds since the epoch, with a fraction.
pub(super) fn time(value: &Value, key: &str) -> Option<Timestamp> {
    let seconds = value.get(key)?.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "a moment of this century in milliseconds fits")]
    Timestamp::from_millisecond((seconds * 1000.0) as i64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_deleted_service_is_absent_and_a_draining_one_is_not() {
        let of = |status: &str| service(&Arc::new(json!({"status": status})), &[]);
        assert!(matches!(of("INACTIVE"), Fact::Absent));
        assert!(matches!(of("DRAINING"), Fact::Seen(seen) if seen.draining));
    }

    #[test]
    fn a_default_configuration_is_no_difference() {
        let spelled = json!({"maximumPercent": 200, "minimumHealthyPercent": 100, "strategy": "ROLLING",
            "deploymentCircuitBreaker": {"enable": false, "rollback": false}, "alarms": null});
        assert_eq!(canonical(&spelled), canonical(&json!({})));
        assert_ne!(canonical(&json!({"maximumPercent": 150})), canonical(&json!({})));
    }

    #[test]
    fn who_else_deploys_is_named() {
        assert_eq!(other_controller(&json!({"deploymentController": {"type": "ECS"}})), None);
        let other = other_controller(&json!({"deploymentController": {"type": "CODE_DEPLOY"}}));
        assert_eq!(other.as_deref(), Some("CODE_DEPLOY"));
        let native = other_controller(&json!({"deploymentConfiguration": {"strategy": "BLUE_GREEN"}}));
        assert_eq!(native.as_deref(), Some("ECS itself (BLUE_GREEN)"));
    }

    #[test]
    fn what_the_scheduler_stops_says_nothing_but_a_failed_check_does() {
        let of = |code: &str, reason: &str| is_ordinary(&json!({"stopCode": code, "stoppedReason": reason}));
        assert!(of("ServiceSchedulerInitiated", "Scaling activity initiated by (deployment ecs-svc/1)"));
        assert!(of("UserInitiated", "Task stopped by user"));
        assert!(!of("ServiceSchedulerInitiated", "Task failed ELB health checks in (target-group x)"));
        assert!(!of("EssentialContainerExited", "Essential container in task exited"));
    }

    #[test]
    fn a_task_says_why_it_stopped() {
        let task = json!({"stoppedReason": "Essential container exited", "containers": [
            {"name": "app", "exitCode": 3}, {"name": "log", "exitCode": 0}]});
        assert_eq!(stopped(&task).reason, "Essential container exited; app exited with 3");
    }
}
