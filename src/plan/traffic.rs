//! nginx: the servers file as wanted, as written, and as loaded.

use std::net::SocketAddr;

use jiff::Timestamp;

use crate::model::colour::Group;
use crate::model::desired::{DriftField, Service};
use crate::model::hash::sha256_hex;
use crate::model::memory::{Confirmed, Memory, MemoryChange, Switch};
use crate::model::snapshot::{Fact, NginxProcesses, NginxSeen};

use super::drift;
use super::hold::{Hold, after};
use super::step::{PlannedStep, Step, TrafficStep};

/// SHA-256 of the servers file for `servers`, hex.
pub fn servers_sha256(service: &Service, servers: &[SocketAddr]) -> String {
    sha256_hex(TrafficStep::render(&service.name, servers))
}

/// Whether the workers that accept are the ones seen to load the file, and the file is unchanged.
pub fn confirmed(seen: &NginxSeen, memory: &Memory) -> bool {
    let (Some(switch), Some(file)) = (&memory.switch, seen.file.seen()) else { return false };
    let (Some(confirmed), Some(processes)) = (&switch.confirmed, seen.processes.seen()) else { return false };
    switch.sha256 == file.sha256
        && !processes.workers.is_empty()
        && confirmed.workers.iter().collect::<Vec<_>>() == processes.workers.iter().collect::<Vec<_>>()
}

/// Until when old workers are waited for, and how many there are; none when none is left or time is up.
pub fn draining(seen: &NginxSeen, service_drain: std::time::Duration, memory: &Memory, now: Timestamp) -> Option<Hold> {
    let NginxProcesses { leaving, .. } = seen.processes.seen()?;
    let switch = memory.switch.as_ref()?;
    let since = switch.confirmed.as_ref().map_or(switch.opened_at, |it| it.at);
    let until = after(since, service_drain.max(std::time::Duration::from_secs(10)));
    if leaving.is_empty() || until <= now {
        return None;
    }
    Some(Hold::Draining { workers: u32::try_from(leaving.len()).unwrap_or(u32::MAX), until })
}

/// Whether the file lists `server`.
pub fn lists(seen: &NginxSeen, server: SocketAddr) -> bool {
    seen.file.seen().is_some_and(|file| file.servers.iter().any(|text| *text == server.to_string()))
}

/// The steps and holds that make nginx send the requests to `servers`.
#[derive(Debug, Default)]
pub struct Lowered {
    /// Remembered first, then written.
    pub open: Vec<PlannedStep>,
    /// The write.
    pub write: Option<PlannedStep>,
    /// What was seen and is to be remembered.
    pub seen: Vec<PlannedStep>,
    /// Why not.
    pub holds: Vec<Hold>,
}

/// Compares what is wanted with what is written and loaded.
#[expect(clippy::too_many_lines, reason = "one comparison from top to bottom; splitting it hides the order")]
pub fn lower(
    service: &Service,
    seen: &NginxSeen,
    memory: &Memory,
    to: Group,
    servers: &[SocketAddr],
    now: Timestamp,
) -> Lowered {
    let mut out = Lowered::default();
    let Some(nginx) = &service.nginx else { return out };
    let sha256 = servers_sha256(service, servers);
    let file = match &seen.file {
        Fact::Unreadable(why) => {
            out.holds.push(Hold::TrafficUnreadable { why: why.clone() });
            return out;
        }
        Fact::Absent => None,
        Fact::Seen(file) => Some(file),
    };
    let written = file.is_some_and(|file| file.sha256 == sha256);
    let running = match &seen.processes {
        Fact::Unreadable(why) => {
            out.holds.push(Hold::TrafficUnreadable { why: why.clone() });
            return out;
        }
        Fact::Absent => {
            out.holds.push(Hold::NginxNotRunning);
            false
        }
        Fact::Seen(_) => true,
    };
    match &seen.included {
        Fact::Seen(true) => {}
        Fact::Seen(false) | Fact::Absent => {
            out.holds.push(Hold::NginxIncludeMissing { file: nginx.file.clone(), service: service.name.to_string() })
        }
        // Not for what stands in this file (then the file is known to be included, and writing it is the cure): nothing
        // written here would be loaded.
        Fact::Unreadable(why) => {
            out.holds.push(Hold::NginxConfigInvalid { why: why.clone() });
            return out;
        }
    }
    let loads = running && seen.included == Fact::Seen(true);
    if written && (confirmed(seen, memory) || !loads) {
        return out;
    }
    let open = Switch {
        to,
        from: memory.switch.as_ref().map(|old| if old.to == to { old.from.unwrap_or(to) } else { old.to }),
        sha256: sha256.clone(),
        opened_at: now,
        confirmed: None,
    };
    let known = memory.switch.as_ref().is_some_and(|old| old.sha256 == sha256 && old.to == to);
    let remember = |change, because: &str| PlannedStep { step: Step::Remember(change), because: because.to_owned() };
    if written && seen.loaded {
        if !known {
            out.seen.push(remember(MemoryChange::OpenSwitch(Box::new(open)), "nginx already has it"));
        }
        let workers = seen.processes.seen().map(|it| it.workers.iter().cloned().collect()).unwrap_or_default();
        let confirmed = Confirmed { at: now, workers };
        out.seen
            .push(remember(MemoryChange::ConfirmSwitch(confirmed), "workers younger than the file accept requests"));
        return out;
    }
    let because = match cause(service, file.map(|file| file.sha256.as_str()), written, memory, to, now) {
        Ok(because) => because,
        Err(hold) => {
            out.holds.extend(hold);
            return out;
        }
    };
    if !known || memory.switch.as_ref().is_some_and(|old| old.confirmed.is_some()) {
        out.open.push(remember(MemoryChange::OpenSwitch(Box::new(open)), &because.0));
    }
    if because.1 {
        out.open.push(remember(MemoryChange::Repair(DriftField::Traffic, now), &because.0));
    }
    let step = TrafficStep {
        service: service.name.clone(),
        file: nginx.file.clone(),
        servers: servers.to_vec(),
        reload: loads,
    };
    out.write = Some(PlannedStep { step: Step::Traffic(step), because: because.0 });
    out
}

/// Why the file is written, and whether that repairs drift; the hold when drift is not to be repaired now.
fn cause(
    service: &Service,
    on_disk: Option<&str>,
    written: bool,
    memory: &Memory,
    to: Group,
    now: Timestamp,
) -> Result<(String, bool), Option<Hold>> {
    let Some(switch) = &memory.switch else {
        return Ok(("the servers file is to list this service's replicas".to_owned(), false));
    };
    if written {
        return Ok(("nginx has not loaded the servers file as it stands".to_owned(), false));
    }
    let ours = on_disk == Some(switch.sha256.as_str());
    if ours || switch.confirmed.is_none() {
        let text = if switch.to == to { "the replicas changed".to_owned() } else { format!("{to} is ready") };
        return Ok((text, false));
    }
    let what = if on_disk.is_none() { "the servers file was deleted" } else { "the servers file was edited by hand" };
    drift::repair(service, memory, DriftField::Traffic, what, now).map(|()| (what.to_owned(), true))
}
