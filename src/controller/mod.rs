//! Floor 3: queue, observe, plan, perform, settle.
//!
//! [`run`] owns the [`queue`] and starts one [`reconcile`] turn a service; a turn [`observe`]s, plans, performs and
//! [`settle`]s. [`handle`] is what people and programs see of it.

mod commands;
mod core;
pub mod handle;
mod history;
mod journal;
mod metrics;
pub mod observe;
mod perform;
pub mod queue;
mod reconcile;
mod remembered;
pub mod run;
mod settle;
mod view;
mod watchers;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::desired::{Service, SourceRevision};
use crate::model::memory::Memory;
use crate::model::names::{ControllerId, ServiceName};
use crate::model::snapshot::Snapshot;
use crate::plan::Plan;

pub use commands::{CommandError, CommandErrorKind, Verb};
pub use handle::Handle;
pub use run::{Controller, OnceEnd, RunError};

/// How a controller works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose containers are ours.
    pub controller: ControllerId,
    /// The sweep behind the events: how long a service may stay unlooked at.
    pub resync: Duration,
    /// Steps are shown and not taken.
    pub detect: bool,
    /// Who decides.
    pub planner: Planner,
}

/// The signature of `plan::plan`.
pub type PlanFn = fn(&Service, &Snapshot, &Memory, &SourceRevision, Timestamp) -> Plan;
/// The signature of `plan::plan_removal`; the flag says whether the removal is acknowledged.
pub type PlanRemovalFn = fn(&ServiceName, &Snapshot, &Memory, bool, Timestamp) -> Plan;
/// The signature of `plan::check::verify`; the flag says whether a removal is acknowledged.
pub type VerifyFn = fn(&Plan, Option<&Service>, &Snapshot, &Memory, bool) -> Result<(), String>;

/// Who decides, and who checks the decision.
#[derive(Clone, Copy)]
pub struct Planner {
    /// For a service in the file.
    pub plan: PlanFn,
    /// For a service that left it.
    pub plan_removal: PlanRemovalFn,
    /// Verifies the finished plan with separate code.
    pub verify: VerifyFn,
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Planner")
    }
}

/// Services looked at and acted on at the same time: enough to hide one slow engine call behind others, few enough
/// not to start a fleet at once.
const CONCURRENT_TURNS: usize = 16;
