//! Steps at AWS.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::model::colour::Group;
use crate::model::ecs::AlbTraffic;
use crate::model::ecs::task_definition::TaskDefinition;
use crate::model::image::{Digest, Repository};
use crate::model::names::ServiceName;
use crate::model::release::ReleaseHash;

/// Whose account and which region a step is for: checked right before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Realm {
    /// The account of `aws.account`; none: not guarded.
    pub account: Option<String>,
    /// The region; none: that of the AWS settings.
    pub region: Option<String>,
}

/// One ECS service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcsTarget {
    /// Where.
    pub realm: Realm,
    /// The cluster, by name or ARN.
    pub cluster: String,
    /// The name of the ECS service.
    pub name: String,
    /// The service in the desired state.
    pub service: ServiceName,
}

/// An act on ECS.
#[derive(Debug, Clone, PartialEq)]
pub enum EcsStep {
    /// A task definition of this release exists in its family. One that carries the release's tag and means the same is
    /// found, not registered again.
    Register {
        /// Where.
        realm: Realm,
        /// The service in the desired state.
        service: ServiceName,
        /// Of this release.
        release: ReleaseHash,
        /// What is registered.
        definition: Arc<TaskDefinition>,
        /// Its tags, the controller's own apart.
        tags: BTreeMap<String, String>,
    },
    /// A copy of one that was deregistered exists: it runs on, and cannot be chosen again.
    RegisterAgain {
        /// Where.
        realm: Realm,
        /// The service in the desired state.
        service: ServiceName,
        /// Of this release.
        release: ReleaseHash,
        /// The one that was deregistered.
        from: String,
    },
    /// The service carries these tags, and the controller's own.
    Tag {
        /// Which.
        target: EcsTarget,
        /// Its ARN.
        arn: String,
        /// The tags.
        tags: BTreeMap<String, String>,
    },
    /// One `UpdateService`.
    Update(Box<Update>),
    /// The service exists.
    Create {
        /// Which.
        target: EcsTarget,
        /// What `CreateService` is given, name and cluster included, the controller's tag apart.
        body: Map<String, Value>,
    },
    /// The service is deleted; it must carry our mark and want no tasks.
    Delete {
        /// Which.
        target: EcsTarget,
    },
}

/// What one `UpdateService` says; what is none stays as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Which.
    pub target: EcsTarget,
    /// The task definition it was seen with: another one by now is somebody else's doing, and looked at first.
    pub seen: String,
    /// Rolls tasks.
    pub task_definition: Option<String>,
    /// Rolls tasks though the task definition is the same: the deployment of it that is there has failed.
    pub again: bool,
    /// In place.
    pub desired: Option<u32>,
    /// In place; canonical JSON.
    pub deployment_configuration: Option<String>,
}

/// The weights of a listener rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlbStep {
    /// Where.
    pub realm: Realm,
    /// The service in the desired state.
    pub service: ServiceName,
    /// The rule and its target groups.
    pub traffic: AlbTraffic,
    /// Percent of each colour.
    pub weights: BTreeMap<Group, u16>,
}

/// An act on a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryStep {
    /// These images are gone.
    DeleteImages {
        /// The account the registry must be in; none: not guarded.
        account: Option<String>,
        /// Whose they are.
        service: ServiceName,
        /// Where.
        repository: Repository,
        /// Which.
        digests: Vec<Digest>,
    },
}

/// `family:7` of an ARN.
pub fn revision(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// `blue 90 %, green 10 %`.
pub fn shares(weights: &BTreeMap<Group, u16>) -> String {
    let shares: Vec<String> = weights.iter().map(|(group, weight)| format!("{group} {weight} %")).collect();
    shares.join(", ")
}

impl fmt::Display for EcsTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = self.cluster.rsplit('/').next().unwrap_or(&self.cluster);
        write!(f, "{cluster}/{}", self.name)
    }
}

impl fmt::Display for EcsStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register { release, definition, .. } => {
                write!(f, "register {} ({release})", definition.family().unwrap_or("a task definition"))
            }
            Self::RegisterAgain { release, from, .. } => write!(f, "register {} again ({release})", revision(from)),
            Self::Tag { target, .. } => write!(f, "tag {target}"),
            Self::Update(update) => update.fmt(f),
            Self::Create { target, body } => {
                write!(f, "create {target}")?;
                match body.get("taskDefinition").and_then(Value::as_str) {
                    Some(arn) => write!(f, " with {}", revision(arn)),
                    None => Ok(()),
                }
            }
            Self::Delete { target } => write!(f, "delete {target}"),
        }
    }
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, seen, task_definition, again, desired, deployment_configuration } = self;
        write!(f, "update {target}:")?;
        let mut parts = Vec::new();
        if let Some(arn) = task_definition {
            parts.push(format!("{} -> {} (rolls tasks)", revision(seen), revision(arn)));
        }
        if *again {
            parts.push(format!("{} once more (rolls tasks)", revision(seen)));
        }
        if let Some(desired) = desired {
            parts.push(format!("desired count {desired} (in place)"));
        }
        if deployment_configuration.is_some() {
            parts.push("deployment configuration (in place)".to_owned());
        }
        write!(f, " {}", parts.join(", "))
    }
}

impl fmt::Display for AlbStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "send requests to {}", shares(&self.weights))
    }
}

impl fmt::Display for RegistryStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteImages { account: _, service: _, repository, digests } => {
                let short: Vec<&str> = digests.iter().map(Digest::short).collect();
                write!(f, "delete {} of {repository}", short.join(", "))
            }
        }
    }
}
