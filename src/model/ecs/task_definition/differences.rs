//! Two task definitions, field by field.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::TaskDefinition;

impl TaskDefinition {
    /// Every field in which `other` means something else, as people name it; values of variables are not told.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let (from, to) = (self.canonical(), other.canonical());
        let empty = Map::new();
        let (from, to) = (from.as_object().unwrap_or(&empty), to.as_object().unwrap_or(&empty));
        let keys: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
        for key in keys {
            match (key.as_str(), from.get(key), to.get(key)) {
                (_, a, b) if a == b => {}
                ("containerDefinitions", a, b) => containers_differ(a, b, &mut found),
                (_, a, b) => found.push(change(key, a, b)),
            }
        }
        found
    }
}

fn containers_differ(from: Option<&Value>, to: Option<&Value>, found: &mut Vec<String>) {
    let by_name = |list: Option<&Value>| -> BTreeMap<String, Map<String, Value>> {
        let list = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
        list.filter_map(|it| Some((it.get("name")?.as_str()?.to_owned(), it.clone()))).collect()
    };
    let (from, to) = (by_name(from), by_name(to));
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    for name in names {
        let (Some(a), Some(b)) = (from.get(name), to.get(name)) else {
            let word = if to.contains_key(name) { "added" } else { "removed" };
            found.push(format!("container {name}: {word}"));
            continue;
        };
        let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for key in keys.into_iter().filter(|key| a.get(*key) != b.get(*key)) {
            match key.as_str() {
                "environment" => entries_differ(name, "env", a.get(key), b.get(key), found),
                "secrets" => entries_differ(name, "secret", a.get(key), b.get(key), found),
                _ => found.push(change(&format!("container {name}: {key}"), a.get(key), b.get(key))),
            }
        }
    }
}

fn entries_differ(container: &str, what: &str, from: Option<&Value>, to: Option<&Value>, found: &mut Vec<String>) {
    let by_name = |list: Option<&Value>| -> BTreeMap<String, Value> {
        let list = list.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|it| Some((it.get("name")?.as_str()?.to_owned(), it.clone()))).collect()
    };
    let (from, to) = (by_name(from), by_name(to));
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    for name in names.into_iter().filter(|name| from.get(*name) != to.get(*name)) {
        let word = match (from.contains_key(name), to.contains_key(name)) {
            (true, true) => "changed",
            (false, _) => "added",
            (true, false) => "removed",
        };
        found.push(format!("container {container}: {what} {name} {word}"));
    }
}

fn change(key: &str, from: Option<&Value>, to: Option<&Value>) -> String {
    let short = |value: Option<&Value>| match value {
        None => Some("none".to_owned()),
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Bool(it)) => Some(it.to_string()),
        Some(Value::Number(it)) => Some(it.to_string()),
        Some(_) => None,
    };
    match (short(from), short(to)) {
        (Some(from), Some(to)) => format!("{key}: {from} -> {to}"),
        _ => format!("{key} changed"),
    }
}
