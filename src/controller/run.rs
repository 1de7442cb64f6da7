//! The loop: takes edits, wakes and finished turns, and starts the next turns. It never waits for an edge itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::core::{Core, Rejection, Retargeted};
use super::handle::Handle;
use super::journal::Writer;
use super::queue::{Queue, Slot};
use super::{CONCURRENT_TURNS, Options, perform, reconcile, settle, watchers};
use crate::model::desired::DesiredState;
use crate::model::event::EventKind;
use crate::model::names::ServiceName;
use crate::model::snapshot::{Fact, Owned, Why};
use crate::model::words::counted;
use crate::ports::{Edges, Source, SourceUpdate, Wake, Wakes};

/// A controller that has not started yet.
pub struct Controller {
    core: Arc<Core>,
    nudged: UnboundedReceiver<(ServiceName, Slot)>,
    writer: Writer,
}

/// Why a controller could not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The durable memory could not be read; without it nothing is decided.
    #[error("could not read the durable memory: {0}")]
    Memory(Why),
    /// `--once` found no valid desired state.
    #[error("{0}")]
    Rejected(Why),
    /// `--once` could not read the desired state.
    #[error("{0}")]
    Unreadable(Why),
}

/// How a run with `--once` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnceEnd {
    /// Reality matches the file.
    Settled,
    /// Something is held; status says what.
    Unsettled {
        /// A release failed or was rolled back.
        rolled_back: bool,
    },
    /// It was told to stop before.
    Stopped,
}

impl Controller {
    /// A controller on `edges` that makes reality match `source`.
    pub fn new(edges: Edges, source: Arc<dyn Source>, options: Options) -> Self {
        let (core, nudged, writer) = Core::new(edges, source, options);
        Self { core, nudged, writer }
    }

    /// What people see of it; valid before, while and after it runs.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.core))
    }

    /// Runs until `shutdown`; a stage under way is finished first.
    ///
    /// # Errors
    /// When the durable memory cannot be read.
    pub async fn run(
        self,
        wakes: (Wakes, UnboundedReceiver<Wake>),
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        let source = Arc::clone(&self.core.source);
        let (updates, edits) = mpsc::channel(4);
        let mut watchers = JoinSet::new();
        watchers.spawn(watchers::for_ever("the source", wakes.0.clone(), move || {
            let (source, updates) = (Arc::clone(&source), updates.clone());
            async move { source.watch(updates).await }
        }));
        self.start(edits, wakes, shutdown, false, watchers).await.map(|_| ())
    }

    /// Reads the source once and runs until every service is settled or held.
    ///
    /// # Errors
    /// When the durable memory or the desired state cannot be read, or the latter is not valid.
    pub async fn run_once(
        self,
        wakes: (Wakes, UnboundedReceiver<Wake>),
        shutdown: CancellationToken,
    ) -> Result<OnceEnd, RunError> {
        let update = self.core.source.read().await;
        match update {
            SourceUpdate::Rejected { why, .. } => return Err(RunError::Rejected(why)),
            SourceUpdate::Unreadable(why) => return Err(RunError::Unreadable(why)),
            SourceUpdate::Accepted(_) | SourceUpdate::Unchanged => {}
        }
        let (updates, edits) = mpsc::channel(1);
        // The channel is empty and holds one.
        let _ = updates.try_send(update);
        self.start(edits, wakes, shutdown, true, JoinSet::new()).await
    }

    async fn start(
        self,
        mut edits: mpsc::Receiver<SourceUpdate>,
        (wakes, woken): (Wakes, UnboundedReceiver<Wake>),
        shutdown: CancellationToken,
        once: bool,
        mut watchers: JoinSet<()>,
    ) -> Result<OnceEnd, RunError> {
        let Self { core, nudged, writer } = self;
        core.memory.load().await.map_err(RunError::Memory)?;
        let writer = tokio::spawn(writer.run());
        watchers::start(&core, &wakes, &mut watchers);
        core.journal.note(None, EventKind::Controller, format!("controller {} started", core.options.controller), None);
        let mut running = Loop::new(Arc::clone(&core), once);
        let end = Box::pin(running.drive(&mut edits, woken, nudged, &shutdown)).await;
        // While the source may still report, or it would seem to have stopped by itself.
        watchers.abort_all();
        drop(edits);
        running.stop().await;
        core.journal.note(None, EventKind::Controller, format!("controller {} stopped", core.options.controller), None);
        core.journal.flush().await;
        writer.abort();
        Ok(end)
    }
}

struct Loop {
    core: Arc<Core>,
    queue: Queue,
    turns: JoinSet<Option<Slot>>,
    names: HashMap<Id, ServiceName>,
    owned: JoinSet<Owned>,
    /// Asked again while an answer was on its way.
    owned_again: bool,
    /// The platform has answered at least once.
    owned_known: bool,
    stopping: CancellationToken,
    once: bool,
}

impl Loop {
    fn new(core: Arc<Core>, once: bool) -> Self {
        Self {
            core,
            queue: Queue::new(CONCURRENT_TURNS),
            turns: JoinSet::new(),
            names: HashMap::new(),
            owned: JoinSet::new(),
            owned_again: false,
            owned_known: false,
            stopping: CancellationToken::new(),
            once,
        }
    }

    async fn drive(
        &mut self,
        edits: &mut mpsc::Receiver<SourceUpdate>,
        mut woken: UnboundedReceiver<Wake>,
        mut nudged: UnboundedReceiver<(ServiceName, Slot)>,
        shutdown: &CancellationToken,
    ) -> OnceEnd {
        let resync = self.core.options.resync.max(Duration::from_millis(1));
        let mut sweep = interval_at(Instant::now() + resync, resync);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return OnceEnd::Stopped,
                Some(update) = edits.recv() => self.edited(update),
                Some(turn) = self.turns.join_next_with_id() => self.finished(turn),
                Some(owned) = self.owned.join_next() => self.owns(owned),
                Some((name, slot)) = nudged.recv() => self.queue.add(&name, slot),
                Some(wake) = woken.recv() => self.wake(wake),
                _ = sweep.tick() => self.ask_owned(),
                (name, slot) = self.queue.next() => self.begin(name, slot),
            }
            self.core.metrics.queue(self.queue.busy());
            if self.once && self.rests() {
                return self.end();
            }
        }
    }

    /// Waits for the stages under way; nothing new begins.
    async fn stop(&mut self) {
        self.stopping.cancel();
        self.owned.abort_all();
        while self.turns.join_next().await.is_some() {}
    }

    fn begin(&mut self, name: ServiceName, slot: Slot) {
        let turn = reconcile::turn(Arc::clone(&self.core), name.clone(), slot, self.stopping.clone());
        let task = self.turns.spawn(turn);
        self.names.insert(task.id(), name);
    }

    fn finished(&mut self, turn: Result<(Id, Option<Slot>), JoinError>) {
        let id = match &turn {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(name) = self.names.remove(&id) else { return };
        let next = match turn {
            Ok((_, next)) => next,
            Err(error) => {
                self.core.metrics.turn_panicked();
                Some(settle::failed_look(&self.core, &name, "look at it", &perform::panic_text(error)))
            }
        };
        self.queue.done(&name);
        self.let_go(&name);
        let wanted = self.core.state().services.contains_key(&name);
        if let (Some(slot), true) = (next, wanted) {
            self.queue.add(&name, slot);
        }
    }

    /// A service that left the file and is settled is gone: nothing of it is left to own.
    fn let_go(&mut self, name: &ServiceName) {
        let mut state = self.core.state();
        let gone = state.services.get(name).is_some_and(|entry| entry.wanted.service().is_none() && entry.settled);
        if gone {
            state.owned.remove(name);
            drop(state);
            self.retarget(&BTreeSet::new());
        }
    }

    fn edited(&mut self, update: SourceUpdate) {
        match update {
            SourceUpdate::Accepted(state) => self.accept(&state),
            SourceUpdate::Rejected { revision, commit, why } => {
                let what = match (&commit, &revision) {
                    (Some(commit), _) => format!("commit {commit}"),
                    (None, Some(revision)) => format!("edit {}", revision.short()),
                    (None, None) => "edit".to_owned(),
                };
                let message = format!("{what} rejected, the last good one stays: {why}");
                let rejection = Some(Rejection { revision, why });
                let mut state = self.core.state();
                state.checked_at = Some(self.core.now());
                let is_over = state.trouble.unreadable.take().is_some();
                let is_new = state.trouble.rejected != rejection;
                state.trouble.rejected = rejection;
                drop(state);
                self.trouble(is_new, message);
                if is_over {
                    self.core.changed();
                }
            }
            SourceUpdate::Unreadable(why) => {
                let message = format!("the desired state cannot be read, the last good one stays: {why}");
                let is_new = self.core.state().trouble.unreadable.replace(why.clone()) != Some(why);
                self.trouble(is_new, message);
            }
            SourceUpdate::Unchanged => {
                let mut state = self.core.state();
                state.checked_at = Some(self.core.now());
                let over = state.trouble.unreadable.take();
                drop(state);
                if over.is_some() {
                    let message = "the desired state can be read again, and is as it was".to_owned();
                    self.core.journal.note(None, EventKind::Controller, message, None);
                    self.core.changed();
                }
            }
        }
    }

    /// Says once why nothing newer is in force.
    fn trouble(&self, is_new: bool, message: String) {
        if is_new {
            self.core.journal.note(None, EventKind::Rejected, message, None);
            self.core.changed();
        }
    }

    fn accept(&mut self, state: &DesiredState) {
        self.core.accept(state);
        let all = self.core.state().desired.iter().flat_map(|it| it.services.keys().cloned()).collect();
        let changed = self.retarget(&all).changed;
        let names: Vec<&str> = changed.iter().map(ServiceName::as_str).collect();
        let because =
            if names.is_empty() { "no service changed".into() } else { format!("changed: {}", names.join(", ")) };
        let what = state
            .commit
            .as_ref()
            .map_or_else(|| format!("revision {}", state.revision.short()), |commit| format!("commit {commit}"));
        let message = format!("{what} accepted, {}", counted(state.services.len(), "service"));
        self.core.journal.note(None, EventKind::Accepted, message, Some(because));
        self.ask_owned();
    }

    /// Takes in a new set of wishes; looks at what changed, and at `also` for their new revision.
    fn retarget(&mut self, also: &BTreeSet<ServiceName>) -> Retargeted {
        let retargeted = self.core.retarget();
        for name in &retargeted.gone {
            self.queue.forget(name);
            self.core.edges.probe.watch(name, Vec::new());
        }
        for name in &retargeted.changed {
            self.queue.add(name, Slot::fresh("edit"));
        }
        for name in also.difference(&retargeted.changed) {
            self.queue.add(name, Slot::now("revision"));
        }
        if !(retargeted.gone.is_empty() && retargeted.changed.is_empty() && also.is_empty()) {
            self.core.changed();
        }
        retargeted
    }

    fn ask_owned(&mut self) {
        if !self.owned.is_empty() {
            self.owned_again = true;
            return;
        }
        let platform = Arc::clone(&self.core.edges.platform);
        self.owned.spawn(async move { platform.owned().await });
    }

    fn owns(&mut self, owned: Result<Owned, JoinError>) {
        self.owned_known = true;
        match owned {
            Ok(Fact::Seen(names)) => self.core.state().owned = names,
            Ok(Fact::Absent) => self.core.state().owned.clear(),
            // Nobody knows: nothing is added to what may have to go.
            Ok(Fact::Unreadable(why)) => tracing::debug!("holdfast  which containers are ours is not known: {why}"),
            Err(error) => tracing::warn!("holdfast  asking which containers are ours: {}", perform::panic_text(error)),
        }
        self.retarget(&BTreeSet::new());
        if std::mem::take(&mut self.owned_again) {
            self.ask_owned();
        }
    }

    fn wake(&mut self, wake: Wake) {
        let Wake { service, why, is_progress } = wake;
        match service {
            Some(name) if is_progress => self.core.progress(&name, &why),
            Some(name) if self.core.state().services.contains_key(&name) => self.queue.add(&name, Slot::now(why)),
            Some(_) => self.ask_owned(),
            None => {
                let all: Vec<ServiceName> = self.core.state().services.keys().cloned().collect();
                for name in all {
                    self.queue.add(&name, Slot::now(why.clone()));
                }
                self.ask_owned();
            }
        }
    }

    /// For `--once`: nothing runs, nothing is due, and every service is settled or held.
    fn rests(&self) -> bool {
        let state = self.core.state();
        state.desired.is_some()
            && self.owned_known
            && self.owned.is_empty()
            && state.services.iter().all(|(name, entry)| entry.rests() && !self.queue.is_busy(name))
    }

    fn end(&self) -> OnceEnd {
        let state = self.core.state();
        if state.services.values().all(|entry| entry.settled) {
            return OnceEnd::Settled;
        }
        let statuses = state.services.values().filter_map(|entry| entry.status.as_ref());
        let rolled_back = statuses.into_iter().any(|status| status.rolled_back_from.is_some());
        OnceEnd::Unsettled { rolled_back }
    }
}
