//! The real controller and planner on the sandbox, with a fault at every call that changes something.
//!
//! A scenario is played once without a fault; then once more for each of its mutating calls and each way that call can go
//! wrong: nothing happens, it happens and the reply is an error, it takes long, and the controller dies before or after it.
//! (Sieve, OSDI 2022, restarts controllers after each write; "happened, but the reply was an error" is what it leaves out.)
//! At every change of the world what must never be is looked for; at the end the world must be what the file says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]

mod fakes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fakes::{RESYNC, TokioClock, World, name, source, state};
use holdfast::controller::{Controller, Handle, Options, Planner};
use holdfast::model::colour::Colour;
use holdfast::model::desired::{NginxTraffic, Order, Promote, Service, Strategy};
use holdfast::model::event::{Event, HistoryEntry};
use holdfast::model::image::{Digest, Repository, TagSpec};
use holdfast::model::memory::{Memory, MemoryChange};
use holdfast::model::names::{ControllerId, ServiceName};
use holdfast::model::snapshot::{Fact, NginxSeen, Owned, PlatformSeen, Why};
use holdfast::model::status::{Phase, ServiceStatus};
use holdfast::plan::step::{Ensured, PlatformStep, TrafficStep};
use holdfast::platform::sandbox::Sandbox;
use holdfast::ports::{Edges, LookAt, Platform, SourceUpdate, StepError, Store, Traffic, Wakes};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How a call that changes something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    FailBefore,
    FailAfter,
    TimeoutBefore,
    TimeoutAfter,
    Slow,
    CrashBefore,
    CrashAfter,
}

const OUTCOMES: [Outcome; 7] = [
    Outcome::FailBefore,
    Outcome::FailAfter,
    Outcome::TimeoutBefore,
    Outcome::TimeoutAfter,
    Outcome::Slow,
    Outcome::CrashBefore,
    Outcome::CrashAfter,
];

/// Longer than the backoff of a first failure.
const LONG: Duration = Duration::from_secs(20);

/// What one life of the world is about, shared by every edge of it.
struct Shim {
    sandbox: Arc<Sandbox>,
    store: Arc<World>,
    /// Which call goes wrong, counted from 0, and how.
    fault: Option<(usize, Outcome)>,
    calls: Mutex<Vec<String>>,
    /// Calls that have begun and not ended: nobody rests meanwhile, whatever the status says.
    under_way: AtomicUsize,
    crash: Notify,
    broken: Mutex<Vec<String>>,
    rules: Rules,
    served: Mutex<bool>,
}

/// What a scenario allows.
#[derive(Debug, Clone, Copy)]
struct Rules {
    /// Whether requests must be answered without a gap once they were (S1).
    always_serves: bool,
}

impl Shim {
    /// Passes one mutating call through.
    async fn through<T, E>(
        &self,
        what: String,
        error: impl Fn(String) -> E,
        effect: impl std::future::Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let done = self.outcome(what, error, effect).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        done
    }

    async fn outcome<T, E>(
        &self,
        what: String,
        error: impl Fn(String) -> E,
        effect: impl std::future::Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(what.clone());
            calls.len() - 1
        };
        let fault = self.fault.filter(|(at, _)| *at == number).map(|(_, how)| how);
        match fault {
            Some(Outcome::FailBefore) => return Err(error("the call failed".to_owned())),
            Some(Outcome::TimeoutBefore) => {
                tokio::time::sleep(LONG).await;
                return Err(error("no answer in time".to_owned()));
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
        match fault {
            Some(Outcome::FailAfter) => Err(error("the reply was lost".to_owned())),
            Some(Outcome::TimeoutAfter) => {
                tokio::time::sleep(LONG).await;
                Err(error("no answer in time".to_owned()))
            }
            Some(Outcome::CrashAfter) => {
                self.crash.notify_one();
                std::future::pending().await
            }
            _ => done,
        }
    }

    /// What must never be, looked for after every change.
    fn look(&self, after: &str) {
        let serving = self.sandbox.serving(&servers());
        let mut served = self.served.lock().unwrap();
        if *served && serving.is_empty() && self.rules.always_serves {
            self.broken.lock().unwrap().push(format!("S1: nobody serves after `{after}`"));
        }
        *served |= !serving.is_empty();
    }
}

fn servers() -> PathBuf {
    PathBuf::from("/etc/nginx/holdfast/api.servers")
}

struct Edge(Arc<Shim>);

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
        self.0.through(step.to_string(), StepError::transient, effect).await
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
        self.0.through(step.to_string(), StepError::transient, effect).await
    }
    async fn watch(&self, wakes: Wakes) {
        Traffic::watch(&*self.0.sandbox, wakes).await;
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
        self.0.through(format!("remember {change:?}").chars().take(60).collect(), |why| why, effect).await
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

/// One thing that happens; the next one waits until the service rests.
#[derive(Clone)]
enum Happening {
    File(Vec<Service>, Vec<&'static str>),
    /// The same, but nobody waits for it to come to anything.
    FileInPassing(Vec<Service>),
    Kill(&'static str),
    Remove(&'static str),
    EditServers,
    Reload,
}

struct Scenario {
    name: &'static str,
    story: Vec<Happening>,
    rules: Rules,
    /// The containers there are in the end, without their slots, and what the phase is.
    end: (Vec<&'static str>, Phase),
}

fn api(tag: &str, replicas: u32) -> Service {
    let mut service = fakes::service("api", tag, replicas);
    service.nginx = Some(NginxTraffic { file: servers() });
    service.rollout.strategy = Strategy::BlueGreen;
    service.rollout.bake = Duration::from_secs(5);
    service.health.successes = 1;
    service.health.deadline = Duration::from_secs(30);
    service
}

fn with(mut service: Service, change: impl FnOnce(&mut Service)) -> Service {
    change(&mut service);
    service
}

fn rolling(tag: &str, replicas: u32) -> Service {
    with(api(tag, replicas), |it| it.rollout.strategy = Strategy::Rolling)
}

fn worker(tag: &str, replicas: u32) -> Service {
    with(rolling(tag, replicas), |it| it.nginx = None)
}

#[expect(clippy::too_many_lines, reason = "one scenario after the other: a table")]
fn scenarios() -> Vec<Scenario> {
    use Happening::{EditServers, File, FileInPassing, Kill, Reload, Remove};
    let file = |service: Service| File(vec![service], Vec::new());
    let passing = |service: Service| FileInPassing(vec![service]);
    let colour = |tag, n, colour| with(api(tag, n), |it| it.active_colour = Some(colour));
    let serves = Rules { always_serves: true };
    let may_stop = Rules { always_serves: false };
    let settled = |names: &[&'static str]| (names.to_vec(), Phase::Settled);
    let scenario = |name, story, rules, end| Scenario { name, story, rules, end };
    vec![
        scenario("first deploy", vec![file(api("v1", 2))], serves, settled(&["api-blue", "api-blue"])),
        scenario("new tag", vec![file(api("v1", 2)), file(api("v2", 2))], serves, settled(&["api-green", "api-green"])),
        scenario(
            "new tag twice",
            vec![file(api("v1", 1)), file(api("v2", 1)), file(api("v3", 1))],
            serves,
            settled(&["api-blue"]),
        ),
        scenario(
            "superseded on the way",
            vec![file(api("v1", 1)), passing(api("v2", 1)), file(api("v3", 1))],
            serves,
            settled(&["api-green"]),
        ),
        scenario(
            "back before it came to anything",
            vec![file(api("v1", 1)), passing(api("v2", 1)), file(api("v1", 1))],
            serves,
            settled(&["api-blue"]),
        ),
        scenario(
            "bad tag",
            vec![file(api("v1", 2)), file(api("bad", 2))],
            serves,
            (vec!["api-blue", "api-blue"], Phase::Failed),
        ),
        scenario(
            "bad tag, then a good one",
            vec![file(api("v1", 1)), file(api("bad", 1)), file(api("v2", 1))],
            serves,
            settled(&["api-green"]),
        ),
        scenario("first deploy is bad", vec![file(api("bad", 1))], may_stop, (vec![], Phase::Failed)),
        scenario(
            "scale up and down",
            vec![file(api("v1", 1)), file(api("v1", 3)), file(api("v1", 1))],
            serves,
            settled(&["api-blue"]),
        ),
        scenario("to zero", vec![file(api("v1", 2)), file(api("v1", 0))], may_stop, settled(&[])),
        scenario(
            "to zero and back",
            vec![file(api("v1", 1)), file(api("v1", 0)), file(api("v1", 1))],
            may_stop,
            settled(&["api-blue"]),
        ),
        scenario(
            "colour alone",
            vec![file(colour("v1", 1, Colour::Blue)), file(colour("v1", 1, Colour::Green))],
            serves,
            settled(&["api-green"]),
        ),
        scenario(
            "in place",
            vec![file(colour("v1", 2, Colour::Blue)), file(colour("v2", 2, Colour::Blue))],
            serves,
            settled(&["api-blue", "api-blue"]),
        ),
        scenario("rolling", vec![file(rolling("v1", 2)), file(rolling("v2", 2))], serves, settled(&["api", "api"])),
        scenario("worker", vec![file(worker("v1", 2)), file(worker("v2", 2))], may_stop, settled(&["api", "api"])),
        scenario(
            "stop first",
            vec![
                file(with(worker("v1", 1), |it| it.rollout.order = Order::StopFirst)),
                file(with(worker("v2", 1), |it| it.rollout.order = Order::StopFirst)),
            ],
            may_stop,
            settled(&["api"]),
        ),
        scenario("killed", vec![file(api("v1", 2)), Kill("api-blue-1")], serves, settled(&["api-blue", "api-blue"])),
        scenario("the only one killed", vec![file(api("v1", 1)), Kill("api-blue-1")], may_stop, settled(&["api-blue"])),
        scenario("removed", vec![file(api("v1", 2)), Remove("api-blue-2")], serves, settled(&["api-blue", "api-blue"])),
        scenario("upstream edited", vec![file(api("v1", 1)), EditServers], may_stop, settled(&["api-blue"])),
        scenario(
            "somebody reloads",
            vec![file(api("v1", 1)), Reload, file(api("v2", 1))],
            serves,
            settled(&["api-green"]),
        ),
        scenario(
            "removal acknowledged",
            vec![file(api("v1", 1)), File(vec![worker2()], vec!["api"])],
            may_stop,
            (vec!["other"], Phase::Settled),
        ),
        scenario(
            "promotion waits",
            vec![file(api("v1", 1)), file(with(api("v2", 1), |it| it.rollout.promote = Promote::Manual))],
            serves,
            (vec!["api-blue", "api-green"], Phase::Holding),
        ),
        scenario("strategy changes", vec![file(api("v1", 1)), file(rolling("v1", 1))], serves, settled(&["api"])),
    ]
}

fn worker2() -> Service {
    with(worker("v1", 1), |it| it.name = name("other"))
}

/// A life: the trace of its mutating calls, and everything that was wrong with it.
struct Life {
    calls: Vec<String>,
    wrong: Vec<String>,
}

/// What the controllers of a life share.
struct Stage {
    shim: Arc<Shim>,
    clock: Arc<TokioClock>,
    wakes: Arc<Mutex<Option<Wakes>>>,
    updates: Mutex<Vec<SourceUpdate>>,
}

struct Running {
    handle: Handle,
    edits: tokio::sync::watch::Sender<Vec<SourceUpdate>>,
    task: tokio::task::JoinHandle<()>,
}

impl Stage {
    fn new(fault: Option<(usize, Outcome)>, rules: Rules) -> Self {
        let clock = Arc::new(TokioClock::new(Instant::now()));
        let (of_the_world, mut reports) = Wakes::channel();
        let wakes: Arc<Mutex<Option<Wakes>>> = Arc::default();
        let to = Arc::clone(&wakes);
        // The world lives longer than a controller: what it reports goes to the one that runs now.
        tokio::spawn(async move {
            while let Some(wake) = reports.recv().await {
                if let Some(wakes) = &*to.lock().unwrap() {
                    wakes.wake(wake.service.as_ref(), wake.why);
                }
            }
        });
        let shim = Shim {
            sandbox: Sandbox::new(clock.clone(), of_the_world),
            store: Arc::default(),
            fault,
            calls: Mutex::default(),
            under_way: AtomicUsize::new(0),
            crash: Notify::new(),
            broken: Mutex::default(),
            rules,
            served: Mutex::new(false),
        };
        Self { shim: Arc::new(shim), clock, wakes, updates: Mutex::default() }
    }

    fn start(&self) -> Running {
        let edge = Arc::new(Edge(Arc::clone(&self.shim)));
        let sandbox = &self.shim.sandbox;
        let edges = Edges {
            platform: edge.clone(),
            traffic: edge.clone(),
            store: edge,
            cluster: sandbox.clone(),
            balancer: sandbox.clone(),
            registry: sandbox.clone(),
            account: sandbox.clone(),
            probe: sandbox.clone(),
            env_files: sandbox.clone(),
            clock: self.clock.clone(),
        };
        let planner = Planner {
            plan: holdfast::plan::plan,
            plan_removal: holdfast::plan::plan_removal,
            verify: holdfast::plan::check::verify,
        };
        let controller = ControllerId::new("test").unwrap();
        let options = Options { controller, resync: RESYNC, detect: false, planner };
        let controller = Controller::new(edges, options);
        let handle = controller.handle();
        let (edits, source) = source(self.updates.lock().unwrap().last().cloned().into_iter().collect());
        let (wakes, woken) = Wakes::channel();
        *self.wakes.lock().unwrap() = Some(wakes.clone());
        let task = tokio::spawn(async move {
            let stop = CancellationToken::new();
            controller.run(source, (wakes, woken), stop).await.unwrap();
        });
        Running { handle, edits, task }
    }

    fn file(&self, running: &Running, services: Vec<Service>, acknowledged: &[&str]) {
        let mut updates = self.updates.lock().unwrap();
        let update = state(&format!("r{}", updates.len()), services, acknowledged);
        updates.push(update.clone());
        running.edits.send_modify(|all| all.push(update));
    }
}

/// Whether every service rests on the newest revision: nothing changes any more by itself.
fn rests(handle: &Handle, revision: &str) -> bool {
    let status = handle.status();
    let waits = ["AwaitingHealth", "Draining", "Baking", "StepFailed"];
    let rests = |it: &ServiceStatus| {
        let held = it.holds.iter().any(|hold| waits.contains(&hold.reason.as_str()));
        it.next_look.is_some() && !held && !matches!(it.phase, Phase::Progressing | Phase::Unknown)
    };
    status.source.revision.as_deref() == Some(revision)
        && !status.services.is_empty()
        && status.services.iter().all(rests)
}

async fn live(scenario: &Scenario, fault: Option<(usize, Outcome)>) -> Life {
    let stage = Stage::new(fault, scenario.rules);
    let mut running = stage.start();
    let mut wrong = Vec::new();
    for happening in &scenario.story {
        let mut waits = true;
        match happening {
            Happening::File(services, acknowledged) => stage.file(&running, services.clone(), acknowledged),
            Happening::FileInPassing(services) => {
                stage.file(&running, services.clone(), &[]);
                waits = false;
            }
            Happening::Kill(name) => drop(stage.shim.sandbox.kill(name)),
            Happening::Remove(name) => drop(stage.shim.sandbox.remove(name)),
            Happening::EditServers => stage.shim.sandbox.edit_servers(&servers(), "server 127.0.0.1:9;\n"),
            Happening::Reload => stage.shim.sandbox.foreign_reload(),
        }
        if !waits {
            crashing(&stage, &mut running, tokio::time::sleep(Duration::from_millis(45))).await;
            continue;
        }
        let revision = format!("r{}", stage.updates.lock().unwrap().len() - 1);
        // Ten minutes hold every deadline and backoff of one fault.
        let end = Instant::now() + Duration::from_secs(600);
        loop {
            // A moment for what has just happened to be noticed, then until it rests.
            crashing(&stage, &mut running, tokio::time::sleep(Duration::from_millis(500))).await;
            if stage.shim.under_way.load(Ordering::SeqCst) == 0 && rests(&running.handle, &revision) {
                break;
            }
            if Instant::now() > end {
                wrong.push(format!("L1: never at rest: {:#?}", running.handle.status().services));
                break;
            }
        }
    }
    let calls = stage.shim.calls.lock().unwrap().len();
    // What rests takes no step, sweep after sweep.
    crashing(&stage, &mut running, tokio::time::sleep(RESYNC * 10)).await;
    let more = stage.shim.calls.lock().unwrap()[calls..].to_vec();
    if !more.is_empty() {
        wrong.push(format!("it rested and went on: {more:?}"));
    }
    let mut containers: Vec<String> = stage.shim.sandbox.containers();
    for name in &mut containers {
        name.truncate(name.rfind('-').unwrap_or(name.len()));
    }
    if containers != scenario.end.0 {
        wrong.push(format!("in the end there are {containers:?}, not {:?}", scenario.end.0));
    }
    let phases: Vec<Phase> = running.handle.status().services.iter().map(|it| it.phase).collect();
    if phases != [scenario.end.1] {
        wrong.push(format!(
            "in the end it is {phases:?}, not {:?}: {:#?}",
            scenario.end.1,
            running.handle.status().services
        ));
    }
    wrong.extend(stage.shim.broken.lock().unwrap().drain(..));
    running.task.abort();
    let calls = stage.shim.calls.lock().unwrap().clone();
    Life { calls, wrong }
}

/// Lets `what` pass; a crash on the way takes the controller down at once, and another one starts.
async fn crashing(stage: &Stage, running: &mut Running, what: impl std::future::Future<Output = ()>) {
    tokio::pin!(what);
    loop {
        tokio::select! {
            () = &mut what => return,
            () = stage.shim.crash.notified() => {
                running.task.abort();
                let _ = (&mut running.task).await;
                stage.shim.under_way.store(0, Ordering::SeqCst);
                *running = stage.start();
            }
        }
    }
}

fn play(scenario: &Scenario, fault: Option<(usize, Outcome)>) -> Life {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(live(scenario, fault))
}

#[test]
fn without_a_fault_every_scenario_ends_as_the_file_says() {
    for scenario in scenarios() {
        let life = play(&scenario, None);
        assert!(life.wrong.is_empty(), "{}: {}\n{}", scenario.name, life.wrong.join("\n"), life.calls.join("\n"));
    }
}

#[test]
fn one_fault_at_any_call_breaks_no_invariant_and_delays_the_end_at_most() {
    let mut plans = 0;
    let mut failures = Vec::new();
    for scenario in scenarios() {
        let calls = play(&scenario, None).calls;
        for (at, call) in calls.iter().enumerate() {
            for outcome in OUTCOMES {
                plans += 1;
                let life = play(&scenario, Some((at, outcome)));
                if !life.wrong.is_empty() {
                    failures.push(format!(
                        "## {}: {outcome:?} at call {at} `{call}`\n{}\nthe calls:\n  {}",
                        scenario.name,
                        life.wrong.join("\n"),
                        life.calls.join("\n  ")
                    ));
                }
            }
        }
    }
    println!("{plans} plans, {} failures", failures.len());
    assert!(
        failures.is_empty(),
        "{} of {plans} plans:\n{}",
        failures.len(),
        failures[..failures.len().min(3)].join("\n")
    );
}
