//! One service's status from what a turn saw and did.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::core::{Entry, Wanted};
use super::settle::{Ending, Outcome};
use crate::model::colour::Group;
use crate::model::desired::{Service, Strategy};
use crate::model::ecs::seen::{EcsSeen, ServiceSeen};
use crate::model::memory::Memory;
use crate::model::names::ServiceName;
use crate::model::release::{Release, ReleaseHash};
use crate::model::snapshot::{Fact, Health, NginxSeen, Replica, ReplicaState};
use crate::model::status::{ColourStatus, HoldStatus, Phase, ServiceStatus, Version};
use crate::plan::hold::Hold;

/// Everything a status is made from.
pub(super) struct Seen<'a> {
    pub(super) platform: &'static str,
    pub(super) name: &'a ServiceName,
    pub(super) entry: &'a Entry,
    pub(super) outcome: &'a Outcome,
    pub(super) memory: &'a Memory,
    pub(super) now: Timestamp,
}

/// The status of a service nobody has looked at yet.
pub(super) fn unseen(platform: &str, name: &ServiceName, wanted: &Wanted) -> ServiceStatus {
    ServiceStatus {
        name: name.clone(),
        platform: platform.to_owned(),
        phase: Phase::Unknown,
        stage: "not looked at yet".into(),
        desired: wanted.service().map(|service| version_of(service, None)).unwrap_or_default(),
        serving: None,
        previous: None,
        active_colour: None,
        colours: BTreeMap::new(),
        holds: Vec::new(),
        rolled_back_from: None,
        quarantined: BTreeMap::new(),
        pin: None,
        last_change: None,
        next_look: None,
        revision: None,
        as_of: None,
    }
}

/// The status after a turn.
pub(super) fn status(seen: &Seen<'_>) -> ServiceStatus {
    let Seen { platform, name, entry, outcome, memory, now } = seen;
    let view = &outcome.plan.view;
    let known = entry.status.as_ref();
    let service = outcome.order.wanted.service();
    let changed = matches!(outcome.ending, Ending::Changed { world: true });
    let last_change = if changed { Some(*now) } else { known.and_then(|known| known.last_change) };
    let stage = if view.stage.is_empty() { stage_of(entry) } else { view.stage.clone() };
    ServiceStatus {
        name: (*name).clone(),
        platform: (*platform).to_owned(),
        phase: phase(entry, memory, &outcome.ending),
        stage,
        desired: service.map(|service| version_of(service, view.wanted.as_ref())).unwrap_or_default(),
        serving: memory.committed.as_ref().map(|committed| version(&committed.release)),
        previous: memory.previous.as_ref().map(|previous| version(&previous.release)),
        active_colour: view.serving.and_then(Group::colour),
        colours: colours(seen).or_else(|| known.map(|known| known.colours.clone())).unwrap_or_default(),
        holds: oldest_first(&entry.hold_status),
        rolled_back_from: rolled_back_from(&entry.holds, memory),
        quarantined: memory.quarantined.iter().map(|(hash, it)| (hash.to_string(), it.why.clone())).collect(),
        pin: memory.pin.as_ref().map(|pin| pin.to.tag.to_string()),
        last_change: last_change.or_else(|| memory.committed.as_ref().map(|committed| committed.at)),
        next_look: None,
        revision: served_revision(seen).or_else(|| known.and_then(|known| known.revision.clone())),
        as_of: Some(outcome.order.revision.to_string()),
    }
}

/// Whether two statuses say the same; the next look moves all the time.
pub(super) fn same_to_people(a: &ServiceStatus, b: &ServiceStatus) -> bool {
    ServiceStatus { next_look: None, ..a.clone() } == ServiceStatus { next_look: None, ..b.clone() }
}

fn stage_of(entry: &Entry) -> String {
    match entry.holds.iter().find(|hold| !hold.is_quiet()) {
        None if entry.settled => "settled".into(),
        None => "working".into(),
        Some(hold) => hold.reason().into(),
    }
}

fn oldest_first(holds: &[HoldStatus]) -> Vec<HoldStatus> {
    let mut holds = holds.to_vec();
    holds.sort_by_key(|hold| hold.since);
    holds
}

/// In one word, the worst first.
fn phase(entry: &Entry, memory: &Memory, ending: &Ending) -> Phase {
    let any = |test: fn(&Hold) -> bool| entry.holds.iter().any(test);
    if memory.paused.is_some() {
        Phase::Paused
    } else if any(|hold| matches!(hold, Hold::PlatformUnreadable { .. })) {
        Phase::Unknown
    } else if any(|hold| matches!(hold, Hold::Quarantined { .. } | Hold::Failing { .. })) {
        Phase::Failed
    } else if any(is_degraded) {
        Phase::Degraded
    } else if any(|hold| !hold.is_progress() && !hold.is_quiet()) {
        Phase::Holding
    } else if any(Hold::is_progress) || !matches!(ending, Ending::Quiet) {
        Phase::Progressing
    } else {
        Phase::Settled
    }
}

const fn is_degraded(hold: &Hold) -> bool {
    matches!(
        hold,
        Hold::RolledBack { .. }
            | Hold::LastReplicaUnhealthy { .. }
            | Hold::DriftReported { .. }
            | Hold::Conflict { .. }
            | Hold::LossBackoff { .. }
    )
}

fn rolled_back_from(holds: &[Hold], memory: &Memory) -> Option<String> {
    let failed = holds.iter().find_map(|hold| match hold {
        Hold::Quarantined { tag, .. } => Some(tag.clone()),
        _ => None,
    });
    memory.pin.as_ref().map(|pin| pin.from_tag.clone()).or(failed)
}

/// The revision the turn was about, when it serves in full: nothing left to do but to wait for what was replaced. A
/// newer one, accepted meanwhile, has a turn of its own.
fn served_revision(seen: &Seen<'_>) -> Option<String> {
    let quiet = matches!(seen.outcome.ending, Ending::Quiet);
    let waits = |hold: &Hold| hold.is_aside() || matches!(hold, Hold::Draining { .. } | Hold::Baking { .. });
    let wanted = seen.outcome.plan.view.wanted.as_ref().map(Release::hash);
    let committed = seen.memory.committed.as_ref().map(|committed| committed.release.hash());
    let serves = wanted.is_some() && wanted == committed && seen.entry.holds.iter().all(waits);
    if quiet && (seen.entry.settled || serves) { Some(seen.outcome.order.revision.to_string()) } else { None }
}

fn version(release: &Release) -> Version {
    Version {
        tag: release.tag.to_string(),
        digest: Some(release.digest.to_string()),
        release: Some(release.hash().to_string()),
    }
}

fn version_of(service: &Service, wanted: Option<&Release>) -> Version {
    match wanted {
        Some(release) => version(release),
        None => Version { tag: service.tag.tag.to_string(), digest: None, release: None },
    }
}

/// Per colour; none while the platform cannot be read.
fn colours(seen: &Seen<'_>) -> Option<BTreeMap<String, ColourStatus>> {
    if let Some(ecs) = &seen.outcome.snapshot.ecs {
        return ecs_colours(seen, ecs);
    }
    let replicas = seen.outcome.snapshot.platform.replicas.seen()?;
    let service = seen.outcome.order.wanted.service();
    let rolling = service.is_some_and(|service| service.rollout.strategy == Strategy::Rolling);
    let mut groups = if rolling { vec![Group::Only] } else { vec![Group::Blue, Group::Green] };
    if service.is_none() {
        groups.clear();
    }
    groups.extend(replicas.iter().map(|replica| replica.group));
    groups.sort_unstable();
    groups.dedup();
    Some(groups.into_iter().map(|group| (group.to_string(), colour(seen, group, replicas))).collect())
}

fn colour(seen: &Seen<'_>, group: Group, replicas: &[Replica]) -> ColourStatus {
    let view = &seen.outcome.plan.view;
    let ours: Vec<&Replica> = replicas.iter().filter(|replica| replica.group == group).collect();
    let release = ours.first().map(|first| &first.release);
    let release = release.filter(|release| ours.iter().all(|replica| replica.release == **release));
    let attempted = seen.memory.attempt.as_ref().is_some_and(|attempt| attempt.group == group);
    let wanted = view.serving == Some(group) || attempted;
    let replicas_wanted = seen.outcome.order.wanted.service().map_or(0, |service| service.replicas);
    let count = |test: fn(&Replica) -> bool| {
        u32::try_from(ours.iter().filter(|replica| test(replica)).count()).unwrap_or(u32::MAX)
    };
    ColourStatus {
        tag: release.and_then(|release| tag_of(seen, release)),
        release: release.map(ToString::to_string),
        desired: if wanted { replicas_wanted } else { 0 },
        running: count(|replica| replica.state == ReplicaState::Running),
        healthy: count(|replica| matches!(replica.health, Health::Healthy(_))),
        weight: match &seen.outcome.snapshot.nginx {
            Some(nginx) => share(nginx, &ours),
            None if view.serving == Some(group) => 100,
            None => 0,
        },
    }
}

/// The same of ECS services; none while one cannot be read.
fn ecs_colours(seen: &Seen<'_>, ecs: &EcsSeen) -> Option<BTreeMap<String, ColourStatus>> {
    if ecs.services.values().any(|fact| matches!(fact, Fact::Unreadable(_))) {
        return None;
    }
    let alb = seen.outcome.snapshot.alb.as_ref();
    let weights = alb.and_then(|alb| alb.weights.seen()).map(crate::plan::ecs::alb::percent);
    let of = |(group, fact): (&Group, &Fact<ServiceSeen>)| {
        let service = fact.seen();
        let known = ecs.registered.iter().chain(&seen.memory.registered);
        let arn = service.map(|it| it.task_definition.as_str());
        let release = known.into_iter().find(|(_, known)| Some(known.as_str()) == arn).map(|(hash, _)| hash);
        let running = service.map_or(0, |it| it.running);
        let healthy = match alb.and_then(|alb| alb.targets.get(group)) {
            Some(targets) => targets.seen().map_or(0, |targets| targets.healthy.min(running)),
            None => running,
        };
        let weight = match &weights {
            Some(weights) => weights.get(group).copied().unwrap_or(0),
            None => {
                if running > 0 {
                    100
                } else {
                    0
                }
            }
        };
        let status = ColourStatus {
            tag: release.and_then(|release| tag_of(seen, release)),
            release: release.map(ToString::to_string),
            desired: service.map_or(0, |it| it.desired),
            running,
            healthy,
            weight,
        };
        (group.to_string(), status)
    };
    Some(ecs.services.iter().map(of).collect())
}

fn tag_of(seen: &Seen<'_>, hash: &ReleaseHash) -> Option<String> {
    let memory = seen.memory;
    let known = [
        seen.outcome.plan.view.wanted.as_ref(),
        memory.committed.as_ref().map(|it| &it.release),
        memory.attempt.as_ref().map(|it| &it.release),
        memory.previous.as_ref().map(|it| &it.release),
        memory.pin.as_ref().map(|it| &it.to),
    ];
    known.into_iter().flatten().find(|release| release.hash() == *hash).map(|release| release.tag.to_string())
}

/// Percent of the servers nginx was told that are `ours`.
fn share(nginx: &NginxSeen, ours: &[&Replica]) -> u16 {
    let Some(file) = nginx.file.seen() else { return 0 };
    let is_ours = |server: &String| {
        ours.iter().any(|replica| {
            let published = replica.port.is_some_and(|port| *server == format!("127.0.0.1:{port}"));
            published || replica.address.is_some_and(|address| *server == address.to_string())
        })
    };
    let mine = file.servers.iter().filter(|server| is_ours(server)).count();
    if file.servers.is_empty() { 0 } else { u16::try_from(100 * mine / file.servers.len()).unwrap_or(100) }
}
