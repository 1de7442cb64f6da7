//! The file as written: every key known, nothing checked beyond its shape. One file per part.

pub(in crate::source) mod docker;
pub(in crate::source) mod ecs;
pub(in crate::source) mod given;
pub(in crate::source) mod health;
pub(in crate::source) mod rollout;
pub(in crate::source) mod scalars;
pub(in crate::source) mod service;

use std::fmt;

use schemars::JsonSchema;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::yaml::UniqueMap;
use given::Given;
use scalars::Text;
use service::RawService;

given::section! {
    /// `aws:`: other credentials are refused before any write.
    RawAws {
        /// Twelve digits, in quotes.
        "account" account: scalars::Account,
        /// What the clients use.
        "region" region: Text,
    }
}

/// A desired-state file.
#[derive(Debug, Clone, Default, JsonSchema)]
#[schemars(title = "Holdfast desired state", deny_unknown_fields, extend("patternProperties" = {"^x-": true}))]
pub(in crate::source) struct RawFile {
    /// A guard: other credentials are refused before any write.
    #[schemars(default)]
    pub(in crate::source) aws: Given<RawAws>,
    /// Which controllers act on this file; without it, all.
    #[schemars(default)]
    pub(in crate::source) controllers: Given<Vec<Given<Text>>>,
    /// Removals that are meant: `[remove old-api]`.
    #[schemars(default)]
    pub(in crate::source) acknowledge: Given<Vec<Given<Text>>>,
    /// Fills what the services of this file leave out.
    #[schemars(default)]
    pub(in crate::source) defaults: Given<RawService>,
    /// One entry a service.
    pub(in crate::source) services: Given<UniqueMap<Given<RawService>>>,
}

const KEYS: &[&str] = &["aws", "controllers", "acknowledge", "defaults", "services"];

/// A top-level key: derived code cannot let `x-*` pass, and `flatten` would lose every position.
enum Key {
    Known(usize),
    Extension,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Key, E> {
                if text.starts_with("x-") {
                    return Ok(Key::Extension);
                }
                let known = KEYS.iter().position(|key| *key == text);
                known.map(Key::Known).ok_or_else(|| E::unknown_field(text, KEYS))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

impl<'de> Deserialize<'de> for RawFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Top;
        impl<'de> Visitor<'de> for Top {
            type Value = RawFile;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map with the key `services`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawFile, A::Error> {
                let mut file = RawFile::default();
                let mut seen = [false; KEYS.len()];
                while let Some(key) = map.next_key::<Key>()? {
                    let Key::Known(index) = key else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    if std::mem::replace(&mut seen[index], true) {
                        return Err(serde::de::Error::duplicate_field(KEYS[index]));
                    }
                    match KEYS[index] {
                        "aws" => file.aws = map.next_value()?,
                        "controllers" => file.controllers = map.next_value()?,
                        "acknowledge" => file.acknowledge = map.next_value()?,
                        "defaults" => file.defaults = map.next_value()?,
                        _ => file.services = map.next_value()?,
                    }
                }
                Ok(file)
            }
        }
        deserializer.deserialize_map(Top)
    }
}

impl RawFile {
    /// The paths of every key without a value.
    pub(in crate::source) fn nulls(&self) -> Vec<Vec<String>> {
        let Self { aws, controllers, acknowledge, defaults, services } = self;
        let mut found = Vec::new();
        let mut path = Vec::new();
        given::nulls_at("aws", aws, &mut path, &mut found);
        given::nulls_at("controllers", controllers, &mut path, &mut found);
        given::nulls_at("acknowledge", acknowledge, &mut path, &mut found);
        given::nulls_at("defaults", defaults, &mut path, &mut found);
        given::nulls_at("services", services, &mut path, &mut found);
        found
    }
}
