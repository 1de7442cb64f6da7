//! The finished plan, verified against the invariants by code that shares nothing with the code that made it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::desired::{Order, Service};
use crate::model::memory::{Memory, MemoryChange};
use crate::model::names::container_name;
use crate::model::snapshot::{Fact, Health, Replica, ReplicaState, Snapshot};

use super::Plan;
use super::step::{PlatformStep, Step, Target, TrafficStep};

/// Verifies `plan`. `service` is none for a removal, which must then be `acknowledged`.
///
/// # Errors
/// The invariant it would break, and how.
pub fn verify(
    plan: &Plan,
    service: Option<&Service>,
    snapshot: &Snapshot,
    memory: &Memory,
    acknowledged: bool,
) -> Result<(), String> {
    super::ecs::check::verify(plan, service, snapshot, memory)?;
    source_is_led_well(plan, service, snapshot, memory)?;
    let none = Vec::new();
    let replicas = match &snapshot.platform.replicas {
        Fact::Seen(replicas) => replicas,
        Fact::Absent => &none,
        Fact::Unreadable(_) if plan.stages.is_empty() => return Ok(()),
        Fact::Unreadable(_) => return Err("S6: steps from an unreadable platform".to_owned()),
    };
    let all: Vec<&Step> = plan.steps().map(|it| &it.step).collect();
    if service.is_none() && !acknowledged && !memory.removal_approved && !all.is_empty() {
        return Err("S5: a removal nobody acknowledged".to_owned());
    }
    if memory.paused.is_some() && !all.is_empty() {
        return Err("pause: a step while paused".to_owned());
    }
    targets_are_ours(&all, snapshot, replicas, service)?;
    one_resource_per_intent(plan, replicas)?;
    let exempt = service.is_none_or(|it| it.replicas == 0 || it.rollout.order == Order::StopFirst);
    if !exempt {
        removals_are_unreached(&all, snapshot, replicas)?;
    }
    for step in &all {
        if let Step::Traffic(step) = step {
            traffic_is_safe(step, service, snapshot, replicas)?;
        }
    }
    remembered_first(&all, memory)
}

fn targets_are_ours(
    steps: &[&Step],
    snapshot: &Snapshot,
    replicas: &[Replica],
    service: Option<&Service>,
) -> Result<(), String> {
    for step in steps {
        let Step::Platform(step) = step else { continue };
        match step {
            PlatformStep::Unpause { target }
            | PlatformStep::Update { target, .. }
            | PlatformStep::Remove { target, .. } => is_ours(target, replicas)?,
            PlatformStep::Retire { id, name, .. } => {
                let claimed = service.is_some_and(|it| it.docker.replaces.contains(name));
                let seen = snapshot.platform.replaced.iter().find(|it| it.id == *id && it.name == *name);
                if !claimed || seen.is_none_or(|it| it.owner.is_some()) {
                    return Err(format!("S3: {name} is not claimed, or has another owner"));
                }
            }
            PlatformStep::Pull { .. } | PlatformStep::Run(_) | PlatformStep::RemoveImage { .. } => {}
        }
    }
    Ok(())
}

fn is_ours(target: &Target, replicas: &[Replica]) -> Result<(), String> {
    let Some(replica) = replicas.iter().find(|it| it.id == target.id) else {
        return Err(format!("S3: {} was not seen among ours", target.name));
    };
    let deterministic = container_name(&target.service, replica.group, replica.slot);
    if replica.name != target.name || deterministic != target.name {
        return Err(format!("S3: {} does not carry its deterministic name {deterministic}", target.name));
    }
    Ok(())
}

fn one_resource_per_intent(plan: &Plan, replicas: &[Replica]) -> Result<(), String> {
    let mut names: BTreeSet<&str> = replicas.iter().map(|it| it.name.as_str()).collect();
    let mut ports: BTreeMap<u16, &str> =
        replicas.iter().filter_map(|it| it.port.map(|port| (port, it.name.as_str()))).collect();
    for stage in &plan.stages {
        for step in stage {
            if let Step::Platform(PlatformStep::Run(run)) = &step.step {
                if !names.insert(&run.name) {
                    return Err(format!("S7: {} exists already", run.name));
                }
                if let Some(port) = run.host_port
                    && let Some(other) = ports.insert(port, &run.name)
                {
                    return Err(format!("S7: {} and {other} on port {port}", run.name));
                }
            }
        }
        for step in stage {
            if let Step::Platform(PlatformStep::Remove { target, .. }) = &step.step {
                names.remove(target.name.as_str());
                ports.retain(|_, name| *name != target.name);
            }
        }
    }
    Ok(())
}

fn is_up(replica: &Replica) -> bool {
    matches!(replica.state, ReplicaState::Running | ReplicaState::Restarting | ReplicaState::Paused)
}

fn address(replica: &Replica) -> Option<String> {
    replica.port.map(|port| format!("127.0.0.1:{port}"))
}

/// S1 and S6: what is up is removed only when the file was read, does not list it, and nothing older is loaded.
fn removals_are_unreached(steps: &[&Step], snapshot: &Snapshot, replicas: &[Replica]) -> Result<(), String> {
    let Some(nginx) = &snapshot.nginx else { return Ok(()) };
    for step in steps {
        let Step::Platform(PlatformStep::Remove { target, .. }) = step else { continue };
        let Some(replica) = replicas.iter().find(|it| it.id == target.id) else { continue };
        let Some(address) = address(replica).filter(|_| is_up(replica)) else { continue };
        let listed = match &nginx.file {
            Fact::Unreadable(_) => return Err(format!("S6: remove {} with the servers file unread", target.name)),
            Fact::Absent => false,
            Fact::Seen(file) => file.servers.contains(&address),
        };
        let bad = matches!(replica.health, Health::Unhealthy(..));
        if listed && !bad {
            return Err(format!("S1: remove {} while nginx lists it", target.name));
        }
        if matches!(nginx.processes, Fact::Unreadable(_)) {
            return Err(format!("S6: remove {} with nginx unread", target.name));
        }
    }
    Ok(())
}

/// S1 and S2: only good backends, and never fewer good ones than before (or than wanted).
fn traffic_is_safe(
    step: &TrafficStep,
    service: Option<&Service>,
    snapshot: &Snapshot,
    replicas: &[Replica],
) -> Result<(), String> {
    let Some(service) = service else {
        return if step.servers.is_empty() { Ok(()) } else { Err("S5: a removal that adds backends".to_owned()) };
    };
    let listed: &[String] = match snapshot.nginx.as_ref().map(|it| &it.file) {
        Some(Fact::Seen(file)) => &file.servers,
        Some(Fact::Absent) => &[],
        Some(Fact::Unreadable(why)) => return Err(format!("S6: write an unreadable servers file: {why}")),
        None => return Err("S6: write a servers file nobody looked at".to_owned()),
    };
    let wanted: Vec<String> = step.servers.iter().map(ToString::to_string).collect();
    let by_address = |text: &String| replicas.iter().find(|it| address(it).as_ref() == Some(text));
    let good = |text: &String| {
        by_address(text).is_some_and(|it| it.state == ReplicaState::Running && matches!(it.health, Health::Healthy(_)))
    };
    for text in &wanted {
        let known = by_address(text).ok_or_else(|| format!("S3: backend {text} is none of ours"))?;
        if !is_up(known) {
            return Err(format!("S2: backend {text} is not up"));
        }
        if !listed.contains(text) && !good(text) {
            return Err(format!("S2: backend {text} was never seen healthy"));
        }
    }
    let before = listed.iter().filter(|text| good(text)).count();
    let after = wanted.iter().filter(|text| good(text)).count();
    let floor = before.min(service.replicas as usize);
    if after < floor && service.rollout.order == Order::StartFirst && service.replicas > 0 {
        return Err(format!("S1: {after} healthy backends in place of {before}"));
    }
    Ok(())
}

/// Memory before the step it describes: a rollout before its containers, a switch before its file.
fn remembered_first(steps: &[&Step], memory: &Memory) -> Result<(), String> {
    let mut known: BTreeSet<String> = [&memory.committed, &memory.previous]
        .into_iter()
        .flatten()
        .map(|it| it.release.hash().to_string())
        .chain(memory.attempt.iter().map(|it| it.release.hash().to_string()))
        .chain(memory.pin.iter().map(|it| it.to.hash().to_string()))
        .collect();
    let mut open = memory.switch.as_ref().map(|it| it.sha256.clone());
    for step in steps {
        match step {
            Step::Remember(MemoryChange::Attempt(attempt)) => {
                known.insert(attempt.release.hash().to_string());
            }
            Step::Remember(MemoryChange::OpenSwitch(switch)) => open = Some(switch.sha256.clone()),
            Step::Platform(PlatformStep::Run(run)) if !known.contains(run.hash.as_str()) => {
                return Err(format!("memory: {} runs before its rollout is remembered", run.name));
            }
            Step::Traffic(step) => {
                let sha256 = crate::model::hash::sha256_hex(TrafficStep::render(&step.service, &step.servers));
                if open.as_ref() != Some(&sha256) {
                    return Err("memory: the servers file is written before the switch is remembered".to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The desired state is changed alone and last, only as it is written now, and only to a tag that is known and good.
fn source_is_led_well(
    plan: &Plan,
    service: Option<&Service>,
    snapshot: &Snapshot,
    memory: &Memory,
) -> Result<(), String> {
    let is_source = |step: &&super::step::PlannedStep| matches!(step.step, Step::Source(_));
    for (number, stage) in plan.stages.iter().enumerate() {
        let Some(Step::Source(step)) = stage.iter().find(is_source).map(|it| &it.step) else { continue };
        let Some(service) = service else { return Err("source: a tag of a service that left the file".to_owned()) };
        if stage.len() != 1 || number + 1 != plan.stages.len() {
            return Err("source: a commit that is not alone and last".to_owned());
        }
        if step.service != service.name || step.from != service.tag || step.to == step.from {
            return Err(format!("source: {step} is not from what the file says to something else"));
        }
        if memory.paused.is_some() || memory.pin.is_some() || snapshot.source_closed.is_some() {
            return Err(format!("source: {step} while paused, pinned or closed"));
        }
        let listed = snapshot.tags.iter().filter_map(Fact::seen).flatten().any(|it| it.tag == step.to.tag);
        let mut served = [&memory.committed, &memory.previous].into_iter().flatten().map(|it| &it.release);
        let known = match &step.to.digest {
            None => listed || served.any(|it| it.tag == step.to.tag),
            Some(digest) => served.any(|it| it.tag == step.to.tag && it.digest == *digest),
        };
        if !known {
            return Err(format!("source: {} was never seen", step.to));
        }
        let tag = step.to.tag.as_str();
        let failed = memory.reverted.contains_key(tag) || memory.quarantined.values().any(|it| it.tag == tag);
        if failed && step.to.digest.is_none() {
            return Err(format!("source: {tag} failed here"));
        }
    }
    Ok(())
}
