//! What people and programs see of a running controller, and what they may tell it.

use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use super::commands::{self, CommandError, Verb};
use super::core::Core;
use super::view;
use crate::model::event::Event;
use crate::model::snapshot::Why;
use crate::model::status::{SourceStatus, Status};
use crate::ports::Store;

/// The shape of [`Status`].
const SCHEMA_VERSION: u32 = 1;

/// A view of one controller, cheap to clone.
#[derive(Clone)]
pub struct Handle {
    core: Arc<Core>,
}

impl Handle {
    pub(super) const fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Everything as last seen.
    pub fn status(&self) -> Status {
        let now = self.core.now();
        let state = self.core.state();
        let desired = state.desired.as_ref();
        let services = state.services.iter();
        let service = services.map(|(name, entry)| {
            entry
                .status
                .clone()
                .unwrap_or_else(|| view::unseen(self.core.platform_of(name, &entry.wanted), name, &entry.wanted))
        });
        Status {
            schema_version: SCHEMA_VERSION,
            controller: self.core.options.controller.to_string(),
            source: SourceStatus {
                revision: desired.map(|desired| desired.revision.to_string()),
                age: desired.map(|desired| now.duration_since(desired.read_at).as_secs()),
                error: state.trouble.why(),
                from: self.core.source.place(),
                commit: desired.and_then(|desired| desired.commit.clone()),
                includes: desired.map(|desired| desired.includes.clone()).unwrap_or_default(),
                unreadable: state.trouble.unreadable.is_some(),
                rejected: state.trouble.rejected.as_ref().and_then(|it| it.revision.as_ref().map(ToString::to_string)),
                checked: state.checked_at.map(|at| now.duration_since(at).as_secs()),
            },
            services: service.collect(),
        }
    }

    /// Counts up whenever the status changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.core.changes.subscribe()
    }

    /// Events from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.core.journal.listen()
    }

    /// Past events and history.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.core.edges.store)
    }

    /// Numbers in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        self.core.metrics.text(&self.status())
    }

    /// Somebody says that the desired state has changed: it is read now. Many at once are one reading.
    pub fn look_again(&self) {
        self.core.source.look_again();
    }

    /// A git history that went back is accepted: `commit`, and no other. Returns what was done.
    ///
    /// # Errors
    /// When there is nothing like it, or it could not be remembered.
    pub async fn accept_rewind(&self, commit: &str, by: &str) -> Result<String, CommandError> {
        commands::accept_rewind(&self.core, commit, by).await
    }

    /// Whether the desired state was read and every service looked at once.
    ///
    /// # Errors
    /// With what is still missing.
    pub fn ready(&self) -> Result<(), Why> {
        let state = self.core.state();
        if state.desired.is_none() {
            return Err(match state.trouble.why() {
                Some(why) => format!("no good desired state was read yet: {why}"),
                None => "no desired state was read yet".into(),
            });
        }
        let missing = state.services.values().filter(|entry| !entry.looked).count();
        if missing > 0 { Err(format!("{missing} services were not looked at yet")) } else { Ok(()) }
    }

    /// Does what a person says about `service`; returns what was done. With `only`, `promote` acts on exactly that
    /// tag or release.
    ///
    /// # Errors
    /// When there is no such service, when it makes no sense now, or when it could not be remembered.
    pub async fn command(
        &self,
        service: &str,
        verb: Verb,
        by: &str,
        only: Option<&str>,
    ) -> Result<String, CommandError> {
        commands::command(&self.core, service, verb, by, only).await
    }
}
