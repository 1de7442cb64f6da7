//! Lowering on a Docker host: targets of groups become containers to run and to remove.
//!
//! | file | does |
//! |---|---|
//! | here | a group as the rollout sees it, brought up or taken away; who gets the requests |
//! | `serve` | the group that gets the requests |
//! | `removal` | what no request reaches may go |
//! | `acts` | run, unpause, update |

mod acts;
mod removal;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use jiff::Timestamp;

use crate::model::colour::Group;
use crate::model::desired::Service;
use crate::model::memory::{Memory, MemoryChange};
use crate::model::release::Release;
use crate::model::snapshot::{Health, Replica, ReplicaState, Snapshot};

use super::group::{Class, Member, backend, classify, health_deadline, wanted_live};
use super::hold::Hold;
use super::rollout::{GroupSeen, Progress};
use super::step::PlannedStep;
use super::traffic;
use acts::{run, unpause, update};
use removal::{Place, remove};
pub use serve::serve;

/// What the groups need, by when it is done in a turn.
#[derive(Debug, Default)]
pub struct Lowered {
    /// Dead or superseded replicas whose names are needed.
    pub clear: Vec<PlannedStep>,
    /// Images.
    pub pull: Vec<PlannedStep>,
    /// Remembered before the steps below.
    pub remember: Vec<PlannedStep>,
    /// Run, unpause, update: side by side.
    pub act: Vec<PlannedStep>,
    /// What no request reaches any more.
    pub remove: Vec<PlannedStep>,
    /// Why not more.
    pub holds: Vec<Hold>,
    /// Names of replicas on their way out: not to be listed as backends.
    pub leaving: BTreeSet<String>,
}

/// Everything the lowering reads.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The file.
    pub service: &'a Service,
    /// The look.
    pub snapshot: &'a Snapshot,
    /// The replicas of the look, which was positive.
    pub replicas: &'a [Replica],
    /// What is remembered.
    pub memory: &'a Memory,
    /// Now.
    pub now: Timestamp,
    /// Whether what serves may go before its successor is there.
    pub may_interrupt: bool,
    /// Why things are started.
    pub because: &'a str,
}

/// The replicas of `group`, judged against `release`.
pub fn members<'a>(facts: &Facts<'a>, group: Group, release: &Release) -> Vec<Member<'a>> {
    let hash = release.hash();
    let of_group = facts.replicas.iter().filter(|it| it.group == group);
    of_group
        .map(|replica| Member { replica, class: classify(replica, release, &hash, facts.service, facts.now) })
        .collect()
}

/// The group as the rollout sees it, on its way to `release`.
pub fn summarise(facts: &Facts<'_>, group: Group, release: Option<&Release>) -> GroupSeen {
    let all: Vec<&Replica> = facts.replicas.iter().filter(|it| it.group == group).collect();
    let healthy = all.iter().filter(|it| is_healthy(it)).count();
    let mut seen = GroupSeen {
        release: super::group::group_release(facts.replicas, group),
        containers: count(all.len()),
        healthy: count(healthy),
        progress: Progress::Absent,
    };
    let Some(release) = release else { return seen };
    let members = members(facts, group, release);
    let wanted = facts.service.replicas as usize;
    let good = members.iter().filter(|it| it.class == Class::Healthy).count();
    let failing = members.iter().find_map(|it| match &it.class {
        Class::Failing(why) => Some(format!("{}: {why}", it.replica.name)),
        Class::Lost(why) if ended_by_itself(it.replica, facts.service) => Some(format!("{}: {why}", it.replica.name)),
        _ => None,
    });
    let outdated = members.iter().any(|it| matches!(it.class, Class::Outdated(..)));
    seen.progress = if members.is_empty() {
        Progress::Absent
    } else if let Some(why) = failing {
        Progress::Failing(why)
    } else if good >= wanted && !outdated {
        Progress::Ready
    } else {
        let last = members.iter().find_map(|it| match &it.class {
            Class::Converging(why) => why.clone(),
            _ => None,
        });
        let begun = members.iter().any(|it| matches!(it.class, Class::Converging(_)));
        Progress::Converging { begun, last, deadline: health_deadline(members.iter(), facts.service, facts.now) }
    };
    seen
}

/// A process that ended and that nobody stopped: the engine would have restarted it under the other policies.
const fn ended_by_itself(replica: &Replica, service: &Service) -> bool {
    matches!(replica.state, ReplicaState::Exited(_)) && !super::group::engine_restarts(service.docker.restart)
}

/// Up and good.
pub const fn is_healthy(replica: &Replica) -> bool {
    matches!((&replica.health, replica.state), (Health::Healthy(_), ReplicaState::Running))
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Takes away every replica of `group` that no request reaches.
pub fn absent(facts: &Facts<'_>, group: Group, out: &mut Lowered) {
    for replica in facts.replicas.iter().filter(|it| it.group == group) {
        out.leaving.insert(replica.name.clone());
        remove(facts, replica, &format!("{group} is no longer needed"), out, Place::Late);
    }
}

/// Brings `group`, which gets no requests, to `wanted` replicas of `release`: everything else in it goes first.
pub fn bring_up(facts: &Facts<'_>, group: Group, release: &Release, wanted: u32, out: &mut Lowered) {
    let members = members(facts, group, release);
    let mut in_the_way = false;
    for it in &members {
        let because = match &it.class {
            Class::Lost(why) | Class::Outdated(why, _) => why.clone(),
            _ => continue,
        };
        in_the_way |= !remove(facts, it.replica, &because, out, Place::Early);
    }
    if in_the_way {
        return;
    }
    let current: Vec<&Member<'_>> =
        members.iter().filter(|it| !matches!(it.class, Class::Lost(_) | Class::Outdated(..))).collect();
    for surplus in current.iter().skip(wanted as usize) {
        remove(facts, surplus.replica, "fewer replicas are wanted", out, Place::Late);
    }
    unpause(facts, &members, out);
    let missing = wanted.saturating_sub(count(current.len()));
    let taken: BTreeSet<u32> = current.iter().map(|it| it.replica.slot).collect();
    run(facts, group, release, missing, &taken, facts.because, out);
    update(facts, &members, out);
    await_health(facts, group, &members, wanted, out);
}

fn await_health(facts: &Facts<'_>, group: Group, members: &[Member<'_>], wanted: u32, out: &mut Lowered) {
    let healthy = count(members.iter().filter(|it| it.class == Class::Healthy).count());
    let Some(last) = members.iter().find_map(|it| match &it.class {
        Class::Converging(why) => Some(why.clone()),
        _ => None,
    }) else {
        return;
    };
    let deadline = health_deadline(members.iter(), facts.service, facts.now);
    out.holds.push(Hold::AwaitingHealth { group, healthy, wanted, last, deadline });
}

/// Who should get the requests of `group`: its good replicas, never none while one was listed.
pub fn backends(
    facts: &Facts<'_>,
    group: Group,
    leaving: &BTreeSet<String>,
    holds: &mut Vec<Hold>,
) -> Option<Vec<SocketAddr>> {
    let seen = facts.snapshot.nginx.as_ref()?;
    let listed = |it: &Replica| backend(it).is_some_and(|at| traffic::lists(seen, at));
    let mut up: Vec<&Replica> = facts
        .replicas
        .iter()
        .filter(|it| it.group == group && !leaving.contains(&it.name))
        .filter(|it| matches!(it.state, ReplicaState::Running | ReplicaState::Restarting))
        .collect();
    up.sort_by_key(|it| it.slot);
    let good = |it: &&Replica| is_healthy(it) || (matches!(it.health, Health::Unknown { .. }) && listed(it));
    let servers: Vec<SocketAddr> = up.iter().copied().filter(good).filter_map(backend).collect();
    if !servers.is_empty() {
        return Some(servers);
    }
    if facts.service.replicas == 0 {
        return Some(Vec::new());
    }
    for it in facts.replicas.iter().filter(|it| it.group == group && listed(it)) {
        if let Health::Unhealthy(_, why) = &it.health {
            holds.push(Hold::LastReplicaUnhealthy { name: it.name.clone(), why: why.clone() });
        }
    }
    // Nobody good: the file stays as it is. Only where there is none is one written, because an include without its
    // file breaks nginx.
    matches!(seen.file, crate::model::snapshot::Fact::Absent).then(Vec::new)
}

/// What every live field amounts to once it was seen in force everywhere.
pub fn live_seen(facts: &Facts<'_>) -> Option<MemoryChange> {
    let live = wanted_live(facts.service);
    let everywhere = !facts.replicas.is_empty()
        && facts.replicas.iter().all(|it| it.restart == live.restart && it.resources == live.resources);
    (everywhere && facts.memory.applied_live != Some(live)).then_some(MemoryChange::ApplyLive(live))
}

/// Groups that have containers.
pub fn groups(replicas: &[Replica]) -> BTreeMap<Group, ()> {
    replicas.iter().map(|it| (it.group, ())).collect()
}
