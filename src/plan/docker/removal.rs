//! Taking a container away: only what no request reaches.

use super::{Facts, Lowered};
use crate::model::snapshot::{Fact, Replica, ReplicaState};
use crate::plan::group::backend;
use crate::plan::hold::Hold;
use crate::plan::step::{PlannedStep, PlatformStep, Step, Target};
use crate::plan::traffic;

/// When in the turn a removal happens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Before anything is started: its name or port is needed.
    Early,
    /// After the rest.
    Late,
}

/// Plans a removal if no request reaches the replica; says why not otherwise.
pub(super) fn remove(facts: &Facts<'_>, replica: &Replica, because: &str, out: &mut Lowered, place: Place) -> bool {
    if replica.state == ReplicaState::Removing {
        return true;
    }
    let up = !matches!(replica.state, ReplicaState::Created | ReplicaState::Exited(_) | ReplicaState::Dead);
    if up && !facts.may_interrupt {
        match unreached(facts, replica) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(hold) => {
                if !out.holds.contains(&hold) {
                    out.holds.push(hold);
                }
                return false;
            }
        }
    }
    let step = PlatformStep::Remove {
        target: target(facts, replica),
        stop_timeout: u32::try_from(facts.service.docker.stop_timeout.as_secs()).unwrap_or(u32::MAX),
        only_if_down: !up,
    };
    let planned = PlannedStep { step: Step::Platform(step), because: because.to_owned() };
    if place == Place::Early {
        out.clear.push(planned)
    } else {
        out.remove.push(planned)
    }
    true
}

/// Whether certainly no nginx worker sends requests to `replica`.
fn unreached(facts: &Facts<'_>, replica: &Replica) -> Result<bool, Hold> {
    let (Some(seen), Some(server)) = (&facts.snapshot.nginx, backend(replica)) else { return Ok(true) };
    if let Fact::Unreadable(why) = &seen.file {
        return Err(Hold::TrafficUnreadable { why: why.clone() });
    }
    if traffic::lists(seen, server) {
        return Ok(false);
    }
    match &seen.processes {
        Fact::Absent => Ok(true),
        Fact::Unreadable(why) => Err(Hold::TrafficUnreadable { why: why.clone() }),
        Fact::Seen(_) => {
            if matches!(seen.included, Fact::Seen(false)) {
                return Ok(true);
            }
            if !seen.loaded && !traffic::confirmed(seen, facts.memory) {
                return Ok(false);
            }
            match traffic::draining(seen, facts.service.rollout.drain, facts.memory, facts.now) {
                Some(hold) => Err(hold),
                None => Ok(true),
            }
        }
    }
}

pub(super) fn target(facts: &Facts<'_>, replica: &Replica) -> Target {
    Target { id: replica.id.clone(), name: replica.name.clone(), service: facts.service.name.clone() }
}
