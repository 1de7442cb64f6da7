//! ECS and a load balancer as a function of time: no clock, no task, no lock. The tests of the plan live in it too.
//!
//! | file | does |
//! |---|---|
//! | here | what there is |
//! | `look` | what a look at it sees |
//! | `perform` | steps, with the checks of the real edge right before each |
//! | `rounds` | what ECS does by itself: deployments, the circuit breaker |
//! | `people` | what others do with the console |

mod look;
mod people;
mod perform;
mod rounds;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::model::colour::Group;
use crate::model::desired::Service;
use crate::model::ecs::seen::{Definition, RolloutState, StoppedTask};
use crate::model::ecs::task_definition::{TaskDefinition, digest_of, repository_of, tag_of};
use crate::model::image::{Digest, Repository, Tag};
use crate::model::release::ReleaseHash;
use crate::model::snapshot::Why;

/// Whose marks are ours here: a world in memory has one controller.
pub(crate) const CONTROLLER: &str = "sandbox";

/// Where an ECS service is: cluster and name.
pub(crate) type Key = (String, String);

/// An account in memory.
#[derive(Debug, Clone)]
pub(crate) struct Aws {
    /// The moment it is at.
    pub(crate) now: Timestamp,
    /// How long one round of the scheduler takes.
    pub(crate) pace: Duration,
    /// The services.
    pub(crate) services: BTreeMap<Key, EcsService>,
    /// Task definitions by ARN, and whether each may still be chosen.
    pub(crate) definitions: BTreeMap<String, (Definition, bool)>,
    /// The weight of each target group in a rule.
    pub(crate) rules: BTreeMap<String, BTreeMap<String, u16>>,
    /// Digests whose containers never stay up.
    pub(crate) bad: BTreeSet<Digest>,
    /// What this process registered or found: lost with it.
    pub(crate) known: BTreeMap<ReleaseHash, String>,
    /// Every call that changed something, as people read it.
    pub(crate) calls: Vec<String>,
    begun: u64,
    digest: fn(&Repository, &Tag) -> Option<Digest>,
}

/// A service.
#[derive(Debug, Clone)]
pub(crate) struct EcsService {
    pub(crate) name: String,
    pub(crate) desired: u32,
    /// The primary one first.
    pub(crate) deployments: Vec<Deployment>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) configuration: Value,
    /// What else `CreateService` was given.
    pub(crate) body: Map<String, Value>,
    pub(crate) draining: bool,
    /// Who deploys, when it is not ECS.
    pub(crate) deployed_by: Option<String>,
    /// Alarms of its deployments that are in ALARM; none: it has no alarms.
    pub(crate) alarming: Option<Vec<String>>,
    pub(crate) stopped: Vec<StoppedTask>,
    /// The task definition of the last deployment that completed.
    completed: Option<String>,
    /// When its next round is; none: it is steady.
    due: Option<Timestamp>,
}

/// A deployment.
#[derive(Debug, Clone)]
pub(crate) struct Deployment {
    pub(crate) id: String,
    pub(crate) definition: String,
    pub(crate) running: u32,
    pub(crate) failed: u32,
    pub(crate) rollout: RolloutState,
    pub(crate) reason: String,
    /// When its youngest task started.
    youngest: Option<Timestamp>,
    created_at: Timestamp,
}

impl EcsService {
    /// Tasks that run, of whatever deployment.
    pub(crate) fn running(&self) -> u32 {
        self.deployments.iter().map(|it| it.running).sum()
    }

    /// The task definition it is set to.
    pub(crate) fn definition(&self) -> &str {
        self.deployments.first().map_or("", |it| it.definition.as_str())
    }

    /// The target groups its tasks register in.
    fn target_groups(&self) -> impl Iterator<Item = &str> {
        let list = self.body.get("loadBalancers").and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|it| it.get("targetGroupArn")?.as_str())
    }
}

impl Aws {
    /// An empty account; `digest` says what a tag is.
    pub(crate) fn new(now: Timestamp, pace: Duration, digest: fn(&Repository, &Tag) -> Option<Digest>) -> Self {
        Self {
            now,
            pace,
            services: BTreeMap::new(),
            definitions: BTreeMap::new(),
            rules: BTreeMap::new(),
            bad: BTreeSet::new(),
            known: BTreeMap::new(),
            calls: Vec::new(),
            begun: 0,
            digest,
        }
    }

    /// What a file asks to adopt is there already: a service that nobody here created, with the release `initial`.
    /// Blue alone, of two colours; nothing, where the file says how to create it.
    pub(crate) fn exist(&mut self, service: &Service) {
        let Some(ecs) = &service.ecs else { return };
        let Some((group, name)) = ecs.services.iter().find(|(group, _)| **group != Group::Green) else { return };
        let key = (short(&ecs.cluster), name.clone());
        let anything = ecs.services.values().any(|name| self.services.contains_key(&(key.0.clone(), name.clone())));
        if anything || ecs.create.is_some() {
            return;
        }
        let content = initial_definition(service, name);
        let Some(content) = content else { return };
        let arn = self.register(content, BTreeMap::new());
        let mut body = Map::new();
        body.insert("launchType".to_owned(), json!("FARGATE"));
        if let Some(target_group) = service.alb.as_ref().and_then(|alb| alb.target_groups.get(group)) {
            let container = ecs.container.clone().unwrap_or_else(|| name.clone());
            let balancer = json!({"targetGroupArn": target_group, "containerName": container, "containerPort": 8080});
            body.insert("loadBalancers".to_owned(), json!([balancer]));
        }
        let now = self.now;
        let desired = if ecs.external_replicas { 2 } else { service.replicas.max(1) };
        let configuration = json!({"deploymentCircuitBreaker": {"enable": true, "rollback": true}});
        let mut made = self.service(name, &arn, desired, configuration, body, BTreeMap::new());
        if let Some(first) = made.deployments.first_mut() {
            (first.running, first.rollout) = (desired, RolloutState::Completed);
            first.youngest = Some(now);
        }
        made.completed = Some(arn);
        made.due = None;
        self.services.insert(key, made);
    }

    fn service(
        &mut self,
        name: &str,
        arn: &str,
        desired: u32,
        configuration: Value,
        body: Map<String, Value>,
        tags: BTreeMap<String, String>,
    ) -> EcsService {
        EcsService {
            name: name.to_owned(),
            desired,
            deployments: vec![self.deployment(arn, "")],
            tags,
            configuration,
            body,
            draining: false,
            deployed_by: None,
            alarming: None,
            stopped: Vec::new(),
            completed: None,
            due: Some(crate::plan::hold::after(self.now, self.pace)),
        }
    }

    fn deployment(&mut self, arn: &str, reason: &str) -> Deployment {
        self.begun += 1;
        Deployment {
            id: format!("ecs-svc/{}", self.begun),
            definition: arn.to_owned(),
            running: 0,
            failed: 0,
            rollout: RolloutState::InProgress,
            reason: reason.to_owned(),
            youngest: None,
            created_at: self.now,
        }
    }

    /// The next revision of its family.
    fn register(&mut self, content: TaskDefinition, tags: BTreeMap<String, String>) -> String {
        let family = content.family().unwrap_or("task").to_owned();
        let of_family = format!("/{family}:");
        let revision = self.definitions.keys().filter(|arn| arn.contains(&of_family)).count() + 1;
        let arn = format!("arn:aws:ecs:sandbox:000000000000:task-definition/{family}:{revision}");
        let definition = Definition { arn: arn.clone(), content: Arc::new(content), tags };
        self.definitions.insert(arn.clone(), (definition, true));
        arn
    }

    /// Why tasks of this task definition never stay up; none: they do.
    fn fails(&self, arn: &str) -> Option<Why> {
        let (definition, _) = self.definitions.get(arn)?;
        let content = &definition.content;
        let bad = |container: &&str| {
            let image = content.image(container).unwrap_or_default();
            tag_of(image).is_some_and(is_bad) || self.digest(image).is_some_and(|digest| self.bad.contains(&digest))
        };
        let container = content.containers().into_iter().find(bad)?;
        Some(format!("Essential container in task exited; {container} exited with 1"))
    }

    /// The digest an image runs as.
    fn digest(&self, image: &str) -> Option<Digest> {
        digest_of(image).or_else(|| (self.digest)(&repository_of(image)?, &Tag::new(tag_of(image)?).ok()?))
    }

    /// Targets of a target group that pass their health check: every task that runs.
    pub(crate) fn healthy_targets(&self, target_group: &str) -> u32 {
        let registers = |it: &&EcsService| it.target_groups().any(|arn| arn == target_group);
        self.services.values().filter(registers).map(EcsService::running).sum()
    }
}

/// Whether containers of this tag never stay up.
pub(crate) fn is_bad(tag: &str) -> bool {
    tag.contains("bad") || tag.contains("crash")
}

/// A cluster by its name, whether it was written as ARN or name.
pub(crate) fn short(cluster: &str) -> String {
    cluster.rsplit('/').next().unwrap_or(cluster).to_owned()
}

/// What runs before Holdfast comes: the base of the file, or one that has the container the file names.
fn initial_definition(service: &Service, name: &str) -> Option<TaskDefinition> {
    let ecs = service.ecs.as_ref()?;
    if let Some(base) = &ecs.base {
        return Some((*base.content).clone());
    }
    let container = ecs.container.as_deref().unwrap_or(name);
    let mut containers = vec![json!({
        "name": container, "image": format!("{}:initial", service.image), "essential": true,
        "portMappings": [{"containerPort": 8080, "hostPort": 8080, "protocol": "tcp"}],
    })];
    for (name, sidecar) in &ecs.containers {
        containers.push(json!({"name": name, "image": format!("{}:initial", sidecar.image), "essential": false}));
    }
    let family = ecs.family.as_deref().unwrap_or(name);
    let definition = json!({
        "family": family, "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"],
        "cpu": "256", "memory": "512", "containerDefinitions": containers,
    });
    TaskDefinition::new(&definition).ok()
}
