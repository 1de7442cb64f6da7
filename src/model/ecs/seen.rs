//! What a look at ECS and the load balancer saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::model::colour::Group;
use crate::model::image::Digest;
use crate::model::release::ReleaseHash;
use crate::model::snapshot::{Fact, Why};

use super::task_definition::TaskDefinition;

/// One look at ECS for one service of the desired state.
#[derive(Debug, Clone, PartialEq)]
pub struct EcsSeen {
    /// The ECS service of each group. `Absent`: missing or deleted.
    pub services: BTreeMap<Group, Fact<ServiceSeen>>,
    /// The remembered base, read back; none while none is remembered.
    pub base: Option<Fact<Definition>>,
    /// What the tags of other containers resolve to.
    pub sidecars: BTreeMap<String, Fact<Digest>>,
    /// Task definitions known by the release they are of.
    pub registered: BTreeMap<ReleaseHash, String>,
    /// Of these, the ones that were deregistered: they run on, and cannot be chosen again.
    pub inactive: BTreeSet<String>,
}

/// A task definition as ECS has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Its ARN, revision included.
    pub arn: String,
    /// What it says.
    pub content: Arc<TaskDefinition>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// An ECS service that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSeen {
    /// Its ARN.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// Being deleted: its last tasks are stopping.
    pub draining: bool,
    /// The wanted number of tasks.
    pub desired: u32,
    /// One task on each instance of the cluster: there is no count to write.
    pub daemon: bool,
    /// Tasks that run.
    pub running: u32,
    /// Tasks on their way.
    pub pending: u32,
    /// The task definition it is set to, by ARN.
    pub task_definition: String,
    /// That task definition.
    pub definition: Fact<Definition>,
    /// Its deployments, the primary one first.
    pub deployments: Vec<DeploymentSeen>,
    /// Who deploys when it is not ECS's rolling update: `CODE_DEPLOY`, `EXTERNAL`, `ECS BLUE_GREEN` …
    pub other_controller: Option<String>,
    /// Whose it is, by its tag.
    pub owner: Owner,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The deployment configuration, canonical JSON.
    pub deployment_configuration: String,
    /// Whether the circuit breaker is on, and rolls back.
    pub breaker: Breaker,
    /// Alarms of the deployment configuration that are in ALARM now. Only asked before a deployment.
    pub alarming: Fact<Vec<String>>,
    /// The target groups its tasks register in.
    pub target_groups: Vec<String>,
    /// The digest each container of the running tasks runs, where all agree. Only asked for an image that is not
    /// pinned by digest.
    pub digests: BTreeMap<String, Digest>,
    /// Why tasks stopped lately, newest first; only asked while a deployment is under way.
    pub stopped: Vec<StoppedTask>,
    /// When the youngest task of its task definition started; only asked of a colour on its way to the requests.
    pub youngest: Option<Timestamp>,
    /// The whole description, for a copy.
    pub description: Arc<Value>,
}

/// Whose a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// It carries no controller's mark.
    Nobody,
    /// It carries ours.
    Us,
    /// It carries another controller's.
    Another(String),
}

/// The deployment circuit breaker of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Breaker {
    /// It ends a deployment that fails.
    pub enabled: bool,
    /// It goes back to the last one that completed.
    pub rollback: bool,
}

/// One deployment of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentSeen {
    /// `ecs-svc/…`.
    pub id: String,
    /// Whether it is the one ECS works towards.
    pub primary: bool,
    /// Its task definition, by ARN.
    pub task_definition: String,
    /// Wanted tasks.
    pub desired: u32,
    /// Running tasks.
    pub running: u32,
    /// Tasks that failed.
    pub failed: u32,
    /// ECS's word on it.
    pub rollout: RolloutState,
    /// Why, in ECS's words; empty when it says nothing.
    pub reason: String,
    /// When it began.
    pub created_at: Option<Timestamp>,
}

/// `rolloutState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutState {
    /// On its way.
    InProgress,
    /// It reached a steady state.
    Completed,
    /// Its circuit breaker or an alarm ended it.
    Failed,
    /// ECS says nothing: judged by the counts.
    Unknown,
}

/// A task that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedTask {
    /// Of this task definition.
    pub task_definition: String,
    /// In ECS's words, exit codes included.
    pub reason: Why,
    /// When.
    pub at: Option<Timestamp>,
}

impl ServiceSeen {
    /// The deployment ECS works towards.
    pub fn primary(&self) -> Option<&DeploymentSeen> {
        self.deployments.iter().find(|it| it.primary)
    }

    /// Whether a deployment is under way, or has just ended with tasks of the one before left. One that failed stays in
    /// the list for a while, and means nothing any more once its tasks are gone.
    pub fn is_deploying(&self) -> bool {
        self.deployments.iter().any(|it| it.rollout == RolloutState::InProgress || (!it.primary && it.running > 0))
    }
}

/// What the load balancer does for one service.
#[derive(Debug, Clone, PartialEq)]
pub struct AlbSeen {
    /// The weight of each colour's target group in the rule's forward action. `Absent`: no such rule, or it does not
    /// forward to them.
    pub weights: Fact<BTreeMap<Group, u16>>,
    /// The targets of each colour.
    pub targets: BTreeMap<Group, Fact<TargetsSeen>>,
}

/// The targets of one target group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetsSeen {
    /// Targets that pass their health check.
    pub healthy: u32,
    /// All of them.
    pub total: u32,
    /// What the load balancer says of one that does not.
    pub why: Option<Why>,
}
