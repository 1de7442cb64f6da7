//! What the replicas of one group amount to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use jiff::Timestamp;

use crate::model::colour::Group;
use crate::model::desired::{DriftField, Restart, Service};
use crate::model::memory::Memory;
use crate::model::release::{Release, ReleaseHash};
use crate::model::snapshot::{Health, Replica, ReplicaState, Why};

use super::hold::after;

/// Engine restarts of one container that count as a crash loop.
const CRASH_LOOP: u32 = 3;

/// What a replica is to the release its group should run. First match wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// It does not run and will not by itself.
    Lost(Why),
    /// Frozen by somebody: it can be thawed.
    Paused,
    /// It runs something else, or differs in a field that cannot be changed in place.
    Outdated(Why, Option<DriftField>),
    /// It was given every chance and is no good.
    Failing(Why),
    /// On its way.
    Converging(Option<Why>),
    /// Good.
    Healthy,
}

impl Class {
    /// Whether a process is there, however bad.
    pub const fn is_up(&self) -> bool {
        !matches!(self, Self::Lost(_))
    }
}

/// A replica with its class.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// As seen.
    pub replica: &'a Replica,
    /// Against the target release.
    pub class: Class,
}

/// Judges `replica` against `release`. `drift_since`: committed already, so a difference is drift, not an edit.
pub fn classify(replica: &Replica, release: &Release, hash: &ReleaseHash, service: &Service, now: Timestamp) -> Class {
    if let Some(why) = lost(replica, service) {
        return Class::Lost(why);
    }
    if replica.state == ReplicaState::Paused {
        return Class::Paused;
    }
    if replica.release != *hash {
        return Class::Outdated("it runs another release".to_owned(), None);
    }
    if let Some((field, why)) = immutable_drift(replica, release, service) {
        return Class::Outdated(why, Some(field));
    }
    judge(replica, service, now)
}

fn lost(replica: &Replica, service: &Service) -> Option<Why> {
    match replica.state {
        ReplicaState::Created => Some("it was created and never started".to_owned()),
        ReplicaState::Exited(Some(code)) => Some(format!("it ended with exit code {code}")),
        ReplicaState::Exited(None) => Some("it ended".to_owned()),
        ReplicaState::Dead => Some("the engine declared it dead".to_owned()),
        ReplicaState::Removing => Some("somebody is removing it".to_owned()),
        ReplicaState::Running if replica.port.is_some() && service.docker.port.is_some() && !replica.port_bound => {
            Some("it runs without its port".to_owned())
        }
        ReplicaState::Running | ReplicaState::Restarting | ReplicaState::Paused => None,
    }
}

fn immutable_drift(replica: &Replica, release: &Release, service: &Service) -> Option<(DriftField, Why)> {
    let ignored = |field: &DriftField| service.drift.ignore.contains(field);
    let mut volumes = release.volumes.clone();
    volumes.sort();
    let range = service.docker.publish.of(replica.group);
    let limits = (replica.resources.memory.is_some() && service.docker.resources.memory.is_none())
        || (replica.resources.nano_cpus.is_some() && service.docker.resources.nano_cpus.is_none());
    [
        (
            DriftField::Image,
            replica.digest.as_ref().is_some_and(|digest| *digest != release.digest),
            "it runs another image than its label says".to_owned(),
        ),
        (DriftField::Volumes, replica.volumes != volumes, "its mounts differ".to_owned()),
        (
            DriftField::Port,
            matches!((replica.port, range), (Some(port), Some(range)) if !range.contains(port)),
            "its port is outside `publish`".to_owned(),
        ),
        (DriftField::Resources, limits, "a limit was removed, which the engine cannot do in place".to_owned()),
    ]
    .into_iter()
    .find(|(field, differs, _)| *differs && !ignored(field))
    .map(|(field, _, why)| (field, why))
}

fn judge(replica: &Replica, service: &Service, now: Timestamp) -> Class {
    let crash_loop = replica.restart_count >= CRASH_LOOP && !matches!(replica.health, Health::Healthy(_));
    let restarting = replica.state == ReplicaState::Restarting;
    if crash_loop {
        return Class::Failing(format!("it restarted {} times", replica.restart_count));
    }
    let late = |since: Timestamp| after(chance_since(replica, since), service.health.deadline) <= now;
    match &replica.health {
        Health::Healthy(_) if !restarting => Class::Healthy,
        Health::Unhealthy(_, why) => Class::Failing(why.clone()),
        Health::Unknown { since, last } if late(*since) => Class::Failing(match last {
            Some(why) => format!("not healthy within {}s: {why}", service.health.deadline.as_secs()),
            None => format!("not healthy within {}s", service.health.deadline.as_secs()),
        }),
        Health::Unknown { since: _, last } => Class::Converging(last.clone()),
        Health::Healthy(_) => Class::Converging(Some("it is restarting".to_owned())),
    }
}

/// Since when a replica without a verdict has had its chance: from its start, or from the first question where that is
/// later (a controller that comes back after hours finds replicas that are old and not yet asked).
fn chance_since(replica: &Replica, asked_since: Timestamp) -> Timestamp {
    replica.started_at.map_or(asked_since, |started| started.max(asked_since))
}

/// Whether the engine would have restarted it by itself had nobody stopped it: then an end is somebody's doing.
pub const fn engine_restarts(restart: Restart) -> bool {
    matches!(restart, Restart::Always | Restart::UnlessStopped)
}

/// When the first still undecided replica counts as failed.
pub fn health_deadline<'a>(
    members: impl Iterator<Item = &'a Member<'a>>,
    service: &Service,
    now: Timestamp,
) -> Timestamp {
    members
        .filter(|it| matches!(it.class, Class::Converging(_)))
        .filter_map(|it| match it.replica.health {
            Health::Unknown { since, .. } => Some(chance_since(it.replica, since)),
            Health::Healthy(_) | Health::Unhealthy(..) => it.replica.started_at,
        })
        .map(|at| after(at, service.health.deadline))
        .min()
        .unwrap_or_else(|| after(now, service.health.deadline))
}

/// The address nginx is told for a replica.
pub fn backend(replica: &Replica) -> Option<SocketAddr> {
    replica.port.map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}

/// The release most of the live replicas of `group` carry.
pub fn group_release(replicas: &[Replica], group: Group) -> Option<ReleaseHash> {
    let mut counts = std::collections::BTreeMap::<&ReleaseHash, usize>::new();
    for replica in replicas.iter().filter(|it| it.group == group) {
        *counts.entry(&replica.release).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(release, _)| release.clone())
}

/// The live fields the file asks for.
pub const fn wanted_live(service: &Service) -> crate::model::memory::Live {
    crate::model::memory::Live { restart: service.docker.restart, resources: service.docker.resources }
}

/// Whether the memory says the live fields of the file are already in force (so that a difference is drift).
pub fn live_is_applied(service: &Service, memory: &Memory) -> bool {
    memory.applied_live == Some(wanted_live(service))
}
