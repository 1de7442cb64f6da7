//! Steps: the only things Holdfast ever does. A step carries every id, digest, port and name it needs.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::model::colour::Group;
use crate::model::desired::{Resources, Restart};
use crate::model::image::{Digest, Repository, TagSpec};
use crate::model::memory::MemoryChange;
use crate::model::names::ServiceName;
use crate::model::release::{Release, ReleaseHash};
use crate::model::words::counted;

pub mod ecs;

pub use ecs::{AlbStep, EcsStep, RegistryStep, revision};

/// A step and its cause.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedStep {
    /// What is done.
    pub step: Step,
    /// Why, as a sentence fragment: "the file asks for tag 3f2a1b9".
    pub because: String,
}

/// One idempotent act.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Durable memory.
    Remember(MemoryChange),
    /// The platform.
    Platform(PlatformStep),
    /// The servers file: written, tested, loaded, as one.
    Traffic(TrafficStep),
    /// ECS.
    Ecs(EcsStep),
    /// The weights of a listener rule.
    Alb(AlbStep),
    /// The registry.
    Registry(RegistryStep),
    /// The desired state itself.
    Source(SourceStep),
}

/// A change of the desired state: one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStep {
    /// Whose tag.
    pub service: ServiceName,
    /// As written now.
    pub from: TagSpec,
    /// As it is to be.
    pub to: TagSpec,
    /// Why, in sentences: the body of the commit's message.
    pub why: String,
}

/// An act on the container platform.
#[derive(Debug, Clone, PartialEq)]
pub enum PlatformStep {
    /// Make sure the engine has the image, under a tag of ours so that a prune spares it.
    Pull {
        /// Whose image.
        service: ServiceName,
        /// Where it is.
        repository: Repository,
        /// Which.
        digest: Digest,
    },
    /// Create the container under its deterministic name and start it.
    Run(Box<RunContainer>),
    /// Freeze lifted.
    Unpause {
        /// Which.
        target: Target,
    },
    /// Restart policy and limits, in place.
    Update {
        /// Which.
        target: Target,
        /// The wanted policy.
        restart: Restart,
        /// The wanted limits.
        resources: Resources,
    },
    /// SIGTERM, the stop timeout, SIGKILL, remove with anonymous volumes.
    Remove {
        /// Which.
        target: Target,
        /// Seconds from SIGTERM to SIGKILL.
        stop_timeout: u32,
        /// It was seen not running. One that runs by now may serve again: then the world has moved on.
        only_if_down: bool,
    },
    /// The same for a hand-made container claimed by `replaces`: the id is the one seen, it must carry no other owner.
    Retire {
        /// The service that claims it.
        service: ServiceName,
        /// The engine's id.
        id: String,
        /// Its claimed name.
        name: String,
        /// Seconds from SIGTERM to SIGKILL.
        stop_timeout: u32,
    },
    /// References of ours to an image no container uses. 409 (in use) is `AlreadySo`.
    RemoveImage {
        /// Whose image.
        service: ServiceName,
        /// Which.
        digest: Digest,
        /// The references to delete, in order.
        references: Vec<String>,
    },
}

/// A container of ours, by id and by the name and labels it must still carry when it is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The engine's id.
    pub id: String,
    /// The deterministic name.
    pub name: String,
    /// The service label.
    pub service: ServiceName,
}

/// Everything a container is created from, beside the env file's content, whose digest is in the release and is
/// checked when it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct RunContainer {
    /// The service label.
    pub service: ServiceName,
    /// The deterministic name.
    pub name: String,
    /// The colour label.
    pub group: Group,
    /// The slot label.
    pub slot: u32,
    /// Image, env, mounts, logging …
    pub release: Release,
    /// Its hash: the release label.
    pub hash: ReleaseHash,
    /// Loopback port to publish `release.port` on; none for a worker.
    pub host_port: Option<u16>,
    /// Restart policy.
    pub restart: Restart,
    /// Limits.
    pub resources: Resources,
}

/// An act on nginx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficStep {
    /// Whose file.
    pub service: ServiceName,
    /// The servers file.
    pub file: PathBuf,
    /// The backends, in order; empty writes `server 127.0.0.1:1 down;`.
    pub servers: Vec<SocketAddr>,
    /// False only where nothing includes the file yet: then it is written and nothing is reloaded.
    pub reload: bool,
}

impl TrafficStep {
    /// The bytes of the servers file: a comment, then one `server` line a backend.
    pub fn render(service: &ServiceName, servers: &[SocketAddr]) -> String {
        let mut text = format!("# {service}: written by holdfast; an edit here is put back\n");
        if servers.is_empty() {
            text.push_str("server 127.0.0.1:1 down;\n");
        }
        for server in servers {
            text.push_str(&format!("server {server};\n"));
        }
        text
    }
}

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// The world was changed.
    Changed,
    /// It was so already.
    AlreadySo,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remember(change) => write_change(f, change),
            Self::Platform(step) => step.fmt(f),
            Self::Traffic(step) => step.fmt(f),
            Self::Ecs(step) => step.fmt(f),
            Self::Alb(step) => step.fmt(f),
            Self::Registry(step) => step.fmt(f),
            Self::Source(step) => step.fmt(f),
        }
    }
}

impl fmt::Display for SourceStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, from, to, why: _ } = self;
        write!(f, "commit {service}: tag {from} -> {to}")
    }
}

fn write_change(f: &mut fmt::Formatter<'_>, change: &MemoryChange) -> fmt::Result {
    match change {
        MemoryChange::Attempt(attempt) => {
            let (tag, on, hash) = (&attempt.release.tag, attempt.group.on(), attempt.release.hash());
            write!(f, "begin rollout of {tag}{on} ({hash})")
        }
        MemoryChange::EndAttempt => write!(f, "end the rollout"),
        MemoryChange::Commit(committed) => {
            let (tag, on, hash) = (&committed.release.tag, committed.group.on(), committed.release.hash());
            write!(f, "commit {tag}{on} ({hash})")
        }
        MemoryChange::Quarantine(release, why) => write!(f, "quarantine {} ({release}): {}", why.tag, why.why),
        MemoryChange::Release(release) => write!(f, "lift the quarantine of {release}"),
        MemoryChange::Pin(pin) => write!(f, "pin {} in place of {}", pin.to.tag, pin.from_tag),
        MemoryChange::Unpin => write!(f, "lift the pin"),
        MemoryChange::Promote(release) => write!(f, "promote {release}"),
        MemoryChange::Pause(paused) => write!(f, "pause (by {})", paused.by),
        MemoryChange::Resume => write!(f, "resume"),
        MemoryChange::ApproveRemoval => write!(f, "approve the removal"),
        MemoryChange::WithdrawRemoval => write!(f, "withdraw the approval of the removal"),
        MemoryChange::OpenSwitch(switch) => match switch.from {
            Some(from) if from != switch.to => write!(f, "open the switch {from} -> {}", switch.to),
            _ => write!(f, "open a change of the servers of {}", switch.to),
        },
        // A listener rule has no workers to load it.
        MemoryChange::ConfirmSwitch(confirmed) if confirmed.workers.is_empty() => write!(f, "confirm the switch"),
        MemoryChange::ConfirmSwitch(confirmed) => {
            write!(f, "confirm the switch: loaded by {}", counted(confirmed.workers.len(), "new worker"))
        }
        MemoryChange::Repair(field, _) => write!(f, "note a repair of {field}"),
        MemoryChange::Loss(_) => write!(f, "note a lost replica"),
        MemoryChange::ApplyLive(live) => {
            write!(f, "note restart {} and {} in force", live.restart, show_resources(live.resources))
        }
        MemoryChange::Registered(release, arn) => write!(f, "note {} of {release}", revision(arn)),
        MemoryChange::AdoptBase(arn) => write!(f, "take {} as the base", revision(arn)),
        MemoryChange::Deployment(id) => write!(f, "follow deployment {id}"),
        MemoryChange::ApplyEcsLive(live) => match live.replicas {
            Some(replicas) => write!(f, "note {} in force", counted(replicas, "task")),
            None => write!(f, "note the deployment configuration in force"),
        },
        MemoryChange::Canary(canary) => write!(f, "note canary step {} in force", canary.step + 1),
        MemoryChange::Cleaned(_) => write!(f, "note that the registry is clean"),
        MemoryChange::Revert(failed) => write!(f, "note that tag {} failed: {}", failed.tag, failed.why),
        MemoryChange::Unrevert(tag) => write!(f, "let tag {tag} be followed again"),
        MemoryChange::Forget => write!(f, "forget the service"),
    }
}

impl fmt::Display for PlatformStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pull { service: _, repository, digest } => write!(f, "pull {repository}@{}", digest.short()),
            Self::Run(run) => {
                write!(f, "run {} of {} ({})", run.name, run.release.tag, run.hash)?;
                match run.host_port {
                    Some(port) => write!(f, " on 127.0.0.1:{port}"),
                    None => Ok(()),
                }
            }
            Self::Unpause { target } => write!(f, "unpause {}", target.name),
            Self::Update { target, restart, resources } => {
                write!(f, "update {}: restart {restart}, {}", target.name, show_resources(*resources))
            }
            Self::Remove { target, stop_timeout: _, only_if_down: true } => write!(f, "remove {}", target.name),
            Self::Remove { target, stop_timeout, only_if_down: false } => {
                write!(f, "remove {} (up to {stop_timeout} s to stop)", target.name)
            }
            Self::Retire { service: _, id: _, name, stop_timeout } => {
                write!(f, "retire {name} (up to {stop_timeout} s to stop)")
            }
            Self::RemoveImage { service: _, digest, references: _ } => write!(f, "remove image {}", digest.short()),
        }
    }
}

/// `cpus 0.5, memory 512MiB`.
pub fn show_resources(resources: Resources) -> String {
    let Resources { nano_cpus, memory } = resources;
    let cpus = match nano_cpus {
        #[expect(clippy::cast_precision_loss, reason = "for people; a CPU count is small")]
        Some(nano) => format!("cpus {}", nano as f64 / 1e9),
        None => "no cpu limit".to_owned(),
    };
    let memory = match memory {
        Some(bytes) if bytes % (1 << 20) == 0 => format!("memory {}MiB", bytes >> 20),
        Some(bytes) => format!("memory {bytes}B"),
        None => "no memory limit".to_owned(),
    };
    format!("{cpus}, {memory}")
}

impl fmt::Display for TrafficStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service: _, file, servers, reload } = self;
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        let list = if servers.is_empty() { "no server (down)".to_owned() } else { servers.join(", ") };
        write!(f, "write {} = {list}{}", file.display(), if *reload { ", reload nginx" } else { "" })
    }
}
