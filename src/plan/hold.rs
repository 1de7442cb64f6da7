//! Holds: every reason not to act, each a variant with a sentence a tired operator understands.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::colour::Group;
use crate::model::desired::DriftField;
use crate::model::release::ReleaseHash;
use crate::model::snapshot::Why;
use crate::model::words::counted;

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
    /// `--detect`: steps are shown, not taken.
    DetectOnly {
        /// How many.
        steps: u32,
    },
}

impl Hold {
    /// The stable name of the variant.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Paused { .. } => "Paused",
            Self::AwaitingHealth { .. } => "AwaitingHealth",
            Self::AwaitingPromotion { .. } => "AwaitingPromotion",
            Self::Draining { .. } => "Draining",
            Self::Baking { .. } => "Baking",
            Self::Quarantined { .. } => "Quarantined",
            Self::RolledBack { .. } => "RolledBack",
            Self::RemovalNotAcknowledged { .. } => "RemovalNotAcknowledged",
            Self::ImageUnresolved { .. } => "ImageUnresolved",
            Self::ImageMissing { .. } => "ImageMissing",
            Self::EnvFileMissing { .. } => "EnvFileMissing",
            Self::PlatformUnreadable { .. } => "PlatformUnreadable",
            Self::WrongAwsAccount { .. } => "WrongAwsAccount",
            Self::AwsAccountUnknown { .. } => "AwsAccountUnknown",
            Self::NotOurs { .. } => "NotOurs",
            Self::OwnedByAnother { .. } => "OwnedByAnother",
            Self::NoSparePort { .. } => "NoSparePort",
            Self::NginxIncludeMissing { .. } => "NginxIncludeMissing",
            Self::NginxConfigInvalid { .. } => "NginxConfigInvalid",
            Self::NginxNotRunning => "NginxNotRunning",
            Self::TrafficUnreadable { .. } => "TrafficUnreadable",
            Self::ColourUnknown => "ColourUnknown",
            Self::Conflict { .. } => "Conflict",
            Self::LossBackoff { .. } => "LossBackoff",
            Self::DriftReported { .. } => "DriftReported",
            Self::LastReplicaUnhealthy { .. } => "LastReplicaUnhealthy",
            Self::Failing { .. } => "Failing",
            Self::StepFailed { .. } => "StepFailed",
            Self::PlanRefused { .. } => "PlanRefused",
            Self::MemoryUnreadable { .. } => "MemoryUnreadable",
            Self::DetectOnly { .. } => "DetectOnly",
        }
    }

    /// When it ends by itself, if it does.
    pub const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::AwaitingHealth { deadline: until, .. }
            | Self::Draining { until, .. }
            | Self::Baking { until, .. }
            | Self::Conflict { until, .. }
            | Self::LossBackoff { until, .. }
            | Self::StepFailed { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// Whether the world is on its way by itself: a wait that is part of a rollout going well.
    pub const fn is_progress(&self) -> bool {
        matches!(self, Self::AwaitingHealth { .. } | Self::Draining { .. } | Self::Baking { .. })
    }
}

impl fmt::Display for Hold {
    #[expect(clippy::too_many_lines, reason = "one sentence a variant: a table")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused { by, since } => {
                write!(f, "paused by {by} since {since:.0}; nothing is changed until `holdfast resume`")
            }
            Self::AwaitingHealth { group, healthy, wanted, last, deadline } => {
                write!(f, "waiting for {group}: {healthy} of {wanted} healthy, until {deadline:.0}")?;
                match last {
                    Some(last) => write!(f, "; last answer: {last}"),
                    None => Ok(()),
                }
            }
            Self::AwaitingPromotion { tag, release } => {
                write!(f, "{tag} ({release}) is ready; it goes live with `holdfast promote`")
            }
            Self::Draining { workers, until } => {
                let workers = counted(*workers, "old nginx worker");
                write!(f, "{workers} to finish the last requests, until {until:.0} at most")
            }
            Self::Baking { old, until } => write!(f, "{old} stays warm until {until:.0}, for a fast way back"),
            Self::Quarantined { tag, why } => write!(
                f,
                "{tag} failed and is not tried again: {why}; change the tag, or `holdfast retry` to try it once more"
            ),
            Self::RolledBack { from, to, by } => {
                write!(f, "rolled back from {from} to {to} by {by}; the file still asks for {from}")
            }
            Self::RemovalNotAcknowledged { service } => write!(
                f,
                "{service} is no longer in the file but still runs; add `acknowledge: [remove {service}]` to the file, \
                 or say `holdfast remove {service}`"
            ),
            Self::ImageUnresolved { image, why } => write!(f, "{image} cannot be resolved: {why}"),
            Self::ImageMissing { image } => write!(f, "{image} does not exist where it is looked for"),
            Self::EnvFileMissing { path, why: None } => {
                write!(f, "env file {path} is not there; write it under `envRoot` of holdfast.yaml")
            }
            Self::EnvFileMissing { path, why: Some(why) } => write!(f, "env file {path} cannot be read: {why}"),
            Self::PlatformUnreadable { why } => write!(f, "the container engine cannot be read: {why}"),
            Self::WrongAwsAccount { wanted, found } => {
                write!(f, "the credentials belong to AWS account {found}, the file is for {wanted}")
            }
            Self::AwsAccountUnknown { why } => write!(f, "the AWS account could not be confirmed: {why}"),
            Self::NotOurs { name, why } => write!(f, "container {name} is left alone: {why}"),
            Self::OwnedByAnother { name, owner } => write!(f, "{name} belongs to controller {owner}"),
            Self::NoSparePort { group, why } => write!(f, "no spare port for {group}: {why}"),
            Self::NginxIncludeMissing { file, service } => write!(
                f,
                "nginx does not include {file} yet; add `upstream {service} {{ include {file}; keepalive 32; }}` to its \
                 `http` block, use `proxy_pass http://{service};`, then reload nginx",
                file = file.display()
            ),
            Self::NginxConfigInvalid { why } => write!(f, "nginx refuses its configuration: {why}"),
            Self::NginxNotRunning => write!(f, "nginx is not running; start it (Holdfast never does)"),
            Self::TrafficUnreadable { why } => write!(f, "what nginx has loaded is not known: {why}"),
            Self::ColourUnknown => write!(
                f,
                "the memory is lost and nginx sends requests to both colours; write `activeColour: blue` or `green`"
            ),
            Self::Conflict { field, repairs, until } => {
                let times = counted(*repairs, "time");
                write!(f, "somebody keeps changing {field}: put back {times}; standing down until {until:.0}")
            }
            Self::LossBackoff { missing, until } => {
                let missing = counted(*missing, "lost replica");
                write!(f, "{missing} to be replaced at {until:.0}: losses keep coming")
            }
            Self::DriftReported { field, what } => write!(f, "{field} drifted ({what}); drift.mode is detect"),
            Self::LastReplicaUnhealthy { name, why } => {
                write!(f, "{name} is unhealthy ({why}) but the last one: it keeps its requests until it is replaced")
            }
            Self::Failing { group, why } => write!(f, "{group} does not come up: {why}"),
            Self::StepFailed { step, why, until } => write!(f, "could not {step}: {why}; looking again at {until:.0}"),
            Self::PlanRefused { invariant } => {
                write!(f, "the plan would break {invariant}; nothing was done. This is a bug: please report it")
            }
            Self::MemoryUnreadable { why } => {
                write!(f, "nothing is done: what is remembered of it cannot be read: {why}")
            }
            Self::DetectOnly { steps } => write!(f, "--detect: {} left undone", counted(*steps, "step")),
        }
    }
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
