//! Where desired state comes from, and how the controller itself changes it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::StepError;
use crate::model::commit::Commit;
use crate::model::desired::{DesiredState, SourceRevision};
use crate::model::snapshot::Why;
use crate::plan::step::{Ensured, SourceStep};

/// What a source reports.
#[derive(Debug, Clone)]
pub enum SourceUpdate {
    /// A whole, valid desired state.
    Accepted(Arc<DesiredState>),
    /// An edit that was rejected whole: every message, already with file, line and column.
    Rejected {
        /// What was read, if it could be read.
        revision: Option<SourceRevision>,
        /// The commit that is; none from a folder.
        commit: Option<Commit>,
        /// For people.
        why: Why,
    },
    /// It could not be read; nobody knows whether there is an edit.
    Unreadable(Why),
    /// It was read, and says what it said the last time.
    Unchanged,
}

/// Where desired state comes from.
#[async_trait]
pub trait Source: Send + Sync {
    /// Reads everything afresh.
    async fn read(&self) -> SourceUpdate;
    /// Reports every change for ever, the state at the start first. The same revision is not reported twice in a row.
    async fn watch(&self, updates: mpsc::Sender<SourceUpdate>);
    /// What is read, for people: a folder, or `URL#BRANCH:PATH`.
    fn place(&self) -> String;
    /// Somebody says that it has changed: `watch` reads it now. Never blocks; many at once are one reading.
    fn look_again(&self) {}
    /// From now on `commit` may take the place of the last good one, though it does not come after it.
    ///
    /// # Errors
    /// When that is not remembered, or there is nothing like it here.
    async fn accept_rewind(&self, commit: &str, _by: &str) -> Result<String, Why> {
        Err(format!("{commit} cannot be accepted: the desired state is not read from git"))
    }
}

/// Changes of the desired state by the controller itself: one commit each.
#[async_trait]
pub trait WriteBack: Send + Sync {
    /// Why it cannot be written to; none when it can.
    fn closed(&self) -> Option<Why>;
    /// Does one step on the newest commit: a value that is no longer the one expected is `Stale`, the wanted one
    /// `AlreadySo`. Somebody else's push in between is met by doing it again on theirs.
    ///
    /// # Errors
    /// With the reason, and whether trying again makes sense.
    async fn perform(&self, step: &SourceStep) -> Result<Ensured, StepError>;
}
