//! Numbers for Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::settle::Ending;
use crate::model::status::Status;
use crate::plan::step::{EcsStep, Ensured, PlatformStep, Step};
use crate::ports::{StepError, StepErrorKind};

/// Upper bounds of a turn's duration in seconds: a look takes milliseconds, a pull minutes.
const TURN_SECONDS: [f64; 10] = [0.005, 0.02, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 120.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    kind: String,
    result: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RevisionLabel {
    revision: String,
}

/// Every number, and the registry that writes them.
pub(super) struct Metrics {
    registry: Registry,
    turns: Family<ResultLabel, Counter<u64, AtomicU64>>,
    steps: Family<StepLabels, Counter<u64, AtomicU64>>,
    seconds: Histogram,
    holds: Family<ReasonLabel, Gauge>,
    phases: Family<PhaseLabel, Gauge>,
    source: Family<RevisionLabel, Gauge>,
    trouble: Family<KindLabel, Gauge>,
    checked: Gauge,
    queue: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("holdfast");
        let (turns, steps, seconds) = (Family::default(), Family::default(), Histogram::new(TURN_SECONDS));
        let (holds, phases, source, queue) =
            (Family::default(), Family::default(), Family::default(), Gauge::default());
        registry.register("reconciles", "Turns taken, by how they ended", turns.clone());
        registry.register("steps", "Steps taken, by kind and result", steps.clone());
        registry.register("reconcile_duration_seconds", "How long a turn took", seconds.clone());
        registry.register("holds", "Reasons not to act now, by reason", holds.clone());
        registry.register("services", "Services, by phase", phases.clone());
        registry.register("source_revision", "1 for the source revision in force", source.clone());
        let (trouble, checked) = (Family::default(), Gauge::default());
        registry.register("source_trouble", "1 while the newest edit is rejected or cannot be read", trouble.clone());
        registry.register(
            "source_checked_seconds",
            "With git: since the branch was last looked at with success",
            checked.clone(),
        );
        registry.register("queue_length", "Services due now or having their turn", queue.clone());
        Self { registry, turns, steps, seconds, holds, phases, source, trouble, checked, queue }
    }

    /// A turn ended.
    pub(super) fn turn(&self, ending: &Ending, took: Duration) {
        self.turn_result(match ending {
            Ending::Quiet => "quiet",
            Ending::Changed { .. } => "changed",
            Ending::AlreadySo => "already_so",
            Ending::Superseded => "superseded",
            Ending::Failed { .. } => "failed",
        });
        self.seconds.observe(took.as_secs_f64());
    }

    /// A turn panicked.
    pub(super) fn turn_panicked(&self) {
        self.turn_result("panicked");
    }

    fn turn_result(&self, result: &str) {
        self.turns.get_or_create(&ResultLabel { result: result.into() }).inc();
    }

    /// A step was taken.
    pub(super) fn step(&self, step: &Step, result: Result<&Ensured, &StepError>) {
        let result = match result {
            Ok(Ensured::Changed) => "changed",
            Ok(Ensured::AlreadySo) => "already_so",
            Err(StepError { kind: StepErrorKind::Stale, .. }) => "stale",
            Err(StepError { kind: StepErrorKind::Transient, .. }) => "failed",
            Err(StepError { kind: StepErrorKind::Refused, .. }) => "refused",
            Err(StepError { kind: StepErrorKind::Throttled, .. }) => "throttled",
        };
        let kind = match step {
            Step::Remember(_) => "remember",
            Step::Platform(PlatformStep::Pull { .. }) => "pull",
            Step::Platform(PlatformStep::Run(_)) => "run",
            Step::Platform(PlatformStep::Unpause { .. }) => "unpause",
            Step::Platform(PlatformStep::Update { .. }) => "update",
            Step::Platform(PlatformStep::Remove { .. }) => "remove",
            Step::Platform(PlatformStep::Retire { .. }) => "retire",
            Step::Platform(PlatformStep::RemoveImage { .. }) => "remove_image",
            Step::Traffic(_) => "traffic",
            Step::Ecs(EcsStep::Register { .. } | EcsStep::RegisterAgain { .. }) => "register",
            Step::Ecs(EcsStep::Tag { .. }) => "tag",
            Step::Ecs(EcsStep::Update(_)) => "update_service",
            Step::Ecs(EcsStep::Create { .. }) => "create_service",
            Step::Ecs(EcsStep::Delete { .. }) => "delete_service",
            Step::Alb(_) => "weights",
            Step::Registry(_) => "delete_images",
            Step::Source(_) => "commit_tag",
        };
        self.steps.get_or_create(&StepLabels { kind: kind.into(), result: result.into() }).inc();
    }

    /// So many services are due or having their turn.
    pub(super) fn queue(&self, length: usize) {
        self.queue.set(i64::try_from(length).unwrap_or(i64::MAX));
    }

    /// All of it in the text format of Prometheus; gauges of `status` are made here, when somebody asks.
    pub(super) fn text(&self, status: &Status) -> String {
        self.holds.clear();
        self.phases.clear();
        self.source.clear();
        for service in &status.services {
            self.phases.get_or_create(&PhaseLabel { phase: format!("{:?}", service.phase) }).inc();
            for hold in &service.holds {
                self.holds.get_or_create(&ReasonLabel { reason: hold.reason.clone() }).inc();
            }
        }
        if let Some(revision) = &status.source.revision {
            self.source.get_or_create(&RevisionLabel { revision: revision.clone() }).set(1);
        }
        let source = &status.source;
        let rejected = source.rejected.is_some() || (source.error.is_some() && !source.unreadable);
        for (kind, is_so) in [("rejected", rejected), ("unreadable", source.unreadable)] {
            self.trouble.get_or_create(&KindLabel { kind: kind.into() }).set(is_so.into());
        }
        // A folder is watched, and tells only of changes.
        self.checked.set(status.source.checked.filter(|_| status.source.commit.is_some()).unwrap_or(0));
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            // Writing into a String does not fail.
            Err(error) => format!("# {error}\n"),
        }
    }
}
