//! One turn of one service: observe, plan, verify, perform, settle.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::core::{Blocked, Core, Order, Wanted};
use super::observe::{self, Look, observe};
use super::perform::{Performed, Performer};
use super::queue::Slot;
use super::settle::{self, Ending, Outcome};
use crate::model::memory::{Memory, MemoryChange};
use crate::model::names::ServiceName;
use crate::model::snapshot::Snapshot;
use crate::plan::Plan;
use crate::plan::hold::Hold;
use crate::plan::step::{PlannedStep, Step};
use crate::ports::StepError;

/// Takes one turn; returns when the service wants the next one.
pub(super) async fn turn(core: Arc<Core>, name: ServiceName, slot: Slot, stopping: CancellationToken) -> Option<Slot> {
    let order = core.order(&name)?;
    let started = Instant::now();
    tracing::trace!("{name}  turn: {}", slot.why);
    if let Err(error) = withdraw_removal(&core, &name, &order).await {
        return Some(settle::failed_look(&core, &name, "remember that it is back in the file", &error.why));
    }
    let unreadable = core.memory.unreadable(&name).await;
    let memory = core.memory.of(&name);
    let snapshot = tokio::select! {
        () = stopping.cancelled() => return None,
        snapshot = look(&core, &name, &order, &memory, slot.fresh) => snapshot,
    };
    let (mut plan, mut ending) = match unreadable {
        Some(why) => (Plan::waiting(vec![Hold::MemoryUnreadable { why }]), Ending::Quiet),
        None => decide(&core, &name, &order, &snapshot, &memory),
    };
    settle::begin(&core, &name, &plan);
    if !plan.stages.is_empty() {
        let stages = std::mem::take(&mut plan.stages);
        let performer = Performer { core: &core, name: &name, order: &order, snapshot: &snapshot, stopping: &stopping };
        ending = Ending::from(performer.perform(stages).await);
    }
    core.metrics.turn(&ending, started.elapsed());
    let outcome = Outcome { order, snapshot, plan, ending };
    let next = settle::settle(&core, &name, &outcome);
    watch_as_settled(&core, &name, &outcome);
    Some(next)
}

/// A service that came back loses the approval of its removal, or it would be removed unasked when it leaves again.
async fn withdraw_removal(core: &Core, name: &ServiceName, order: &Order) -> Result<(), StepError> {
    if core.memory.of(name).removal_approved && order.wanted.service().is_some() && !core.options.detect {
        let change = MemoryChange::WithdrawRemoval;
        core.memory.remember(name, &change).await.map_err(StepError::transient)?;
    }
    Ok(())
}

async fn look(core: &Core, name: &ServiceName, order: &Order, memory: &Memory, fresh: bool) -> Snapshot {
    let settled = core.state().services.get(name).is_some_and(|entry| entry.settled);
    // A little less than `resync`: the look of one sweep must not find the answer of the one before it good enough.
    let max_age = if fresh { Duration::ZERO } else { core.options.resync.mul_f64(0.9) };
    observe(&core.edges, Look { name, service: order.wanted.service(), memory, max_age, settled }).await
}

/// Plans and verifies; the plan keeps only the steps that may be taken now.
fn decide(core: &Core, name: &ServiceName, order: &Order, snapshot: &Snapshot, memory: &Memory) -> (Plan, Ending) {
    let (planner, now) = (core.options.planner, core.now());
    let acknowledged = match &order.wanted {
        Wanted::Service(_) => false,
        Wanted::Removal { acknowledged } => *acknowledged || memory.removal_approved,
    };
    let mut plan = match &order.wanted {
        Wanted::Service(service) => (planner.plan)(service, snapshot, memory, &order.revision, now),
        Wanted::Removal { .. } => (planner.plan_removal)(name, snapshot, memory, acknowledged, now),
    };
    if let Err(invariant) = (planner.verify)(&plan, order.wanted.service(), snapshot, memory, acknowledged) {
        plan.stages.clear();
        plan.holds.push(Hold::PlanRefused { invariant });
        return (plan, Ending::Quiet);
    }
    if core.options.detect && !plan.stages.is_empty() {
        let steps = u32::try_from(plan.steps().count()).unwrap_or(u32::MAX);
        plan.stages.clear();
        plan.holds.push(Hold::DetectOnly { steps });
        return (plan, Ending::Quiet);
    }
    let blocked = core.state().services.get(name).and_then(|entry| entry.blocked.clone());
    if let Some(blocked) = blocked.filter(|blocked| Instant::now() < blocked.until) {
        hold_back(&mut plan, &blocked);
    }
    (plan, Ending::Quiet)
}

/// Leaves out the step that failed before and whatever follows it: what wakes a service is no reason to retry early.
fn hold_back(plan: &mut Plan, blocked: &Blocked) {
    let is_it = |planned: &PlannedStep| planned.step.to_string() == blocked.step;
    let Some(at) = plan.stages.iter().position(|stage| stage.iter().any(is_it)) else { return };
    // The service itself does not wait for the desired state to be written.
    let aside = plan.stages[at].iter().all(|planned| matches!(planned.step, Step::Source(_)));
    plan.stages.truncate(at + 1);
    plan.stages[at].retain(|planned| !is_it(planned));
    plan.stages.retain(|stage| !stage.is_empty());
    if !aside && plan.steps().all(|planned| matches!(planned.step, Step::Remember(_))) {
        plan.stages.clear();
    }
    plan.holds.push(blocked.hold.clone());
}

impl From<Performed> for Ending {
    fn from(performed: Performed) -> Self {
        match performed {
            Performed::Done { changed: true, world } => Self::Changed { world },
            Performed::Done { changed: false, .. } => Self::AlreadySo,
            Performed::Superseded => Self::Superseded,
            Performed::Failed { step, aside, error } => Self::Failed { step, aside, error },
        }
    }
}

/// A service that just became settled is probed less often from now on, and more often when it no longer is.
fn watch_as_settled(core: &Core, name: &ServiceName, outcome: &Outcome) {
    let settled = core.state().services.get(name).is_some_and(|entry| entry.settled);
    if let (true, Some(replicas)) = (settled, outcome.snapshot.platform.replicas.seen()) {
        core.edges.probe.watch(name, observe::targets(outcome.order.wanted.service(), true, replicas));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::image::{Tag, TagSpec};
    use crate::model::memory::MemoryChange as Change;
    use crate::plan::step::{RegistryStep, SourceStep};

    fn planned(step: Step) -> Vec<PlannedStep> {
        vec![PlannedStep { step, because: "of it".into() }]
    }

    fn held_back(last: Step) -> Plan {
        let hold = Hold::StepFailed { step: last.to_string(), why: "no".into(), until: jiff::Timestamp::UNIX_EPOCH };
        let blocked = Blocked { step: last.to_string(), hold, until: Instant::now() };
        let stages = vec![planned(Step::Remember(Change::EndAttempt)), planned(last)];
        let mut plan = Plan { stages, ..Plan::default() };
        hold_back(&mut plan, &blocked);
        assert_eq!(plan.holds.len(), 1);
        plan
    }

    #[test]
    fn what_is_remembered_for_a_step_waits_with_it_and_never_for_a_commit() {
        let service = ServiceName::new("api").unwrap();
        let tag = |text: &str| TagSpec { tag: Tag::new(text).unwrap(), digest: None };
        let (from, to, why) = (tag("1"), tag("2"), String::new());
        let commit = Step::Source(SourceStep { service: service.clone(), from, to, why });
        assert_eq!(held_back(commit).stages, [planned(Step::Remember(Change::EndAttempt))]);
        let repository = crate::model::image::Repository::new("app").unwrap();
        let delete = RegistryStep::DeleteImages { account: None, service, repository, digests: Vec::new() };
        assert_eq!(held_back(Step::Registry(delete)).stages, [] as [Vec<PlannedStep>; 0]);
    }
}
