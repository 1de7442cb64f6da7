//! `docker:` as written.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::given::{Given, Part, section};
use super::scalars::{Cpus, Flag, Images, Later, Port, Ports, PullText, RestartText, Size, Text, Time};
use crate::source::scalar;
use crate::source::yaml::UniqueMap;

section! {
    /// How a service runs on a Docker host.
    RawDocker {
        /// `always` (resolve the tag at its registry, the default) or `never` (an image the engine already has).
        "pull" pull: PullText,
        /// What the container listens on; without it, a worker.
        "port" port: Port,
        /// Fixed host ports.
        "publish" publish: RawPublish,
        /// A shared network.
        "network" network: Later,
        /// Variables.
        "env" env: UniqueMap<Given<Text>>,
        /// A file of variables under `envRoot` of holdfast.yaml.
        "envFile" env_file: Text,
        /// Variables from Secrets Manager.
        "secrets" secrets: Later,
        /// Files from Secrets Manager.
        "files" files: Later,
        /// `NAME:/path[:ro]` or `/host:/path[:ro]`.
        "volumes" volumes: Vec<Given<Text>>,
        /// The logging driver.
        "logging" logging: RawLogging,
        /// Arguments in place of the image's command.
        "command" command: Vec<Given<Text>>,
        /// Restart policy; default `unless-stopped`.
        "restart" restart: RestartText,
        /// Limits.
        "resources" resources: RawResources,
        /// Run docker-init as process 1; default false.
        "init" init: Flag,
        /// From SIGTERM to SIGKILL; default 10s.
        "stopTimeout" stop_timeout: Time,
        /// How many images of past releases stay on the host; default 3.
        "keepImages" keep_images: Images,
        /// Hand-made containers to retire after the first switch.
        "replaces" replaces: Vec<Given<Text>>,
    }
}

section! {
    /// `logging:`.
    RawLogging {
        /// The engine's name of the driver.
        "driver" driver: Text,
        /// Its options.
        "options" options: UniqueMap<Given<Text>>,
    }
}

section! {
    /// `resources:`.
    RawResources {
        /// `0.5`.
        "cpus" cpus: Cpus,
        /// `512MiB`.
        "memory" memory: Size,
    }
}

section! {
    /// Fixed host ports per colour.
    RawColourPorts {
        /// For blue replicas.
        "blue" blue: Ports,
        /// For green replicas.
        "green" green: Ports,
    }
}

/// `publish:`: a range per colour, or one range for a rolling service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) enum RawPublish {
    /// `3030-3039`.
    One(Ports),
    /// `{blue: …, green: …}`.
    Colours(RawColourPorts),
}

impl Part for RawPublish {
    fn fill(&mut self, from: &Self) {
        if let (Self::Colours(mine), Self::Colours(other)) = (self, from) {
            mine.fill(other);
        }
    }
    fn nulls(&self, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        if let Self::Colours(colours) = self {
            colours.nulls(path, found);
        }
    }
}

impl<'de> Deserialize<'de> for RawPublish {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawPublish;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or a map of `blue` and `green`", scalar::PORTS)
            }
            fn visit_str<E>(self, text: &str) -> Result<RawPublish, E> {
                Ok(RawPublish::One(Ports(text.to_owned())))
            }
            fn visit_u64<E>(self, port: u64) -> Result<RawPublish, E> {
                Ok(RawPublish::One(Ports(port.to_string())))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawPublish, A::Error> {
                RawColourPorts::deserialize(MapAccessDeserializer::new(map)).map(RawPublish::Colours)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for RawPublish {
    fn schema_name() -> Cow<'static, str> {
        "Publish".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let colours = generator.subschema_for::<RawColourPorts>();
        json_schema!({"anyOf": [{"type": ["string", "integer"]}, colours]})
    }
    fn inline_schema() -> bool {
        true
    }
}
