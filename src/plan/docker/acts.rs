//! What is done to containers that stay, and the running of new ones.

use std::collections::BTreeSet;

use super::removal::target;
use super::{Facts, Lowered, count};
use crate::model::colour::Group;
use crate::model::desired::{DriftField, Pull};
use crate::model::memory::MemoryChange;
use crate::model::names::container_name;
use crate::model::release::Release;
use crate::plan::drift;
use crate::plan::group::{Class, Member, live_is_applied, wanted_live};
use crate::plan::hold::Hold;
use crate::plan::step::{PlannedStep, PlatformStep, RunContainer, Step};

pub(super) fn unpause(facts: &Facts<'_>, members: &[Member<'_>], out: &mut Lowered) {
    for it in members.iter().filter(|it| it.class == Class::Paused) {
        let step = PlatformStep::Unpause { target: target(facts, it.replica) };
        out.act.push(PlannedStep { step: Step::Platform(step), because: "somebody paused it".to_owned() });
    }
}

/// Live fields, in place: an edit of the file, or drift put back.
pub(super) fn update(facts: &Facts<'_>, members: &[Member<'_>], out: &mut Lowered) {
    let live = wanted_live(facts.service);
    let edit = !live_is_applied(facts.service, facts.memory);
    let mut noted = BTreeSet::new();
    for it in members.iter().filter(|it| matches!(it.class, Class::Healthy | Class::Converging(_) | Class::Paused)) {
        let differs = [
            (DriftField::Restart, it.replica.restart != live.restart, format!("restart is {}", it.replica.restart)),
            (
                DriftField::Resources,
                it.replica.resources != live.resources,
                format!("it has {}", crate::plan::step::show_resources(it.replica.resources)),
            ),
        ];
        let mut because = Vec::new();
        for (field, _, what) in differs.into_iter().filter(|(_, differs, _)| *differs) {
            if edit {
                because.push(format!("the file changed: {what}"));
                continue;
            }
            match drift::repair(facts.service, facts.memory, field, &format!("{}: {what}", it.replica.name), facts.now)
            {
                Ok(()) => {
                    because.push(format!("{field} drifted: {what}"));
                    noted.insert(field);
                }
                Err(hold) => out.holds.extend(hold),
            }
        }
        if because.is_empty() {
            continue;
        }
        let step = PlatformStep::Update {
            target: target(facts, it.replica),
            restart: live.restart,
            resources: live.resources,
        };
        out.act.push(PlannedStep { step: Step::Platform(step), because: because.join(", ") });
    }
    for field in noted {
        let step = Step::Remember(MemoryChange::Repair(field, facts.now));
        out.remember.push(PlannedStep { step, because: format!("{field} drifted") });
    }
}

/// Runs `missing` new replicas in the lowest free slots, on the ports leased for this plan.
pub(super) fn run(
    facts: &Facts<'_>,
    group: Group,
    release: &Release,
    missing: u32,
    taken: &BTreeSet<u32>,
    because: &str,
    out: &mut Lowered,
) {
    if missing == 0 {
        return;
    }
    let platform = &facts.snapshot.platform;
    let blocked = |slot: u32| {
        let name = container_name(&facts.service.name, group, slot);
        platform.strangers.iter().any(|it| it.blocks && it.name == name)
    };
    let last = facts.service.replicas + 1 + count(platform.strangers.len());
    let slots = (1..=last).filter(|slot| !taken.contains(slot) && !blocked(*slot));
    let used: BTreeSet<u16> = out.act.iter().filter_map(planned_port).collect();
    let no_ports = Vec::new();
    let free = platform.free_ports.get(&group).unwrap_or(&no_ports);
    let mut ports = free.iter().copied().filter(|port| !used.contains(port));
    for slot in slots.take(missing as usize) {
        let host_port = match release.port {
            None => None,
            Some(_) => {
                let Some(port) = ports.next() else {
                    let range = facts.service.docker.publish.of(group);
                    let range =
                        range.map_or_else(|| "`ports` of holdfast.yaml".to_owned(), |it| format!("publish {it}"));
                    let why = format!("every port of {range} is taken");
                    out.holds.push(Hold::NoSparePort { group, why });
                    return;
                };
                Some(port)
            }
        };
        out.act.push(PlannedStep {
            step: Step::Platform(PlatformStep::Run(Box::new(RunContainer {
                service: facts.service.name.clone(),
                name: container_name(&facts.service.name, group, slot),
                group,
                slot,
                release: release.clone(),
                hash: release.hash(),
                host_port,
                restart: facts.service.docker.restart,
                resources: facts.service.docker.resources,
            }))),
            because: because.to_owned(),
        });
    }
    if release.pull == Pull::Always && out.pull.is_empty() && !platform.local_images.contains(&release.digest) {
        let step = PlatformStep::Pull {
            service: facts.service.name.clone(),
            repository: release.repository.clone(),
            digest: release.digest.clone(),
        };
        out.pull.push(PlannedStep { step: Step::Platform(step), because: because.to_owned() });
    }
}

fn planned_port(planned: &PlannedStep) -> Option<u16> {
    match &planned.step {
        Step::Platform(PlatformStep::Run(run)) => run.host_port,
        _ => None,
    }
}
