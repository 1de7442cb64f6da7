//! The weights of the listener rule: as wanted, as told, as seen.

use std::collections::BTreeMap;

use crate::model::colour::Group;
use crate::model::desired::DriftField;
use crate::model::ecs::seen::AlbSeen;
use crate::model::hash::sha256_hex;
use crate::model::memory::{Confirmed, MemoryChange, Switch};
use crate::model::snapshot::Fact;
use crate::plan::drift;
use crate::plan::hold::Hold;
use crate::plan::rollout::TrafficTarget;
use crate::plan::step::ecs::shares;
use crate::plan::step::{AlbStep, PlannedStep, Step};

use super::{Facts, Lowered};

/// Weights as shares of a hundred: 1 and 0 is 100 and 0.
pub fn percent(weights: &BTreeMap<Group, u16>) -> BTreeMap<Group, u16> {
    let total: u32 = weights.values().map(|weight| u32::from(*weight)).sum();
    let share = |weight: u16| match total {
        0 => 0,
        total => u16::try_from((u32::from(weight) * 100 + total / 2) / total).unwrap_or(100),
    };
    weights.iter().map(|(group, weight)| (*group, share(*weight))).collect()
}

/// The group that gets everything.
pub fn only(percent: &BTreeMap<Group, u16>) -> Option<Group> {
    let mut some = percent.iter().filter(|(_, weight)| **weight > 0);
    match (some.next(), some.next()) {
        (Some((group, _)), None) => Some(*group),
        _ => None,
    }
}

/// The digest a switch to these weights is remembered by.
pub fn digest(percent: &BTreeMap<Group, u16>) -> String {
    sha256_hex(shares(percent))
}

/// Everything to `group`.
pub fn all_to(facts: &Facts<'_>, group: Group) -> BTreeMap<Group, u16> {
    facts.ecs.services.keys().map(|other| (*other, if *other == group { 100 } else { 0 })).collect()
}

/// Whether the weights are those of a confirmed switch of everything.
pub fn confirmed(facts: &Facts<'_>, percent: &BTreeMap<Group, u16>) -> bool {
    facts.memory.switch.as_ref().is_some_and(|switch| {
        switch.confirmed.is_some() && switch.sha256 == digest(percent) && only(percent) == Some(switch.to)
    })
}

/// A group gets more requests only when it has as many healthy targets as the file asks for, or as those it takes them
/// from.
fn unsafe_to_grow(
    facts: &Facts<'_>,
    alb: &AlbSeen,
    seen: &BTreeMap<Group, u16>,
    wanted: &BTreeMap<Group, u16>,
) -> Option<Hold> {
    let share = |of: &BTreeMap<Group, u16>, group: &Group| of.get(group).copied().unwrap_or(0);
    let healthy = |group: &Group| alb.targets.get(group).and_then(Fact::seen).map_or(0, |it| it.healthy);
    for group in wanted.keys().filter(|group| share(wanted, group) > share(seen, group)) {
        // At zero replicas no target is asked for, and the service is created first all the same.
        if facts.of(*group).is_none() {
            return Some(Hold::Failing { group: *group, why: "its service does not exist yet".to_owned() });
        }
        let why = match alb.targets.get(group) {
            Some(Fact::Seen(_)) => None,
            Some(Fact::Unreadable(why)) => Some(why.clone()),
            Some(Fact::Absent) => Some("its target group does not exist".to_owned()),
            None => Some("nobody asked".to_owned()),
        };
        if let Some(why) = why {
            return Some(Hold::EcsUnreadable { what: format!("the targets of {group}"), why });
        }
        let others: u32 =
            seen.iter().filter(|(it, weight)| *it != group && **weight > 0).map(|(it, _)| healthy(it)).sum();
        let floor = facts.service.replicas.min(others.max(1));
        if healthy(group) < floor {
            let why = format!("{} of {floor} targets are healthy, so it gets no more requests", healthy(group));
            return Some(Hold::Failing { group: *group, why });
        }
    }
    None
}

/// Compares what is wanted with what the rule says.
pub fn lower(facts: &Facts<'_>, alb: &AlbSeen, target: TrafficTarget, out: &mut Lowered) {
    let (Some(traffic), Fact::Seen(seen)) = (&facts.service.alb, &alb.weights) else { return };
    let (to, wanted) = match target {
        TrafficTarget::Unmanaged | TrafficTarget::Keep => return,
        TrafficTarget::To(group) => (group, all_to(facts, group)),
        TrafficTarget::Split { to, weight } => {
            let Some(serving) = facts.serving else { return };
            let mut weights = all_to(facts, serving);
            weights.insert(to, weight);
            weights.insert(serving, 100 - weight);
            (serving, weights)
        }
    };
    let seen = percent(seen);
    let sha256 = digest(&wanted);
    let switch = facts.memory.switch.as_ref();
    let known = switch.is_some_and(|it| it.sha256 == sha256 && it.to == to);
    let remember = |change, because: &str| PlannedStep { step: Step::Remember(change), because: because.to_owned() };
    let open = || {
        let from = switch.map(|old| if old.to == to { old.from.unwrap_or(to) } else { old.to });
        let open = Switch { to, from, sha256: sha256.clone(), opened_at: facts.now, confirmed: None };
        MemoryChange::OpenSwitch(Box::new(open))
    };
    if seen == wanted {
        if !known {
            out.seen.push(remember(open(), "the rule already says so"));
        }
        if !known || switch.is_some_and(|it| it.confirmed.is_none()) {
            let confirmed = Confirmed { at: facts.now, workers: Vec::new() };
            out.seen.push(remember(MemoryChange::ConfirmSwitch(confirmed), "the rule was read back"));
        }
        return;
    }
    if let Some(hold) = unsafe_to_grow(facts, alb, &seen, &wanted) {
        out.holds.push(hold);
        return;
    }
    let edited = known && switch.is_some_and(|it| it.confirmed.is_some() && it.sha256 != digest(&seen));
    let because = if edited {
        format!("the listener rule was edited: {}", shares(&seen))
    } else {
        cause(facts, target, to, known)
    };
    if edited {
        match drift::repair(facts.service, facts.memory, DriftField::Traffic, &because, facts.now) {
            Ok(()) => out.remember.push(remember(MemoryChange::Repair(DriftField::Traffic, facts.now), &because)),
            Err(hold) => return out.holds.extend(hold),
        }
    }
    if !known || switch.is_some_and(|it| it.confirmed.is_some()) {
        out.remember.push(remember(open(), &because));
    }
    let step = AlbStep {
        realm: facts.realm(),
        service: facts.service.name.clone(),
        traffic: traffic.clone(),
        weights: wanted,
    };
    out.act.push(PlannedStep { step: Step::Alb(step), because });
}

/// Why the weights change when nobody but us changed them.
fn cause(facts: &Facts<'_>, target: TrafficTarget, to: Group, known: bool) -> String {
    match target {
        TrafficTarget::Split { to, weight } => format!("{to} is ready for {weight} %"),
        _ if known => "the rule does not say so yet".to_owned(),
        _ if facts.memory.switch.as_ref().is_some_and(|it| it.to == to) => format!("everything goes to {to} again"),
        _ => format!("{to} is ready"),
    }
}
