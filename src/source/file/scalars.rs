//! Scalars as their raw text (`1.10` stays `1.10`), each with what it expects and how the schema shows it.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer};

use super::given::Part;
use crate::source::scalar;

/// A scalar's raw text, and what stands there in words.
pub(in crate::source) trait Scalar: AsRef<str> {
    /// Completes "expected …".
    const EXPECTED: &'static str;
}

macro_rules! scalar {
    ($($(#[$doc:meta])* $name:ident, $expected:expr, $schema:tt;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub(in crate::source) struct $name(pub(in crate::source) String);

        impl Scalar for $name {
            const EXPECTED: &'static str = $expected;
        }
        impl Part for $name {}
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Raw;
                impl Visitor<'_> for Raw {
                    type Value = String;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E>(self, text: &str) -> Result<String, E> {
                        Ok(text.to_owned())
                    }
                }
                deserializer.deserialize_str(Raw).map(Self)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
            fn inline_schema() -> bool {
                true
            }
        }
    )*};
}

scalar! {
    /// Any text.
    Text, "text", {"type": ["string", "number", "boolean"]};
    /// `account:`.
    Account, "12 digits", {"type": ["string", "integer"]};
    /// `image:`.
    Image, "an image name without a tag, like `nginx` or `localhost:5000/team/app`", {"type": "string"};
    /// `tag:`.
    TagText, "a tag like `v1` or `3f2a1b9`, or `TAG@sha256:…`", {"type": ["string", "number"]};
    /// `replicas:`.
    Replicas, "a number from 0 to 1000, or `external` on ECS",
        {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 1000}, {"const": "external"}]};
    /// A small count.
    Count, "a number from 1 to 100", {"type": "integer", "minimum": 1, "maximum": 100};
    /// `keepImages:`.
    Images, "a number from 0 to 100", {"type": "integer", "minimum": 0, "maximum": 100};
    /// `activeColour:`.
    ColourText, "`blue`, `green` or `auto`", {"enum": ["blue", "green", "auto"]};
    /// A duration.
    Time, scalar::DURATION, {"type": "string", "pattern": "^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"};
    /// A memory size.
    Size, scalar::SIZE, {"type": ["string", "integer"]};
    /// CPUs.
    Cpus, "a number of CPUs like `0.5` or `2`", {"type": "number", "exclusiveMinimum": 0};
    /// A port.
    Port, scalar::PORT, {"type": "integer", "minimum": 1, "maximum": 65535};
    /// A port or a range.
    Ports, scalar::PORTS, {"type": ["string", "integer"]};
    /// Yes or no.
    Flag, "`true` or `false`", {"type": "boolean"};
    /// `pull:`.
    PullText, "`always` or `never`", {"enum": ["always", "never"]};
    /// `restart:`.
    RestartText, "`no`, `always`, `unless-stopped` or `on-failure`",
        {"enum": ["no", "always", "unless-stopped", "on-failure"]};
    /// `expect:`.
    Statuses, "a status or a range like `200-399`, from 100 to 599", {"type": ["string", "integer"]};
    /// `strategy:`.
    StrategyText, "`blueGreen` or `rolling`", {"enum": ["blueGreen", "rolling"]};
    /// `order:`.
    OrderText, "`startFirst` or `stopFirst`", {"enum": ["startFirst", "stopFirst"]};
    /// `promote:`.
    PromoteText, "`auto` or `manual`", {"enum": ["auto", "manual"]};
    /// `onFailure:`.
    OnFailureText, "`rollback`, `hold` or `revert`", {"enum": ["rollback", "hold", "revert"]};
    /// `follow.order:`.
    TagOrderText, "`numeric`, `alphabetical` or `newest`", {"enum": ["numeric", "alphabetical", "newest"]};
    /// `drift.mode:`.
    ModeText, "`enforce` or `detect`", {"enum": ["enforce", "detect"]};
    /// A field of `drift.ignore:`.
    FieldText, "one of `image`, `restart`, `resources`, `volumes`, `port`, `traffic`, `taskDefinition`, `replicas`, \
        `deploymentConfiguration`",
        {"enum": ["image", "restart", "resources", "volumes", "port", "traffic", "taskDefinition", "replicas",
            "deploymentConfiguration"]};
    /// `launchType:`.
    LaunchText, "`FARGATE`, `EC2` or `EXTERNAL`", {"enum": ["FARGATE", "EC2", "EXTERNAL"]};
    /// A share of the requests.
    Weight, "percent from 1 to 99", {"type": "integer", "minimum": 1, "maximum": 99};
    /// How long a canary step stays.
    Stay, "a duration like `5m`, or `manual`", {"type": "string"};
    /// `listen:`.
    Address, "an address like `127.0.0.1:7400`, or `none`", {"type": "string"};
    /// `docker:` of the settings.
    EngineAddress, "an address like `unix:///var/run/docker.sock`", {"type": "string"};
    /// `kind:`.
    Kind, "`oci` or `ecr`", {"enum": ["oci", "ecr"]};
    /// `git.status.host:`.
    GitHost, "`github` or `gitlab`", {"enum": ["github", "gitlab"]};
    /// `budget:`.
    Budget, "a share like `25%`, from 1% to 100%", {"type": "string"};
}

/// A key that is known, and whose capability comes later: refused, never ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::source) struct Later;

impl Part for Later {}

impl<'de> Deserialize<'de> for Later {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl JsonSchema for Later {
    fn schema_name() -> Cow<'static, str> {
        "Later".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"description": "Not available yet."})
    }
    fn inline_schema() -> bool {
        true
    }
}
