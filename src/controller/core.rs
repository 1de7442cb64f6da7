//! What every part of a running controller shares.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Options;
use super::journal::{Journal, Writer};
use super::metrics::Metrics;
use super::queue::Slot;
use super::remembered::Remembered;
use crate::model::commit::Commit;
use crate::model::desired::{DesiredState, Service, SourceRevision};
use crate::model::names::ServiceName;
use crate::model::release::Release;
use crate::model::snapshot::Why;
use crate::model::status::{HoldStatus, ServiceStatus};
use crate::plan::hold::Hold;
use crate::ports::{Edges, Source};
use crate::retry::Backoff;

/// Shared by the loop, the turns and the handles.
pub(super) struct Core {
    pub(super) edges: Edges,
    pub(super) source: Arc<dyn Source>,
    pub(super) options: Options,
    pub(super) memory: Remembered,
    pub(super) journal: Journal,
    pub(super) metrics: Metrics,
    pub(super) changes: watch::Sender<u64>,
    nudges: mpsc::UnboundedSender<(ServiceName, Slot)>,
    state: Mutex<State>,
}

/// What is wanted and what became of it.
#[derive(Default)]
pub(super) struct State {
    pub(super) desired: Option<Desired>,
    pub(super) trouble: Trouble,
    /// When the source was last read with success.
    pub(super) checked_at: Option<Timestamp>,
    /// Services with containers of ours; kept while the platform cannot be read.
    pub(super) owned: BTreeSet<ServiceName>,
    pub(super) services: BTreeMap<ServiceName, Entry>,
}

/// Why there is nothing newer in force. An outage ends no rejection: what was rejected is still the newest that is known.
#[derive(Clone, Default)]
pub(super) struct Trouble {
    /// What was read is not valid.
    pub(super) rejected: Option<Rejection>,
    /// Nothing could be read since.
    pub(super) unreadable: Option<Why>,
}

/// An edit that is not taken.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) revision: Option<SourceRevision>,
    pub(super) why: Why,
}

impl Trouble {
    /// All of it, for people.
    pub(super) fn why(&self) -> Option<Why> {
        match (&self.rejected, &self.unreadable) {
            (Some(rejected), None) => Some(rejected.why.clone()),
            (Some(rejected), Some(why)) => Some(format!("{}\nand since then it cannot be read: {why}", rejected.why)),
            (None, why) => why.clone(),
        }
    }
}

/// Older revisions in force that are remembered: enough for a CI job that waits for one of them.
const INCLUDES: usize = 100;

/// The desired state in force.
#[derive(Clone)]
pub(super) struct Desired {
    pub(super) revision: SourceRevision,
    pub(super) commit: Option<Commit>,
    pub(super) includes: Vec<String>,
    pub(super) read_at: Timestamp,
    pub(super) services: BTreeMap<ServiceName, Arc<Service>>,
    pub(super) acknowledged: BTreeSet<ServiceName>,
}

/// What one service should be.
#[derive(Clone)]
pub(super) enum Wanted {
    /// In the file.
    Service(Arc<Service>),
    /// No longer in the file.
    Removal {
        /// Whether the file acknowledges it.
        acknowledged: bool,
    },
}

impl Wanted {
    pub(super) fn service(&self) -> Option<&Service> {
        match self {
            Self::Service(service) => Some(service),
            Self::Removal { .. } => None,
        }
    }

    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Service(a), Self::Service(b)) => Arc::ptr_eq(a, b),
            (Self::Removal { acknowledged: a }, Self::Removal { acknowledged: b }) => a == b,
            _ => false,
        }
    }
}

/// What a turn starts from; the same while nothing about the wish has changed.
#[derive(Clone)]
pub(super) struct Order {
    pub(super) wanted: Wanted,
    pub(super) revision: SourceRevision,
    commands: u64,
}

/// A step that failed and is not tried again before `until`.
#[derive(Clone)]
pub(super) struct Blocked {
    pub(super) step: String,
    pub(super) hold: Hold,
    pub(super) until: Instant,
}

/// What a new set of wishes changed.
#[derive(Debug, Default)]
pub(super) struct Retargeted {
    /// Nobody wants anything of these any more.
    pub(super) gone: Vec<ServiceName>,
    /// New, or wanted otherwise than before.
    pub(super) changed: BTreeSet<ServiceName>,
}

/// One service as the controller knows it.
pub(super) struct Entry {
    pub(super) wanted: Wanted,
    commands: u64,
    pub(super) status: Option<ServiceStatus>,
    pub(super) holds: Vec<Hold>,
    pub(super) hold_status: Vec<HoldStatus>,
    pub(super) wanted_release: Option<Release>,
    pub(super) settled: bool,
    pub(super) looked: bool,
    pub(super) backoff: Backoff,
    pub(super) blocked: Option<Blocked>,
    /// Turns in a row that ended without getting anywhere, and are worth another one at once.
    pub(super) idle_turns: u32,
    /// Turns in a row with a failed step.
    pub(super) failed_turns: u32,
}

impl Entry {
    fn new(wanted: Wanted, seed: u64) -> Self {
        Self {
            wanted,
            commands: 0,
            status: None,
            holds: Vec::new(),
            hold_status: Vec::new(),
            wanted_release: None,
            settled: false,
            looked: false,
            backoff: Backoff::new(seed),
            blocked: None,
            idle_turns: 0,
            failed_turns: 0,
        }
    }

    /// Somebody changed something: what failed before is worth another try now.
    pub(super) fn unblock(&mut self) {
        self.blocked = None;
        self.backoff.reset();
        self.idle_turns = 0;
        self.failed_turns = 0;
    }

    /// Whether it rests: settled, or held by something that does not end by itself soon.
    pub(super) fn rests(&self) -> bool {
        let retrying = self.failed_turns < 5;
        self.looked
            && !self
                .holds
                .iter()
                .any(|hold| hold.is_progress() || (retrying && matches!(hold, Hold::StepFailed { .. })))
            && (self.settled || !self.holds.is_empty())
    }
}

impl Core {
    /// Everything but the loop: the receiver of nudges and the journal's writer are run by it.
    pub(super) fn new(
        edges: Edges,
        source: Arc<dyn Source>,
        options: Options,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<(ServiceName, Slot)>, Writer) {
        let (nudges, nudged) = mpsc::unbounded_channel();
        let (journal, writer) = Journal::new(edges.clock.clone(), edges.store.clone());
        let core = Self {
            memory: Remembered::new(edges.store.clone()),
            journal,
            metrics: Metrics::new(),
            changes: watch::Sender::new(0),
            nudges,
            state: Mutex::default(),
            edges,
            source,
            options,
        };
        (Arc::new(core), nudged, writer)
    }

    /// The state. Never held over an await.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.edges.clock.now()
    }

    /// Tells listeners that the status changed.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Whether `service` runs (or may still run) on this host, and not on ECS.
    pub(super) fn is_on_host(&self, name: &ServiceName, wanted: &Wanted) -> bool {
        match wanted.service() {
            Some(service) => service.ecs.is_none(),
            None => self.memory.of(name).committed.is_none_or(|it| it.place.is_none()),
        }
    }

    /// Waits until something is wanted on this host (`on_host`) or on ECS.
    pub(super) async fn until_used(&self, on_host: bool) {
        let mut changes = self.changes.subscribe();
        loop {
            let wanted: Vec<_> =
                self.state().services.iter().map(|(name, entry)| (name.clone(), entry.wanted.clone())).collect();
            if wanted.iter().any(|(name, wanted)| self.is_on_host(name, wanted) == on_host) {
                return;
            }
            // The sender lives as long as this does.
            let _ = changes.changed().await;
        }
    }

    /// Where `service` runs, for people.
    pub(super) fn platform_of(&self, name: &ServiceName, wanted: &Wanted) -> &'static str {
        let platform = self.edges.platform.name();
        if platform != "docker" || self.is_on_host(name, wanted) { platform } else { "ecs" }
    }

    /// A long step of `service` is so far.
    pub(super) fn progress(&self, service: &ServiceName, how_far: &str) {
        tracing::info!(target: "holdfast", service = service.as_str(), kind = "progress", "{how_far}");
        if let Some(status) = self.state().services.get_mut(service).and_then(|entry| entry.status.as_mut()) {
            how_far.clone_into(&mut status.stage);
        }
        self.changed();
    }

    /// What a turn of `service` has to bring about; none when nobody wants anything of it any more.
    pub(super) fn order(&self, service: &ServiceName) -> Option<Order> {
        let state = self.state();
        let entry = state.services.get(service)?;
        let revision = state.desired.as_ref()?.revision.clone();
        Some(Order { wanted: entry.wanted.clone(), revision, commands: entry.commands })
    }

    /// Whether `order` is still what is wanted: asked right before every stage (S8).
    pub(super) fn still_wants(&self, service: &ServiceName, order: &Order) -> bool {
        let state = self.state();
        let entry = state.services.get(service);
        entry.is_some_and(|entry| entry.commands == order.commands && entry.wanted.same(&order.wanted))
    }

    /// A person said something about `service`: a turn under way ends at its next stage, and it is looked at afresh.
    pub(super) fn commanded(&self, service: &ServiceName, why: &str) {
        if let Some(entry) = self.state().services.get_mut(service) {
            entry.commands += 1;
            entry.unblock();
        }
        // The loop is gone only while the process ends.
        let _ = self.nudges.send((service.clone(), Slot::fresh(why)));
    }

    /// Puts `state` in force. Unchanged services keep their `Arc`.
    pub(super) fn accept(&self, state: &DesiredState) {
        let mut shared = self.state();
        let (before, known) = match shared.desired.take() {
            Some(Desired { revision, includes, services, .. }) if state.commit.is_some() && !state.rewinds => {
                let known = std::iter::once(revision.0).filter(|it| *it != state.revision.0).chain(includes);
                (services, known.collect())
            }
            Some(desired) => (desired.services, Vec::new()),
            None => (BTreeMap::new(), Vec::new()),
        };
        let mut services = BTreeMap::new();
        for (name, service) in &state.services {
            let kept = before.get(name).filter(|known| ***known == *service).cloned();
            services.insert(name.clone(), kept.unwrap_or_else(|| Arc::new(service.clone())));
        }
        shared.desired = Some(Desired {
            revision: state.revision.clone(),
            commit: state.commit.clone(),
            includes: state.includes.iter().cloned().chain(known).take(INCLUDES).collect(),
            read_at: state.read_at,
            services,
            acknowledged: state.acknowledged.clone(),
        });
        shared.trouble = Trouble::default();
        shared.checked_at = Some(self.edges.clock.now());
    }

    /// Makes the entries those of the file, the memory and the platform together.
    pub(super) fn retarget(&self) -> Retargeted {
        let remembered = self.memory.services();
        let mut state = self.state();
        let State { desired, owned, services, .. } = &mut *state;
        let Some(desired) = desired else { return Retargeted::default() };
        let leaving: BTreeSet<&ServiceName> = remembered.union(owned).collect();
        let gone: Vec<ServiceName> = services
            .keys()
            .filter(|name| !desired.services.contains_key(*name) && !leaving.contains(name))
            .cloned()
            .collect();
        services.retain(|name, _| !gone.contains(name));
        let in_file = desired.services.iter().map(|(name, service)| (name, Wanted::Service(service.clone())));
        let not_in_file = leaving
            .iter()
            .filter(|name| !desired.services.contains_key(**name))
            .map(|name| (*name, Wanted::Removal { acknowledged: desired.acknowledged.contains(*name) }));
        let mut changed = BTreeSet::new();
        for (name, wanted) in in_file.chain(not_in_file) {
            match services.get_mut(name) {
                Some(entry) if entry.wanted.same(&wanted) => {}
                Some(entry) => {
                    entry.wanted = wanted;
                    entry.unblock();
                    changed.insert(name.clone());
                }
                None => {
                    services.insert(name.clone(), Entry::new(wanted, self.seed(name)));
                    changed.insert(name.clone());
                }
            }
        }
        Retargeted { gone, changed }
    }

    /// Jitter that differs between hosts and services, and is the same after a restart.
    fn seed(&self, service: &ServiceName) -> u64 {
        let hash = Sha256::digest(format!("{}/{service}", self.options.controller));
        hash.iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte))
    }
}
