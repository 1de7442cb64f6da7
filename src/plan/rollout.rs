//! The rollout: a target for each group and for the traffic. Knows nothing of containers.

mod canary;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::colour::{Colour, Group};
use crate::model::desired::{OnFailure, Order, Promote, Service, SourceRevision, Strategy};
use crate::model::memory::{Attempt, Committed, Memory, MemoryChange, Quarantine};
use crate::model::release::{Release, ReleaseHash};
use crate::model::snapshot::Why;

use super::hold::{Hold, after};
use super::wanted::Wanted;

/// Between two looks at a bake that lasts longer than it was to.
const AGAIN: Duration = Duration::from_secs(5);

/// What a group is to be.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupTarget {
    /// Left as it is.
    Keep,
    /// Gone, once no request reaches it.
    Absent,
    /// This many replicas of this release.
    Run(Box<Release>, u32),
}

/// Who is to get the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficTarget {
    /// Nobody's business here.
    Unmanaged,
    /// Left as it is.
    Keep,
    /// The good replicas of this group.
    To(Group),
    /// A share for this group, the rest for the one that serves.
    Split {
        /// Who gets the share.
        to: Group,
        /// Percent.
        weight: u16,
    },
}

/// How far a group is on its way to a release.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// Nothing runs.
    Absent,
    /// Not there yet.
    Converging {
        /// Whether a replica of the release is up: until then it is not the release that is late.
        begun: bool,
        /// The last bad answer.
        last: Option<Why>,
        /// When it counts as failed.
        deadline: Timestamp,
    },
    /// As many healthy replicas as wanted, and nothing else.
    Ready,
    /// It had every chance.
    Failing(Why),
}

/// A group as the rollout sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupSeen {
    /// What most of it runs.
    pub release: Option<ReleaseHash>,
    /// Containers, dead ones included.
    pub containers: u32,
    /// Good ones.
    pub healthy: u32,
    /// Towards the wanted release.
    pub progress: Progress,
}

/// Traffic as the rollout sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficSeen {
    /// Whether there is any to manage.
    pub managed: bool,
    /// Whether nginx certainly loaded what it was last told.
    pub confirmed: bool,
    /// Where it was told to send them.
    pub to: Option<Group>,
    /// The share of each group, percent; empty where there are no shares.
    pub weights: BTreeMap<Group, u16>,
}

/// What the rollout knows.
#[derive(Debug)]
pub struct Situation<'a> {
    /// The file.
    pub service: &'a Service,
    /// Its revision.
    pub revision: &'a SourceRevision,
    /// What is remembered.
    pub memory: &'a Memory,
    /// What is to serve.
    pub wanted: &'a Wanted,
    /// The group that serves.
    pub serving: Option<Group>,
    /// Every group with containers, and the target.
    pub groups: BTreeMap<Group, GroupSeen>,
    /// Who gets requests.
    pub traffic: TrafficSeen,
    /// Now.
    pub now: Timestamp,
}

/// What the rollout decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// For each group.
    pub groups: BTreeMap<Group, GroupTarget>,
    /// For the requests.
    pub traffic: TrafficTarget,
    /// Whether what serves may go first (`stopFirst`, no replicas).
    pub may_interrupt: bool,
    /// To be remembered before any other step.
    pub before: Vec<(MemoryChange, String)>,
    /// To be remembered because it was seen.
    pub seen: Vec<(MemoryChange, String)>,
    /// Why not more.
    pub holds: Vec<Hold>,
    /// In a few words.
    pub stage: String,
}

/// Where the wanted release is to run. See the colour table of the design.
pub fn target_group(
    service: &Service,
    serving: Option<Group>,
    serving_release: Option<&ReleaseHash>,
    memory: &Memory,
    wanted: &ReleaseHash,
    first: Colour,
) -> Group {
    if service.rollout.strategy == Strategy::Rolling {
        return Group::Only;
    }
    if let (0, Some(serving)) = (service.replicas, serving) {
        return serving;
    }
    let under_way = memory.attempt.as_ref().filter(|it| it.release.hash() == *wanted).and_then(|it| it.group.colour());
    match (serving.and_then(Group::colour), service.active_colour) {
        (_, Some(declared)) => declared.into(),
        (None, None) => under_way.unwrap_or(first).into(),
        (Some(serving), None) if serving_release == Some(wanted) => serving.into(),
        (Some(serving), None) => serving.other().into(),
    }
}

/// Decides. `target` is [`target_group`]'s answer; none while no release is wanted.
pub fn decide(it: &Situation<'_>, target: Option<Group>) -> Decision {
    let mut out = Decision {
        groups: BTreeMap::new(),
        traffic: match (it.traffic.managed, it.serving) {
            (false, _) => TrafficTarget::Unmanaged,
            (true, Some(serving)) => TrafficTarget::To(serving),
            (true, None) => TrafficTarget::Keep,
        },
        may_interrupt: false,
        before: it.wanted.changes.clone(),
        seen: Vec::new(),
        holds: it.wanted.holds.clone(),
        stage: String::new(),
    };
    match (&it.wanted.release, target) {
        (Some(release), Some(target)) if it.serving == Some(target) => in_place(it, &mut out, release, target),
        (Some(release), Some(target)) => across(it, &mut out, release, target),
        _ => nothing_wanted(it, &mut out),
    }
    out
}

/// Nothing is known well enough to run. A failed first deploy is cleaned up all the same.
fn nothing_wanted(it: &Situation<'_>, out: &mut Decision) {
    let clean_up = it.wanted.quarantined && it.service.rollout.on_failure.goes_back();
    for group in it.groups.keys() {
        let target = if clean_up && it.serving != Some(*group) { GroupTarget::Absent } else { GroupTarget::Keep };
        out.groups.insert(*group, target);
    }
    out.stage = if it.wanted.quarantined { "failed" } else { "waiting" }.to_owned();
}

/// The wanted release belongs where the requests already go: repair, scale, replace in place.
fn in_place(it: &Situation<'_>, out: &mut Decision, release: &Release, group: Group) {
    let hash = release.hash();
    let memory = it.memory;
    let committed = memory.committed.as_ref().filter(|it| it.group == group && it.release.hash() == hash);
    let progress = it.groups.get(&group).map_or(Progress::Absent, |seen| seen.progress.clone());
    out.groups.insert(group, GroupTarget::Run(Box::new(release.clone()), it.service.replicas));
    if committed.is_none() && progress != Progress::Ready && it.service.replicas > 0 {
        if awaits_promotion(it, release) {
            out.holds.push(Hold::AwaitingPromotion { tag: release.tag.to_string(), release: hash });
            let kept = memory.committed.as_ref().filter(|it| it.group == group);
            let keep = kept
                .map_or(GroupTarget::Keep, |it2| GroupTarget::Run(Box::new(it2.release.clone()), it.service.replicas));
            out.groups.insert(group, keep);
            keep_others(it, out, group);
            out.stage = format!("{} awaits promotion", release.tag);
            return;
        }
        begin(it, out, release, group);
        fail_if_failing(it, out, release, group, &progress);
        out.stage = format!("replacing in place{}", group.on());
        if matches!(it.service.rollout.strategy, Strategy::BlueGreen) {
            out.stage.push_str(" (no bake in place)");
        }
    } else if committed.is_none() && it.service.replicas == 0 && it.service.ecs.is_some() {
        // No task of it will run, and the service is set to it all the same.
        begin(it, out, release, group);
    }
    let there = progress == Progress::Ready
        || (it.service.replicas == 0 && it.groups.get(&group).is_none_or(|g| g.containers == 0));
    let carried = !it.traffic.managed || it.traffic.confirmed;
    let exactly = committed.is_some_and(|it| it.release == *release);
    if there && carried && !exactly {
        out.seen.push(commit(it, release, group, committed));
    } else if memory.attempt.is_some() && committed.is_some() {
        out.before.push((MemoryChange::EndAttempt, "the file asks for what serves".to_owned()));
    }
    if committed.is_none() {
        keep_others(it, out, group);
    } else {
        settle_others(it, out, group, &progress);
    }
}

fn commit(it: &Situation<'_>, release: &Release, group: Group, same: Option<&Committed>) -> (MemoryChange, String) {
    let committed = Committed {
        release: release.clone(),
        group,
        revision: it.revision.clone(),
        at: same.map_or(it.now, |same| same.at),
        servers_file: it.service.nginx.as_ref().map(|nginx| nginx.file.clone()),
        place: it.service.ecs.as_ref().map(crate::model::ecs::Ecs::place),
    };
    (MemoryChange::Commit(Box::new(committed)), format!("{} was seen serving", release.tag))
}

fn awaits_promotion(it: &Situation<'_>, release: &Release) -> bool {
    it.service.rollout.promote == Promote::Manual
        && it.memory.promoted.as_ref() != Some(&release.hash())
        && it.memory.pin.is_none()
        && !it.wanted.quarantined
        && it.memory.committed.is_some()
}

fn begin(it: &Situation<'_>, out: &mut Decision, release: &Release, group: Group) {
    let hash = release.hash();
    let under_way = it.memory.attempt.as_ref().is_some_and(|at| at.release.hash() == hash && at.group == group);
    if !under_way {
        let attempt = Attempt { release: release.clone(), group, started_at: it.now, deployment: None };
        out.before.push((MemoryChange::Attempt(Box::new(attempt)), it.wanted.because.clone()));
    }
}

/// A failing attempt is quarantined; a way back that fails is only held, there is nothing to go back to.
fn fail_if_failing(it: &Situation<'_>, out: &mut Decision, release: &Release, group: Group, progress: &Progress) {
    let started = it.memory.attempt.as_ref().filter(|at| at.release.hash() == release.hash()).map(|at| at.started_at);
    let overdue = started.is_some_and(|at| after(at, it.service.rollout.progress_deadline) <= it.now);
    let why = match progress {
        Progress::Failing(why) => why.clone(),
        Progress::Converging { begun: true, last, .. } if overdue => format!(
            "not ready within {}s{}",
            it.service.rollout.progress_deadline.as_secs(),
            last.as_ref().map(|last| format!(": {last}")).unwrap_or_default()
        ),
        _ => return,
    };
    let is_the_files = it.wanted.file.as_ref().is_some_and(|file| file.hash() == release.hash());
    if it.wanted.quarantined || it.memory.pin.is_some() || !is_the_files {
        out.holds.push(Hold::Failing { group, why });
        return;
    }
    let quarantine = Quarantine { why, at: it.now, tag: release.tag.to_string() };
    out.before.push((MemoryChange::Quarantine(release.hash(), quarantine), "its rollout failed".to_owned()));
}

/// The wanted release belongs on another group than the one that serves: bring it up there, then switch.
fn across(it: &Situation<'_>, out: &mut Decision, release: &Release, target: Group) {
    let progress = it.groups.get(&target).map_or(Progress::Absent, |seen| seen.progress.clone());
    keep_others(it, out, target);
    let stop_first = it.service.rollout.order == Order::StopFirst;
    if let Some(serving) = it.serving {
        let running = it.groups.get(&serving).is_some_and(|seen| seen.containers > 0);
        if stop_first && !(it.memory.promoted.is_none() && awaits_promotion(it, release)) {
            out.may_interrupt = true;
            out.groups.insert(serving, GroupTarget::Absent);
            if running {
                begin(it, out, release, target);
                out.stage = format!("stopping {serving} first");
                return;
            }
        } else if let Some(committed) = it
            .memory
            .committed
            .as_ref()
            .filter(|at| at.group == serving && !it.memory.quarantined.contains_key(&at.release.hash()))
        {
            out.groups.insert(serving, GroupTarget::Run(Box::new(committed.release.clone()), it.service.replicas));
        }
    }
    begin(it, out, release, target);
    out.groups.insert(target, GroupTarget::Run(Box::new(release.clone()), it.service.replicas));
    out.stage = format!("starting {target}");
    match &progress {
        Progress::Ready => {
            if awaits_promotion(it, release) && !stop_first {
                out.holds.push(Hold::AwaitingPromotion { tag: release.tag.to_string(), release: release.hash() });
                out.stage = format!("{target} awaits promotion");
            } else if let Some(weight) = canary::share(it, out, release, target) {
                out.traffic = TrafficTarget::Split { to: target, weight };
                out.stage = format!("canary: {target} gets {weight} %");
            } else if it.traffic.managed {
                out.traffic = TrafficTarget::To(target);
                out.stage = format!("switching to {target}");
            } else {
                out.seen.push(commit(it, release, target, None));
            }
        }
        Progress::Absent if it.service.replicas == 0 => out.seen.push(commit(it, release, target, None)),
        _ => fail_if_failing(it, out, release, target, &progress),
    }
}

fn keep_others(it: &Situation<'_>, out: &mut Decision, except: Group) {
    for group in it.groups.keys().filter(|group| **group != except) {
        out.groups.entry(*group).or_insert(GroupTarget::Keep);
    }
}

/// After the commit: the old colour stays warm for the bake, everything else goes.
fn settle_others(it: &Situation<'_>, out: &mut Decision, group: Group, progress: &Progress) {
    let Some(committed) = &it.memory.committed else { return };
    for (other, seen) in it.groups.iter().filter(|(other, seen)| **other != group && seen.containers > 0) {
        let until = end_of_bake(it, committed, progress);
        let previous = it.memory.previous.as_ref().filter(|previous| previous.group == *other);
        let is_previous = previous.is_some_and(|previous| Some(previous.release.hash()) == seen.release);
        // A change of colour alone: the old colour runs the very release that serves, and is the fastest way back all the same.
        let is_twin = seen.release == Some(committed.release.hash());
        let failed = seen.release.as_ref().is_some_and(|hash| it.memory.quarantined.contains_key(hash));
        let blue_green = it.service.rollout.strategy == Strategy::BlueGreen;
        let start_first = it.service.rollout.order == Order::StartFirst;
        if (is_previous || is_twin) && !failed && blue_green && start_first && it.now < until && seen.healthy > 0 {
            out.groups.insert(*other, GroupTarget::Keep);
            out.holds.push(Hold::Baking { old: *other, until });
            out.stage = format!("baking {group}");
            if !is_twin {
                back_if_failing(it, out, committed, progress);
            }
        } else if failed && it.service.rollout.on_failure == OnFailure::Hold {
            out.groups.insert(*other, GroupTarget::Keep);
        } else {
            out.groups.insert(*other, GroupTarget::Absent);
            if out.stage.is_empty() {
                out.stage = format!("removing {other}");
            }
            let overlaps = it.service.rollout.order == Order::StopFirst;
            if overlaps {
                out.may_interrupt = true;
                out.groups.insert(group, GroupTarget::Keep);
            }
        }
    }
}

/// A release that crashes right after the switch may outlast a short bake: while not all of it is healthy the old colour
/// stays the way back, for the time a replica has to become healthy at most.
fn end_of_bake(it: &Situation<'_>, committed: &Committed, progress: &Progress) -> Timestamp {
    let until = after(committed.at, it.service.rollout.bake);
    let longest = after(until, it.service.health.deadline);
    match progress {
        Progress::Converging { .. } | Progress::Failing(_) => until.max(after(it.now, AGAIN).min(longest)),
        _ => until,
    }
}

/// The new colour failed while the old one is still warm: one switch back.
fn back_if_failing(it: &Situation<'_>, out: &mut Decision, committed: &Committed, progress: &Progress) {
    let Progress::Failing(why) = progress else { return };
    if !it.service.rollout.on_failure.goes_back() || it.memory.pin.is_some() || it.wanted.quarantined {
        return;
    }
    let why = format!("unhealthy during bake: {why}");
    let quarantine = Quarantine { why, at: it.now, tag: committed.release.tag.to_string() };
    out.before.push((
        MemoryChange::Quarantine(committed.release.hash(), quarantine),
        "it failed while the old colour was still warm".to_owned(),
    ));
}
