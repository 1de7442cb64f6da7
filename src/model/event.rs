//! What happened, for the reconcile log, the API and history.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::commit::Commit;
use super::names::ServiceName;

/// One line of the reconcile log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Rising by one within a controller's life and across restarts; 0 until stored.
    #[serde(default)]
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// Of which service; none for the controller itself.
    pub service: Option<ServiceName>,
    /// What kind.
    pub kind: EventKind,
    /// What happened: `create dangdang-api-green-1`.
    pub message: String,
    /// Why: `the file asks for tag 3f2a1b9`.
    pub because: Option<String>,
}

/// The kinds of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EventKind {
    /// A new desired state is in force.
    Accepted,
    /// An edit was rejected; the last good one stays.
    Rejected,
    /// A step changed something.
    Step,
    /// A step failed; it will be looked at again.
    StepFailed,
    /// A hold began or its reason changed.
    Hold,
    /// A hold ended.
    Released,
    /// Reality matches the file.
    Settled,
    /// A person's command was taken.
    Command,
    /// The controller itself: start, stop, an edge lost or regained.
    Controller,
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Step => "step",
            Self::StepFailed => "stepFailed",
            Self::Hold => "hold",
            Self::Released => "released",
            Self::Settled => "settled",
            Self::Command => "command",
            Self::Controller => "controller",
        })
    }
}

/// One release in a service's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// When its rollout began.
    pub started_at: Timestamp,
    /// When it ended; none while under way.
    pub ended_at: Option<Timestamp>,
    /// Its tag.
    pub tag: String,
    /// Its hash.
    pub release: String,
    /// Its digest.
    pub digest: String,
    /// The source revision that asked for it.
    pub revision: String,
    /// The commit that is; none when it came from a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// What started it.
    pub why: String,
    /// `serving`, `replaced`, `failed: …`, `superseded`, `under way`.
    pub outcome: String,
}
