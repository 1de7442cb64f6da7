//! Floor 2: is it healthy.
//!
//! One task a replica, started the moment the replica is known: the first probe at once, then after 10 ms, doubling up to
//! `interval`, until the first verdict; then every `interval`, or every 5 s at least when the service is settled. A bad
//! answer brings the next probe back to `interval`. `container` checks are the engine's and need no probing here.

mod ask;
mod task;
mod verdict;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::model::desired::Check;
use crate::model::names::ServiceName;
use crate::model::snapshot::Health;
use crate::ports::{Clock, Probe, ProbeTarget, Wakes};
use ask::Asker;

/// Probes every replica of every service.
pub struct Prober {
    asker: Asker,
    wakes: Wakes,
    clock: Arc<dyn Clock>,
    watched: Mutex<HashMap<ServiceName, HashMap<String, Watched>>>,
}

/// One target under way. Dropping it ends its task.
struct Watched {
    target: watch::Sender<ProbeTarget>,
    verdict: watch::Receiver<Health>,
    _task: AbortOnDropHandle<()>,
}

impl Prober {
    /// A prober that watches nothing yet.
    pub fn new(wakes: Wakes, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { asker: Asker::new(), wakes, clock, watched: Mutex::new(HashMap::new()) })
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<ServiceName, HashMap<String, Watched>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, service: &ServiceName, target: ProbeTarget) -> Watched {
        let (target, changes) = watch::channel(target);
        let (report, verdict) = watch::channel(Health::unasked(self.clock.now()));
        let task = task::Task {
            service: service.clone(),
            asker: self.asker.clone(),
            wakes: self.wakes.clone(),
            clock: self.clock.clone(),
            changes,
            report,
        };
        Watched { target, verdict, _task: AbortOnDropHandle::new(tokio::spawn(task.run())) }
    }
}

/// Whether a verdict on `a` is one on `b`: the same run, asked the same way.
fn same_question(a: &ProbeTarget, b: &ProbeTarget) -> bool {
    a.id == b.id && a.started_at == b.started_at && a.address == b.address && a.check == b.check
}

impl Probe for Prober {
    fn watch(&self, service: &ServiceName, targets: Vec<ProbeTarget>) {
        let mut watched = self.watched();
        let mut before = watched.remove(service).unwrap_or_default();
        let mut now = HashMap::new();
        for target in targets.into_iter().filter(|target| target.check != Check::Container) {
            let id = target.id.clone();
            let known = before.remove(&id).filter(|known| same_question(&known.target.borrow(), &target));
            let one = match known {
                Some(known) => {
                    known.target.send_if_modified(|current| {
                        let changed = *current != target;
                        *current = target;
                        changed
                    });
                    known
                }
                None => self.start(service, target),
            };
            now.insert(id, one);
        }
        if !now.is_empty() {
            watched.insert(service.clone(), now);
        }
    }

    fn verdicts(&self, service: &ServiceName) -> BTreeMap<String, Health> {
        let watched = self.watched();
        let of = watched.get(service).into_iter().flatten();
        of.map(|(id, one)| (id.clone(), one.verdict.borrow().clone())).collect()
    }
}
