//! `ecs:`, `traffic.alb:` and `ecr:` as written.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::given::{Given, Part, section};
use super::scalars::{Count, Flag, Image, LaunchText, Port, TagText, Text};
use crate::source::yaml::UniqueMap;

section! {
    /// How a service runs on ECS.
    RawEcs {
        /// The cluster, by name or ARN.
        "cluster" cluster: Text,
        /// The ECS service (rolling).
        "service" service: Text,
        /// The ECS service of each colour (blue/green).
        "services" services: RawColours,
        /// The family of its task definitions; default: that of the base.
        "family" family: Text,
        /// The container whose image `image` is; default: the only one.
        "container" container: Text,
        /// Variables merged over the base; null removes one.
        "env" env: UniqueMap<Removable>,
        /// Secrets (ARNs) merged over the base; null removes one.
        "secrets" secrets: UniqueMap<Removable>,
        /// Images of other containers of the task.
        "containers" containers: UniqueMap<Given<RawSidecar>>,
        /// The base, a JSON file beside this one; default: what is live at adoption.
        "taskDefinition" task_definition: Text,
        /// Create the service when it is absent.
        "create" create: RawCreate,
    }
}

section! {
    /// One name a colour.
    RawColours {
        /// Of blue.
        "blue" blue: Text,
        /// Of green.
        "green" green: Text,
    }
}

section! {
    /// Another container of the task.
    RawSidecar {
        /// Its image, without a tag.
        "image" image: Image,
        /// Its tag.
        "tag" tag: TagText,
    }
}

section! {
    /// What an absent service is created with.
    RawCreate {
        /// `FARGATE`, `EC2` or `EXTERNAL`.
        "launchType" launch_type: LaunchText,
        /// Subnets of its tasks (awsvpc).
        "subnets" subnets: Vec<Given<Text>>,
        /// Security groups of its tasks (awsvpc).
        "securityGroups" security_groups: Vec<Given<Text>>,
        /// Whether its tasks get a public address; default false.
        "assignPublicIp" assign_public_ip: Flag,
        /// The target group its tasks register in (rolling).
        "targetGroup" target_group: Text,
        /// The container port that gets the requests; default: the first one of the task definition.
        "port" port: Port,
    }
}

section! {
    /// `traffic.alb:`.
    RawAlb {
        /// The listener rule whose weights are kept (a listener ARN: its default rule).
        "rule" rule: Text,
        /// The target group of each colour.
        "targetGroups" target_groups: RawColours,
    }
}

section! {
    /// `ecr:`: clean-up of the registry.
    RawEcr {
        /// How many images of past releases stay.
        "keep" keep: Count,
        /// Nobody else uses the repository: must be `true`.
        "soleOwner" sole_owner: Flag,
    }
}

/// A value, or null to remove what the base has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::source) struct Removable(pub(in crate::source) Given<Text>);

impl Part for Removable {}

impl<'de> Deserialize<'de> for Removable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Given::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Removable {
    fn schema_name() -> Cow<'static, str> {
        "Removable".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "number", "boolean", "null"]})
    }
    fn inline_schema() -> bool {
        true
    }
}
