//! The group that gets the requests: lost replicas replaced, one replacement at a time, never fewer good ones than there were.

use std::collections::BTreeSet;

use super::acts::{run, unpause, update};
use super::removal::{Place, remove};
use super::{Facts, Lowered, await_health, count, is_healthy, members};
use crate::model::colour::Group;
use crate::model::desired::{DriftField, Order};
use crate::model::memory::MemoryChange;
use crate::model::release::Release;
use crate::plan::drift;
use crate::plan::group::{Class, Member, backend, live_is_applied};
use crate::plan::hold::Hold;
use crate::plan::step::{PlannedStep, Step};
use crate::plan::traffic;

/// Keeps `group`, which gets the requests, at `wanted` replicas of `release`, one replacement at a time.
pub fn serve(facts: &Facts<'_>, group: Group, release: &Release, wanted: u32, out: &mut Lowered) {
    let members = members(facts, group, release);
    let hash = release.hash();
    let is_edit = facts.memory.committed.as_ref().is_none_or(|it| it.release.hash() != hash);
    unpause(facts, &members, out);
    update(facts, &members, out);
    let up: Vec<&Member<'_>> = members.iter().filter(|it| it.class.is_up()).collect();
    let lost: Vec<&Member<'_>> = members.iter().filter(|it| !it.class.is_up()).collect();
    let missing = wanted.saturating_sub(count(up.len()));
    if missing > 0 {
        replace_lost(facts, group, release, missing, &up, &lost, is_edit, out);
    } else {
        // What is dead can wait while something is on its way: a removal would only delay the look that sees it ready.
        let converging = up.iter().any(|it| matches!(it.class, Class::Converging(_)));
        for it in lost.iter().filter(|_| !converging) {
            let Class::Lost(why) = &it.class else { continue };
            remove(facts, it.replica, why, out, Place::Late);
        }
        replace_one(facts, group, release, wanted, &up, out);
    }
    await_health(facts, group, &members, wanted, out);
}

#[expect(clippy::too_many_arguments, reason = "one situation, read once")]
fn replace_lost(
    facts: &Facts<'_>,
    group: Group,
    release: &Release,
    missing: u32,
    up: &[&Member<'_>],
    lost: &[&Member<'_>],
    is_edit: bool,
    out: &mut Lowered,
) {
    if !is_edit && let Some(until) = drift::loss_wait(facts.memory, facts.now) {
        out.holds.push(Hold::LossBackoff { missing, until });
        return;
    }
    let mut taken: BTreeSet<u32> = up.iter().map(|it| it.replica.slot).collect();
    let slots = facts.service.replicas + 1;
    let mut free = slots.saturating_sub(count(taken.len() + lost.len()));
    let mut because = facts.because.to_owned();
    for it in lost {
        let Class::Lost(why) = &it.class else { continue };
        because = format!("{}: {why}", it.replica.name);
        if free < missing && remove(facts, it.replica, why, out, Place::Early) {
            free += 1;
        } else {
            taken.insert(it.replica.slot);
        }
    }
    if !is_edit && lost.is_empty() && facts.memory.committed.is_some() {
        because = format!("{missing} of {} replicas are missing", facts.service.replicas);
    }
    let before = out.act.len();
    run(facts, group, release, missing, &taken, &because, out);
    if !is_edit && out.act.len() > before {
        out.remember.push(PlannedStep { step: Step::Remember(MemoryChange::Loss(facts.now)), because });
    }
}

/// Replaces one replica that is outdated or failing, or takes away one too many.
fn replace_one(facts: &Facts<'_>, group: Group, release: &Release, wanted: u32, up: &[&Member<'_>], out: &mut Lowered) {
    let listed = |it: &Member<'_>| {
        facts.snapshot.nginx.as_ref().is_some_and(|seen| backend(it.replica).is_some_and(|at| traffic::lists(seen, at)))
    };
    let mut bad: Vec<(&Member<'_>, String)> = Vec::new();
    for it in up {
        match &it.class {
            Class::Failing(why) => bad.push((it, format!("{} is unhealthy: {why}", it.replica.name))),
            Class::Outdated(why, field) => match allowed(facts, *field, &format!("{}: {why}", it.replica.name)) {
                Ok(()) if field.is_none() => bad.push((it, facts.because.to_owned())),
                Ok(()) => bad.push((it, format!("{}: {why}", it.replica.name))),
                Err(hold) => out.holds.extend(hold),
            },
            _ => {}
        }
    }
    let surplus = count(up.len()).saturating_sub(wanted);
    if surplus > 0 {
        take_away(facts, surplus, up, &bad, &listed, out);
        return;
    }
    let Some((first, because)) = bad.first() else { return };
    let converging = up.iter().any(|it| matches!(it.class, Class::Converging(_)));
    if converging {
        return;
    }
    let unhealthy = matches!(first.class, Class::Failing(_));
    if unhealthy && let Some(until) = drift::loss_wait(facts.memory, facts.now) {
        out.holds.push(Hold::LossBackoff { missing: 1, until });
        return;
    }
    let stop_first = facts.service.rollout.order == Order::StopFirst;
    let spare =
        release.port.is_none() || facts.snapshot.platform.free_ports.get(&group).is_some_and(|it| !it.is_empty());
    if stop_first || (unhealthy && !spare) {
        let free = Facts { may_interrupt: true, ..*facts };
        out.leaving.insert(first.replica.name.clone());
        remove(&free, first.replica, because, out, Place::Late);
        return;
    }
    let taken: BTreeSet<u32> = facts.replicas.iter().filter(|it| it.group == group).map(|it| it.slot).collect();
    let before = out.act.len();
    run(facts, group, release, 1, &taken, because, out);
    if out.act.len() > before {
        if unhealthy {
            let loss = Step::Remember(MemoryChange::Loss(facts.now));
            out.remember.push(PlannedStep { step: loss, because: because.clone() });
        }
        if let Class::Outdated(_, Some(field)) = &first.class {
            let repair = Step::Remember(MemoryChange::Repair(*field, facts.now));
            out.remember.push(PlannedStep { step: repair, because: because.clone() });
        }
    }
}

fn allowed(facts: &Facts<'_>, field: Option<DriftField>, what: &str) -> Result<(), Option<Hold>> {
    let Some(field) = field else { return Ok(()) };
    if field == DriftField::Resources && !live_is_applied(facts.service, facts.memory) {
        return Ok(());
    }
    drift::repair(facts.service, facts.memory, field, what, facts.now)
}

/// More are up than wanted: bad ones go first, then those without requests, then the highest slots. A good one goes
/// only when as many good ones as wanted stay.
fn take_away(
    facts: &Facts<'_>,
    surplus: u32,
    up: &[&Member<'_>],
    bad: &[(&Member<'_>, String)],
    listed: &dyn Fn(&Member<'_>) -> bool,
    out: &mut Lowered,
) {
    let good = count(up.iter().filter(|it| is_healthy(it.replica)).count());
    let wanted = count(up.len()) - surplus;
    let mut order: Vec<(&Member<'_>, String)> =
        up.iter().map(|it| (*it, "fewer replicas are wanted".to_owned())).collect();
    for (it, why) in &mut order {
        if let Some((_, because)) = bad.iter().find(|(bad, _)| bad.replica.id == it.replica.id) {
            why.clone_from(because);
        }
    }
    let is_bad = |it: &Member<'_>| bad.iter().any(|(bad, _)| bad.replica.id == it.replica.id);
    order.sort_by_key(|(it, _)| (!is_bad(it), is_healthy(it.replica), listed(it), std::cmp::Reverse(it.replica.slot)));
    let mut good_left = good;
    for (it, because) in order.into_iter().take(surplus as usize) {
        let counts = is_healthy(it.replica);
        let needed = counts && good_left <= wanted;
        if needed && facts.service.replicas > 0 {
            continue;
        }
        good_left = good_left.saturating_sub(u32::from(counts));
        out.leaving.insert(it.replica.name.clone());
        remove(facts, it.replica, &because, out, Place::Late);
    }
}
