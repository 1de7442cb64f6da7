//! Perform: stage by stage, the steps of one stage at once; the first failure ends the turn.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::core::{Core, Order};
use crate::model::event::EventKind;
use crate::model::memory::MemoryChange;
use crate::model::names::ServiceName;
use crate::model::snapshot::{Health, Replica, Snapshot};
use crate::plan::step::{Ensured, PlannedStep, Step};
use crate::ports::{StepError, StepErrorKind};

/// How long the last words of a container are waited for: they are kind, not needed.
const LAST_WORDS_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// How a turn's steps went.
pub(super) enum Performed {
    /// All done; whether anything changed, and whether that was more than memory.
    Done {
        /// Anything at all.
        changed: bool,
        /// More than memory.
        world: bool,
    },
    /// The wish changed before a stage began, or the controller stops; the rest is left undone.
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

/// One turn's surroundings.
pub(super) struct Performer<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) name: &'a ServiceName,
    pub(super) order: &'a Order,
    pub(super) snapshot: &'a Snapshot,
    pub(super) stopping: &'a tokio_util::sync::CancellationToken,
}

impl Performer<'_> {
    /// Does `stages` in order.
    pub(super) async fn perform(&self, stages: Vec<Vec<PlannedStep>>) -> Performed {
        let (mut changed, mut world) = (false, false);
        for stage in stages {
            let aside = stage.iter().all(|planned| matches!(planned.step, Step::Source(_)));
            if self.stopping.is_cancelled() || !self.core.still_wants(self.name, self.order) {
                return Performed::Superseded;
            }
            let (done, failed) = self.stage(stage).await;
            changed |= done.iter().any(|(_, ensured)| *ensured == Ensured::Changed);
            let moved = |(memory, ensured): &(bool, Ensured)| !memory && *ensured == Ensured::Changed;
            world |= done.iter().any(moved);
            if let Some((step, error)) = failed {
                return Performed::Failed { step, aside, error };
            }
        }
        Performed::Done { changed, world }
    }

    /// Runs one stage to its end, whatever fails; returns what was ensured (memory or not) and the first failure.
    async fn stage(&self, stage: Vec<PlannedStep>) -> (Vec<(bool, Ensured)>, Option<(String, StepError)>) {
        let mut running = JoinSet::new();
        let mut started = std::collections::HashMap::new();
        for planned in stage {
            let words = self.last_words(&planned.step).await;
            let (core, name, step) = (Arc::clone(self.core), self.name.clone(), planned.step.clone());
            let revision = self.order.revision.clone();
            let because = planned.because.clone();
            let task = running.spawn(async move { one(&core, &name, &step, &because, &revision).await });
            started.insert(task.id(), (planned, words));
        }
        let (mut done, mut failed) = (Vec::new(), None);
        while let Some(joined) = running.join_next_with_id().await {
            let (id, result) = match joined {
                Ok((id, result)) => (id, result),
                Err(error) => (error.id(), Err(StepError::transient(panic_text(error)))),
            };
            let Some((planned, words)) = started.remove(&id) else { continue };
            self.core.metrics.step(&planned.step, result.as_ref());
            match result {
                Ok(ensured) => {
                    self.note_done(&planned, ensured, words);
                    done.push((matches!(planned.step, Step::Remember(_)), ensured));
                }
                Err(error) => {
                    self.note_failed(&planned, &error);
                    failed.get_or_insert((planned.step.to_string(), error));
                }
            }
        }
        (done, failed)
    }

    fn note_done(&self, planned: &PlannedStep, ensured: Ensured, words: Option<String>) {
        let PlannedStep { step, because } = planned;
        if ensured == Ensured::AlreadySo || is_bookkeeping(step) {
            tracing::debug!("{}  {step}  because {because}", self.name);
            return;
        }
        let message = match words {
            Some(words) => format!("{step}; its last words: {words}"),
            None => step.to_string(),
        };
        self.core.journal.note(Some(self.name), EventKind::Step, message, Some(because.clone()));
    }

    fn note_failed(&self, planned: &PlannedStep, error: &StepError) {
        let PlannedStep { step, because: _ } = planned;
        if matches!(error.kind, StepErrorKind::Stale | StepErrorKind::Throttled) {
            tracing::debug!("{}  {step}: not now: {}", self.name, error.why);
            return;
        }
        let message = format!("could not {step}: {}", error.why);
        self.core.journal.note(Some(self.name), EventKind::StepFailed, message, None);
    }

    /// For a quarantine: what the failed replica wrote last, asked before it is removed.
    async fn last_words(&self, step: &Step) -> Option<String> {
        let Step::Remember(MemoryChange::Quarantine(release, _)) = step else { return None };
        let replicas = self.snapshot.platform.replicas.seen()?;
        let failed = |replica: &&Replica| replica.release == *release && !matches!(replica.health, Health::Healthy(_));
        let replica = replicas.iter().find(failed)?;
        let asked = self.core.edges.platform.last_words(&replica.id);
        let words = tokio::time::timeout(LAST_WORDS_PATIENCE, asked).await.ok()?;
        let words: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = words[words.len().saturating_sub(5)..].join(" | ");
        (!last.is_empty()).then_some(last)
    }
}

/// Does one step.
async fn one(
    core: &Core,
    name: &ServiceName,
    step: &Step,
    because: &str,
    revision: &crate::model::desired::SourceRevision,
) -> Result<Ensured, StepError> {
    match step {
        Step::Remember(change) => {
            let before = core.memory.of(name);
            let ensured = core.memory.remember(name, change).await.map_err(StepError::transient)?;
            if ensured == Ensured::Changed {
                super::history::follow(core, name, &before, change, because, revision).await;
            }
            Ok(ensured)
        }
        Step::Platform(step) => core.edges.platform.perform(step).await,
        Step::Traffic(step) => core.edges.traffic.perform(step).await,
        Step::Ecs(step) => core.edges.cluster.perform(step).await,
        Step::Alb(step) => core.edges.balancer.perform(step).await,
        Step::Registry(step) => core.edges.registry.perform(step).await,
        Step::Source(step) => core.edges.write_back.perform(step).await,
    }
}

/// Notes about notes: of use to the next plan, not to a reader.
fn is_bookkeeping(step: &Step) -> bool {
    use MemoryChange as M;
    let Step::Remember(change) = step else { return false };
    !matches!(
        change,
        M::Attempt(_)
            | M::EndAttempt
            | M::Commit(_)
            | M::Quarantine(..)
            | M::Release(_)
            | M::Unpin
            | M::ConfirmSwitch(_)
            | M::Forget
    )
}

/// What a panicked task said.
pub(super) fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => {
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            format!("it panicked: {}", text.unwrap_or_else(|| "without a word".into()))
        }
        Err(error) => format!("it was cancelled: {error}"),
    }
}
