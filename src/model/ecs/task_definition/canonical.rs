//! What a task definition means: order, defaults and spelling left out.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::TaskDefinition;
use crate::model::hash::sha256_hex;

impl TaskDefinition {
    /// SHA-256 over what it means: order, defaults and spelling left out.
    pub fn sha256(&self) -> String {
        sha256_hex(self.canonical().to_string())
    }

    /// What it means: sorted where order has no meaning, without what is a default.
    pub fn canonical(&self) -> Value {
        let mut top = self.0.clone();
        let mode = top.get("networkMode").and_then(Value::as_str).unwrap_or("bridge").to_owned();
        let awsvpc = mode == "awsvpc";
        drop_default(&mut top, "networkMode", &json!("bridge"));
        for key in ["cpu", "memory"] {
            if let Some(value) = top.get(key) {
                let units = units(value);
                top.insert(key.to_owned(), units);
            }
        }
        let platform = json!({"operatingSystemFamily": "LINUX", "cpuArchitecture": "X86_64"});
        drop_default(&mut top, "runtimePlatform", &platform);
        sort_by(&mut top, "requiresCompatibilities", &[]);
        sort_by(&mut top, "volumes", &["name"]);
        sort_by(&mut top, "placementConstraints", &["type", "expression"]);
        sort_by(&mut top, "inferenceAccelerators", &["deviceName"]);
        if let Some(Value::Array(containers)) = top.get_mut("containerDefinitions") {
            for container in containers.iter_mut() {
                if let Value::Object(container) = container {
                    canonical_container(container, awsvpc);
                }
            }
        }
        sort_by(&mut top, "containerDefinitions", &["name"]);
        let mut value = Value::Object(top);
        prune(&mut value);
        sorted_keys(&value)
    }
}

/// `0.25 vCPU` is 256, `1 GB` is 1024, `512` is 512.
fn units(value: &Value) -> Value {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    let lower = text.to_ascii_lowercase();
    let number = |suffix: &str| lower.strip_suffix(suffix).and_then(|it| it.trim().parse::<f64>().ok());
    let scaled = number("vcpu").or_else(|| number("gb")).map(|it| it * 1024.0).or_else(|| number("mb"));
    match scaled {
        Some(units) => json!(format!("{units:.0}")),
        None => json!(text),
    }
}

fn drop_default(map: &mut Map<String, Value>, key: &str, default: &Value) {
    if map.get(key) == Some(default) {
        map.remove(key);
    }
}

/// Sorts a list by the members `by`, or as text.
fn sort_by(map: &mut Map<String, Value>, key: &str, by: &[&str]) {
    if let Some(Value::Array(list)) = map.get_mut(key) {
        let of = |it: &Value| -> String {
            let whole = sorted_keys(it).to_string();
            by.iter().map(|key| it.get(key).map(Value::to_string).unwrap_or_default()).chain([whole]).collect()
        };
        list.sort_by_cached_key(of);
    }
}

/// Lists of a container whose order has no meaning, by what they are sorted by.
const UNORDERED: [(&str, &[&str]); 12] = [
    ("environment", &["name"]),
    ("secrets", &["name"]),
    ("mountPoints", &["containerPath"]),
    ("portMappings", &["containerPort", "protocol"]),
    ("volumesFrom", &["sourceContainer"]),
    ("dependsOn", &["containerName"]),
    ("ulimits", &["name"]),
    ("extraHosts", &["hostname"]),
    ("systemControls", &["namespace"]),
    ("resourceRequirements", &["type"]),
    ("links", &[]),
    ("dockerSecurityOptions", &[]),
];

/// Switches of a container that are off unless they are on.
const OFF: [&str; 5] = ["privileged", "readonlyRootFilesystem", "interactive", "pseudoTerminal", "disableNetworking"];

fn canonical_container(container: &mut Map<String, Value>, awsvpc: bool) {
    drop_default(container, "essential", &json!(true));
    drop_default(container, "cpu", &json!(0));
    drop_default(container, "versionConsistency", &json!("enabled"));
    for key in OFF {
        drop_default(container, key, &json!(false));
    }
    each(container, "portMappings", |port| {
        drop_default(port, "protocol", &json!("tcp"));
        drop_default(port, "hostPort", &json!(0));
        if awsvpc && port.get("hostPort") == port.get("containerPort") {
            port.remove("hostPort");
        }
    });
    each(container, "mountPoints", |mount| drop_default(mount, "readOnly", &json!(false)));
    each(container, "volumesFrom", |from| drop_default(from, "readOnly", &json!(false)));
    if let Some(Value::Object(check)) = container.get_mut("healthCheck") {
        for (key, default) in [("interval", 30), ("timeout", 5), ("retries", 3), ("startPeriod", 0)] {
            drop_default(check, key, &json!(default));
        }
    }
    if let Some(Value::Object(log)) = container.get_mut("logConfiguration") {
        sort_by(log, "secretOptions", &["name"]);
    }
    for (key, by) in UNORDERED {
        sort_by(container, key, by);
    }
}

fn each(map: &mut Map<String, Value>, key: &str, change: impl Fn(&mut Map<String, Value>)) {
    let list = map.get_mut(key).and_then(Value::as_array_mut);
    for item in list.into_iter().flatten().filter_map(Value::as_object_mut) {
        change(item);
    }
}

/// An empty list or map of an object is as good as none. What stands in a list stays: an empty argument is one.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|_, it| !matches!(it, Value::Null) && *it != json!([]) && *it != json!({}));
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

/// The same value with the keys of every map in order, whatever serde_json's map is.
pub fn sorted_keys(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            Value::Object(sorted.into_iter().map(|(key, value)| (key.clone(), sorted_keys(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(sorted_keys).collect()),
        other => other.clone(),
    }
}
