//! Holds: every reason not to act, each a variant with a sentence a tired operator understands.

mod display;
mod meaning;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::colour::Group;
use crate::model::desired::DriftField;
use crate::model::release::ReleaseHash;
use crate::model::snapshot::Why;

/// One reason not to act now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// `holdfast pause`.
    Paused {
        /// Who.
        by: String,
        /// Since when.
        since: Timestamp,
    },
    /// A rollout waits for replicas to become healthy.
    AwaitingHealth {
        /// Which group.
        group: Group,
        /// Healthy now.
        healthy: u32,
        /// Wanted.
        wanted: u32,
        /// The last bad answer.
        last: Option<Why>,
        /// When it counts as failed.
        deadline: Timestamp,
    },
    /// `promote: manual`.
    AwaitingPromotion {
        /// What is ready.
        tag: String,
        /// Its release.
        release: ReleaseHash,
    },
    /// Old workers of nginx still serve their last requests.
    Draining {
        /// Old workers left.
        workers: u32,
        /// When it stops waiting.
        until: Timestamp,
    },
    /// The old colour stays warm.
    Baking {
        /// Which colour is kept.
        old: Group,
        /// Until then.
        until: Timestamp,
    },
    /// The release the file asks for failed and is not tried again by itself.
    Quarantined {
        /// Its tag.
        tag: String,
        /// Why it failed.
        why: String,
    },
    /// A person rolled back; the file still asks for what was left.
    RolledBack {
        /// The tag left.
        from: String,
        /// The tag that serves.
        to: String,
        /// Who.
        by: String,
    },
    /// The service left the file without an acknowledgement.
    RemovalNotAcknowledged {
        /// Its name.
        service: String,
    },
    /// The tag could not be resolved.
    ImageUnresolved {
        /// The image as written.
        image: String,
        /// What happened.
        why: Why,
    },
    /// The registry has no such tag, or the engine no such image.
    ImageMissing {
        /// The image as written.
        image: String,
    },
    /// The env file is not there.
    EnvFileMissing {
        /// As written.
        path: String,
        /// What happened, when it is there and cannot be read.
        why: Option<Why>,
    },
    /// The engine cannot be read.
    PlatformUnreadable {
        /// What happened.
        why: Why,
    },
    /// The credentials belong to another account.
    WrongAwsAccount {
        /// As the file says.
        wanted: String,
        /// As STS says.
        found: String,
    },
    /// The account could not be confirmed.
    AwsAccountUnknown {
        /// What happened.
        why: Why,
    },
    /// A container with our labels or on our name that is not ours.
    NotOurs {
        /// Its name.
        name: String,
        /// Why not.
        why: Why,
    },
    /// A claimed resource carries another controller's mark.
    OwnedByAnother {
        /// Its name.
        name: String,
        /// The other controller.
        owner: String,
    },
    /// No port left in the range.
    NoSparePort {
        /// Which group.
        group: Group,
        /// What is needed.
        why: Why,
    },
    /// nginx does not include the servers file.
    NginxIncludeMissing {
        /// The file.
        file: PathBuf,
        /// For the suggested lines.
        service: String,
    },
    /// `nginx -t` refuses the configuration.
    NginxConfigInvalid {
        /// In its words.
        why: Why,
    },
    /// nginx is not running; it is never started by us.
    NginxNotRunning,
    /// What nginx loaded is not known.
    TrafficUnreadable {
        /// What happened.
        why: Why,
    },
    /// Memory is lost and the traffic is split between the colours.
    ColourUnknown,
    /// Reality keeps being changed back by somebody.
    Conflict {
        /// What field.
        field: DriftField,
        /// How often it was put back.
        repairs: u32,
        /// When it is put back again.
        until: Timestamp,
    },
    /// Replicas are lost again and again.
    LossBackoff {
        /// How many are missing.
        missing: u32,
        /// When they are replaced.
        until: Timestamp,
    },
    /// `drift.mode: detect`.
    DriftReported {
        /// What field.
        field: DriftField,
        /// Where and what.
        what: String,
    },
    /// A serving replica is unhealthy and cannot be spared.
    LastReplicaUnhealthy {
        /// Its name.
        name: String,
        /// What it answered.
        why: Why,
    },
    /// An attempt to bring it up failed; nothing serves and the file asks for nothing else.
    Failing {
        /// Which group.
        group: Group,
        /// What happened.
        why: Why,
    },
    /// ECS or the load balancer cannot be read.
    EcsUnreadable {
        /// What of it.
        what: String,
        /// What happened.
        why: Why,
    },
    /// The ECS service is not there, and nothing says how to make it.
    EcsServiceMissing {
        /// `cluster/service`.
        name: String,
        /// What to do.
        hint: String,
    },
    /// The ECS service is being deleted.
    EcsServiceDraining {
        /// `cluster/service`.
        name: String,
    },
    /// Its deployments are somebody else's business.
    PlatformOwnsDeployment {
        /// `cluster/service`.
        name: String,
        /// `CODE_DEPLOY`, `EXTERNAL` …
        controller: String,
    },
    /// No task definition can be made from the base.
    TaskDefinitionUnusable {
        /// Why not.
        why: Why,
    },
    /// An alarm of the deployment configuration is in ALARM: ECS would ignore it for the whole deployment.
    AlarmActive {
        /// Which.
        alarms: Vec<String>,
    },
    /// Every task runs, and not long enough yet to be trusted with requests.
    Steadying {
        /// Which group.
        group: Group,
        /// Until then.
        until: Timestamp,
    },
    /// A canary step stays for a while.
    Canary {
        /// Who gets the share.
        group: Group,
        /// Percent.
        weight: u16,
        /// Until then.
        until: Timestamp,
    },
    /// The colour that got the requests may finish them.
    DrainingColour {
        /// Which.
        group: Group,
        /// Until then.
        until: Timestamp,
    },
    /// AWS asks for fewer calls.
    Throttled {
        /// Which step waits.
        step: String,
        /// When it is tried again.
        until: Timestamp,
    },
    /// A step of the last turn failed.
    StepFailed {
        /// Which.
        step: String,
        /// Why.
        why: Why,
        /// When it is looked at again.
        until: Timestamp,
    },
    /// The finished plan broke an invariant: a bug, and nothing was done.
    PlanRefused {
        /// Which one.
        invariant: String,
    },
    /// What is remembered of the service cannot be understood: it may be paused or pinned.
    MemoryUnreadable {
        /// What is wrong, and where.
        why: Why,
    },
    /// The tags it follows are not known: it stays as the file says.
    FollowUnreadable {
        /// What happened.
        why: Why,
    },
    /// No tag fits what it follows, and the file's does not either.
    NoTagFits {
        /// What it follows, as written.
        policy: String,
        /// What was found instead.
        why: Why,
    },
    /// A newer tag fits, but failed here, or one after it did.
    TagSkipped {
        /// Which.
        tag: String,
        /// The one after it that failed; none: itself.
        below: Option<String>,
        /// Why it failed.
        why: Why,
    },
    /// A tag would be committed, and the desired state cannot be written to.
    SourceClosed {
        /// Which; none while there is no newer one.
        tag: Option<String>,
        /// Why it cannot be written to.
        why: Why,
    },
    /// `--detect`: steps are shown, not taken.
    DetectOnly {
        /// How many.
        steps: u32,
    },
}

/// The later of two optional moments' opposite: the earliest one that is set.
pub fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// `at + duration`, saturating at the end of time.
pub fn after(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}
