//! One life after the other: a scenario, at most one fault in it, and everything that was wrong.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast::controller::{Controller, Handle, Options, Planner};
use holdfast::model::desired::Service;
use holdfast::model::names::ControllerId;
use holdfast::model::status::{Phase, ServiceStatus};
use holdfast::platform::sandbox::Sandbox;
use holdfast::ports::{Edges, SourceUpdate, Wakes};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fakes::{RESYNC, TokioClock, source, state};
use crate::shim::{Edge, Outcome, Rules, Shim};

/// What somebody does to the world.
pub(crate) type Act = fn(&Sandbox);

/// One thing that happens; the next one waits until the service rests.
#[derive(Clone)]
pub(crate) enum Happening {
    File(Vec<Service>, Vec<&'static str>),
    /// The same, but nobody waits for it to come to anything.
    FileInPassing(Vec<Service>),
    /// Somebody does something behind Holdfast's back.
    Somebody(Act),
    /// A person says it to Holdfast.
    Says(holdfast::controller::Verb),
}

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) story: Vec<Happening>,
    pub(crate) rules: Rules,
    /// What there is in the end, as `there_is` tells it, and what the phase is.
    pub(crate) end: (Vec<&'static str>, Phase),
    pub(crate) there_is: fn(&Sandbox) -> Vec<String>,
    /// Calls whose number of effects no fault may raise.
    pub(crate) counted: fn(&Sandbox) -> Vec<String>,
}

/// A life: the trace of its mutating calls, and everything that was wrong with it.
pub(crate) struct Life {
    pub(crate) calls: Vec<String>,
    pub(crate) counted: Vec<String>,
    pub(crate) wrong: Vec<String>,
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
        sandbox.ecs_reconnect();
        let edges = Edges {
            platform: edge.clone(),
            traffic: edge.clone(),
            cluster: edge.clone(),
            balancer: edge.clone(),
            store: edge,
            write_back: Arc::new(holdfast::source::Closed("a simulation".into())),
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
        let (edits, source) = source(self.updates.lock().unwrap().last().cloned().into_iter().collect());
        let controller = Controller::new(edges, source, options);
        let handle = controller.handle();
        let (wakes, woken) = Wakes::channel();
        *self.wakes.lock().unwrap() = Some(wakes.clone());
        let task = tokio::spawn(async move {
            let stop = CancellationToken::new();
            controller.run((wakes, woken), stop).await.unwrap();
        });
        Running { handle, edits, task }
    }

    fn file(&self, running: &Running, services: Vec<Service>, acknowledged: &[&str]) {
        let mut updates = self.updates.lock().unwrap();
        let update = state(&format!("r{}", updates.len()), services, acknowledged);
        updates.push(update.clone());
        running.edits.send_modify(|all| all.push(update));
    }

    /// Until everything rests on the newest revision; false when it never does.
    async fn rest(&self, running: &mut Running) -> bool {
        let revision = format!("r{}", self.updates.lock().unwrap().len() - 1);
        // Twenty minutes hold every deadline and backoff of one fault.
        let end = Instant::now() + Duration::from_secs(1200);
        loop {
            // A moment for what has just happened to be noticed, then until it rests.
            crashing(self, running, tokio::time::sleep(Duration::from_millis(500))).await;
            self.shim.look("a while");
            if self.shim.under_way.load(Ordering::SeqCst) == 0 && rests(&running.handle, &revision) {
                return true;
            }
            if Instant::now() > end {
                return false;
            }
        }
    }

    async fn happen(&self, running: &mut Running, happening: &Happening) -> Result<(), String> {
        match happening {
            Happening::File(services, acknowledged) => self.file(running, services.clone(), acknowledged),
            Happening::FileInPassing(services) => {
                self.file(running, services.clone(), &[]);
                crashing(self, running, tokio::time::sleep(Duration::from_millis(45))).await;
                return Ok(());
            }
            Happening::Somebody(act) => act(&self.shim.sandbox),
            Happening::Says(verb) => self.say(running, *verb).await,
        }
        if self.rest(running).await {
            return Ok(());
        }
        Err(format!("L1: never at rest: {:#?}", running.handle.status().services))
    }

    /// A person says it until it is heard: one that could not be remembered is answered with an error, and is said again.
    async fn say(&self, running: &mut Running, verb: holdfast::controller::Verb) {
        for _ in 0..5 {
            let handle = running.handle.clone();
            let said = Arc::new(Mutex::new(false));
            let heard = Arc::clone(&said);
            let say = async move {
                let answer = tokio::time::timeout(Duration::from_secs(60), handle.command("api", verb, "ana", None));
                *heard.lock().unwrap() = matches!(answer.await, Ok(Ok(_)));
            };
            crashing(self, running, say).await;
            crashing(self, running, tokio::time::sleep(Duration::from_secs(1))).await;
            if *said.lock().unwrap() {
                return;
            }
        }
    }
}

/// Whether every service rests on the newest revision: nothing changes any more by itself.
fn rests(handle: &Handle, revision: &str) -> bool {
    let status = handle.status();
    let waits = [
        "AwaitingHealth",
        "Draining",
        "DrainingColour",
        "Baking",
        "Canary",
        "Steadying",
        "StepFailed",
        "Throttled",
        "EcsServiceDraining",
    ];
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
        wrong.extend(stage.happen(&mut running, happening).await.err());
    }
    let calls = stage.shim.calls.lock().unwrap().len();
    // What rests takes no step, sweep after sweep.
    crashing(&stage, &mut running, tokio::time::sleep(RESYNC * 10)).await;
    let more = stage.shim.calls.lock().unwrap()[calls..].to_vec();
    if !more.is_empty() {
        wrong.push(format!("it rested and went on: {more:?}"));
    }
    let there_is = (scenario.there_is)(&stage.shim.sandbox);
    if there_is != scenario.end.0 {
        wrong.push(format!("in the end there are {there_is:?}, not {:?}", scenario.end.0));
    }
    let status = running.handle.status().services;
    let phases: Vec<Phase> = status.iter().map(|it| it.phase).collect();
    if phases != [scenario.end.1] {
        wrong.push(format!("in the end it is {phases:?}, not {:?}: {status:#?}", scenario.end.1));
    }
    wrong.extend(stage.shim.broken.lock().unwrap().drain(..));
    running.task.abort();
    let calls = stage.shim.calls.lock().unwrap().clone();
    Life { calls, counted: (scenario.counted)(&stage.shim.sandbox), wrong }
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

/// Every scenario without a fault.
pub(crate) fn without_a_fault(scenarios: &[Scenario]) {
    for scenario in scenarios {
        let life = play(scenario, None);
        assert!(life.wrong.is_empty(), "{}: {}\n{}", scenario.name, life.wrong.join("\n"), life.calls.join("\n"));
    }
}

/// Every scenario with every outcome at every call.
pub(crate) fn with_one_fault(scenarios: &[Scenario], outcomes: &[Outcome]) {
    let mut plans = 0;
    let mut failures = Vec::new();
    for scenario in scenarios {
        let good = play(scenario, None);
        for (at, call) in good.calls.iter().enumerate() {
            // Nobody throttles the memory.
            let makes_sense = |it: &Outcome| *it != Outcome::Throttle || !call.starts_with("remember");
            for outcome in outcomes.iter().copied().filter(makes_sense) {
                plans += 1;
                let mut life = play(scenario, Some((at, outcome)));
                if life.counted.len() > good.counted.len() {
                    life.wrong.push(format!("S7: done more than once:\n  {}", life.counted.join("\n  ")));
                }
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
    let some = failures[..failures.len().min(3)].join("\n");
    assert!(failures.is_empty(), "{} of {plans} plans:\n{some}", failures.len());
}
