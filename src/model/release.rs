//! A release: everything that needs new containers when it changes, and its hash.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::hash::sha256_hex;
use serde::{Deserialize, Serialize};

use super::desired::{Logging, Pull, Service};
use super::ecs::EcsRelease;
use super::image::{Digest, Repository, Tag};

/// `v1:` and 16 hex digits over the hashed fields of a [`Release`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseHash(pub String);

impl ReleaseHash {
    /// The hash as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReleaseHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An env file as a release knows it: never its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFileVersion {
    /// Under `envRoot`, as written.
    pub path: PathBuf,
    /// SHA-256 of its bytes, hex.
    pub sha256: String,
}

/// What needs new containers, in full and without secret values: enough to run it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Not hashed: the digest says what the content is.
    pub repository: Repository,
    /// Not hashed, shown to people.
    pub tag: Tag,
    /// Hashed. The local image id with `pull: never`.
    pub digest: Digest,
    /// Not hashed: how the digest is to be read.
    pub pull: Pull,
    /// Hashed.
    pub port: Option<u16>,
    /// Hashed.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Hashed by content, not by path.
    pub env_file: Option<EnvFileVersion>,
    /// Hashed, order irrelevant.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Hashed.
    pub logging: Option<Logging>,
    /// Hashed.
    #[serde(default)]
    pub command: Vec<String>,
    /// Hashed.
    pub init: bool,
    /// Hashed, seconds.
    pub stop_timeout: u32,
    /// What it is on ECS; none: on a Docker host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecs: Option<EcsRelease>,
}

/// Hash version 1. Fields at their default are left out; defaults of this version never change.
#[derive(Serialize)]
struct HashedV1<'a> {
    digest: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env_file: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    volumes: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logging: Option<&'a Logging>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    command: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    init: bool,
    #[serde(skip_serializing_if = "is_ten")]
    stop_timeout: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_definition: Option<&'a str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
const fn is_ten(seconds: &u32) -> bool {
    *seconds == 10
}

impl Release {
    /// The release `service` asks for with this digest and env file.
    pub fn of(service: &Service, digest: Digest, env_file: Option<EnvFileVersion>) -> Self {
        let docker = &service.docker;
        let mut volumes = docker.volumes.clone();
        volumes.sort();
        Self {
            repository: service.image.clone(),
            tag: service.tag.tag.clone(),
            digest,
            pull: docker.pull,
            port: docker.port,
            env: docker.env.clone(),
            env_file,
            volumes,
            logging: docker.logging.clone(),
            command: docker.command.clone(),
            init: docker.init,
            stop_timeout: u32::try_from(docker.stop_timeout.as_secs()).unwrap_or(u32::MAX),
            ecs: None,
        }
    }

    /// The release `service` asks for on ECS.
    pub fn on_ecs(service: &Service, digest: Digest, ecs: EcsRelease) -> Self {
        Self { ecs: Some(ecs), ..Self::of(service, digest, None) }
    }

    /// Its hash, version 1.
    pub fn hash(&self) -> ReleaseHash {
        let Self {
            repository: _,
            tag: _,
            digest,
            pull: _,
            port,
            env,
            env_file,
            volumes,
            logging,
            command,
            init,
            stop_timeout,
            ecs,
        } = self;
        let mut volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
        volumes.sort_unstable();
        let hashed = HashedV1 {
            digest: digest.as_str(),
            port: *port,
            env,
            env_file: env_file.as_ref().map(|file| file.sha256.as_str()),
            volumes,
            logging: logging.as_ref(),
            command,
            init: *init,
            stop_timeout: *stop_timeout,
            task_definition: ecs.as_ref().map(|ecs| ecs.definition.as_str()),
        };
        // Serialising plain strings, numbers and maps of them into memory cannot fail.
        let bytes = serde_json::to_vec(&hashed).unwrap_or_default();
        ReleaseHash(format!("v1:{}", &sha256_hex(bytes)[..16]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Release {
        Release {
            repository: Repository::new("app").unwrap(),
            tag: Tag::new("1").unwrap(),
            digest: Digest::new(&format!("sha256:{}", "a".repeat(64))).unwrap(),
            pull: Pull::Always,
            port: None,
            env: BTreeMap::new(),
            env_file: None,
            volumes: Vec::new(),
            logging: None,
            command: Vec::new(),
            init: false,
            stop_timeout: 10,
            ecs: None,
        }
    }

    fn full() -> Release {
        Release {
            port: Some(8080),
            env: BTreeMap::from([("TZ".to_owned(), "Asia/Seoul".to_owned())]),
            env_file: Some(EnvFileVersion { path: ".env".into(), sha256: "b".repeat(64) }),
            volumes: vec!["logs:/app/log".to_owned(), "data:/data".to_owned()],
            logging: Some(Logging {
                driver: "fluentd".to_owned(),
                options: BTreeMap::from([("tag".to_owned(), "dangdang".to_owned())]),
            }),
            command: vec!["serve".to_owned()],
            init: true,
            stop_timeout: 30,
            ..plain()
        }
    }

    #[test]
    fn golden_hashes_of_version_1_never_change() {
        // Another value here restarts every fleet at the next upgrade: a new version of the hash is needed instead.
        assert_eq!(plain().hash().as_str(), "v1:bcd872382fdc30b9");
        assert_eq!(full().hash().as_str(), "v1:a5df09b33e4e27df");
        let ecs = EcsRelease {
            family: "app".to_owned(),
            container: "app".to_owned(),
            definition: "c".repeat(64),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            containers: BTreeMap::new(),
        };
        let on_ecs = Release { ecs: Some(ecs), ..plain() };
        assert_eq!(on_ecs.hash().as_str(), "v1:af31c709dc1bbd8a");
    }

    #[test]
    fn names_and_order_are_no_part_of_it_and_content_is() {
        let same = Release {
            repository: Repository::new("registry.example/app").unwrap(),
            tag: Tag::new("2").unwrap(),
            pull: Pull::Never,
            volumes: vec!["data:/data".to_owned(), "logs:/app/log".to_owned()],
            env_file: Some(EnvFileVersion { path: "elsewhere".into(), sha256: "b".repeat(64) }),
            ..full()
        };
        assert_eq!(same.hash(), full().hash());
        let other = Release { command: vec!["serve".to_owned(), "--fast".to_owned()], ..full() };
        assert_ne!(other.hash(), full().hash());
    }
}
