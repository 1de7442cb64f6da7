//! Settle: what a turn came to, as status, events, backoff and the next look.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::core::{Blocked, Core, Entry, Order, Wanted};
use super::queue::Slot;
use super::view;
use crate::model::event::EventKind;
use crate::model::names::ServiceName;
use crate::model::snapshot::Snapshot;
use crate::model::status::{HoldStatus, Phase};
use crate::plan::Plan;
use crate::plan::hold::{Hold, after};
use crate::ports::{StepError, StepErrorKind};

/// Turns in a row that got nowhere before the next one has to wait: more is a world that changes faster than it is seen.
const IDLE_TURNS: u32 = 5;

/// How a turn ended.
pub(super) enum Ending {
    /// No step was to be taken.
    Quiet,
    /// Every step was taken and something changed.
    Changed {
        /// More than memory.
        world: bool,
    },
    /// Every step was taken and all of it was so already.
    AlreadySo,
    /// The wish changed on the way.
    Superseded,
    /// A step failed.
    Failed {
        /// Which.
        step: String,
        /// Whether it would have changed the desired state, and not the service.
        aside: bool,
        /// How.
        error: StepError,
    },
}

/// A whole turn.
pub(super) struct Outcome {
    pub(super) order: Order,
    pub(super) snapshot: Snapshot,
    /// Without its stages: they were taken or dropped.
    pub(super) plan: Plan,
    pub(super) ending: Ending,
}

/// Something to write down once no lock is held.
type Line = (EventKind, String, Option<String>);

/// Steps are about to be taken: status says so while they run.
pub(super) fn begin(core: &Core, name: &ServiceName, plan: &Plan) {
    if plan.stages.is_empty() {
        return;
    }
    let mut state = core.state();
    if let Some(status) = state.services.get_mut(name).and_then(|entry| entry.status.as_mut()) {
        if status.phase == Phase::Settled || status.phase == Phase::Unknown {
            status.phase = Phase::Progressing;
        }
        status.stage.clone_from(&plan.view.stage);
    }
    drop(state);
    core.changed();
}

/// Takes in a whole turn; returns when the next one is due.
pub(super) fn settle(core: &Core, name: &ServiceName, outcome: &Outcome) -> Slot {
    let (now, memory) = (core.now(), core.memory.of(name));
    let mut lines = Vec::new();
    let mut state = core.state();
    let Some(entry) = state.services.get_mut(name) else { return Slot::now("gone") };
    let wait = pace(entry, &outcome.ending, now);
    let mut holds = outcome.plan.holds.clone();
    if let (Ending::Failed { .. }, Some(blocked)) = (&outcome.ending, &entry.blocked) {
        holds.push(blocked.hold.clone());
    }
    let next = until_next(core.options.resync, &outcome.plan, &holds, now);
    let delay = match (wait, &outcome.ending) {
        // A commit that failed waits; what the service itself needs is not late for it.
        (Some(wait), Ending::Failed { aside: true, .. }) => wait.min(next),
        (Some(wait), _) => wait,
        (None, _) => next,
    };
    note_holds(entry, &holds, now, &mut lines);
    let settled = holds.iter().all(Hold::is_aside) && matches!(outcome.ending, Ending::Quiet);
    if settled && !entry.settled {
        lines.push(settled_line(&entry.wanted));
    }
    // A turn that moves on has not ended anything: only a rest or a standing obstacle takes the mark away.
    entry.settled = settled;
    entry.looked = true;
    entry.holds = holds;
    entry.wanted_release.clone_from(&outcome.plan.view.wanted);
    let mut status = view::status(&view::Seen {
        platform: core.platform_of(name, &entry.wanted),
        name,
        entry,
        outcome,
        memory: &memory,
        now,
    });
    status.next_look = Some(after(now, delay));
    let changed = entry.status.as_ref().is_none_or(|known| !view::same_to_people(known, &status));
    entry.status = Some(status);
    drop(state);
    for (kind, message, because) in lines {
        core.journal.note(Some(name), kind, message, because);
    }
    if changed {
        core.changed();
    }
    Slot { due: Instant::now() + delay, fresh: false, why: "timer".into() }
}

/// A turn that came to nothing because it panicked or could not even begin.
pub(super) fn failed_look(core: &Core, name: &ServiceName, what: &str, why: &str) -> Slot {
    let now = core.now();
    let mut state = core.state();
    let Some(entry) = state.services.get_mut(name) else { return Slot::now("gone") };
    let delay = entry.backoff.fail_transient();
    entry.failed_turns = entry.failed_turns.saturating_add(1);
    let hold = Hold::StepFailed { step: what.to_owned(), why: why.to_owned(), until: after(now, delay) };
    let mut lines = Vec::new();
    note_holds(entry, std::slice::from_ref(&hold), now, &mut lines);
    entry.holds = vec![hold];
    entry.settled = false;
    entry.looked = true;
    let mut status =
        entry.status.take().unwrap_or_else(|| view::unseen(core.platform_of(name, &entry.wanted), name, &entry.wanted));
    status.phase = Phase::Unknown;
    status.stage = format!("could not {what}");
    status.holds.clone_from(&entry.hold_status);
    status.next_look = Some(after(now, delay));
    entry.status = Some(status);
    drop(state);
    core.journal.note(Some(name), EventKind::StepFailed, format!("could not {what}: {why}"), None);
    core.changed();
    Slot { due: Instant::now() + delay, fresh: false, why: "timer".into() }
}

/// Counts failures; the delay of the next turn where the ending decides it.
fn pace(entry: &mut Entry, ending: &Ending, now: Timestamp) -> Option<Duration> {
    let retry_due = entry.blocked.as_ref().is_none_or(|blocked| blocked.until <= Instant::now());
    match ending {
        Ending::Quiet => {
            entry.idle_turns = 0;
            if retry_due {
                entry.unblock();
            }
            None
        }
        Ending::Changed { world } => {
            entry.idle_turns = 0;
            if retry_due && *world {
                entry.unblock();
            }
            Some(Duration::ZERO)
        }
        Ending::Superseded => Some(Duration::ZERO),
        Ending::AlreadySo => Some(idle(entry)),
        Ending::Failed { error: StepError { kind: StepErrorKind::Stale, .. }, .. } if entry.idle_turns < IDLE_TURNS => {
            Some(idle(entry))
        }
        Ending::Failed { step, error, .. } if error.kind == StepErrorKind::Throttled => {
            let delay = entry.backoff.fail_transient();
            let hold = Hold::Throttled { step: step.clone(), until: after(now, delay) };
            entry.blocked = Some(Blocked { step: step.clone(), hold, until: Instant::now() + delay });
            Some(delay)
        }
        Ending::Failed { step, error, .. } => {
            let delay = match error.kind {
                StepErrorKind::Refused => entry.backoff.fail_refused(),
                StepErrorKind::Stale | StepErrorKind::Transient | StepErrorKind::Throttled => {
                    entry.backoff.fail_transient()
                }
            };
            entry.failed_turns = entry.failed_turns.saturating_add(1);
            let hold = Hold::StepFailed { step: step.clone(), why: error.why.clone(), until: after(now, delay) };
            entry.blocked = Some(Blocked { step: step.clone(), hold, until: Instant::now() + delay });
            Some(delay)
        }
    }
}

/// A turn that got nowhere: a few at once, then with backoff.
fn idle(entry: &mut Entry) -> Duration {
    entry.idle_turns += 1;
    if entry.idle_turns <= IDLE_TURNS { Duration::ZERO } else { entry.backoff.fail_transient() }
}

/// The earliest of the plan's wish, the end of a hold and the sweep.
fn until_next(resync: Duration, plan: &Plan, holds: &[Hold], now: Timestamp) -> Duration {
    let ends = holds.iter().filter_map(Hold::until).chain(plan.next_look);
    // What lies in the past has been looked at just now; the sweep is next.
    let ahead = ends.filter(|at| *at > now).filter_map(|at| Duration::try_from(at.duration_since(now)).ok());
    ahead.chain([resync]).min().unwrap_or(resync)
}

/// Keeps `since` of every hold that stays, and says which began, changed or ended.
fn note_holds(entry: &mut Entry, holds: &[Hold], now: Timestamp, lines: &mut Vec<Line>) {
    let mut before: Vec<(Hold, HoldStatus)> = entry.holds.drain(..).zip(entry.hold_status.drain(..)).collect();
    let mut statuses = Vec::new();
    for hold in holds {
        let known = before.iter().position(|(known, _)| known.reason() == hold.reason()).map(|at| before.remove(at));
        let since = known.as_ref().map_or(now, |(_, status)| status.since);
        let same = known.as_ref().is_some_and(|(known, _)| material(known) == material(hold));
        // A failed step had its own line when it failed.
        if !same && !matches!(hold, Hold::StepFailed { .. }) {
            lines.push((EventKind::Hold, format!("{}: {hold}", hold.reason()), None));
        }
        statuses.push(HoldStatus { reason: hold.reason().to_owned(), message: hold.to_string(), since });
    }
    for (hold, _) in before {
        // The end of a wait that went well shows in what follows it.
        if !hold.is_progress() && !matches!(hold, Hold::StepFailed { .. }) {
            lines.push((EventKind::Released, format!("{} is over", hold.reason()), None));
        }
    }
    entry.hold_status = statuses;
}

/// What of a hold is worth a new line: everything but the moment it ends.
fn material(hold: &Hold) -> String {
    let text = hold.to_string();
    match hold.until() {
        Some(until) => text.replace(&format!("{until:.0}"), ""),
        None => text,
    }
}

fn settled_line(wanted: &Wanted) -> Line {
    let message = match wanted {
        Wanted::Service(service) => format!("settled: {} runs as the file says", service.tag.tag),
        Wanted::Removal { .. } => "removed: nothing of it is left".to_owned(),
    };
    (EventKind::Settled, message, None)
}
