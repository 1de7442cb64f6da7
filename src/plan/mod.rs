//! Floor 1: what to do next. Pure, total, synchronous: no I/O, no clock, no logging, no async.
//!
//! [`plan`] is a list of named parts: [`wanted`] says which release is to serve, [`rollout`] decides a target for each
//! group and for the traffic, [`docker`] and [`traffic`] lower the targets to steps, [`follow`] adds a change of the
//! desired state itself, [`check`] verifies the finished plan with separate code, [`display`] shows it.

#[cfg(test)]
mod tests;

pub mod check;
pub mod display;
pub mod docker;
pub mod drift;
pub mod ecs;
pub mod follow;
pub mod group;
pub mod hold;
pub mod removal;
pub mod retention;
pub mod rollout;
pub mod step;
pub mod traffic;
pub mod wanted;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;

use crate::model::colour::{Colour, Group};
use crate::model::desired::{Service, SourceRevision};
use crate::model::memory::{Memory, MemoryChange};
use crate::model::names::ServiceName;
use crate::model::release::Release;
use crate::model::snapshot::{Fact, Replica, ReplicaState, Snapshot};

use docker::{Facts, Lowered};
use hold::{Hold, earliest};
use rollout::{Decision, GroupTarget, Situation, TrafficSeen, TrafficTarget};
use step::{PlannedStep, Step};
use wanted::{Wanted, wanted};

/// What one turn does, stage by stage, and why the rest waits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The steps of one stage run concurrently; the first failure ends the turn.
    pub stages: Vec<Vec<PlannedStep>>,
    /// Every reason not to do more now.
    pub holds: Vec<Hold>,
    /// When to look again if nothing wakes the service before.
    pub next_look: Option<Timestamp>,
    /// For status.
    pub view: View,
}

/// What the plan decided, for status: not an input to anything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// The release the file asks for, once every input is known.
    pub wanted: Option<Release>,
    /// The group that serves.
    pub serving: Option<Group>,
    /// What is going on, for people.
    pub stage: String,
}

impl Plan {
    /// Nothing to do and nothing to wait for.
    pub fn is_settled(&self) -> bool {
        self.stages.is_empty() && self.holds.is_empty()
    }

    /// Every step, in order.
    pub fn steps(&self) -> impl Iterator<Item = &PlannedStep> {
        self.stages.iter().flatten()
    }

    /// A plan that only waits.
    pub fn waiting(holds: Vec<Hold>) -> Self {
        let next_look = holds.iter().filter_map(Hold::until).min();
        Self { holds, next_look, ..Self::default() }
    }

    fn stage(&mut self, steps: Vec<PlannedStep>) {
        if !steps.is_empty() {
            self.stages.push(steps);
        }
    }

    fn remember(&mut self, changes: Vec<(MemoryChange, String)>) {
        for (change, because) in changes {
            self.stage(vec![PlannedStep { step: Step::Remember(change), because }]);
        }
    }
}

/// Decides what to do for `service` now.
pub fn plan(
    service: &Service,
    snapshot: &Snapshot,
    memory: &Memory,
    revision: &SourceRevision,
    now: Timestamp,
) -> Plan {
    if let Some(ecs) = &service.ecs {
        return ecs::plan(service, ecs, snapshot, memory, revision, now);
    }
    let replicas = match &snapshot.platform.replicas {
        Fact::Seen(replicas) => replicas.as_slice(),
        Fact::Absent => &[],
        Fact::Unreadable(why) => return Plan::waiting(vec![Hold::PlatformUnreadable { why: why.clone() }]),
    };
    if let Err(hold) = guard(service, snapshot) {
        return Plan::waiting(vec![hold]);
    }
    let wanted = wanted(service, snapshot, memory);
    if let Some(mut plan) = finish_open_switch(service, snapshot, memory, replicas, now) {
        plan.view.wanted = wanted.file;
        return plan;
    }
    let serving = match serving(snapshot, memory, replicas) {
        Ok(serving) => serving,
        Err(hold) => return Plan::waiting(vec![hold]),
    };
    let mut plan = decide_and_lower(service, snapshot, memory, revision, now, replicas, &wanted, serving);
    plan.holds.extend(strangers(snapshot));
    plan.view.wanted.clone_from(&wanted.file);
    plan.view.serving = serving;
    follow::extend(&mut plan, service, snapshot, memory, &wanted, now);
    if let Some(paused) = &memory.paused {
        plan.stages.clear();
        plan.holds = vec![Hold::Paused { by: paused.by.clone(), since: paused.at }];
    }
    plan.next_look = plan.holds.iter().filter_map(Hold::until).fold(None, |a, b| earliest(a, Some(b)));
    plan
}

/// Decides what to do for a service that left the file.
pub fn plan_removal(
    name: &ServiceName,
    snapshot: &Snapshot,
    memory: &Memory,
    acknowledged: bool,
    now: Timestamp,
) -> Plan {
    match memory.committed.as_ref().and_then(|it| it.place.as_ref()) {
        Some(place) => ecs::removal::plan(name, place, snapshot, memory, acknowledged),
        None => removal::plan(name, snapshot, memory, acknowledged, now),
    }
}

/// A switch that was written but not yet seen loaded is finished before anything is decided anew: until then nobody
/// knows who gets the requests.
fn finish_open_switch(
    service: &Service,
    snapshot: &Snapshot,
    memory: &Memory,
    replicas: &[Replica],
    now: Timestamp,
) -> Option<Plan> {
    let switch = memory.switch.as_ref().filter(|it| it.confirmed.is_none() && memory.paused.is_none())?;
    let seen = snapshot.nginx.as_ref()?;
    let file = seen.file.seen().filter(|file| file.sha256 == switch.sha256)?;
    let loads = seen.processes.seen().is_some() && seen.included == Fact::Seen(true);
    let servers: Vec<SocketAddr> = file.servers.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?;
    let up = |server: &SocketAddr| {
        replicas.iter().any(|it| group::backend(it) == Some(*server) && it.state == ReplicaState::Running)
    };
    if !loads || !servers.iter().all(up) {
        return None;
    }
    let lowered = traffic::lower(service, seen, memory, switch.to, &servers, now);
    let mut plan = Plan::default();
    plan.view.stage = format!("switching to {}", switch.to);
    plan.stage(lowered.open);
    plan.stage(lowered.write.into_iter().collect());
    for seen in lowered.seen {
        plan.stage(vec![seen]);
    }
    plan.holds = lowered.holds;
    (!plan.stages.is_empty()).then_some(plan)
}

fn guard(service: &Service, snapshot: &Snapshot) -> Result<(), Hold> {
    let Some(account) = service.aws.as_ref().and_then(|aws| aws.account.as_ref()) else { return Ok(()) };
    match &snapshot.aws_account {
        Some(Fact::Seen(found)) if found == account => Ok(()),
        Some(Fact::Seen(found)) => Err(Hold::WrongAwsAccount { wanted: account.clone(), found: found.clone() }),
        Some(Fact::Unreadable(why)) => Err(Hold::AwsAccountUnknown { why: why.clone() }),
        Some(Fact::Absent) | None => Err(Hold::AwsAccountUnknown { why: "there are no credentials".to_owned() }),
    }
}

fn strangers(snapshot: &Snapshot) -> impl Iterator<Item = Hold> {
    snapshot.platform.strangers.iter().map(|it| Hold::NotOurs { name: it.name.clone(), why: it.why.clone() })
}

/// The group that gets the requests, from the memory; from what nginx lists where the memory is lost.
fn serving(snapshot: &Snapshot, memory: &Memory, replicas: &[Replica]) -> Result<Option<Group>, Hold> {
    let listed = |it: &&Replica| match &snapshot.nginx {
        None => true,
        Some(seen) => group::backend(it).is_some_and(|at| traffic::lists(seen, at)),
    };
    let as_told = |sha256: &str| {
        snapshot.nginx.as_ref().and_then(|seen| seen.file.seen()).is_some_and(|file| file.sha256 == sha256)
    };
    if let Some(switch) = memory.switch.as_ref().filter(|it| it.confirmed.is_some() || as_told(&it.sha256))
        && snapshot.nginx.is_some()
        && memory.committed.as_ref().is_none_or(|it| it.group != switch.to)
        && replicas.iter().filter(listed).any(|it| it.group == switch.to)
    {
        return Ok(Some(switch.to));
    }
    if let Some(committed) = &memory.committed {
        return Ok(Some(committed.group));
    }
    if memory.attempt.is_some() && snapshot.nginx.is_none() {
        return Ok(None);
    }
    let mut groups: Vec<Group> = replicas.iter().filter(listed).map(|it| it.group).collect();
    groups.sort_unstable();
    groups.dedup();
    match groups.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(*only)),
        _ => Err(Hold::ColourUnknown),
    }
}

#[expect(clippy::too_many_arguments, reason = "the whole situation, read once")]
fn decide_and_lower(
    service: &Service,
    snapshot: &Snapshot,
    memory: &Memory,
    revision: &SourceRevision,
    now: Timestamp,
    replicas: &[Replica],
    wanted: &Wanted,
    serving: Option<Group>,
) -> Plan {
    let mut facts = Facts { service, snapshot, replicas, memory, now, may_interrupt: false, because: &wanted.because };
    let target = wanted.release.as_ref().map(|release| {
        let runs = serving.and_then(|group| match &memory.committed {
            Some(committed) if committed.group == group => Some(committed.release.hash()),
            _ => group::group_release(replicas, group),
        });
        rollout::target_group(service, serving, runs.as_ref(), memory, &release.hash(), first_colour(service, snapshot))
    });
    let mut groups: BTreeMap<Group, _> = docker::groups(replicas)
        .into_keys()
        .map(|group| (group, docker::summarise(&facts, group, wanted.release.as_ref())))
        .collect();
    if let Some(target) = target {
        groups.entry(target).or_insert_with(|| docker::summarise(&facts, target, wanted.release.as_ref()));
    }
    let traffic = TrafficSeen {
        managed: service.nginx.is_some(),
        confirmed: snapshot.nginx.as_ref().is_some_and(|seen| traffic::confirmed(seen, memory)),
        to: memory.switch.as_ref().map(|switch| switch.to),
        weights: BTreeMap::new(),
    };
    let situation = Situation { service, revision, memory, wanted, serving, groups, traffic, now };
    let decision = rollout::decide(&situation, target);
    facts.may_interrupt = decision.may_interrupt;
    lower(&facts, decision, serving, target)
}

fn lower(facts: &Facts<'_>, decision: Decision, serving: Option<Group>, target: Option<Group>) -> Plan {
    let mut plan = Plan::default();
    plan.view.stage = decision.stage;
    let gives_up = decision.before.iter().any(|(change, _)| matches!(change, MemoryChange::Quarantine(..)));
    plan.holds = decision.holds;
    plan.remember(decision.before);
    if gives_up {
        return plan;
    }
    let mut steps = Lowered::default();
    for (group, target) in &decision.groups {
        match target {
            GroupTarget::Keep => {}
            GroupTarget::Absent => docker::absent(facts, *group, &mut steps),
            GroupTarget::Run(release, replicas) if serving == Some(*group) => {
                docker::serve(facts, *group, release, *replicas, &mut steps);
            }
            GroupTarget::Run(release, replicas) => docker::bring_up(facts, *group, release, *replicas, &mut steps),
        }
    }
    removal::retire(facts, &mut steps);
    let mut traffic = traffic::Lowered::default();
    if let Some(seen) = &facts.snapshot.nginx
        && let Some((to, servers)) = backends(facts, decision.traffic, target, &mut steps)
    {
        traffic = traffic::lower(facts.service, seen, facts.memory, to, &servers, facts.now);
    }
    plan.stage(steps.clear);
    plan.stage(steps.pull);
    plan.stage([steps.remember, traffic.open].concat());
    plan.stage([steps.act, traffic.write.into_iter().collect()].concat());
    plan.stage(steps.remove);
    for seen in traffic.seen {
        plan.stage(vec![seen]);
    }
    plan.remember(decision.seen);
    if plan.stages.is_empty() {
        let live = docker::live_seen(facts).map(|live| (live, "it was seen in force".to_owned()));
        plan.remember(live.into_iter().collect());
    }
    plan.holds.extend(steps.holds);
    plan.holds.extend(traffic.holds);
    if plan.stages.is_empty() {
        plan.stage(retention::surplus(facts));
    }
    if plan.stages.is_empty() {
        plan.stages = ecs::clean::surplus(facts.service, facts.snapshot, facts.memory);
    }
    plan
}

/// The backends the servers file should list, and the group they are of.
fn backends(
    facts: &Facts<'_>,
    target: TrafficTarget,
    starting: Option<Group>,
    steps: &mut Lowered,
) -> Option<(Group, Vec<SocketAddr>)> {
    let group = match target {
        // Shares are for a load balancer: the file refuses them elsewhere.
        TrafficTarget::Unmanaged | TrafficTarget::Split { .. } => return None,
        TrafficTarget::To(group) => group,
        // Nobody serves yet: an include needs its file all the same, and one that says `down` is confirmed like any.
        TrafficTarget::Keep => {
            let seen = facts.snapshot.nginx.as_ref()?;
            let idle = match &seen.file {
                Fact::Absent => true,
                Fact::Seen(file) => file.servers.is_empty(),
                Fact::Unreadable(_) => false,
            };
            let group = starting.or(facts.memory.switch.as_ref().map(|switch| switch.to));
            return group.filter(|_| idle).map(|group| (group, Vec::new()));
        }
    };
    let leaving = std::mem::take(&mut steps.leaving);
    docker::backends(facts, group, &leaving, &mut steps.holds).map(|servers| (group, servers))
}

/// The colour of a first deploy: the one whose ports are free, else blue.
fn first_colour(service: &Service, snapshot: &Snapshot) -> Colour {
    let free = |group| snapshot.platform.free_ports.get(&group).map_or(0, Vec::len) >= service.replicas as usize;
    if !free(Group::Blue) && free(Group::Green) { Colour::Green } else { Colour::Blue }
}
