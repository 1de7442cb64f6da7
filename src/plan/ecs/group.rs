//! An ECS service as the rollout sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::colour::Group;
use crate::model::desired::Check;
use crate::model::ecs::seen::{DeploymentSeen, RolloutState, ServiceSeen, StoppedTask, TargetsSeen};
use crate::model::ecs::tags;
use crate::model::image::Repository;
use crate::model::memory::{Attempt, MemoryChange};
use crate::model::release::{Release, ReleaseHash};
use crate::model::snapshot::{Fact, Why};
use crate::plan::hold::after;
use crate::plan::rollout::{GroupSeen, Progress};
use crate::plan::step::{PlannedStep, Step, revision};

use super::{Facts, Lowered};

/// How long every task has to have run before its colour gets requests, unless `health.running` says otherwise.
const STEADY: Duration = Duration::from_secs(5);
/// How far AWS's clock and ours may be apart.
const SKEW: Duration = Duration::from_secs(60);

/// Whether the service is set to `release`: by the task definition registered for it, or by what its own one means.
pub fn runs(facts: &Facts<'_>, seen: &ServiceSeen, release: &Release) -> bool {
    facts.known(&release.hash()) == Some(seen.task_definition.as_str()) || means(facts, seen, release)
}

fn means(facts: &Facts<'_>, seen: &ServiceSeen, release: &Release) -> bool {
    let (Some(definition), Some(part)) = (seen.definition.seen(), &release.ecs) else { return false };
    let sidecars = facts.ecs.containers.iter().map(|(name, it)| (name.as_str(), &it.image));
    let mut repositories: BTreeMap<&str, &Repository> = sidecars.collect();
    repositories.insert(&part.container, &release.repository);
    definition.content.pinned(&repositories, &seen.digests).sha256() == part.definition
}

/// The release the service is set to, where it is one we know.
pub fn release_of(facts: &Facts<'_>, seen: &ServiceSeen) -> Option<ReleaseHash> {
    let known = facts.seen.registered.iter().chain(&facts.memory.registered);
    let by_arn = known.into_iter().find(|(_, arn)| **arn == seen.task_definition).map(|(hash, _)| hash.clone());
    let memory = facts.memory;
    let candidates = facts
        .wanted
        .file
        .iter()
        .chain(memory.committed.iter().map(|it| &it.release))
        .chain(memory.previous.iter().map(|it| &it.release))
        .chain(memory.pin.iter().map(|it| &it.to));
    by_arn.or_else(|| candidates.into_iter().find(|it| means(facts, seen, it)).map(Release::hash))
}

/// What `group` amounts to, on its way to `release`.
pub fn summarise(facts: &Facts<'_>, group: Group, release: Option<&Release>) -> GroupSeen {
    let Some(seen) = facts.of(group) else {
        return GroupSeen { release: None, containers: 0, healthy: 0, progress: Progress::Absent };
    };
    GroupSeen {
        release: release_of(facts, seen),
        containers: seen.desired.max(seen.running),
        healthy: healthy(facts, group, seen),
        progress: progress(facts, group, seen, release),
    }
}

/// Running tasks, and behind a load balancer no more than pass its health check.
pub fn healthy(facts: &Facts<'_>, group: Group, seen: &ServiceSeen) -> u32 {
    match targets(facts, group) {
        Some(Fact::Seen(targets)) => seen.running.min(targets.healthy),
        Some(Fact::Absent | Fact::Unreadable(_)) => 0,
        None => seen.running,
    }
}

fn targets<'a>(facts: &Facts<'a>, group: Group) -> Option<&'a Fact<TargetsSeen>> {
    facts.alb.and_then(|alb| alb.targets.get(&group))
}

/// How many tasks the group is to have: what the file says, or what an autoscaler asks for.
pub fn wanted_count(facts: &Facts<'_>, seen: &ServiceSeen, replicas: u32) -> u32 {
    if facts.ecs.external_replicas || seen.daemon { seen.desired } else { replicas }
}

fn progress(facts: &Facts<'_>, group: Group, seen: &ServiceSeen, release: Option<&Release>) -> Progress {
    let attempt = release.and_then(|release| {
        facts.memory.attempt.as_ref().filter(|it| it.release.hash() == release.hash() && it.group == group)
    });
    let deadline = after(attempt.map_or(facts.now, |it| it.started_at), facts.service.rollout.progress_deadline);
    let not_begun = Progress::Converging { begun: false, last: None, deadline };
    let Some(release) = release else { return not_begun };
    if !runs(facts, seen, release) {
        return match attempt.and_then(|attempt| reverted(facts, seen, release, attempt)) {
            Some(why) => Progress::Failing(why),
            None if seen.desired == 0 && seen.running == 0 => Progress::Absent,
            None => not_begun,
        };
    }
    let Some(primary) = seen.primary() else { return not_begun };
    if failed_before(facts, group, seen, &release.hash()) {
        return not_begun;
    }
    if primary.rollout == RolloutState::Failed {
        return Progress::Failing(with_reason(&primary.reason, stopped(seen, &primary.task_definition)));
    }
    let wanted = wanted_count(facts, seen, facts.service.replicas);
    let complete = match primary.rollout {
        // Tasks of the one before may still be on their way out.
        RolloutState::Completed => !seen.is_deploying(),
        RolloutState::Unknown => seen.deployments.len() == 1,
        RolloutState::InProgress | RolloutState::Failed => false,
    };
    let mut last = stopped(seen, &primary.task_definition);
    let lasts =
        attempt.is_none() || facts.alb.is_none() || steady_from(facts, seen).is_some_and(|from| from <= facts.now);
    // Once it serves, another count is drift, and no matter of the release.
    let serves =
        facts.memory.committed.as_ref().is_some_and(|it| it.group == group && it.release.hash() == release.hash());
    let enough = seen.running >= seen.desired && (serves || seen.desired == wanted);
    if wanted == 0 && seen.desired == 0 && seen.running == 0 && group != Group::Only && !serves {
        return Progress::Absent;
    }
    if complete && lasts && enough && (seen.desired > 0 || group == Group::Only || (serves && wanted == 0)) {
        match targets(facts, group) {
            None => return Progress::Ready,
            Some(Fact::Seen(targets)) if targets.healthy >= seen.desired => return Progress::Ready,
            Some(Fact::Seen(targets)) => last = targets.why.clone().or(last),
            Some(Fact::Absent) => last = Some("its target group does not exist".to_owned()),
            Some(Fact::Unreadable(why)) => last = Some(format!("its targets cannot be read: {why}")),
        }
    }
    Progress::Converging { begun: true, last, deadline }
}

/// Whether the deployment that is there failed before the rollout under way began: a person tries the release once more,
/// and ECS starts nothing by itself.
pub fn failed_before(facts: &Facts<'_>, group: Group, seen: &ServiceSeen, release: &ReleaseHash) -> bool {
    let Some(primary) = seen.primary().filter(|it| it.rollout == RolloutState::Failed) else { return false };
    let memory = facts.memory;
    match memory.attempt.as_ref().filter(|it| it.group == group && it.release.hash() == *release) {
        Some(attempt) => {
            attempt.deployment.as_ref() != Some(&primary.id)
                && primary.created_at.is_some_and(|at| after(at, SKEW) < attempt.started_at)
        }
        // One that begins with this very plan.
        None => memory.committed.as_ref().is_none_or(|it| it.group != group || it.release.hash() != *release),
    }
}

/// From when the tasks have run long enough to be trusted with requests: one that crashes after half a second is
/// `RUNNING` too.
pub fn steady_from(facts: &Facts<'_>, seen: &ServiceSeen) -> Option<Timestamp> {
    let asked = match facts.service.health.check {
        Some(Check::Running(asked)) => asked,
        _ => STEADY,
    };
    seen.youngest.map(|youngest| after(youngest, asked))
}

/// Why the rollout was ended by ECS: its deployment failed, or is gone and the service is back on what served before.
fn reverted(facts: &Facts<'_>, seen: &ServiceSeen, release: &Release, attempt: &Attempt) -> Option<Why> {
    let arn = facts.known(&release.hash())?;
    let ours = |it: &&DeploymentSeen| {
        it.task_definition == arn && it.created_at.is_none_or(|at| after(at, SKEW) >= attempt.started_at)
    };
    let failed = seen.deployments.iter().filter(ours).find(|it| it.rollout == RolloutState::Failed);
    if let Some(failed) = failed {
        return Some(with_reason(&failed.reason, stopped(seen, arn)));
    }
    let back = facts.memory.committed.as_ref().and_then(|it| facts.known(&it.release.hash()));
    if back != Some(seen.task_definition.as_str()) {
        return None;
    }
    let is_over = match &attempt.deployment {
        Some(id) => !seen.deployments.iter().any(|it| it.id == *id),
        // The reply was lost, and ECS went back before anybody looked: the tags say that the update was asked for, and what
        // is under way began after that.
        None => {
            let asked = seen.tags.get(tags::RELEASE).is_some_and(|it| it == release.hash().as_str());
            let younger = |it: &DeploymentSeen| it.created_at.is_some_and(|at| at > attempt.started_at);
            asked && seen.primary().is_some_and(younger)
        }
    };
    is_over.then(|| with_reason(&format!("ECS went back to {}", revision(&seen.task_definition)), stopped(seen, arn)))
}

fn with_reason(reason: &str, stopped: Option<Why>) -> Why {
    let reason = if reason.is_empty() { "ECS ended its deployment" } else { reason };
    match stopped {
        Some(stopped) => format!("{}; a task stopped: {stopped}", reason.trim_end_matches('.')),
        None => reason.trim_end_matches('.').to_owned(),
    }
}

/// Why the last task of this task definition stopped, in the deployment that is under way.
fn stopped(seen: &ServiceSeen, task_definition: &str) -> Option<Why> {
    let deployment = seen.deployments.iter().find(|it| it.task_definition == task_definition);
    let begun = deployment.and_then(|it| it.created_at);
    let of_it = |it: &&StoppedTask| {
        it.task_definition == task_definition && begun.is_none_or(|begun| it.at.is_none_or(|at| at >= begun))
    };
    seen.stopped.iter().find(of_it).map(|it| it.reason.clone())
}

/// What this look saw for the first time: task definitions that are registered now, the deployment to follow.
/// With a rollout that begins in this very plan, the deployment of the one before is none of its own.
pub fn note_seen(facts: &Facts<'_>, begins: bool, out: &mut Lowered) {
    let note = |change, because: &str| PlannedStep { step: Step::Remember(change), because: because.to_owned() };
    for (hash, arn) in &facts.seen.registered {
        if facts.memory.registered.get(hash) != Some(arn) && is_of_interest(facts, hash) {
            out.remember.push(note(MemoryChange::Registered(hash.clone(), arn.clone()), "it was registered"));
        }
    }
    let Some(attempt) = facts.memory.attempt.as_ref().filter(|_| !begins) else { return };
    let Some(seen) = facts.of(attempt.group) else { return };
    let Some(primary) = seen.primary() else { return };
    let hash = attempt.release.hash();
    let carries = facts.known(&hash) == Some(primary.task_definition.as_str())
        && !failed_before(facts, attempt.group, seen, &hash);
    if carries && attempt.deployment.as_ref() != Some(&primary.id) {
        out.remember.push(note(MemoryChange::Deployment(primary.id.clone()), "it carries out the rollout"));
    }
}

fn is_of_interest(facts: &Facts<'_>, hash: &ReleaseHash) -> bool {
    let memory = facts.memory;
    let known = [&memory.committed, &memory.previous].into_iter().flatten().map(|it| it.release.hash());
    known
        .chain(facts.wanted.release.iter().map(Release::hash))
        .chain(memory.attempt.iter().map(|it| it.release.hash()))
        .any(|known| known == *hash)
}
