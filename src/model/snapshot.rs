//! What a look saw: dated, openly partial.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::colour::Group;
use super::desired::{Resources, Restart};
use super::ecs::seen::{AlbSeen, EcsSeen};
use super::image::{Digest, Tag};
use super::names::ServiceName;
use super::release::{EnvFileVersion, ReleaseHash};

/// Why something could not be read, as a lowercase fragment for people.
pub type Why = String;

/// One fact of a look. Absent is not unreadable: only a complete, positive answer makes `Absent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact<T> {
    /// It is so.
    Seen(T),
    /// It is certainly not there.
    Absent,
    /// Nobody knows; nothing is removed on the strength of it.
    Unreadable(Why),
}

impl<T> Fact<T> {
    /// The value, when seen.
    pub const fn seen(&self) -> Option<&T> {
        match self {
            Self::Seen(value) => Some(value),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }
}

/// Everything one plan is made from, beside the service and the memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// What the tag resolves to. `Absent`: the registry (or, with `pull: never`, the engine) has no such tag.
    pub image: Fact<Digest>,
    /// The env file; none when the service has none.
    pub env_file: Option<Fact<EnvFileVersion>>,
    /// The AWS account of the credentials; none when no guard is written.
    pub aws_account: Option<Fact<String>>,
    /// What the platform reports.
    pub platform: PlatformSeen,
    /// What nginx does; none when the service has no traffic.
    pub nginx: Option<NginxSeen>,
    /// What ECS reports; none for a service on a Docker host.
    pub ecs: Option<EcsSeen>,
    /// What the load balancer does; none when the service has none.
    pub alb: Option<AlbSeen>,
    /// The images of its repository; none unless the registry is due for a clean-up.
    pub repository: Option<Fact<Vec<RegistryImage>>>,
    /// The tags of its repository; none unless the service follows them.
    pub tags: Option<Fact<Vec<TagSeen>>>,
    /// Why the desired state cannot be written to; none when it can.
    pub source_closed: Option<Why>,
}

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryImage {
    /// Its digest.
    pub digest: Digest,
    /// Its tags.
    pub tags: Vec<String>,
    /// When it was pushed.
    pub pushed_at: Timestamp,
}

/// A tag in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagSeen {
    /// Its name.
    pub tag: Tag,
    /// When its image was pushed; none where the registry does not say.
    pub pushed_at: Option<Timestamp>,
}

/// One look at the engine for one service.
#[derive(Debug, Clone, PartialEq)]
pub struct PlatformSeen {
    /// Every container that is ours by id, service label *and* deterministic name.
    pub replicas: Fact<Vec<Replica>>,
    /// Containers that carry our labels or wear a name we need without being ours. Never touched.
    pub strangers: Vec<Stranger>,
    /// The hand-made containers named in `replaces` that exist.
    pub replaced: Vec<Replaced>,
    /// Free host ports leased to this service for this plan, lowest first, per group.
    pub free_ports: BTreeMap<Group, Vec<u16>>,
    /// Digests of this repository the engine has (image ids with `pull: never`).
    pub local_images: BTreeSet<Digest>,
    /// Images kept for this service under a tag of ours.
    pub kept_images: Vec<KeptImage>,
}

impl PlatformSeen {
    /// What a look at a host on which nothing of the service runs sees.
    pub const fn nothing() -> Self {
        Self {
            replicas: Fact::Absent,
            strangers: Vec::new(),
            replaced: Vec::new(),
            free_ports: BTreeMap::new(),
            local_images: BTreeSet::new(),
            kept_images: Vec::new(),
        }
    }
}

/// A container of ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Replica {
    /// The engine's id.
    pub id: String,
    /// Its name, without the leading `/`.
    pub name: String,
    /// From its label.
    pub group: Group,
    /// From its label.
    pub slot: u32,
    /// From its label.
    pub release: ReleaseHash,
    /// The digest it really runs: of its release where that names the image, else what the engine says.
    pub digest: Option<Digest>,
    /// The engine's word.
    pub state: ReplicaState,
    /// Of this run, not of the container.
    pub started_at: Option<Timestamp>,
    /// By the engine, since the container was created.
    pub restart_count: u32,
    /// The loopback port published for it, from the label.
    pub port: Option<u16>,
    /// Whether that port is really bound while it runs.
    pub port_bound: bool,
    /// Where probes go: the container's own address and port.
    pub address: Option<SocketAddr>,
    /// Restart policy as the engine has it.
    pub restart: Restart,
    /// Limits as the engine has them.
    pub resources: Resources,
    /// Bind mounts and named volumes asked for at create, sorted.
    pub volumes: Vec<String>,
    /// From the prober, or from the engine for `container` checks. Filled in by the controller.
    pub health: Health,
    /// Whether its image (or its creation) defines a HEALTHCHECK.
    pub has_healthcheck: bool,
}

/// `State.Status` of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaState {
    /// Made, never started.
    Created,
    /// Up.
    Running,
    /// The engine waits before it starts it again.
    Restarting,
    /// Frozen by somebody.
    Paused,
    /// It ended, with this code where that is known yet.
    Exited(Option<i64>),
    /// The engine gave it up.
    Dead,
    /// Somebody is removing it.
    Removing,
}

/// What probes say of one run of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// No verdict yet.
    Unknown {
        /// Since when somebody asks: a controller that has just started has not given an old replica its chance yet.
        since: Timestamp,
        /// The last bad answer, if there was one.
        last: Option<Why>,
    },
    /// Good since then.
    Healthy(Timestamp),
    /// Bad since then.
    Unhealthy(Timestamp, Why),
}

impl Health {
    /// Nobody has answered yet; asked since `since`.
    pub const fn unasked(since: Timestamp) -> Self {
        Self::Unknown { since, last: None }
    }
}

/// A container that looks like ours or sits on our name, and is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Its name.
    pub name: String,
    /// Why it is none of ours.
    pub why: Why,
    /// The name of ours it occupies, if it does.
    pub blocks: bool,
}

/// A hand-made container claimed by `replaces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The engine's id.
    pub id: String,
    /// As claimed.
    pub name: String,
    /// Only containers older than the first switch are retired.
    pub created_at: Timestamp,
    /// Whether it runs.
    pub running: bool,
    /// Another controller's mark: not ours to touch.
    pub owner: Option<String>,
}

/// An image kept under a tag of ours (`holdfast/<service>:<short digest>`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptImage {
    /// Its digest.
    pub digest: Digest,
    /// The references of ours to delete, most specific last.
    pub references: Vec<String>,
}

/// What nginx has been told and what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct NginxSeen {
    /// The servers file.
    pub file: Fact<ServersFile>,
    /// Its processes. `Absent`: not running.
    pub processes: Fact<NginxProcesses>,
    /// Whether the configuration includes the file. `Unreadable`: `nginx -T` failed, with its words.
    pub included: Fact<bool>,
    /// Whether every accepting worker certainly read the file as it stands: the edge saw them appear after its own
    /// reload, or each is younger than the file's last change.
    pub loaded: bool,
}

/// The servers file as it stands on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServersFile {
    /// SHA-256 of its bytes, hex.
    pub sha256: String,
    /// The `server` addresses that take requests, as written, in order.
    pub servers: Vec<String>,
    /// When its inode last changed (ctime: a rename counts).
    pub changed_at: Timestamp,
}

/// A worker process: the pid alone may be reused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Worker {
    /// Process id.
    pub pid: u32,
    /// Start, milliseconds since the epoch, rounded down to a tick of `/proc`.
    pub started_ms: i64,
}

/// The processes of one nginx.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NginxProcesses {
    /// Workers that accept.
    pub workers: BTreeSet<Worker>,
    /// Workers finishing their last requests.
    pub leaving: BTreeSet<Worker>,
}

/// The services a platform holds containers of, for removals.
pub type Owned = Fact<BTreeSet<ServiceName>>;
