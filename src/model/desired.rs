//! The desired state: what the file says, checked and complete.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::colour::Colour;
use super::commit::Commit;
pub use super::drift::{Drift, DriftField};
use super::ecs::{AlbTraffic, Ecs};
use super::follow::Follow;
use super::image::{Repository, TagSpec};
use super::names::{ControllerId, ServiceName};

/// Which edit this is: a content digest (folder) or a commit id (git).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceRevision(pub String);

impl SourceRevision {
    /// The first 12 characters, as people quote them.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for SourceRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One immutable reading of the whole source.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredState {
    /// What was read.
    pub revision: SourceRevision,
    /// The commit it is; none when it comes from a folder.
    pub commit: Option<Commit>,
    /// Older commits it takes the place of, newest first: what is in the branch since the last one in force.
    pub includes: Vec<String>,
    /// A person accepted that it does not come after the one before it: what that one brought is gone from the branch.
    pub rewinds: bool,
    /// When it was read.
    pub read_at: Timestamp,
    /// Every service this controller acts on.
    pub services: BTreeMap<ServiceName, Service>,
    /// Services whose removal the file acknowledges.
    pub acknowledged: BTreeSet<ServiceName>,
}

/// One service as the file wants it, every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its key under `services:`.
    pub name: ServiceName,
    /// The file it stands in, for messages.
    pub file: PathBuf,
    /// `image:`.
    pub image: Repository,
    /// `tag:`.
    pub tag: TagSpec,
    /// `replicas:`, 0 to 1000.
    pub replicas: u32,
    /// `activeColour:`; `None` is `auto`.
    pub active_colour: Option<Colour>,
    /// `docker:`; at its defaults for a service on ECS.
    pub docker: Docker,
    /// `ecs:`; none: it runs on this Docker host.
    pub ecs: Option<Ecs>,
    /// `health:`.
    pub health: Health,
    /// `traffic.nginx`; none for a worker or a service reached by its port alone.
    pub nginx: Option<NginxTraffic>,
    /// `traffic.alb`, of a blue/green service on ECS.
    pub alb: Option<AlbTraffic>,
    /// `rollout:`.
    pub rollout: Rollout,
    /// `drift:`.
    pub drift: Drift,
    /// `aws:` of its file.
    pub aws: Option<AwsGuard>,
    /// `ecr:`: how many images of past releases stay in the registry; none: it is never cleaned up.
    pub ecr_keep: Option<u32>,
    /// `follow:`: which tags are committed by themselves; none: the file's tag is changed by people alone.
    pub follow: Option<Follow>,
}

/// `aws:` of a file: other credentials are refused before any write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsGuard {
    /// Twelve digits.
    pub account: Option<String>,
    /// What the clients use.
    pub region: Option<String>,
}

/// `docker:` of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Docker {
    /// Where the image comes from.
    pub pull: Pull,
    /// What the container listens on; none: a worker.
    pub port: Option<u16>,
    /// Fixed host ports per colour; a group without one gets ports from `holdfast.yaml`.
    pub publish: Publish,
    /// Variables written in the file.
    pub env: BTreeMap<String, String>,
    /// A file under `envRoot`; its content is part of the release.
    pub env_file: Option<PathBuf>,
    /// `NAME:/path[:ro]` or `/host:/path[:ro]`, as written.
    pub volumes: Vec<String>,
    /// The logging driver; none: the engine's default.
    pub logging: Option<Logging>,
    /// Arguments in place of the image's command; empty: the image's own.
    pub command: Vec<String>,
    /// `restart:`.
    pub restart: Restart,
    /// `resources:`.
    pub resources: Resources,
    /// `init:`: run docker-init as PID 1.
    pub init: bool,
    /// From SIGTERM to SIGKILL, whole seconds.
    pub stop_timeout: Duration,
    /// How many images of past releases stay on the host.
    pub keep_images: u32,
    /// Hand-made containers to retire after the first switch.
    pub replaces: BTreeSet<String>,
}

/// Where an image comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pull {
    /// The tag is resolved at its registry and pulled by digest.
    Always,
    /// The engine already has it; it is used by its id.
    Never,
}

/// Fixed host port ranges, both ends included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publish {
    /// For blue replicas.
    pub blue: Option<PortRange>,
    /// For green replicas.
    pub green: Option<PortRange>,
    /// For the replicas of a rolling service (`publish: 3030-3039`).
    pub only: Option<PortRange>,
}

impl Publish {
    /// The range of `group`.
    pub const fn of(&self, group: super::colour::Group) -> Option<PortRange> {
        match group {
            super::colour::Group::Only => self.only,
            super::colour::Group::Blue => self.blue,
            super::colour::Group::Green => self.green,
        }
    }
}

/// Ports `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

impl PortRange {
    /// Whether `port` lies in it.
    pub const fn contains(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// How many ports it has.
    pub const fn len(&self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }

    /// A range is never empty; here for the reader and for clippy.
    pub const fn is_empty(&self) -> bool {
        false
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

/// `logging:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    /// The engine's name of the driver.
    pub driver: String,
    /// Its options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// `restart:`, in the engine's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never by the engine.
    No,
    /// Always, also after a stop by hand and a restart of the engine.
    Always,
    /// Always, but a stop by hand sticks (the default).
    UnlessStopped,
    /// When it exits with another code than 0.
    OnFailure,
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::No => "no",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
            Self::OnFailure => "on-failure",
        })
    }
}

/// `resources:`; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Billionths of a CPU, as the engine counts them.
    pub nano_cpus: Option<i64>,
    /// Bytes.
    pub memory: Option<i64>,
}

/// `health:`: what is asked, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// `None`: the image's own HEALTHCHECK, else tcp with a port, else `running: 10s`.
    pub check: Option<Check>,
    /// Between probes that are not the fast first ones.
    pub interval: Duration,
    /// Of one probe.
    pub timeout: Duration,
    /// Good answers in a row that make a replica healthy.
    pub successes: u32,
    /// Bad answers in a row that make it unhealthy.
    pub failures: u32,
    /// From its start to healthy; past it the rollout has failed.
    pub deadline: Duration,
}

/// One kind of health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// GET `path` of the replica's own address, redirects not followed.
    Http {
        /// Starts with `/`.
        path: String,
        /// The statuses that are good, both ends included.
        expect: (u16, u16),
        /// Another container port than `docker.port`.
        port: Option<u16>,
        /// The Host header.
        host: Option<String>,
        /// Further headers.
        headers: BTreeMap<String, String>,
    },
    /// A connection to the container's own address is accepted.
    Tcp {
        /// Another container port than `docker.port`.
        port: Option<u16>,
    },
    /// The image's own HEALTHCHECK, as the engine reports it.
    Container,
    /// It runs this long without a restart.
    Running(Duration),
}

/// `traffic.nginx`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NginxTraffic {
    /// The file of `server` lines.
    pub file: PathBuf,
}

/// `rollout:`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// How replicas are replaced.
    pub strategy: Strategy,
    /// Which comes first.
    pub order: Order,
    /// Who says go.
    pub promote: Promote,
    /// Shares of the requests the new colour gets first, one after the other.
    pub canary: Vec<CanaryStep>,
    /// How long old connections may finish after a switch.
    pub drain: Duration,
    /// How long the old colour stays warm after a switch.
    pub bake: Duration,
    /// What a failed rollout does.
    pub on_failure: OnFailure,
    /// From the attempt's start to its end.
    pub progress_deadline: Duration,
}

/// One step of `rollout.canary`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanaryStep {
    /// Percent of the requests, 1 to 99.
    pub weight: u16,
    /// How long it stays so; none: until a person says `holdfast promote`.
    pub hold: Option<Duration>,
}

/// `rollout.strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Two colours and one switch.
    BlueGreen,
    /// One group, replica by replica.
    Rolling,
}

/// `rollout.order`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The new one is healthy before the old one goes.
    StartFirst,
    /// For singletons that may not overlap.
    StopFirst,
}

/// `rollout.promote`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promote {
    /// Healthy is enough.
    Auto,
    /// A person says `holdfast promote`.
    Manual,
}

/// `rollout.onFailure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Back to what served, the failed replicas removed.
    Rollback,
    /// Traffic stays where it is, the failed replicas stay for a look.
    Hold,
    /// As `Rollback`, and the last good tag is committed to the desired state.
    Revert,
}

impl OnFailure {
    /// Whether what served serves again and the failed replicas go.
    pub const fn goes_back(self) -> bool {
        matches!(self, Self::Rollback | Self::Revert)
    }
}

/// This machine's identity, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The controller's id.
    pub controller: ControllerId,
}
