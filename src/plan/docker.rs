//! Lowering on a Docker host: targets of groups become containers to run and to remove.
// Long because the classes of replicas and what is done about each stand side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use jiff::Timestamp;

use crate::model::colour::Group;
use crate::model::desired::{DriftField, Order, Pull, Service};
use crate::model::memory::{Memory, MemoryChange};
use crate::model::names::container_name;
use crate::model::release::Release;
use crate::model::snapshot::{Health, Replica, ReplicaState, Snapshot};

use super::drift;
use super::group::{Class, Member, backend, classify, health_deadline, live_is_applied, wanted_live};
use super::hold::Hold;
use super::rollout::{GroupSeen, Progress};
use super::step::{PlannedStep, PlatformStep, RunContainer, Step, Target};
use super::traffic;

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

/// When in the turn a removal happens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Early,
    Late,
}

/// Plans a removal if no request reaches the replica; says why not otherwise.
fn remove(facts: &Facts<'_>, replica: &Replica, because: &str, out: &mut Lowered, place: Place) -> bool {
    if replica.state == ReplicaState::Removing {
        return true;
    }
    let up = !matches!(replica.state, ReplicaState::Created | ReplicaState::Exited(_) | ReplicaState::Dead);
    if up && !facts.may_interrupt {
        match unreached(facts, replica) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(hold) => {
                if !out.holds.contains(&hold) {
                    out.holds.push(hold);
                }
                return false;
            }
        }
    }
    let step = PlatformStep::Remove {
        target: target(facts, replica),
        stop_timeout: u32::try_from(facts.service.docker.stop_timeout.as_secs()).unwrap_or(u32::MAX),
        only_if_down: !up,
    };
    let planned = PlannedStep { step: Step::Platform(step), because: because.to_owned() };
    if place == Place::Early {
        out.clear.push(planned)
    } else {
        out.remove.push(planned)
    }
    true
}

/// Whether certainly no nginx worker sends requests to `replica`.
fn unreached(facts: &Facts<'_>, replica: &Replica) -> Result<bool, Hold> {
    let (Some(seen), Some(server)) = (&facts.snapshot.nginx, backend(replica)) else { return Ok(true) };
    if let crate::model::snapshot::Fact::Unreadable(why) = &seen.file {
        return Err(Hold::TrafficUnreadable { why: why.clone() });
    }
    if traffic::lists(seen, server) {
        return Ok(false);
    }
    match &seen.processes {
        crate::model::snapshot::Fact::Absent => Ok(true),
        crate::model::snapshot::Fact::Unreadable(why) => Err(Hold::TrafficUnreadable { why: why.clone() }),
        crate::model::snapshot::Fact::Seen(_) => {
            if matches!(seen.included, crate::model::snapshot::Fact::Seen(false)) {
                return Ok(true);
            }
            if !seen.loaded && !traffic::confirmed(seen, facts.memory) {
                return Ok(false);
            }
            match traffic::draining(seen, facts.service.rollout.drain, facts.memory, facts.now) {
                Some(hold) => Err(hold),
                None => Ok(true),
            }
        }
    }
}

fn target(facts: &Facts<'_>, replica: &Replica) -> Target {
    Target { id: replica.id.clone(), name: replica.name.clone(), service: facts.service.name.clone() }
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

/// Keeps `group`, which gets the requests, at `wanted` replicas of `release`, one replacement at a time.
pub fn serve(facts: &Facts<'_>, group: Group, release: &Release, wanted: u32, out: &mut Lowered) {
    let members = members(facts, group, release);
    let hash = release.hash();
    let is_edit = facts.memory.committed.as_ref().is_none_or(|it| it.release.hash() != hash);
    unpause(facts, &members, out);
    update(facts, &members, out);
    let up: Vec<&Member<'_>> = members.iter().filter(|it| it.class.is_up()).collect();
    let lost: Vec<&Member<'_>> = members.iter().filter(|it| !it.class.is_up()).collect();
    let missing = wanted.saturating_sub(count(up.len()));
    if missing > 0 {
        replace_lost(facts, group, release, missing, &up, &lost, is_edit, out);
    } else {
        // What is dead can wait while something is on its way: a removal would only delay the look that sees it ready.
        let converging = up.iter().any(|it| matches!(it.class, Class::Converging(_)));
        for it in lost.iter().filter(|_| !converging) {
            let Class::Lost(why) = &it.class else { continue };
            remove(facts, it.replica, why, out, Place::Late);
        }
        replace_one(facts, group, release, wanted, &up, out);
    }
    await_health(facts, group, &members, wanted, out);
}

#[expect(clippy::too_many_arguments, reason = "one situation, read once")]
fn replace_lost(
    facts: &Facts<'_>,
    group: Group,
    release: &Release,
    missing: u32,
    up: &[&Member<'_>],
    lost: &[&Member<'_>],
    is_edit: bool,
    out: &mut Lowered,
) {
    if !is_edit && let Some(until) = drift::loss_wait(facts.memory, facts.now) {
        out.holds.push(Hold::LossBackoff { missing, until });
        return;
    }
    let mut taken: BTreeSet<u32> = up.iter().map(|it| it.replica.slot).collect();
    let slots = facts.service.replicas + 1;
    let mut free = slots.saturating_sub(count(taken.len() + lost.len()));
    let mut because = facts.because.to_owned();
    for it in lost {
        let Class::Lost(why) = &it.class else { continue };
        because = format!("{}: {why}", it.replica.name);
        if free < missing && remove(facts, it.replica, why, out, Place::Early) {
            free += 1;
        } else {
            taken.insert(it.replica.slot);
        }
    }
    if !is_edit && lost.is_empty() && facts.memory.committed.is_some() {
        because = format!("{missing} of {} replicas are missing", facts.service.replicas);
    }
    let before = out.act.len();
    run(facts, group, release, missing, &taken, &because, out);
    if !is_edit && out.act.len() > before {
        out.remember.push(PlannedStep { step: Step::Remember(MemoryChange::Loss(facts.now)), because });
    }
}

/// Replaces one replica that is outdated or failing, or takes away one too many.
fn replace_one(facts: &Facts<'_>, group: Group, release: &Release, wanted: u32, up: &[&Member<'_>], out: &mut Lowered) {
    let listed = |it: &Member<'_>| {
        facts.snapshot.nginx.as_ref().is_some_and(|seen| backend(it.replica).is_some_and(|at| traffic::lists(seen, at)))
    };
    let mut bad: Vec<(&Member<'_>, String)> = Vec::new();
    for it in up {
        match &it.class {
            Class::Failing(why) => bad.push((it, format!("{} is unhealthy: {why}", it.replica.name))),
            Class::Outdated(why, field) => match allowed(facts, *field, &format!("{}: {why}", it.replica.name)) {
                Ok(()) if field.is_none() => bad.push((it, facts.because.to_owned())),
                Ok(()) => bad.push((it, format!("{}: {why}", it.replica.name))),
                Err(hold) => out.holds.extend(hold),
            },
            _ => {}
        }
    }
    let surplus = count(up.len()).saturating_sub(wanted);
    if surplus > 0 {
        take_away(facts, surplus, up, &bad, &listed, out);
        return;
    }
    let Some((first, because)) = bad.first() else { return };
    let converging = up.iter().any(|it| matches!(it.class, Class::Converging(_)));
    if converging {
        return;
    }
    let unhealthy = matches!(first.class, Class::Failing(_));
    if unhealthy && let Some(until) = drift::loss_wait(facts.memory, facts.now) {
        out.holds.push(Hold::LossBackoff { missing: 1, until });
        return;
    }
    let stop_first = facts.service.rollout.order == Order::StopFirst;
    let spare =
        release.port.is_none() || facts.snapshot.platform.free_ports.get(&group).is_some_and(|it| !it.is_empty());
    if stop_first || (unhealthy && !spare) {
        let free = Facts { may_interrupt: true, ..*facts };
        out.leaving.insert(first.replica.name.clone());
        remove(&free, first.replica, because, out, Place::Late);
        return;
    }
    let taken: BTreeSet<u32> = facts.replicas.iter().filter(|it| it.group == group).map(|it| it.slot).collect();
    let before = out.act.len();
    run(facts, group, release, 1, &taken, because, out);
    if out.act.len() > before {
        if unhealthy {
            let loss = Step::Remember(MemoryChange::Loss(facts.now));
            out.remember.push(PlannedStep { step: loss, because: because.clone() });
        }
        if let Class::Outdated(_, Some(field)) = &first.class {
            let repair = Step::Remember(MemoryChange::Repair(*field, facts.now));
            out.remember.push(PlannedStep { step: repair, because: because.clone() });
        }
    }
}

fn allowed(facts: &Facts<'_>, field: Option<DriftField>, what: &str) -> Result<(), Option<Hold>> {
    let Some(field) = field else { return Ok(()) };
    if field == DriftField::Resources && !live_is_applied(facts.service, facts.memory) {
        return Ok(());
    }
    drift::repair(facts.service, facts.memory, field, what, facts.now)
}

/// More are up than wanted: bad ones go first, then those without requests, then the highest slots. A good one goes
/// only when as many good ones as wanted stay.
fn take_away(
    facts: &Facts<'_>,
    surplus: u32,
    up: &[&Member<'_>],
    bad: &[(&Member<'_>, String)],
    listed: &dyn Fn(&Member<'_>) -> bool,
    out: &mut Lowered,
) {
    let good = count(up.iter().filter(|it| is_healthy(it.replica)).count());
    let wanted = count(up.len()) - surplus;
    let mut order: Vec<(&Member<'_>, String)> =
        up.iter().map(|it| (*it, "fewer replicas are wanted".to_owned())).collect();
    for (it, why) in &mut order {
        if let Some((_, because)) = bad.iter().find(|(bad, _)| bad.replica.id == it.replica.id) {
            why.clone_from(because);
        }
    }
    let is_bad = |it: &Member<'_>| bad.iter().any(|(bad, _)| bad.replica.id == it.replica.id);
    order.sort_by_key(|(it, _)| (!is_bad(it), is_healthy(it.replica), listed(it), std::cmp::Reverse(it.replica.slot)));
    let mut good_left = good;
    for (it, because) in order.into_iter().take(surplus as usize) {
        let counts = is_healthy(it.replica);
        let needed = counts && good_left <= wanted;
        if needed && facts.service.replicas > 0 {
            continue;
        }
        good_left = good_left.saturating_sub(u32::from(counts));
        out.leaving.insert(it.replica.name.clone());
        remove(facts, it.replica, &because, out, Place::Late);
    }
}

fn unpause(facts: &Facts<'_>, members: &[Member<'_>], out: &mut Lowered) {
    for it in members.iter().filter(|it| it.class == Class::Paused) {
        let step = PlatformStep::Unpause { target: target(facts, it.replica) };
        out.act.push(PlannedStep { step: Step::Platform(step), because: "somebody paused it".to_owned() });
    }
}

/// Live fields, in place: an edit of the file, or drift put back.
fn update(facts: &Facts<'_>, members: &[Member<'_>], out: &mut Lowered) {
    let live = wanted_live(facts.service);
    let edit = !live_is_applied(facts.service, facts.memory);
    let mut noted = BTreeSet::new();
    for it in members.iter().filter(|it| matches!(it.class, Class::Healthy | Class::Converging(_) | Class::Paused)) {
        let differs = [
            (DriftField::Restart, it.replica.restart != live.restart, format!("restart is {}", it.replica.restart)),
            (
                DriftField::Resources,
                it.replica.resources != live.resources,
                format!("it has {}", super::step::show_resources(it.replica.resources)),
            ),
        ];
        let mut because = Vec::new();
        for (field, _, what) in differs.into_iter().filter(|(_, differs, _)| *differs) {
            if edit {
                because.push(format!("the file changed: {what}"));
                continue;
            }
            match drift::repair(facts.service, facts.memory, field, &format!("{}: {what}", it.replica.name), facts.now)
            {
                Ok(()) => {
                    because.push(format!("{field} drifted: {what}"));
                    noted.insert(field);
                }
                Err(hold) => out.holds.extend(hold),
            }
        }
        if because.is_empty() {
            continue;
        }
        let step = PlatformStep::Update {
            target: target(facts, it.replica),
            restart: live.restart,
            resources: live.resources,
        };
        out.act.push(PlannedStep { step: Step::Platform(step), because: because.join(", ") });
    }
    for field in noted {
        let step = Step::Remember(MemoryChange::Repair(field, facts.now));
        out.remember.push(PlannedStep { step, because: format!("{field} drifted") });
    }
}

/// Runs `missing` new replicas in the lowest free slots, on the ports leased for this plan.
fn run(
    facts: &Facts<'_>,
    group: Group,
    release: &Release,
    missing: u32,
    taken: &BTreeSet<u32>,
    because: &str,
    out: &mut Lowered,
) {
    if missing == 0 {
        return;
    }
    let platform = &facts.snapshot.platform;
    let blocked = |slot: u32| {
        let name = container_name(&facts.service.name, group, slot);
        platform.strangers.iter().any(|it| it.blocks && it.name == name)
    };
    let last = facts.service.replicas + 1 + count(platform.strangers.len());
    let slots = (1..=last).filter(|slot| !taken.contains(slot) && !blocked(*slot));
    let used: BTreeSet<u16> = out.act.iter().filter_map(planned_port).collect();
    let no_ports = Vec::new();
    let free = platform.free_ports.get(&group).unwrap_or(&no_ports);
    let mut ports = free.iter().copied().filter(|port| !used.contains(port));
    for slot in slots.take(missing as usize) {
        let host_port = match release.port {
            None => None,
            Some(_) => {
                let Some(port) = ports.next() else {
                    let range = facts.service.docker.publish.of(group);
                    let range =
                        range.map_or_else(|| "`ports` of holdfast.yaml".to_owned(), |it| format!("publish {it}"));
                    let why = format!("every port of {range} is taken");
                    out.holds.push(Hold::NoSparePort { group, why });
                    return;
                };
                Some(port)
            }
        };
        out.act.push(PlannedStep {
            step: Step::Platform(PlatformStep::Run(Box::new(RunContainer {
                service: facts.service.name.clone(),
                name: container_name(&facts.service.name, group, slot),
                group,
                slot,
                release: release.clone(),
                hash: release.hash(),
                host_port,
                restart: facts.service.docker.restart,
                resources: facts.service.docker.resources,
            }))),
            because: because.to_owned(),
        });
    }
    if release.pull == Pull::Always && out.pull.is_empty() && !platform.local_images.contains(&release.digest) {
        let step = PlatformStep::Pull {
            service: facts.service.name.clone(),
            repository: release.repository.clone(),
            digest: release.digest.clone(),
        };
        out.pull.push(PlannedStep { step: Step::Platform(step), because: because.to_owned() });
    }
}

fn planned_port(planned: &PlannedStep) -> Option<u16> {
    match &planned.step {
        Step::Platform(PlatformStep::Run(run)) => run.host_port,
        _ => None,
    }
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
