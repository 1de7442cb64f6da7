//! A service that left the file: nothing happens until its removal is acknowledged by name.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::memory::{Memory, MemoryChange, Switch};
use crate::model::names::ServiceName;
use crate::model::snapshot::{Fact, NginxSeen, Replica, Snapshot};

use super::Plan;
use super::hold::{Hold, after};
use super::step::{PlannedStep, PlatformStep, Step, Target, TrafficStep};

const BECAUSE: &str = "its removal is acknowledged";

/// Requests end first, then the containers, then the memory.
pub fn plan(name: &ServiceName, snapshot: &Snapshot, memory: &Memory, acknowledged: bool, now: Timestamp) -> Plan {
    let replicas = match &snapshot.platform.replicas {
        Fact::Seen(replicas) => replicas.as_slice(),
        Fact::Absent => &[],
        Fact::Unreadable(why) => return Plan::waiting(vec![Hold::PlatformUnreadable { why: why.clone() }]),
    };
    if replicas.is_empty() && *memory == Memory::default() {
        return Plan::default();
    }
    if let Some(paused) = &memory.paused {
        return Plan::waiting(vec![Hold::Paused { by: paused.by.clone(), since: paused.at }]);
    }
    if !acknowledged && !memory.removal_approved {
        return Plan::waiting(vec![Hold::RemovalNotAcknowledged { service: name.to_string() }]);
    }
    let mut plan = Plan::default();
    "removing".clone_into(&mut plan.view.stage);
    if let Some(seen) = &snapshot.nginx
        && let Some(blocked) = end_requests(name, seen, memory, now, &mut plan)
    {
        plan.holds.extend(blocked);
        plan.next_look = plan.holds.iter().filter_map(Hold::until).min();
        return plan;
    }
    plan.stage(replicas.iter().map(|replica| remove(name, replica, memory)).collect());
    if replicas.is_empty() {
        plan.remember(vec![(MemoryChange::Forget, "nothing of it is left".to_owned())]);
    }
    plan
}

fn remove(name: &ServiceName, replica: &Replica, memory: &Memory) -> PlannedStep {
    let stop_timeout = memory.committed.as_ref().map_or(10, |it| it.release.stop_timeout);
    let target = Target { id: replica.id.clone(), name: replica.name.clone(), service: name.clone() };
    let step = PlatformStep::Remove { target, stop_timeout, only_if_down: false };
    PlannedStep { step: Step::Platform(step), because: BECAUSE.to_owned() }
}

/// Empties the servers file and waits for the old workers. `None`: no request comes any more.
fn end_requests(
    name: &ServiceName,
    seen: &NginxSeen,
    memory: &Memory,
    now: Timestamp,
    plan: &mut Plan,
) -> Option<Vec<Hold>> {
    let committed = memory.committed.as_ref()?;
    let file = committed.servers_file.clone()?;
    let servers = match &seen.file {
        Fact::Absent => return None,
        Fact::Unreadable(why) => return Some(vec![Hold::TrafficUnreadable { why: why.clone() }]),
        Fact::Seen(file) => &file.servers,
    };
    let processes = match &seen.processes {
        Fact::Absent => None,
        Fact::Unreadable(why) => return Some(vec![Hold::TrafficUnreadable { why: why.clone() }]),
        Fact::Seen(processes) => Some(processes),
    };
    if servers.is_empty() && processes.is_none() {
        return None;
    }
    if !servers.is_empty() || !seen.loaded {
        let sha256 = crate::model::hash::sha256_hex(TrafficStep::render(name, &[]));
        let open = Switch { to: committed.group, from: None, sha256, opened_at: now, confirmed: None };
        plan.remember(vec![(MemoryChange::OpenSwitch(Box::new(open)), BECAUSE.to_owned())]);
        let reload = processes.is_some() && matches!(seen.included, Fact::Seen(true) | Fact::Unreadable(_));
        if !reload && servers.is_empty() {
            plan.stages.clear();
            return None;
        }
        let step = TrafficStep { service: name.clone(), file, servers: Vec::new(), reload };
        plan.stage(vec![PlannedStep { step: Step::Traffic(step), because: BECAUSE.to_owned() }]);
        return Some(Vec::new());
    }
    let leaving = processes.map_or(0, |it| it.leaving.len());
    let since = memory.switch.as_ref().map_or(now, |it| it.opened_at);
    let until = after(since, Duration::from_secs(10));
    if leaving > 0 && now < until {
        return Some(vec![Hold::Draining { workers: u32::try_from(leaving).unwrap_or(u32::MAX), until }]);
    }
    None
}

/// The containers of `replaces`, once this service has served through nginx and nobody reaches them any more.
pub fn retire(facts: &super::docker::Facts<'_>, out: &mut super::docker::Lowered) {
    let memory = facts.memory;
    let (Some(first), Some(_)) = (memory.first_switch, &memory.committed) else { return };
    let ready = facts
        .snapshot
        .nginx
        .as_ref()
        .is_none_or(|seen| super::traffic::confirmed(seen, memory) && matches!(seen.included, Fact::Seen(true)));
    if !ready {
        return;
    }
    if let Some(seen) = &facts.snapshot.nginx
        && !facts.snapshot.platform.replaced.is_empty()
        && let Some(hold) = super::traffic::draining(seen, facts.service.rollout.drain, memory, facts.now)
    {
        out.holds.push(hold);
        return;
    }
    for it in &facts.snapshot.platform.replaced {
        if let Some(owner) = &it.owner {
            out.holds.push(Hold::OwnedByAnother { name: it.name.clone(), owner: owner.clone() });
        } else if it.created_at < first {
            let step = PlatformStep::Retire {
                service: facts.service.name.clone(),
                id: it.id.clone(),
                name: it.name.clone(),
                stop_timeout: u32::try_from(facts.service.docker.stop_timeout.as_secs()).unwrap_or(u32::MAX),
            };
            let because = format!("{} replaced it", facts.service.name);
            out.remove.push(PlannedStep { step: Step::Platform(step), because });
        }
    }
}
