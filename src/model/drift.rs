//! What happens when reality changes by itself.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// `drift:`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// Report instead of repairing (lost replicas are replaced all the same).
    pub detect_only: bool,
    /// Fields whose drift is left alone.
    pub ignore: BTreeSet<DriftField>,
}

/// A field whose drift is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DriftField {
    /// The image a container runs.
    Image,
    /// The restart policy.
    Restart,
    /// CPU and memory limits.
    Resources,
    /// Mounts.
    Volumes,
    /// The host port.
    Port,
    /// The servers file of nginx, or the weights of a load balancer.
    Traffic,
    /// The task definition an ECS service is set to.
    TaskDefinition,
    /// How many tasks an ECS service is to run.
    Replicas,
    /// The deployment configuration of an ECS service.
    DeploymentConfiguration,
}

impl DriftField {
    /// Every field, in the order they are documented.
    pub const ALL: [Self; 9] = [
        Self::Image,
        Self::Restart,
        Self::Resources,
        Self::Volumes,
        Self::Port,
        Self::Traffic,
        Self::TaskDefinition,
        Self::Replicas,
        Self::DeploymentConfiguration,
    ];
}

impl fmt::Display for DriftField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Image => "image",
            Self::Restart => "restart",
            Self::Resources => "resources",
            Self::Volumes => "volumes",
            Self::Port => "port",
            Self::Traffic => "traffic",
            Self::TaskDefinition => "taskDefinition",
            Self::Replicas => "replicas",
            Self::DeploymentConfiguration => "deploymentConfiguration",
        })
    }
}
