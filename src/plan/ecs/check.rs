//! A plan for ECS, verified against the invariants by code that shares nothing with the code that made it.

use std::collections::BTreeSet;

use crate::model::colour::Group;
use crate::model::desired::Service;
use crate::model::ecs::seen::{EcsSeen, Owner, ServiceSeen};
use crate::model::memory::{Memory, MemoryChange};
use crate::model::snapshot::{Fact, Snapshot};
use crate::plan::Plan;
use crate::plan::step::ecs::{EcsTarget, Update};
use crate::plan::step::{AlbStep, EcsStep, RegistryStep, Step};

/// Verifies every step at AWS. `service` is none for a removal, which was acknowledged.
///
/// # Errors
/// The invariant it would break, and how.
pub fn verify(plan: &Plan, service: Option<&Service>, snapshot: &Snapshot, memory: &Memory) -> Result<(), String> {
    let Some(seen) = &snapshot.ecs else {
        let touches = plan.steps().any(|it| matches!(it.step, Step::Ecs(_) | Step::Alb(_)));
        return if touches { Err("S6: steps at AWS nobody looked at".to_owned()) } else { Ok(()) };
    };
    let mut known: BTreeSet<&str> = seen.registered.values().map(String::as_str).collect();
    known.extend(memory.registered.values().map(String::as_str));
    for it in plan.steps() {
        match &it.step {
            Step::Ecs(step) => ecs_step(step, service, seen, snapshot, memory, &known)?,
            Step::Alb(step) => weights(step, service, seen, snapshot)?,
            Step::Registry(RegistryStep::DeleteImages { digests, .. }) => {
                let Some(service) = service else { return Err("S5: images of a service that left".to_owned()) };
                let needed = super::clean::needed(service, snapshot, memory);
                if let Some(digest) = digests.iter().find(|it| needed.contains(it)) {
                    return Err(format!("retention: {} is still needed", digest.short()));
                }
            }
            Step::Remember(_) | Step::Platform(_) | Step::Traffic(_) | Step::Source(_) => {}
        }
    }
    remembered_first(plan, memory)
}

fn ecs_step(
    step: &EcsStep,
    service: Option<&Service>,
    seen: &EcsSeen,
    snapshot: &Snapshot,
    memory: &Memory,
    known: &BTreeSet<&str>,
) -> Result<(), String> {
    match step {
        EcsStep::Register { release, .. } => {
            let there = seen.registered.get(release).or_else(|| memory.registered.get(release));
            match there.filter(|arn| !seen.inactive.contains(*arn)) {
                Some(arn) => Err(format!("S7: {release} is registered already as {arn}")),
                None => Ok(()),
            }
        }
        EcsStep::RegisterAgain { .. } => Ok(()),
        EcsStep::Tag { target, arn, .. } => {
            let (_, at) = there(target, service, seen, memory)?;
            if at.arn == *arn { Ok(()) } else { Err(format!("S3: {arn} is not {target}")) }
        }
        EcsStep::Update(update) => {
            let (group, at) = there(&update.target, service, seen, memory)?;
            if update.task_definition.as_deref().is_some_and(|arn| !known.contains(arn) && at.task_definition != arn) {
                return Err(format!("memory: {} gets a task definition nobody remembers", update.target));
            }
            keeps_serving(update, group, at, service, snapshot)
        }
        EcsStep::Create { target, .. } => {
            let group = claimed(target, service, memory)?;
            match seen.services.get(&group) {
                Some(Fact::Absent) => Ok(()),
                Some(Fact::Seen(_)) => Err(format!("S7: {target} exists already")),
                Some(Fact::Unreadable(_)) | None => Err(format!("S6: create {target} without having seen it absent")),
            }
        }
        EcsStep::Delete { target } => {
            let (_, at) = there(target, service, seen, memory)?;
            match service {
                Some(_) => Err(format!("S5: delete {target}, which is in the file")),
                None if at.owner != Owner::Us => Err(format!("S3: delete {target}, which does not carry our mark")),
                None if at.desired > 0 || at.running > 0 => Err(format!("S1: delete {target}, which has tasks")),
                None => Ok(()),
            }
        }
    }
}

/// S3: the group of a target that the file (or, for a removal, the memory) claims by name.
fn claimed(target: &EcsTarget, service: Option<&Service>, memory: &Memory) -> Result<Group, String> {
    let place = match service {
        Some(service) => service.ecs.as_ref().map(crate::model::ecs::Ecs::place),
        None => memory.committed.as_ref().and_then(|it| it.place.clone()),
    };
    let group = place
        .filter(|place| place.cluster == target.cluster)
        .and_then(|place| place.services.iter().find(|(_, name)| **name == target.name).map(|(group, _)| *group));
    group.ok_or_else(|| format!("S3: {target} is not claimed"))
}

fn there<'a>(
    target: &EcsTarget,
    service: Option<&Service>,
    seen: &'a EcsSeen,
    memory: &Memory,
) -> Result<(Group, &'a ServiceSeen), String> {
    let group = claimed(target, service, memory)?;
    let at = match seen.services.get(&group) {
        Some(Fact::Seen(at)) => at,
        Some(Fact::Absent) => return Err(format!("S6: {target} does not exist")),
        Some(Fact::Unreadable(_)) | None => return Err(format!("S6: {target} was not read")),
    };
    match &at.owner {
        Owner::Another(owner) => Err(format!("S3: {target} belongs to {owner}")),
        Owner::Nobody if service.is_none() => Err(format!("S3: {target} does not carry our mark")),
        Owner::Nobody | Owner::Us => Ok((group, at)),
    }
}

/// S1: what gets requests never gets fewer tasks than the file asks for.
fn keeps_serving(
    update: &Update,
    group: Group,
    at: &ServiceSeen,
    service: Option<&Service>,
    snapshot: &Snapshot,
) -> Result<(), String> {
    let (Some(service), Some(desired)) = (service, update.desired) else { return Ok(()) };
    if service.ecs.as_ref().is_some_and(|ecs| ecs.external_replicas) {
        return Err(format!("replicas: external, and {} would be written", update.target));
    }
    let weight = match &service.alb {
        None => Some(1),
        Some(_) => snapshot.alb.as_ref().and_then(|alb| alb.weights.seen()).and_then(|it| it.get(&group).copied()),
    };
    let fewer = desired < at.desired && desired < service.replicas;
    match weight {
        Some(0) => Ok(()),
        Some(_) if fewer => Err(format!("S1: {} gets requests and would have {desired} tasks", update.target)),
        None if fewer => Err(format!("S6: {} would have fewer tasks while the weights are unread", update.target)),
        _ => Ok(()),
    }
}

/// S2 and S1: requests go only where as many targets are healthy as the file asks for, or no fewer than now.
fn weights(step: &AlbStep, service: Option<&Service>, seen: &EcsSeen, snapshot: &Snapshot) -> Result<(), String> {
    let Some(service) = service else { return Err("S5: weights of a service that left the file".to_owned()) };
    let Some(alb) = &snapshot.alb else { return Err("S6: weights nobody looked at".to_owned()) };
    if service.alb.as_ref() != Some(&step.traffic) {
        return Err("S3: a rule the file does not name".to_owned());
    }
    let Fact::Seen(now) = &alb.weights else { return Err("S6: the weights were not read".to_owned()) };
    if step.weights.values().map(|it| u32::from(*it)).sum::<u32>() != 100 {
        return Err("S1: the weights do not add up to everything".to_owned());
    }
    let healthy = |group: &Group| match alb.targets.get(group) {
        Some(Fact::Seen(targets)) => Ok(targets.healthy),
        _ => Err(format!("S6: the targets of {group} were not read")),
    };
    for (group, weight) in step.weights.iter().filter(|(_, weight)| **weight > 0) {
        let before = now.get(group).copied().unwrap_or(0);
        let grows = *weight > super::alb::percent(now).get(group).copied().unwrap_or(0);
        if before == 0 || grows {
            let others = now.iter().filter(|(other, weight)| *other != group && **weight > 0);
            let serving: u32 = others.map(|(other, _)| healthy(other).unwrap_or(0)).sum();
            let floor = service.replicas.min(serving.max(1));
            if healthy(group)? < floor {
                return Err(format!("S2: {group} has fewer than {floor} healthy targets"));
            }
            if !matches!(seen.services.get(group), Some(Fact::Seen(_))) {
                return Err(format!("S6: the service of {group} was not read"));
            }
        }
    }
    Ok(())
}

/// Memory before the step it describes: a rollout before its task definition is put in force, a switch before its weights.
fn remembered_first(plan: &Plan, memory: &Memory) -> Result<(), String> {
    let mut open = memory.switch.as_ref().map(|it| it.sha256.clone());
    let mut begun = memory.attempt.is_some() || memory.committed.is_some();
    for it in plan.steps() {
        match &it.step {
            Step::Remember(MemoryChange::OpenSwitch(switch)) => open = Some(switch.sha256.clone()),
            Step::Remember(MemoryChange::Attempt(_) | MemoryChange::Commit(_)) => begun = true,
            Step::Alb(step) if open.as_ref() != Some(&super::alb::digest(&step.weights)) => {
                return Err("memory: weights are written before the switch is remembered".to_owned());
            }
            Step::Ecs(EcsStep::Update(update)) if update.task_definition.is_some() && !begun => {
                return Err(format!("memory: {} is updated before its rollout is remembered", update.target));
            }
            _ => {}
        }
    }
    Ok(())
}
