//! Floor 1: the traits of every edge.

mod desired;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::model::colour::Group;
use crate::model::desired::{AwsGuard, Check, NginxTraffic, Service};
use crate::model::ecs::seen::{AlbSeen, EcsSeen};
use crate::model::ecs::{AlbTraffic, Place};
use crate::model::env_file::EnvVariables;
use crate::model::event::{Event, HistoryEntry};
use crate::model::image::{Digest, Repository, TagSpec};
use crate::model::memory::{Memory, MemoryChange};
use crate::model::names::ServiceName;
use crate::model::release::EnvFileVersion;
use crate::model::secret::Secret;
use crate::model::snapshot::{Fact, Health, NginxSeen, Owned, PlatformSeen, RegistryImage, TagSeen, Why};
use crate::plan::step::{AlbStep, EcsStep, Ensured, PlatformStep, RegistryStep, TrafficStep};
pub use desired::{Source, SourceUpdate, WriteBack};

/// Something happened: look again at one service, or at all. What it was is for traces only.
#[derive(Debug, Clone)]
pub struct Wake {
    /// Which service; none: all of them.
    pub service: Option<ServiceName>,
    /// For traces: `docker: die dangdang-api-blue-1`.
    pub why: String,
    /// It only says how far a long step is: shown to people, and nobody looks again.
    pub is_progress: bool,
}

/// Where adapters report what they noticed. Never blocks; the queue coalesces.
#[derive(Debug, Clone)]
pub struct Wakes(mpsc::UnboundedSender<Wake>);

impl Wakes {
    /// A sender and the queue's end.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Wake>) {
        let (tx, rx) = mpsc::unbounded_channel();
        (Self(tx), rx)
    }

    /// Look at `service` again (at all of them with `None`).
    pub fn wake(&self, service: Option<&ServiceName>, why: impl Into<String>) {
        // The queue is gone only while the process ends; then nobody needs waking.
        let _ = self.0.send(Wake { service: service.cloned(), why: why.into(), is_progress: false });
    }

    /// A long step of `service` is so far, in words for people: `pulling app@0123456789ab: 34 of 120 MiB`.
    pub fn progress(&self, service: &ServiceName, how_far: impl Into<String>) {
        let _ = self.0.send(Wake { service: Some(service.clone()), why: how_far.into(), is_progress: true });
    }
}

/// Why a step failed, and what that means for the next look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct StepError {
    /// For people: a lowercase fragment that completes "could not …: ".
    pub why: Why,
    /// What to do about it.
    pub kind: StepErrorKind,
}

/// What a failed step means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepErrorKind {
    /// The world is not what the plan was made from: look again at once, no backoff.
    Stale,
    /// It may go better later: backoff.
    Transient,
    /// It will go wrong again until somebody changes something: long backoff.
    Refused,
    /// AWS asks for fewer calls: no failure, it is tried again after a while.
    Throttled,
}

impl StepError {
    /// The world moved on.
    pub fn stale(why: impl Into<Why>) -> Self {
        Self { why: why.into(), kind: StepErrorKind::Stale }
    }
    /// Worth another try.
    pub fn transient(why: impl Into<Why>) -> Self {
        Self { why: why.into(), kind: StepErrorKind::Transient }
    }
    /// Too many calls.
    pub fn throttled(why: impl Into<Why>) -> Self {
        Self { why: why.into(), kind: StepErrorKind::Throttled }
    }
    /// Not worth a quick one.
    pub fn refused(why: impl Into<Why>) -> Self {
        Self { why: why.into(), kind: StepErrorKind::Refused }
    }
}

/// What the platform is asked about one service.
#[derive(Debug, Clone)]
pub struct LookAt<'a> {
    /// Its name.
    pub name: &'a ServiceName,
    /// As desired; none when it left the file.
    pub service: Option<&'a Service>,
}

/// Where containers run.
#[async_trait]
pub trait Platform: Send + Sync {
    /// `docker`, `sandbox`.
    fn name(&self) -> &'static str;
    /// One dated look at one service. Failures are facts inside it, never absence.
    async fn look(&self, at: LookAt<'_>) -> PlatformSeen;
    /// Every service with containers that carry this controller's id.
    async fn owned(&self) -> Owned;
    /// Resolves a local image by name (`pull: never`).
    async fn local_image(&self, repository: &Repository, tag: &TagSpec) -> Fact<Digest>;
    /// Does one step; checks owner, name and labels again right before it.
    ///
    /// # Errors
    /// With the reason, and whether trying again makes sense.
    async fn perform(&self, step: &PlatformStep) -> Result<Ensured, StepError>;
    /// Reports changes for ever: reconnects with backoff and wakes everything after a gap.
    async fn watch(&self, wakes: Wakes);
    /// The last lines a container wrote, for the reason of a failure; empty when there are none.
    async fn last_words(&self, container_id: &str) -> String;
}

/// What ECS is asked about one service.
#[derive(Debug, Clone, Copy)]
pub struct EcsLookAt<'a> {
    /// Its name.
    pub name: &'a ServiceName,
    /// Where it is.
    pub place: &'a Place,
    /// As desired; none when it left the file.
    pub service: Option<&'a Service>,
    /// What is remembered: which base and which task definitions are of interest.
    pub memory: &'a Memory,
    /// How old an answer may be.
    pub max_age: Duration,
}

/// Where tasks run: ECS.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// One look at the ECS services of one service. May answer from a sweep that is fresh enough.
    async fn look(&self, at: EcsLookAt<'_>) -> EcsSeen;
    /// Does one step; checks owner and account again right before it.
    ///
    /// # Errors
    /// With the reason, and whether trying again makes sense.
    async fn perform(&self, step: &EcsStep) -> Result<Ensured, StepError>;
    /// Reports changes for ever: of deployments under way, and of whatever the event queue tells.
    async fn watch(&self, wakes: Wakes);
}

/// Who gets the requests behind a load balancer.
#[async_trait]
pub trait LoadBalancer: Send + Sync {
    /// The weights and the health of the targets; the latter may be left out while everything goes to `settled_on`.
    async fn look(&self, traffic: &AlbTraffic, settled_on: Option<Group>) -> AlbSeen;
    /// Sets the weights of the rule's forward action; every other action and stickiness stay.
    ///
    /// # Errors
    /// With the reason, and whether trying again makes sense.
    async fn perform(&self, step: &AlbStep) -> Result<Ensured, StepError>;
}

/// Images: tag to digest.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Resolves `tag` at its registry by HEAD. May answer from memory when asked again within `max_age`.
    async fn resolve(&self, repository: &Repository, tag: &TagSpec, max_age: Duration) -> Fact<Digest>;
    /// Credentials for a pull; none: anonymous.
    ///
    /// # Errors
    /// When credentials are configured and cannot be had.
    async fn credentials(&self, repository: &Repository) -> Result<Option<Credentials>, Why>;
    /// Every image of a repository at ECR, for its clean-up.
    async fn images(&self, repository: &Repository) -> Fact<Vec<RegistryImage>> {
        Fact::Unreadable(format!("{repository} cannot be cleaned up"))
    }
    /// Every tag of a repository. May answer from memory when asked again within `max_age`.
    async fn tags(&self, repository: &Repository, _max_age: Duration) -> Fact<Vec<TagSeen>> {
        Fact::Unreadable(format!("the tags of {repository} cannot be listed"))
    }
    /// Does one step.
    ///
    /// # Errors
    /// With the reason, and whether trying again makes sense.
    async fn perform(&self, step: &RegistryStep) -> Result<Ensured, StepError> {
        Err(StepError::refused(format!("nothing here can {step}")))
    }
}

/// A user name and a password for one registry.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `AWS` at ECR.
    pub username: String,
    /// Never printed.
    pub password: Secret<String>,
    /// The host they are for.
    pub host: String,
}

/// The AWS account of the credentials in use.
#[async_trait]
pub trait Account: Send + Sync {
    /// Asks STS (and remembers a good answer while the credentials stay).
    async fn account(&self, guard: &AwsGuard) -> Fact<String>;
}

/// Who gets requests.
#[async_trait]
pub trait Traffic: Send + Sync {
    /// What nginx was told and what it does.
    async fn look(&self, traffic: &NginxTraffic) -> NginxSeen;
    /// Writes, tests, reloads and waits for new workers; the previous bytes come back when the test fails.
    ///
    /// # Errors
    /// With nginx's own words.
    async fn perform(&self, step: &TrafficStep) -> Result<Ensured, StepError>;
    /// Reports for ever: edits of the servers files, old workers' exits, the master's death and reloads by others.
    async fn watch(&self, wakes: Wakes);
}

/// What to probe, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeTarget {
    /// The engine's id.
    pub id: String,
    /// Of this run: another start is another verdict.
    pub started_at: Timestamp,
    /// The container's own address and port.
    pub address: Option<SocketAddr>,
    /// What is asked.
    pub check: Check,
    /// Between probes once healthy.
    pub interval: Duration,
    /// Of one probe.
    pub timeout: Duration,
    /// Good answers in a row.
    pub successes: u32,
    /// Bad answers in a row.
    pub failures: u32,
    /// A settled service is probed every max(interval, 5 s).
    pub settled: bool,
}

/// Is it healthy.
#[async_trait]
pub trait Probe: Send + Sync {
    /// From now on exactly `targets` are probed for `service`; wakes it when a verdict changes.
    fn watch(&self, service: &ServiceName, targets: Vec<ProbeTarget>);
    /// The verdict on each replica so far, by container id; `Unknown` for one never probed.
    fn verdicts(&self, service: &ServiceName) -> BTreeMap<String, Health>;
}

/// The host's env files.
#[async_trait]
pub trait EnvFiles: Send + Sync {
    /// The version of `path` under `envRoot`. `Absent`: no such file.
    async fn version(&self, path: &std::path::Path) -> Fact<EnvFileVersion>;
    /// The variables of exactly the version `wanted`, in the order of the file.
    ///
    /// # Errors
    /// When the file is another one by now, is gone or cannot be read.
    async fn variables(&self, wanted: &EnvFileVersion) -> Result<EnvVariables, Why>;
    /// Wakes everything when a file there changes, for ever.
    async fn watch(&self, _wakes: Wakes) {
        std::future::pending().await
    }
}

/// Durable memory and history.
#[async_trait]
pub trait Store: Send + Sync {
    /// Everything remembered that can be understood.
    ///
    /// # Errors
    /// When it cannot be read at all.
    async fn load(&self) -> Result<BTreeMap<ServiceName, Memory>, Why>;
    /// Services whose memory is there and cannot be understood, by name, and why: nothing may be done for them, for
    /// they may be paused or pinned.
    ///
    /// # Errors
    /// When nothing can be read at all.
    async fn unreadable(&self) -> Result<BTreeMap<String, Why>, Why> {
        Ok(BTreeMap::new())
    }
    /// Applies `change` durably and returns the new memory.
    ///
    /// # Errors
    /// When it is not durable.
    async fn remember(&self, service: &ServiceName, change: &MemoryChange) -> Result<Memory, Why>;
    /// Appends an event; returns it with its id. Old ones are trimmed.
    ///
    /// # Errors
    /// When it could not be written.
    async fn record(&self, event: Event) -> Result<Event, Why>;
    /// The last `limit` events after id `after`, oldest first.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn events(&self, service: Option<&ServiceName>, after: u64, limit: u32) -> Result<Vec<Event>, Why>;
    /// Adds or updates (by `started_at` and `release`) one line of history.
    ///
    /// # Errors
    /// When it could not be written.
    async fn history_put(&self, service: &ServiceName, entry: HistoryEntry) -> Result<(), Why>;
    /// A service's history, newest first.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn history(&self, service: &ServiceName, limit: u32) -> Result<Vec<HistoryEntry>, Why>;
}

/// Time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The clock on the wall.
#[derive(Debug, Clone, Copy, Default)]
pub struct WallClock;

impl Clock for WallClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Every edge of one controller.
#[derive(Clone)]
pub struct Edges {
    /// Where containers run.
    pub platform: Arc<dyn Platform>,
    /// Where tasks run.
    pub cluster: Arc<dyn Cluster>,
    /// Who gets the requests behind a load balancer.
    pub balancer: Arc<dyn LoadBalancer>,
    /// Images.
    pub registry: Arc<dyn Registry>,
    /// The AWS account.
    pub account: Arc<dyn Account>,
    /// Who gets requests.
    pub traffic: Arc<dyn Traffic>,
    /// Is it healthy.
    pub probe: Arc<dyn Probe>,
    /// Env files.
    pub env_files: Arc<dyn EnvFiles>,
    /// Changes of the desired state by the controller itself.
    pub write_back: Arc<dyn WriteBack>,
    /// Durable memory.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}
