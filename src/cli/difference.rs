//! What the file asks for and what was applied, field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::model::colour::Group;
use crate::model::desired::{Logging, Service};
use crate::model::ecs::EcsRelease;
use crate::model::memory::{Committed, Live, Memory};
use crate::model::release::Release;
use crate::model::snapshot::{Fact, Replica, ReplicaState, Snapshot};
use crate::plan::Plan;
use crate::plan::ecs::alb::percent;
use crate::plan::step::ecs::shares;
use crate::plan::step::{revision, show_resources};

/// How a field is put in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum How {
    /// It is part of the release: new containers.
    NewContainers,
    /// It is part of the release: new tasks on ECS, one after the other.
    RollsTasks,
    /// The containers and tasks that run are kept.
    InPlace,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NewContainers => "new containers",
            Self::RollsTasks => "rolls tasks",
            Self::InPlace => "in place",
        })
    }
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// As in the YAML.
    pub(crate) field: String,
    /// What it takes.
    pub(crate) how: How,
    /// As applied; none: not set.
    pub(crate) from: Option<String>,
    /// As the file says; none: not set.
    pub(crate) to: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, how, from, to } = self;
        match (from, to) {
            (Some(from), Some(to)) => write!(f, "{field}: {from} -> {to}")?,
            (None, Some(to)) => write!(f, "{field}: + {to}")?,
            (Some(from), None) => write!(f, "{field}: - {from}")?,
            (None, None) => write!(f, "{field}")?,
        }
        write!(f, " ({how})")
    }
}

/// What differs between the release that serves and the one the file asks for; nothing before the first deploy.
pub(crate) fn between(service: Option<&Service>, plan: &Plan, memory: &Memory, snapshot: &Snapshot) -> Vec<Difference> {
    let (Some(service), Some(committed)) = (service, &memory.committed) else { return Vec::new() };
    let mut found = match &plan.view.wanted {
        Some(wanted) => releases(&committed.release, wanted),
        None => Vec::new(),
    };
    if service.ecs.is_some() {
        found.iter_mut().for_each(|it| it.how = How::RollsTasks);
        found.extend(in_place_on_ecs(service, committed, memory, snapshot));
    } else {
        found.extend(in_place(service, committed.group, memory, snapshot));
    }
    found
}

/// The same of an ECS service; a task definition nobody here asked for rolls tasks when it is put back.
fn in_place_on_ecs(service: &Service, committed: &Committed, memory: &Memory, snapshot: &Snapshot) -> Vec<Difference> {
    let seen = snapshot.ecs.as_ref().and_then(|ecs| ecs.services.get(&committed.group)).and_then(Fact::seen);
    let Some(seen) = seen else { return Vec::new() };
    let mut found = Vec::new();
    let mut field = |name: &str, how, from: String, to: String| {
        if from != to {
            found.push(Difference { field: name.to_owned(), how, from: Some(from), to: Some(to) });
        }
    };
    let on_its_way = memory.attempt.as_ref().and_then(|it| memory.registered.get(&it.release.hash()));
    if let Some(ours) = memory.registered.get(&committed.release.hash())
        && on_its_way != Some(&seen.task_definition)
    {
        let (theirs, ours) = (revision(&seen.task_definition), revision(ours));
        field("ecs.taskDefinition", How::RollsTasks, theirs.to_owned(), ours.to_owned());
    }
    if service.ecs.as_ref().is_some_and(|ecs| !ecs.external_replicas) {
        field("replicas", How::InPlace, seen.desired.to_string(), service.replicas.to_string());
    }
    if let Some(live) = &memory.ecs_live {
        let (from, to) = (seen.deployment_configuration.clone(), live.deployment_configuration.clone());
        field("ecs.deploymentConfiguration", How::InPlace, from, to);
    }
    if let (Some(serving), Some(declared)) = (committed.group.colour(), service.active_colour) {
        field("activeColour", How::InPlace, serving.to_string(), declared.to_string());
    }
    if let Some(weights) = snapshot.alb.as_ref().and_then(|alb| alb.weights.seen()) {
        let (from, to) =
            (percent(weights), weights.keys().map(|it| (*it, if *it == committed.group { 100 } else { 0 })));
        field("traffic.alb", How::InPlace, shares(&from), shares(&to.collect()));
    }
    found
}

/// Fields that are no part of the release: the count that runs, and what was last seen in force.
fn in_place(service: &Service, serving: Group, memory: &Memory, snapshot: &Snapshot) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut field = |name: &str, from: String, to: String| {
        if from != to {
            found.push(Difference { field: name.to_owned(), how: How::InPlace, from: Some(from), to: Some(to) });
        }
    };
    if let Some(replicas) = snapshot.platform.replicas.seen() {
        let runs = |it: &&Replica| it.group == serving && it.state == ReplicaState::Running;
        let running = replicas.iter().filter(runs).count();
        field("replicas", running.to_string(), service.replicas.to_string());
    }
    if let (Some(serving), Some(declared)) = (serving.colour(), service.active_colour) {
        field("activeColour", serving.to_string(), declared.to_string());
    }
    if let Some(applied) = &memory.applied_live {
        let Live { restart, resources } = applied;
        field("docker.restart", restart.to_string(), service.docker.restart.to_string());
        field("docker.resources", show_resources(*resources), show_resources(service.docker.resources));
    }
    found
}

fn releases(from: &Release, to: &Release) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut field = |name: &str, from: Option<String>, to: Option<String>| {
        if from != to {
            found.push(Difference { field: name.to_owned(), how: How::NewContainers, from, to });
        }
    };
    let Release {
        repository,
        tag,
        digest,
        pull: _,
        port,
        env: _,
        env_file,
        volumes: _,
        logging,
        command,
        init,
        stop_timeout,
        ecs,
    } = to;
    if let (Some(from), Some(to)) = (&from.ecs, ecs) {
        ecs_differs(from, to, &mut field);
    }
    field("image", Some(from.repository.to_string()), Some(repository.to_string()));
    field("tag", Some(from.tag.to_string()), Some(tag.to_string()));
    field("digest", Some(from.digest.short().to_owned()), Some(digest.short().to_owned()));
    field("docker.port", from.port.map(|port| port.to_string()), port.map(|port| port.to_string()));
    let version = |it: &Option<crate::model::release::EnvFileVersion>| {
        it.as_ref().map(|file| format!("{} ({})", file.path.display(), file.sha256.get(..12).unwrap_or("?")))
    };
    field("docker.envFile", version(&from.env_file), version(env_file));
    let words = |command: &Vec<String>| (!command.is_empty()).then(|| command.join(" "));
    field("docker.command", words(&from.command), words(command));
    field("docker.init", Some(from.init.to_string()), Some(init.to_string()));
    field("docker.stopTimeout", Some(format!("{}s", from.stop_timeout)), Some(format!("{stop_timeout}s")));
    let driver = |logging: &Option<Logging>| logging.as_ref().map(|it| format!("{} {:?}", it.driver, it.options));
    field("docker.logging", driver(&from.logging), driver(logging));
    found.extend(env(&from.env, &to.env));
    found.extend(volumes(&from.volumes, &to.volumes));
    found
}

fn ecs_differs(from: &EcsRelease, to: &EcsRelease, field: &mut impl FnMut(&str, Option<String>, Option<String>)) {
    field("ecs.family", Some(from.family.clone()), Some(to.family.clone()));
    // Names only, as below.
    let told = |set: Option<&Option<String>>| set.map(|value| if value.is_some() { "(a value)" } else { "(removed)" });
    for (key, from, to) in [("env", &from.env, &to.env), ("secrets", &from.secrets, &to.secrets)] {
        let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
        for name in names.into_iter().filter(|name| from.get(*name) != to.get(*name)) {
            let (from, to) = (told(from.get(name)), told(to.get(name)));
            let to = if from == to { Some("(another value)") } else { to };
            field(&format!("ecs.{key}.{name}"), from.map(str::to_owned), to.map(str::to_owned));
        }
    }
    for (name, image) in &to.containers {
        field(&format!("ecs.containers.{name}"), from.containers.get(name).cloned(), Some(image.clone()));
    }
}

/// Names only: a value may be a secret somebody wrote in the wrong place.
fn env(from: &BTreeMap<String, String>, to: &BTreeMap<String, String>) -> Vec<Difference> {
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let shown = |set: bool, word: &str| set.then(|| word.to_owned());
    names
        .into_iter()
        .filter(|name| from.get(*name) != to.get(*name))
        .map(|name| Difference {
            field: format!("docker.env.{name}"),
            how: How::NewContainers,
            from: shown(from.contains_key(name), "(a value)"),
            to: shown(to.contains_key(name), if from.contains_key(name) { "(another value)" } else { "(a value)" }),
        })
        .collect()
}

fn volumes(from: &[String], to: &[String]) -> Vec<Difference> {
    let field = || "docker.volumes".to_owned();
    let gone = from.iter().filter(|it| !to.contains(it)).map(|it| Difference {
        field: field(),
        how: How::NewContainers,
        from: Some(it.clone()),
        to: None,
    });
    let new = to.iter().filter(|it| !from.contains(it)).map(|it| Difference {
        field: field(),
        how: How::NewContainers,
        from: None,
        to: Some(it.clone()),
    });
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(tag: &str) -> Release {
        serde_json::from_value(serde_json::json!({
            "repository": "app", "tag": tag, "digest": format!("sha256:{}", "0".repeat(64)), "pull": "never",
            "port": 8080, "env": {"A": "secret-1", "B": "2"}, "env_file": null, "logging": null, "init": false,
            "stop_timeout": 10,
        }))
        .unwrap()
    }

    #[test]
    fn every_field_that_differs_is_named_and_values_of_variables_are_not() {
        let from = release("1");
        let mut to = release("2");
        to.env.insert("A".into(), "secret-2".into());
        to.env.remove("B");
        to.port = None;
        to.volumes = vec!["logs:/log".into()];
        let text: Vec<String> = releases(&from, &to).iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "tag: 1 -> 2 (new containers)",
                "docker.port: - 8080 (new containers)",
                "docker.env.A: (a value) -> (another value) (new containers)",
                "docker.env.B: - (a value) (new containers)",
                "docker.volumes: + logs:/log (new containers)",
            ]
        );
    }

    #[test]
    fn the_same_release_has_no_difference() {
        assert_eq!(releases(&release("1"), &release("1")), []);
    }
}
