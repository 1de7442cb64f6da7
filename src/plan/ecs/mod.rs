//! ECS: the same rollout, lowered to task definitions, services and listener weights.
//!
//! | file | does |
//! |---|---|
//! | here | one plan from top to bottom |
//! | `release` | which release the file asks for, made from the base |
//! | `adopt` | what serves already is remembered before anything changes |
//! | `group` | an ECS service as the rollout sees it |
//! | `serve` | a group's target as `RegisterTaskDefinition`, `UpdateService`, `CreateService` |
//! | `create` | what an absent service is made with |
//! | `alb` | the weights of the listener rule |
//! | `removal` | a service that left the file |
//! | `clean` | images nobody needs any more |
//! | `check` | the finished plan, verified by separate code |

pub mod adopt;
pub mod alb;
pub mod check;
pub mod clean;
mod create;
pub mod group;
pub mod release;
pub mod removal;
mod serve;

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::model::colour::{Colour, Group};
use crate::model::desired::{Service, SourceRevision};
use crate::model::ecs::seen::{AlbSeen, EcsSeen, Owner, RolloutState, ServiceSeen};
use crate::model::ecs::{Ecs, tags};
use crate::model::memory::{Memory, MemoryChange, Quarantine};
use crate::model::release::ReleaseHash;
use crate::model::snapshot::{Fact, Snapshot};

use super::hold::{Hold, earliest};
use super::rollout::{self, Decision, GroupTarget, Situation, TrafficSeen, TrafficTarget};
use super::step::PlannedStep;
use super::step::ecs::{EcsTarget, Realm};
use super::wanted::{Wanted, wanted};
use super::{Plan, follow, guard};

/// Everything the lowering reads.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The file.
    pub service: &'a Service,
    /// Its part about ECS.
    pub ecs: &'a Ecs,
    /// The look at ECS.
    pub seen: &'a EcsSeen,
    /// The look at the load balancer.
    pub alb: Option<&'a AlbSeen>,
    /// The whole look.
    pub snapshot: &'a Snapshot,
    /// What is remembered.
    pub memory: &'a Memory,
    /// Now.
    pub now: Timestamp,
    /// What is to serve.
    pub wanted: &'a Wanted,
    /// The group that serves.
    pub serving: Option<Group>,
}

impl<'a> Facts<'a> {
    /// The ECS service of `group`, when it is there.
    pub fn of(&self, group: Group) -> Option<&'a ServiceSeen> {
        self.seen.services.get(&group).and_then(Fact::seen)
    }

    /// The task definition of a release, if one is registered and may be chosen.
    pub fn arn_of(&self, release: &ReleaseHash) -> Option<&'a str> {
        self.known(release).filter(|arn| !self.seen.inactive.contains(*arn))
    }

    /// The task definition of a release, also one that was deregistered.
    pub fn known(&self, release: &ReleaseHash) -> Option<&'a str> {
        let here = self.seen.registered.get(release);
        here.or_else(|| self.memory.registered.get(release)).map(String::as_str)
    }

    /// The ECS service of `group` as the target of a step.
    pub fn target(&self, group: Group) -> EcsTarget {
        EcsTarget {
            realm: self.realm(),
            cluster: self.ecs.cluster.clone(),
            name: self.ecs.services.get(&group).cloned().unwrap_or_default(),
            service: self.service.name.clone(),
        }
    }

    /// Whose account and which region.
    pub fn realm(&self) -> Realm {
        realm(self.service)
    }
}

/// Whose account and which region the file names.
pub fn realm(service: &Service) -> Realm {
    let aws = service.aws.as_ref();
    Realm { account: aws.and_then(|aws| aws.account.clone()), region: aws.and_then(|aws| aws.region.clone()) }
}

/// What the groups and the traffic need, by when it is done in a turn.
#[derive(Debug, Default)]
pub struct Lowered {
    /// Task definitions; what needs them comes with the next look.
    pub register: Vec<PlannedStep>,
    /// Remembered before the steps below.
    pub remember: Vec<PlannedStep>,
    /// Tags.
    pub tag: Vec<PlannedStep>,
    /// Services created and updated, weights.
    pub act: Vec<PlannedStep>,
    /// What was seen and is to be remembered.
    pub seen: Vec<PlannedStep>,
    /// Why not more.
    pub holds: Vec<Hold>,
}

/// Decides what to do for `service` now.
pub fn plan(
    service: &Service,
    ecs: &Ecs,
    snapshot: &Snapshot,
    memory: &Memory,
    revision: &SourceRevision,
    now: Timestamp,
) -> Plan {
    let seen = match readable(ecs, snapshot).and_then(|seen| guard(service, snapshot).map(|()| seen)) {
        Ok(seen) => seen,
        Err(hold) => return Plan::waiting(vec![hold]),
    };
    let restored = restored_quarantine(service, seen, snapshot, memory, now);
    let mut known = memory.clone();
    restored.iter().for_each(|(change, _)| known.apply(change));
    let mut wanted = wanted(service, snapshot, &known);
    wanted.changes.splice(0..0, restored);
    let mut facts = Facts {
        service,
        ecs,
        seen,
        alb: snapshot.alb.as_ref(),
        snapshot,
        memory: &known,
        now,
        wanted: &wanted,
        serving: None,
    };
    facts.serving = match serving(&facts) {
        Ok(serving) => serving,
        Err(hold) => return Plan::waiting(vec![hold]),
    };
    let mut plan = match adopt::plan(&facts) {
        Some(plan) => plan,
        None => decide_and_lower(&facts, revision),
    };
    plan.view.wanted.clone_from(&wanted.file);
    plan.view.serving = facts.serving;
    follow::extend(&mut plan, service, snapshot, memory, &wanted, now);
    if let Some(paused) = &memory.paused {
        plan.stages.clear();
        plan.holds = vec![Hold::Paused { by: paused.by.clone(), since: paused.at }];
    }
    plan.next_look = plan.holds.iter().filter_map(Hold::until).fold(None, |a, b| earliest(a, Some(b)));
    plan
}

/// Nothing is decided on a service that cannot be read, is another's, or is deployed by something else.
fn readable<'a>(ecs: &Ecs, snapshot: &'a Snapshot) -> Result<&'a EcsSeen, Hold> {
    let unasked = || Hold::EcsUnreadable { what: "ECS".to_owned(), why: "nobody looked".to_owned() };
    let seen = snapshot.ecs.as_ref().ok_or_else(unasked)?;
    for (group, name) in &ecs.services {
        let name = format!("{}/{name}", ecs.cluster.rsplit('/').next().unwrap_or(&ecs.cluster));
        let service = match seen.services.get(group) {
            None => return Err(Hold::EcsUnreadable { what: name, why: "nobody looked".to_owned() }),
            Some(Fact::Unreadable(why)) => return Err(Hold::EcsUnreadable { what: name, why: why.clone() }),
            Some(Fact::Absent) => continue,
            Some(Fact::Seen(service)) => service,
        };
        if let Owner::Another(owner) = &service.owner {
            return Err(Hold::OwnedByAnother { name, owner: owner.clone() });
        }
        if let Some(controller) = &service.other_controller {
            return Err(Hold::PlatformOwnsDeployment { name, controller: controller.clone() });
        }
        if service.draining {
            return Err(Hold::EcsServiceDraining { name });
        }
        if let Fact::Unreadable(why) = &service.definition {
            let what = format!("the task definition of {name}");
            return Err(Hold::EcsUnreadable { what, why: why.clone() });
        }
    }
    Ok(seen)
}

/// With the memory lost, the tags still say which release failed: it is not tried again by itself.
fn restored_quarantine(
    service: &Service,
    seen: &EcsSeen,
    snapshot: &Snapshot,
    memory: &Memory,
    now: Timestamp,
) -> Vec<(MemoryChange, String)> {
    if *memory != Memory::default() {
        return Vec::new();
    }
    let Some(file) = wanted(service, snapshot, memory).file else { return Vec::new() };
    let hash = file.hash();
    // One that failed once and serves now was tried again, and with success.
    let serves = |it: &ServiceSeen| {
        let completed = it.primary().is_some_and(|it| it.rollout == RolloutState::Completed && it.running > 0);
        let definition = it.definition.seen().map(|it| it.content.sha256());
        completed && definition.is_some() && definition == file.ecs.as_ref().map(|it| it.definition.clone())
    };
    let says_failed =
        |it: &ServiceSeen| it.owner == Owner::Us && it.tags.get(tags::FAILED).is_some_and(|tag| tag == hash.as_str());
    if seen.services.values().filter_map(Fact::seen).any(serves) {
        return Vec::new();
    }
    if !seen.services.values().filter_map(Fact::seen).any(says_failed) {
        return Vec::new();
    }
    let why = "its tag says that it failed".to_owned();
    let quarantine = Quarantine { why, at: now, tag: file.tag.to_string() };
    vec![(MemoryChange::Quarantine(hash, quarantine), "the memory is lost, the tags of the service are not".to_owned())]
}

/// The group that gets the requests: the only one, the remembered one, or what the weights say.
fn serving(facts: &Facts<'_>) -> Result<Option<Group>, Hold> {
    let Some(alb) = facts.alb.filter(|_| facts.service.alb.is_some()) else {
        return Ok(facts.of(Group::Only).map(|_| Group::Only));
    };
    let weights = match &alb.weights {
        Fact::Seen(weights) => alb::percent(weights),
        Fact::Absent => {
            let hint = "write `traffic.alb.rule` of a rule that forwards to these target groups".to_owned();
            return Err(Hold::EcsUnreadable { what: "the weights of the listener rule".to_owned(), why: hint });
        }
        Fact::Unreadable(why) => {
            let what = "the weights of the listener rule".to_owned();
            return Err(Hold::EcsUnreadable { what, why: why.clone() });
        }
    };
    let only = alb::only(&weights);
    if let Some(switch) = &facts.memory.switch
        && facts.memory.committed.as_ref().is_some_and(|it| it.group != switch.to)
        && only == Some(switch.to)
    {
        return Ok(only);
    }
    if let Some(committed) = &facts.memory.committed {
        return Ok(Some(committed.group));
    }
    match only {
        Some(group) => Ok(facts.of(group).filter(|it| it.running > 0).map(|_| group)),
        // A colour without a task serves nobody, whatever its share.
        None if facts.service.active_colour.is_some() => {
            let runs = |group: &Group| facts.of(*group).is_some_and(|it| it.running > 0);
            let declared = facts.service.active_colour.map(Group::from);
            Ok(declared.into_iter().chain(facts.ecs.services.keys().copied()).find(runs))
        }
        None => Err(Hold::ColourUnknown),
    }
}

fn decide_and_lower(facts: &Facts<'_>, revision: &SourceRevision) -> Plan {
    let release = facts.wanted.release.as_ref();
    let target = release.map(|release| {
        let runs = facts.serving.and_then(|group| match &facts.memory.committed {
            Some(committed) if committed.group == group => Some(committed.release.hash()),
            _ => facts.of(group).and_then(|it| group::release_of(facts, it)),
        });
        let first = first_colour(facts);
        rollout::target_group(facts.service, facts.serving, runs.as_ref(), facts.memory, &release.hash(), first)
    });
    let groups: BTreeMap<Group, _> = facts
        .ecs
        .services
        .keys()
        .filter(|group| facts.of(**group).is_some() || Some(**group) == target)
        .map(|group| (*group, group::summarise(facts, *group, release)))
        .collect();
    let weights = facts.alb.and_then(|alb| alb.weights.seen()).map(alb::percent).unwrap_or_default();
    let traffic = TrafficSeen {
        managed: facts.service.alb.is_some(),
        confirmed: alb::confirmed(facts, &weights),
        to: facts.memory.switch.as_ref().map(|switch| switch.to),
        weights,
    };
    let Facts { service, memory, wanted, serving, now, .. } = *facts;
    let situation = Situation { service, revision, memory, wanted, serving, groups, traffic, now };
    let decision = rollout::decide(&situation, target);
    lower(facts, decision, target)
}

fn lower(facts: &Facts<'_>, decision: Decision, target: Option<Group>) -> Plan {
    let mut plan = Plan::default();
    plan.view.stage = decision.stage;
    let another = |change: &MemoryChange| matches!(change, MemoryChange::Attempt(_) | MemoryChange::EndAttempt);
    let begins = decision.before.iter().any(|(change, _)| another(change));
    let gives_up = decision.before.iter().any(|(change, _)| matches!(change, MemoryChange::Quarantine(..)));
    plan.holds = decision.holds;
    plan.remember(decision.before);
    if gives_up {
        return plan;
    }
    let mut out = Lowered::default();
    group::note_seen(facts, begins, &mut out);
    for (group, target) in &decision.groups {
        match target {
            GroupTarget::Keep => {}
            GroupTarget::Absent => serve::scale_to_zero(facts, *group, &mut out),
            GroupTarget::Run(release, replicas) => serve::run(facts, *group, release, *replicas, &mut out),
        }
    }
    serve::note_failed(facts, &mut out);
    if let Some(alb) = facts.alb {
        alb::lower(facts, alb, decision.traffic, &mut out);
    }
    plan.stage(out.register);
    plan.stage(out.remember);
    plan.stage(out.tag);
    plan.stage(out.act);
    for seen in out.seen {
        plan.stage(vec![seen]);
    }
    plan.remember(decision.seen);
    plan.holds.extend(out.holds);
    if plan.stages.is_empty() {
        plan.remember(serve::live_seen(facts).into_iter().collect());
    }
    if plan.stages.is_empty() {
        plan.stages = clean::surplus(facts.service, facts.snapshot, facts.memory);
    }
    let _ = target;
    plan
}

/// The colour of a first deploy: the one whose service exists, else blue.
fn first_colour(facts: &Facts<'_>) -> Colour {
    if facts.of(Group::Blue).is_none() && facts.of(Group::Green).is_some() { Colour::Green } else { Colour::Blue }
}

/// Whether `traffic` sends anything to `group`.
pub fn gets_requests(traffic: TrafficTarget, group: Group) -> bool {
    matches!(traffic, TrafficTarget::To(to) | TrafficTarget::Split { to, .. } if to == group)
}
