//! What is shown of a service: the shape of `status -o json`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::colour::Colour;
use super::commit::Commit;
use super::names::ServiceName;

/// `status -o json` and `/api/v1/services`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Of this shape; 1.
    pub schema_version: u32,
    /// The controller's id.
    pub controller: String,
    /// The desired state in force.
    pub source: SourceStatus,
    /// Every service, by name.
    pub services: Vec<ServiceStatus>,
}

/// Where the desired state comes from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The revision in force; none before the first good one.
    pub revision: Option<String>,
    /// Seconds since it was read.
    pub age: Option<i64>,
    /// Why the newest edit was rejected, or why nothing newer can be read.
    pub error: Option<String>,
    /// Where it is read from, for people: a folder, or `URL#BRANCH:PATH`.
    #[serde(default)]
    pub from: String,
    /// The commit in force; none when it comes from a folder.
    #[serde(default)]
    pub commit: Option<Commit>,
    /// Older commits that are in force with it, newest first, at most 100.
    #[serde(default)]
    pub includes: Vec<String>,
    /// The revision that was rejected with `error`; none when nothing was.
    #[serde(default)]
    pub rejected: Option<String>,
    /// Whether it cannot be read now; what was rejected before stays `rejected`.
    #[serde(default)]
    pub unreadable: bool,
    /// Seconds since the source was last read with success, whether it had changed or not.
    #[serde(default)]
    pub checked: Option<i64>,
}

/// In one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Reality matches the file; nothing to do, nothing to wait for.
    Settled,
    /// Steps are being taken, or the world is on its way.
    Progressing,
    /// Something has to happen first; `holds` says what.
    Holding,
    /// It serves, but not as the file wants.
    Degraded,
    /// The wanted release failed and something else, or nothing, serves.
    Failed,
    /// A person paused it.
    Paused,
    /// It could not be looked at.
    Unknown,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// `docker`, `ecs` or `sandbox`.
    pub platform: String,
    /// In one word.
    pub phase: Phase,
    /// What it is doing, for people: `starting green`, `draining blue`.
    pub stage: String,
    /// What the file asks for.
    pub desired: Version,
    /// What serves; none before the first commit.
    pub serving: Option<Version>,
    /// What served before it, and serves again after `rollback`; none when there is none.
    #[serde(default)]
    pub previous: Option<Version>,
    /// The colour that serves; none when rolling or unknown.
    pub active_colour: Option<Colour>,
    /// Per colour, or `only`.
    pub colours: BTreeMap<String, ColourStatus>,
    /// Every reason not to act, oldest first.
    pub holds: Vec<HoldStatus>,
    /// The tag a failed or rolled-back release had.
    pub rolled_back_from: Option<String>,
    /// Quarantined releases and why.
    pub quarantined: BTreeMap<String, String>,
    /// The tag pinned by `rollback`.
    pub pin: Option<String>,
    /// When something last changed.
    pub last_change: Option<Timestamp>,
    /// When it is looked at again without being woken.
    pub next_look: Option<Timestamp>,
    /// The source revision that serves in full; what `wait` waits for.
    pub revision: Option<String>,
    /// The source revision the last turn was about: the phase and the holds speak of it, not of a newer one.
    #[serde(default)]
    pub as_of: Option<String>,
}

/// A version, for people and for `wait`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// As written.
    pub tag: String,
    /// None while it is not resolved.
    pub digest: Option<String>,
    /// None while it is not resolved.
    pub release: Option<String>,
}

/// One colour of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColourStatus {
    /// Of the release it runs, if known.
    pub tag: Option<String>,
    /// The release it runs; none when empty or mixed.
    pub release: Option<String>,
    /// Replicas wanted.
    pub desired: u32,
    /// Replicas up.
    pub running: u32,
    /// Replicas healthy.
    pub healthy: u32,
    /// Share of the requests, percent.
    pub weight: u16,
}

/// One reason not to act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldStatus {
    /// The variant's name, stable: `AwaitingPromotion`.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// Since then.
    pub since: Timestamp,
}
