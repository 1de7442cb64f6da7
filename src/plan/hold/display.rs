//! The sentence of every hold.

use std::fmt;

use super::Hold;
use crate::model::words::counted;

impl fmt::Display for Hold {
    #[expect(clippy::too_many_lines, reason = "one sentence a variant: a table")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused { by, since } => {
                write!(f, "paused by {by} since {since:.0}; nothing is changed until `holdfast resume`")
            }
            Self::AwaitingHealth { group, healthy, wanted, last, deadline } => {
                write!(f, "waiting{}: {healthy} of {wanted} healthy, until {deadline:.0}", group.on())?;
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
            Self::ColourUnknown => {
                write!(f, "the memory is lost and both colours get requests; write `activeColour: blue` or `green`")
            }
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
            Self::EcsUnreadable { what, why } => write!(f, "{what} cannot be read: {why}"),
            Self::EcsServiceMissing { name, hint } => write!(f, "there is no ECS service {name}; {hint}"),
            Self::EcsServiceDraining { name } => write!(f, "{name} goes away; waiting for its last tasks to end"),
            Self::PlatformOwnsDeployment { name, controller } => {
                write!(f, "{name} is deployed by {controller}, not by ECS rolling updates; it is left alone")
            }
            Self::TaskDefinitionUnusable { why } => write!(f, "no task definition can be made: {why}"),
            Self::AlarmActive { alarms } => write!(
                f,
                "in ALARM: {}; ECS would ignore it for the whole deployment, so none is begun before it is over",
                alarms.join(", ")
            ),
            Self::Steadying { group, until } => {
                write!(f, "every task of {group} runs; they get no request before they have lasted until {until:.0}")
            }
            Self::Canary { group, weight, until } => {
                write!(f, "{group} gets {weight} % of the requests until {until:.0}")
            }
            Self::DrainingColour { group, until } => write!(f, "{group} may finish its requests until {until:.0}"),
            Self::Throttled { step, until } => {
                write!(f, "AWS asks for fewer calls: waiting until {until:.0} to {step}")
            }
            Self::StepFailed { step, why, until } => write!(f, "could not {step}: {why}; looking again at {until:.0}"),
            Self::PlanRefused { invariant } => {
                write!(f, "the plan would break {invariant}; nothing was done. This is a bug: please report it")
            }
            Self::MemoryUnreadable { why } => {
                write!(f, "nothing is done: what is remembered of it cannot be read: {why}")
            }
            Self::FollowUnreadable { why } => write!(f, "it stays at the tag of the file: {why}"),
            Self::NoTagFits { policy, why } => write!(f, "no tag fits {policy}: {why}"),
            Self::TagSkipped { tag, below: Some(failed), why } => write!(
                f,
                "{tag} fits, but {failed}, which does not come before it, failed here: {why}; a tag after that is \
                 followed, or `holdfast retry` tries them once more"
            ),
            Self::TagSkipped { tag, below: None, why } => write!(
                f,
                "{tag} is newer and fits, but it failed here: {why}; a newer one is followed, or `holdfast retry` tries it \
                 once more"
            ),
            Self::SourceClosed { tag: Some(tag), why } => write!(f, "tag {tag} cannot be committed: {why}"),
            Self::SourceClosed { tag: None, why } => write!(f, "no tag can be committed: {why}"),
            Self::DetectOnly { steps } => write!(f, "--detect: {} left undone", counted(*steps, "step")),
        }
    }
}
