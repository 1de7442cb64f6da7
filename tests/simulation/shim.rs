//! What stands between the controller and the world: lets one call go wrong, and looks at the world after every one.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use holdfast::model::colour::Group;
use holdfast::model::desired::NginxTraffic;
use holdfast::model::ecs::AlbTraffic;
use holdfast::model::ecs::seen::{AlbSeen, EcsSeen};
use holdfast::model::event::{Event, HistoryEntry};
use holdfast::model::image::{Digest, Repository, TagSpec};
use holdfast::model::memory::{Memory, MemoryChange};
use holdfast::model::names::ServiceName;
use holdfast::model::snapshot::{Fact, NginxSeen, Owned, PlatformSeen, Why};
use holdfast::plan::step::{AlbStep, EcsStep, Ensured, PlatformStep, TrafficStep};
use holdfast::platform::sandbox::Sandbox;
use holdfast::ports::{Cluster, EcsLookAt, LoadBalancer, LookAt, Platform, StepError, Store, Traffic, Wakes};
use tokio::sync::Notify;

use crate::fakes::World;

/// How a call that changes something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    FailBefore,
    FailAfter,
    TimeoutBefore,
    TimeoutAfter,
    Slow,
    Throttle,
    CrashBefore,
    CrashAfter,
}

pub(crate) const OUTCOMES: [Outcome; 8] = [
    Outcome::FailBefore,
    Outcome::FailAfter,
    Outcome::TimeoutBefore,
    Outcome::TimeoutAfter,
    Outcome::Slow,
    Outcome::Throttle,
    Outcome::CrashBefore,
    Outcome::CrashAfter,
];

/// Longer than the backoff of a first failure.
const LONG: Duration = Duration::from_secs(20);

/// A failure of a call.
pub(crate) trait Failure {
    fn of(why: &str) -> Self;
    fn throttled() -> Self;
}

impl Failure for StepError {
    fn of(why: &str) -> Self {
        Self::transient(why)
    }
    fn throttled() -> Self {
        Self::throttled("ThrottlingException: Rate exceeded")
    }
}

impl Failure for Why {
    fn of(why: &str) -> Self {
        why.to_owned()
    }
    fn throttled() -> Self {
        "busy".to_owned()
    }
}

/// How many backends that get requests are healthy.
pub(crate) type Serving = fn(&Sandbox) -> usize;

/// What one life of the world is about, shared by every edge of it.
pub(crate) struct Shim {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) store: Arc<World>,
    /// Which call goes wrong, counted from 0, and how.
    pub(crate) fault: Option<(usize, Outcome)>,
    pub(crate) calls: Mutex<Vec<String>>,
    /// Calls that have begun and not ended: nobody rests meanwhile, whatever the status says.
    pub(crate) under_way: AtomicUsize,
    pub(crate) crash: Notify,
    pub(crate) broken: Mutex<Vec<String>>,
    pub(crate) rules: Rules,
    pub(crate) served: Mutex<bool>,
}

/// What a scenario allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Whether requests must be answered without a gap once they were (S1).
    pub(crate) always_serves: bool,
    /// Who answers them.
    pub(crate) serving: Serving,
}

impl Shim {
    /// Passes one mutating call through.
    async fn through<T, E: Failure>(&self, what: String, effect: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let done = self.outcome(what, effect).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        done
    }

    async fn outcome<T, E: Failure>(&self, what: String, effect: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(what.clone());
            calls.len() - 1
        };
        let fault = self.fault.filter(|(at, _)| *at == number).map(|(_, how)| how);
        match fault {
            Some(Outcome::FailBefore) => return Err(E::of("the call failed")),
            Some(Outcome::Throttle) => return Err(E::throttled()),
            Some(Outcome::TimeoutBefore) => {
                tokio::time::sleep(LONG).await;
                return Err(E::of("no answer in time"));
            }
            Some(Outcome::CrashBefore) => {
                self.crash.notify_one();
                return std::future::pending().await;
            }
            Some(Outcome::Slow) => tokio::time::sleep(LONG).await,
            _ => {}
        }
        let done = effect.await;
        self.look(&what);
        if matches!(fault, Some(Outcome::FailAfter | Outcome::TimeoutAfter | Outcome::CrashAfter)) {
            // Whoever asked never learnt what the reply said.
            self.sandbox.ecs_reconnect();
        }
        match fault {
            Some(Outcome::FailAfter) => Err(E::of("the reply was lost")),
            Some(Outcome::TimeoutAfter) => {
                tokio::time::sleep(LONG).await;
                Err(E::of("no answer in time"))
            }
            Some(Outcome::CrashAfter) => {
                self.crash.notify_one();
                std::future::pending().await
            }
            _ => done,
        }
    }

    /// What must never be, looked for after every change.
    pub(crate) fn look(&self, after: &str) {
        let serving = (self.rules.serving)(&self.sandbox);
        let mut served = self.served.lock().unwrap();
        if *served && serving == 0 && self.rules.always_serves {
            self.broken.lock().unwrap().push(format!("S1: nobody serves after `{after}`"));
        }
        *served |= serving > 0;
    }
}

pub(crate) struct Edge(pub(crate) Arc<Shim>);

#[async_trait]
impl Platform for Edge {
    fn name(&self) -> &'static str {
        "sandbox"
    }
    async fn look(&self, at: LookAt<'_>) -> PlatformSeen {
        Platform::look(&*self.0.sandbox, at).await
    }
    async fn owned(&self) -> Owned {
        self.0.sandbox.owned().await
    }
    async fn local_image(&self, repository: &Repository, tag: &TagSpec) -> Fact<Digest> {
        self.0.sandbox.local_image(repository, tag).await
    }
    async fn perform(&self, step: &PlatformStep) -> Result<Ensured, StepError> {
        let effect = Platform::perform(&*self.0.sandbox, step);
        self.0.through(step.to_string(), effect).await
    }
    async fn watch(&self, wakes: Wakes) {
        Platform::watch(&*self.0.sandbox, wakes).await;
    }
    async fn last_words(&self, id: &str) -> String {
        self.0.sandbox.last_words(id).await
    }
}

#[async_trait]
impl Traffic for Edge {
    async fn look(&self, traffic: &NginxTraffic) -> NginxSeen {
        Traffic::look(&*self.0.sandbox, traffic).await
    }
    async fn perform(&self, step: &TrafficStep) -> Result<Ensured, StepError> {
        let effect = Traffic::perform(&*self.0.sandbox, step);
        self.0.through(step.to_string(), effect).await
    }
    async fn watch(&self, wakes: Wakes) {
        Traffic::watch(&*self.0.sandbox, wakes).await;
    }
}

#[async_trait]
impl Cluster for Edge {
    async fn look(&self, at: EcsLookAt<'_>) -> EcsSeen {
        Cluster::look(&*self.0.sandbox, at).await
    }
    async fn perform(&self, step: &EcsStep) -> Result<Ensured, StepError> {
        let effect = Cluster::perform(&*self.0.sandbox, step);
        self.0.through(step.to_string(), effect).await
    }
    async fn watch(&self, wakes: Wakes) {
        Cluster::watch(&*self.0.sandbox, wakes).await;
    }
}

#[async_trait]
impl LoadBalancer for Edge {
    async fn look(&self, traffic: &AlbTraffic, settled_on: Option<Group>) -> AlbSeen {
        LoadBalancer::look(&*self.0.sandbox, traffic, settled_on).await
    }
    async fn perform(&self, step: &AlbStep) -> Result<Ensured, StepError> {
        let effect = LoadBalancer::perform(&*self.0.sandbox, step);
        self.0.through(step.to_string(), effect).await
    }
}

#[async_trait]
impl Store for Edge {
    async fn load(&self) -> Result<BTreeMap<ServiceName, Memory>, Why> {
        Ok(self.0.store.memory.lock().unwrap().clone())
    }
    async fn remember(&self, service: &ServiceName, change: &MemoryChange) -> Result<Memory, Why> {
        let effect = async {
            let mut memory = self.0.store.memory.lock().unwrap();
            let memory = memory.entry(service.clone()).or_default();
            memory.apply(change);
            Ok(memory.clone())
        };
        self.0.through(format!("remember {change:?}").chars().take(60).collect(), effect).await
    }
    async fn record(&self, event: Event) -> Result<Event, Why> {
        Ok(event)
    }
    async fn events(&self, _: Option<&ServiceName>, _: u64, _: u32) -> Result<Vec<Event>, Why> {
        Ok(Vec::new())
    }
    async fn history_put(&self, _: &ServiceName, _: HistoryEntry) -> Result<(), Why> {
        Ok(())
    }
    async fn history(&self, _: &ServiceName, _: u32) -> Result<Vec<HistoryEntry>, Why> {
        Ok(Vec::new())
    }
}
