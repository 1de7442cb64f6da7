//! What ECS does by itself, round by round: tasks start and stop, deployments end, the circuit breaker goes back.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Aws, Deployment, EcsService, Key};
use crate::model::ecs::seen::{RolloutState, StoppedTask};
use crate::plan::hold::after;

/// Stopped tasks ECS still tells of.
const TOLD: usize = 5;

/// What became of one round.
enum Round {
    Moves,
    Steady,
    GoesBack(String),
    Gone,
}

impl Aws {
    /// Lets time pass until `now`.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        while let Some((due, key)) = self.next().filter(|(due, _)| *due <= now) {
            self.now = self.now.max(due);
            self.round(&key);
        }
        self.now = self.now.max(now);
    }

    /// When something happens by itself next, and to which service.
    pub(crate) fn next(&self) -> Option<(Timestamp, Key)> {
        self.services.iter().filter_map(|(key, it)| Some((it.due?, key.clone()))).min()
    }

    fn round(&mut self, key: &Key) {
        let now = self.now;
        let Some(service) = self.services.get(key) else { return };
        let fails = self.fails(service.definition());
        let Some(service) = self.services.get_mut(key) else { return };
        match service.round(fails, now) {
            Round::Moves => service.due = Some(after(now, self.pace)),
            Round::Steady => service.due = None,
            Round::Gone => drop(self.services.remove(key)),
            Round::GoesBack(definition) => {
                let reason = "ECS deployment circuit breaker: rolling back".to_owned();
                self.begin(key, &definition, &reason);
            }
        }
    }

    /// A new primary deployment; what was under way goes on until its tasks are gone.
    pub(super) fn begin(&mut self, key: &Key, definition: &str, reason: &str) {
        let begun = self.deployment(definition, reason);
        let due = after(self.now, self.pace);
        if let Some(service) = self.services.get_mut(key) {
            service.deployments.insert(0, begun);
            service.due = Some(due);
        }
    }
}

impl EcsService {
    /// At least and at most so many tasks while a deployment is under way.
    fn limits(&self) -> (u32, u32) {
        let percent = |key: &str, default: u64| self.configuration.get(key).and_then(Value::as_u64).unwrap_or(default);
        let of = |percent: u64, up: u64| {
            u32::try_from((u64::from(self.desired) * percent + up) / 100).unwrap_or(self.desired)
        };
        (of(percent("minimumHealthyPercent", 100), 99), of(percent("maximumPercent", 200), 0))
    }

    fn round(&mut self, fails: Option<String>, now: Timestamp) -> Round {
        if self.draining {
            let gone = self.running() == 0;
            self.deployments.iter_mut().for_each(|it| it.running = 0);
            return if gone { Round::Gone } else { Round::Moves };
        }
        let (least, most) = self.limits();
        let (desired, breaker) = (self.desired, self.configuration["deploymentCircuitBreaker"].clone());
        let completed = self.completed.clone();
        let [primary, others @ ..] = self.deployments.as_mut_slice() else { return Round::Steady };
        if primary.rollout == RolloutState::Failed {
            let back = completed.filter(|it| breaker["rollback"] == json!(true) && *it != primary.definition);
            return back.map_or(Round::Steady, Round::GoesBack);
        }
        let before = (primary.running, others.iter().map(|it| it.running).sum::<u32>());
        stop(others, (before.0 + before.1).saturating_sub(least));
        let left: u32 = others.iter().map(|it| it.running).sum();
        let start = most.saturating_sub(primary.running + left).min(desired.saturating_sub(primary.running));
        match fails {
            None => {
                primary.running = (primary.running + start).min(desired);
                primary.youngest = if start > 0 { Some(now) } else { primary.youngest };
            }
            Some(why) if start > 0 => {
                primary.failed += 1;
                let definition = primary.definition.clone();
                self.stopped.insert(0, StoppedTask { task_definition: definition, reason: why, at: Some(now) });
                self.stopped.truncate(TOLD);
                if breaker["enable"] == json!(true) && primary.failed >= desired.div_ceil(2).clamp(3, 200) {
                    primary.rollout = RolloutState::Failed;
                    "ECS deployment circuit breaker: tasks failed to start.".clone_into(&mut primary.reason);
                }
                return Round::Moves;
            }
            Some(_) => primary.running = primary.running.min(desired),
        }
        if primary.running == desired && left == 0 && primary.rollout == RolloutState::InProgress {
            primary.rollout = RolloutState::Completed;
            primary.reason = format!("ECS deployment {} completed.", primary.id);
            self.completed = Some(primary.definition.clone());
            self.deployments.truncate(1);
            return Round::Steady;
        }
        let steady = primary.running == desired && left == 0 && primary.rollout == RolloutState::Completed;
        if steady { Round::Steady } else { Round::Moves }
    }
}

/// Stops up to `count` tasks of these deployments.
fn stop(deployments: &mut [Deployment], mut count: u32) {
    for it in deployments {
        let stopped = it.running.min(count);
        it.running -= stopped;
        count -= stopped;
    }
}
