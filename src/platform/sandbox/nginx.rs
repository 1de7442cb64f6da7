//! The sandbox's nginx: servers files, a generation of workers, and old ones that leave.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{LEAVE, Sandbox};
use crate::model::desired::NginxTraffic;
use crate::model::hash::sha256_hex;
use crate::model::snapshot::{Fact, NginxProcesses, NginxSeen, ServersFile, Worker};
use crate::plan::step::{Ensured, TrafficStep};
use crate::ports::{StepError, Traffic, Wakes};

/// As many as the demo machine has cores.
const WORKERS: u32 = 2;

#[derive(Debug)]
pub(super) struct Nginx {
    files: BTreeMap<PathBuf, (String, Timestamp)>,
    processes: NginxProcesses,
    next_pid: u32,
}

impl Nginx {
    pub(super) fn new(now: Timestamp) -> Self {
        let mut nginx = Self { files: BTreeMap::new(), processes: NginxProcesses::default(), next_pid: 1000 };
        nginx.reload(now);
        nginx
    }

    pub(super) fn write(&mut self, file: &Path, text: &str, now: Timestamp) {
        self.files.insert(file.to_owned(), (text.to_owned(), now));
    }

    /// New workers take over; the old ones, returned, finish their requests.
    fn reload(&mut self, now: Timestamp) -> BTreeSet<Worker> {
        let old = std::mem::take(&mut self.processes.workers);
        self.processes.leaving.extend(old.iter().cloned());
        for _ in 0..WORKERS {
            self.next_pid += 1;
            self.processes.workers.insert(Worker { pid: self.next_pid, started_ms: now.as_millisecond() });
        }
        old
    }

    /// The addresses that `file` lists.
    pub(super) fn servers(&self, file: &Path) -> Vec<String> {
        self.read(file).seen().map(|file| file.servers.clone()).unwrap_or_default()
    }

    fn read(&self, file: &Path) -> Fact<ServersFile> {
        let Some((text, changed_at)) = self.files.get(file) else { return Fact::Absent };
        let servers = text.lines().filter_map(|line| line.trim().strip_prefix("server ")?.strip_suffix(';'));
        let servers = servers.filter(|server| !server.ends_with(" down")).map(str::to_owned).collect();
        Fact::Seen(ServersFile { sha256: sha256_hex(text), servers, changed_at: *changed_at })
    }
}

impl Sandbox {
    /// Reloads nginx and sees the old workers off.
    pub(super) fn reload(&self) {
        let now = self.clock.now();
        let old = self.state().nginx.reload(now);
        self.later(LEAVE, move |world| {
            world.state().nginx.processes.leaving.retain(|worker| !old.contains(worker));
            world.wake(None, "old nginx workers left");
        });
    }
}

#[async_trait]
impl Traffic for Sandbox {
    async fn look(&self, traffic: &NginxTraffic) -> NginxSeen {
        let state = self.state();
        if state.outage {
            let why = || super::engine::OUTAGE.to_owned();
            return NginxSeen {
                file: Fact::Unreadable(why()),
                processes: Fact::Unreadable(why()),
                included: Fact::Unreadable(why()),
                loaded: false,
            };
        }
        let file = state.nginx.read(&traffic.file);
        let processes = state.nginx.processes.clone();
        let young = |changed: i64| processes.workers.iter().all(|worker| worker.started_ms >= changed);
        let loaded = file.seen().is_some_and(|file| young(file.changed_at.as_millisecond()));
        NginxSeen { file, processes: Fact::Seen(processes), included: Fact::Seen(true), loaded }
    }

    async fn perform(&self, step: &TrafficStep) -> Result<Ensured, StepError> {
        let now = self.clock.now();
        {
            let mut state = self.state();
            if state.outage {
                return Err(StepError::transient(super::engine::OUTAGE));
            }
            state.mutations += 1;
            let text = TrafficStep::render(&step.service, &step.servers);
            state.nginx.write(&step.file, &text, now);
        }
        if step.reload {
            self.reload();
        }
        Ok(Ensured::Changed)
    }

    async fn watch(&self, _wakes: Wakes) {
        // Everything that changes here wakes at once; there is nothing to watch.
        std::future::pending::<()>().await;
    }
}
