//! What runs on ECS: as wanted ([`Ecs`]), as seen ([`seen`]), and task definitions compared ([`task_definition`]).

pub mod seen;
pub mod task_definition;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::colour::Group;
use super::image::{Repository, TagSpec};
use task_definition::TaskDefinition;

/// `ecs:` of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Ecs {
    /// The cluster, by name or ARN.
    pub cluster: String,
    /// The ECS service of each group: one when rolling, two colours otherwise.
    pub services: BTreeMap<Group, String>,
    /// The family of task definitions; none: that of the base.
    pub family: Option<String>,
    /// The container whose image the service's is; none: the only one there is.
    pub container: Option<String>,
    /// Variables merged over the base; `None` removes one.
    pub env: BTreeMap<String, Option<String>>,
    /// Secrets (ARNs) merged over the base; `None` removes one.
    pub secrets: BTreeMap<String, Option<String>>,
    /// Images of other containers of the task.
    pub containers: BTreeMap<String, Sidecar>,
    /// The base from a file; none: what is live at adoption.
    pub base: Option<BaseFile>,
    /// How an absent service is created; none: it is not.
    pub create: Option<Create>,
    /// `replicas: external`: an autoscaler owns the count and it is never written.
    pub external_replicas: bool,
    /// The region of the service; none: that of the AWS settings.
    pub region: Option<String>,
    /// The account it must be in; none: not guarded.
    pub account: Option<String>,
}

impl Ecs {
    /// Where it is, to be remembered for a removal.
    pub fn place(&self) -> Place {
        Place {
            cluster: self.cluster.clone(),
            services: self.services.clone(),
            region: self.region.clone(),
            account: self.account.clone(),
        }
    }
}

/// Another container of the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// `image:`.
    pub image: Repository,
    /// `tag:`.
    pub tag: TagSpec,
}

/// A task definition in a file beside the desired state.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseFile {
    /// As written.
    pub path: String,
    /// What is in it.
    pub content: Arc<TaskDefinition>,
}

/// `ecs.create`: what an absent service is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// `FARGATE`, `EC2` or `EXTERNAL`.
    pub launch_type: Option<String>,
    /// awsvpc subnets.
    pub subnets: Vec<String>,
    /// awsvpc security groups.
    pub security_groups: Vec<String>,
    /// Whether tasks get a public address.
    pub assign_public_ip: bool,
    /// The target group the tasks register in, when rolling.
    pub target_group: Option<String>,
    /// The container port that gets the requests.
    pub port: Option<u16>,
}

/// Where a service is: enough to find it after it left the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The cluster, by name or ARN.
    pub cluster: String,
    /// The ECS service of each group.
    pub services: BTreeMap<Group, String>,
    /// The region; none: that of the AWS settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The account; none: not guarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

/// `traffic.alb`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlbTraffic {
    /// The listener rule whose forward action is weighted (a listener ARN means its default rule).
    pub rule: String,
    /// The target group of each colour.
    pub target_groups: BTreeMap<Group, String>,
    /// The region; none: that of the AWS settings.
    pub region: Option<String>,
}

/// The part of a release that is particular to ECS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EcsRelease {
    /// The family of its task definition.
    pub family: String,
    /// The container whose image it is.
    pub container: String,
    /// Hashed: SHA-256 of the normalised task definition, images by digest.
    pub definition: String,
    /// Variables merged over the base, for people.
    #[serde(default)]
    pub env: BTreeMap<String, Option<String>>,
    /// Secrets merged over the base, for people.
    #[serde(default)]
    pub secrets: BTreeMap<String, Option<String>>,
    /// Other containers' images (`repository@digest`), for people.
    #[serde(default)]
    pub containers: BTreeMap<String, String>,
}

/// What of an ECS service is applied in place and was last seen in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EcsLive {
    /// The wanted number of tasks; none: an autoscaler owns it.
    pub replicas: Option<u32>,
    /// The deployment configuration as ECS reports it, canonical JSON.
    pub deployment_configuration: String,
    /// The one before `order: stopFirst`, to go back to when the file no longer says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlapping: Option<String>,
}

/// Tags on services and task definitions: memory that survives the loss of the state folder.
pub mod tags {
    /// The controller that owns it.
    pub const CONTROLLER: &str = "holdfast:controller";
    /// The service in the desired state.
    pub const SERVICE: &str = "holdfast:service";
    /// The colour, or `only`.
    pub const COLOUR: &str = "holdfast:colour";
    /// The release (hash) asked for last, or that a task definition is of.
    pub const RELEASE: &str = "holdfast:release";
    /// The tag of that release, for people.
    pub const TAG: &str = "holdfast:tag";
    /// The task definition the releases are made from.
    pub const BASE: &str = "holdfast:base";
    /// The release before.
    pub const PREVIOUS: &str = "holdfast:previous";
    /// The release that failed last.
    pub const FAILED: &str = "holdfast:failed";
}
