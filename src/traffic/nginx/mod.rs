//! nginx on this host: one servers file a service, switched by write, test, reload and proof.

mod boot;
mod config_text;
mod include;
mod process;
mod program;
mod queue;
mod reload;
mod servers_file;
mod switch;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

pub use self::include::include_hint;
use self::program::Program;
use self::queue::Queue;
use crate::model::desired::NginxTraffic;
use crate::model::names::ServiceName;
use crate::model::snapshot::{Fact, NginxSeen, Why};
use crate::plan::step::{Ensured, TrafficStep};
use crate::ports::{Clock, StepError, Traffic, Wakes};

/// Where nginx is: `nginx:` of `holdfast.yaml`.
#[derive(Clone)]
pub struct NginxOptions {
    /// The program: a path, or a name to be found in `PATH` or `/usr/sbin`.
    pub binary: PathBuf,
    /// The main configuration file.
    pub config: PathBuf,
    /// Where the master writes its process id.
    pub pid: PathBuf,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for NginxOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { binary, config, pid, clock: _ } = self;
        f.debug_struct("NginxOptions").field("binary", binary).field("config", config).field("pid", pid).finish()
    }
}

/// One nginx. All switches on it are serialised, and those that wait for a turn share one test and one reload.
#[derive(Debug, Clone)]
pub struct Nginx {
    shared: Arc<Shared>,
}

/// What looks, switches and the watch share.
#[derive(Debug)]
struct Shared {
    options: NginxOptions,
    program: Program,
    boot: boot::Boot,
    includes: include::Includes,
    /// The servers files heard of, and whose they are where that is known.
    files: Mutex<BTreeMap<PathBuf, Option<ServiceName>>>,
    /// Held while bytes that nginx has not tested are in place.
    untested: tokio::sync::Mutex<()>,
    queue: Queue,
    /// A new servers file is known, or nginx was reloaded: the watch looks again.
    changed: Notify,
}

impl Nginx {
    /// An adapter for the nginx at `options`; touches nothing yet.
    pub fn new(options: NginxOptions) -> Arc<Self> {
        let program = Program { binary: options.binary.clone(), config: options.config.clone() };
        Arc::new(Self {
            shared: Arc::new(Shared {
                options,
                program,
                boot: boot::Boot::default(),
                includes: include::Includes::default(),
                files: Mutex::default(),
                untested: tokio::sync::Mutex::default(),
                queue: Queue::default(),
                changed: Notify::new(),
            }),
        })
    }

    /// The version of the nginx program, `nginx/1.22.1`: for `check`.
    ///
    /// # Errors
    /// When it is not installed or does not answer; ends in a hint.
    pub async fn probe_binary(&self) -> Result<String, Why> {
        program::version(&self.shared.options.binary).await
    }
}

impl Shared {
    /// Remembers a servers file. An owner once known stays known.
    fn learn(&self, file: &Path, owner: Option<ServiceName>) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let known = files.get(file);
        let news = match (known, &owner) {
            (None, _) => true,
            (Some(known), Some(_)) => *known != owner,
            (Some(_), None) => false,
        };
        if news {
            files.insert(file.to_owned(), owner);
            self.changed.notify_one();
        }
    }

    /// The servers files heard of, and their owners.
    fn known(&self) -> BTreeMap<PathBuf, Option<ServiceName>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Traffic for Nginx {
    async fn look(&self, traffic: &NginxTraffic) -> NginxSeen {
        let Shared { options, program, boot, includes, untested, .. } = &*self.shared;
        let owner =
            servers_file::read(&traffic.file).ok().flatten().and_then(|on_disk| servers_file::owner(&on_disk.bytes));
        self.shared.learn(&traffic.file, owner);
        let ours: BTreeSet<PathBuf> = self.shared.known().into_keys().collect();
        let included = includes.includes(program, &traffic.file, &ours, options.clock.now(), untested).await;
        // The file first: workers that are younger than it can then only have read these bytes or newer ones.
        let file = servers_file::look(&traffic.file);
        let processes = match process::running(&options.pid, boot) {
            Fact::Seen(running) => Fact::Seen(running.processes),
            Fact::Absent => Fact::Absent,
            Fact::Unreadable(why) => Fact::Unreadable(why),
        };
        let loaded = match (&file, &processes) {
            (Fact::Seen(file), Fact::Seen(processes)) => {
                let changed = reload::ceil_ms(file.changed_at);
                !processes.workers.is_empty() && processes.workers.iter().all(|worker| worker.started_ms > changed)
            }
            _ => false,
        };
        NginxSeen { file, processes, included, loaded }
    }

    async fn perform(&self, step: &TrafficStep) -> Result<Ensured, StepError> {
        self.shared.learn(&step.file, Some(step.service.clone()));
        queue::perform(&self.shared, step.clone()).await
    }

    async fn watch(&self, wakes: Wakes) {
        watch::watch(&self.shared, &wakes).await;
    }
}
