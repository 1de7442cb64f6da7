//! What is remembered of a service across restarts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::colour::Group;
use super::desired::{DriftField, Resources, Restart, SourceRevision};
use super::ecs::{EcsLive, Place};
use super::image::Digest;
use super::release::{Release, ReleaseHash};
use super::snapshot::Worker;

/// The durable memory of one service. Empty for one never seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// The rollout under way; written before its first step.
    pub attempt: Option<Attempt>,
    /// What serves, in full; written after its effect was seen.
    pub committed: Option<Committed>,
    /// What served before it: the rollback target.
    pub previous: Option<Committed>,
    /// Releases not to be tried again by themselves.
    pub quarantined: BTreeMap<ReleaseHash, Quarantine>,
    /// A rollback by a person.
    pub pin: Option<Pin>,
    /// The release a person approved.
    pub promoted: Option<ReleaseHash>,
    /// Set by `pause`.
    pub paused: Option<Paused>,
    /// Removal approved by `holdfast remove`.
    pub removal_approved: bool,
    /// What nginx was told last.
    pub switch: Option<Switch>,
    /// Digests that served, newest first, without repeats: image retention.
    pub images: Vec<Digest>,
    /// Repairs of configuration drift per field, oldest first, at most the last 8.
    pub repairs: BTreeMap<DriftField, Vec<Timestamp>>,
    /// Losses replaced, oldest first, at most the last 8: the backoff of a crash loop.
    pub losses: Vec<Timestamp>,
    /// The live fields last seen in force on every replica: a difference of the file from them is an edit, of the world
    /// from them is drift.
    pub applied_live: Option<Live>,
    /// The first commit ever: containers in `replaces` are retired only when they are older.
    pub first_switch: Option<Timestamp>,
    /// On ECS: the task definition of each release, by ARN.
    pub registered: BTreeMap<ReleaseHash, String>,
    /// On ECS: the task definition releases are made from, by ARN.
    pub base: Option<String>,
    /// On ECS: the live fields last seen in force.
    pub ecs_live: Option<EcsLive>,
    /// The canary step that is in force.
    pub canary: Option<Canary>,
    /// The commit after which the registry was cleaned up last.
    pub cleaned_after: Option<Timestamp>,
    /// Tags that failed here and that the desired state was led away from, and why: `follow` does not choose them again.
    pub reverted: BTreeMap<String, Quarantine>,
}

/// How far the canary steps of a rollout are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// Of this release.
    pub release: ReleaseHash,
    /// The step, from 0.
    pub step: usize,
    /// Since its weights were seen in force.
    pub since: Timestamp,
}

/// Fields applied in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The restart policy.
    pub restart: Restart,
    /// CPU and memory limits.
    pub resources: Resources,
}

/// A rollout under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Of this release.
    pub release: Release,
    /// Into this group.
    pub group: Group,
    /// Since then: the progress deadline counts from here.
    pub started_at: Timestamp,
    /// On ECS: the deployment that carries it out, once it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
}

/// A release that serves or served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// In full: repair never asks the registry.
    pub release: Release,
    /// Where it serves.
    pub group: Group,
    /// The revision that asked for it.
    pub revision: SourceRevision,
    /// Since then.
    pub at: Timestamp,
    /// The servers file it was switched in, for a later removal.
    pub servers_file: Option<PathBuf>,
    /// Where it is on ECS, for a later removal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// Why a release is not tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// For people.
    pub why: String,
    /// Since then.
    pub at: Timestamp,
    /// Its tag, for people.
    pub tag: String,
}

/// `holdfast rollback`: `to` serves until the file asks for another release than `from`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// What is to serve.
    pub to: Release,
    /// What the file asked for at that time.
    pub from: ReleaseHash,
    /// Its tag, for people.
    pub from_tag: String,
    /// Who said so.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// `holdfast pause`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Who said so.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What nginx was told, and what loaded it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// The group that gets the requests.
    pub to: Group,
    /// The group that got them before, while it differs.
    pub from: Option<Group>,
    /// SHA-256 of the servers file, hex.
    pub sha256: String,
    /// Written before the file was.
    pub opened_at: Timestamp,
    /// Set once new workers were seen with the bytes unchanged.
    pub confirmed: Option<Confirmed>,
}

/// Proof that nginx loaded the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// When that was seen.
    pub at: Timestamp,
    /// The workers that loaded it.
    pub workers: Vec<Worker>,
}

/// One change to a [`Memory`], as a step of a plan or of a verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryChange {
    /// A rollout starts.
    Attempt(Box<Attempt>),
    /// A rollout was superseded or given up.
    EndAttempt,
    /// A release serves; what served before becomes `previous` when its release differs.
    Commit(Box<Committed>),
    /// A release failed.
    Quarantine(ReleaseHash, Quarantine),
    /// The file asks for another release, or a person said `retry`: this one may be tried again.
    Release(ReleaseHash),
    /// A person rolled back.
    Pin(Box<Pin>),
    /// The file asks for another release.
    Unpin,
    /// A person promoted exactly this release.
    Promote(ReleaseHash),
    /// A person paused.
    Pause(Paused),
    /// A person resumed.
    Resume,
    /// A person approved the removal.
    ApproveRemoval,
    /// The service is back in the file: an approval is not kept for the next time it leaves.
    WithdrawRemoval,
    /// The servers file is about to be written.
    OpenSwitch(Box<Switch>),
    /// New workers were seen with the file unchanged.
    ConfirmSwitch(Confirmed),
    /// A drifted field is about to be put back.
    Repair(DriftField, Timestamp),
    /// A lost replica is about to be replaced.
    Loss(Timestamp),
    /// Every replica was seen with these live fields.
    ApplyLive(Live),
    /// A task definition was seen that is of this release.
    Registered(ReleaseHash, String),
    /// The task definition releases are made from.
    AdoptBase(String),
    /// The deployment that carries out the rollout was seen.
    Deployment(String),
    /// These live fields of an ECS service were seen in force.
    ApplyEcsLive(EcsLive),
    /// The weights of a canary step were seen in force.
    Canary(Canary),
    /// The registry was cleaned up after the commit of that moment.
    Cleaned(Timestamp),
    /// The tag failed, and the desired state is about to leave it or has left it.
    Revert(Quarantine),
    /// A person said `retry`: this tag may be followed again.
    Unrevert(String),
    /// The service is gone: everything is forgotten (its history stays).
    Forget,
}

/// Releases whose task definition is remembered: more than can be gone back to.
const REGISTERED: usize = 32;
/// Failed tags that are remembered; the plan says which is let go of, for it knows the lowest.
pub const REVERTED: usize = 64;

impl Memory {
    /// Applies `change`. Applying the same change again changes nothing.
    pub fn apply(&mut self, change: &MemoryChange) {
        match change {
            MemoryChange::Attempt(attempt) => self.attempt = Some((**attempt).clone()),
            MemoryChange::EndAttempt => self.attempt = None,
            MemoryChange::Commit(committed) => self.commit(committed),
            MemoryChange::Quarantine(release, why) => {
                self.quarantined.insert(release.clone(), why.clone());
                self.attempt = None;
            }
            MemoryChange::Release(release) => {
                self.quarantined.remove(release);
            }
            MemoryChange::Pin(pin) => self.pin = Some((**pin).clone()),
            MemoryChange::Unpin => self.pin = None,
            MemoryChange::Promote(release) => self.promoted = Some(release.clone()),
            MemoryChange::Pause(paused) => self.paused = Some(paused.clone()),
            MemoryChange::Resume => self.paused = None,
            MemoryChange::ApproveRemoval => self.removal_approved = true,
            MemoryChange::WithdrawRemoval => self.removal_approved = false,
            MemoryChange::OpenSwitch(switch) => self.switch = Some((**switch).clone()),
            MemoryChange::ConfirmSwitch(confirmed) => {
                if let Some(switch) = &mut self.switch {
                    switch.confirmed = Some(confirmed.clone());
                }
            }
            MemoryChange::Repair(field, at) => note(self.repairs.entry(*field).or_default(), *at),
            MemoryChange::Loss(at) => note(&mut self.losses, *at),
            MemoryChange::ApplyLive(live) => self.applied_live = Some(*live),
            MemoryChange::Registered(release, arn) => self.register(release, arn),
            MemoryChange::AdoptBase(arn) => self.base = Some(arn.clone()),
            MemoryChange::Deployment(id) => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.deployment = Some(id.clone());
                }
            }
            MemoryChange::ApplyEcsLive(live) => self.ecs_live = Some(live.clone()),
            MemoryChange::Canary(canary) => self.canary = Some(canary.clone()),
            MemoryChange::Cleaned(after) => self.cleaned_after = Some(*after),
            MemoryChange::Revert(failed) => {
                self.reverted.insert(failed.tag.clone(), failed.clone());
            }
            MemoryChange::Unrevert(tag) => {
                self.reverted.remove(tag);
            }
            MemoryChange::Forget => *self = Self::default(),
        }
    }

    /// Remembers it; lets go of ones nothing can go back to when there are too many.
    fn register(&mut self, release: &ReleaseHash, arn: &str) {
        self.registered.insert(release.clone(), arn.to_owned());
        if self.registered.len() > REGISTERED {
            let known = [&self.committed, &self.previous].into_iter().flatten().map(|it| it.release.hash());
            let mut needed: Vec<ReleaseHash> = known.collect();
            needed.push(release.clone());
            needed.extend(self.attempt.iter().map(|it| it.release.hash()));
            needed.extend(self.pin.iter().map(|it| it.to.hash()));
            self.registered.retain(|known, _| needed.contains(known));
        }
    }

    /// Every tag that failed here, and why.
    pub fn failed_tags(&self) -> BTreeMap<&str, &Quarantine> {
        let reverted = self.reverted.iter().map(|(tag, why)| (tag.as_str(), why));
        reverted.chain(self.quarantined.values().map(|why| (why.tag.as_str(), why))).collect()
    }

    fn commit(&mut self, committed: &Committed) {
        // What serves is no failure any more, whatever it was.
        self.reverted.remove(committed.release.tag.as_str());
        self.first_switch.get_or_insert(committed.at);
        let digest = committed.release.digest.clone();
        self.images.retain(|known| *known != digest);
        self.images.insert(0, digest);
        self.images.truncate(64);
        if let Some(before) = self.committed.take()
            && before.release.hash() != committed.release.hash()
        {
            self.previous = Some(before);
        }
        self.committed = Some(committed.clone());
        self.attempt = None;
        self.canary = None;
    }
}

fn note(times: &mut Vec<Timestamp>, at: Timestamp) {
    if times.last() != Some(&at) {
        times.push(at);
    }
    if times.len() > 8 {
        times.remove(0);
    }
}
