//! Edges in memory and a toy planner, small enough to see through.

#![allow(dead_code, unreachable_pub, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use holdfast::controller::{Controller, Handle, Options, Planner};
use holdfast::model::colour::Group;
use holdfast::model::commit::Commit;
use holdfast::model::desired::*;
use holdfast::model::env_file::EnvVariables;
use holdfast::model::event::{Event, EventKind, HistoryEntry};
use holdfast::model::image::{Digest, Repository, Tag, TagSpec};
use holdfast::model::memory::{Committed, Memory, MemoryChange};
use holdfast::model::names::{ControllerId, ServiceName, container_name};
use holdfast::model::release::{EnvFileVersion, Release, ReleaseHash};
use holdfast::model::snapshot::*;
use holdfast::model::status::{Phase, ServiceStatus};
use holdfast::plan::hold::Hold;
use holdfast::plan::step::*;
use holdfast::plan::{Plan, View};
use holdfast::ports::*;
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

pub fn digest(tag: &str) -> Digest {
    let byte = tag.bytes().fold(7u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    Digest::new(&format!("sha256:{}", format!("{byte:02x}").repeat(32))).unwrap()
}

pub fn service(service: &str, tag: &str, replicas: u32) -> Service {
    Service {
        name: name(service),
        file: PathBuf::from("test.yaml"),
        image: Repository::new("app").unwrap(),
        tag: TagSpec { tag: Tag::new(tag).unwrap(), digest: None },
        replicas,
        active_colour: None,
        docker: Docker {
            pull: Pull::Always,
            port: Some(8080),
            publish: Publish::default(),
            env: BTreeMap::new(),
            env_file: None,
            volumes: Vec::new(),
            logging: None,
            command: Vec::new(),
            restart: Restart::UnlessStopped,
            resources: Resources::default(),
            init: false,
            stop_timeout: Duration::from_secs(10),
            keep_images: 3,
            replaces: BTreeSet::new(),
        },
        ecs: None,
        health: holdfast::model::desired::Health {
            check: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            successes: 2,
            failures: 3,
            deadline: Duration::from_secs(120),
        },
        nginx: None,
        alb: None,
        rollout: Rollout {
            strategy: Strategy::Rolling,
            order: Order::StartFirst,
            promote: Promote::Auto,
            canary: Vec::new(),
            drain: Duration::from_secs(10),
            bake: Duration::from_secs(60),
            on_failure: OnFailure::Rollback,
            progress_deadline: Duration::from_secs(600),
        },
        drift: Drift::default(),
        aws: None,
        ecr_keep: None,
        follow: None,
    }
}

pub fn state(revision: &str, services: impl IntoIterator<Item = Service>, acknowledged: &[&str]) -> SourceUpdate {
    accepted(revision, None, services, acknowledged)
}

/// As `state`, from git: the revision is the id of a commit by Ann.
pub fn committed(id: &str, services: impl IntoIterator<Item = Service>, acknowledged: &[&str]) -> SourceUpdate {
    let commit = Commit { id: id.into(), author: "Ann".into(), subject: "an edit".into(), at: Timestamp::UNIX_EPOCH };
    accepted(id, Some(commit), services, acknowledged)
}

fn accepted(
    revision: &str,
    commit: Option<Commit>,
    services: impl IntoIterator<Item = Service>,
    acknowledged: &[&str],
) -> SourceUpdate {
    SourceUpdate::Accepted(Arc::new(DesiredState {
        revision: SourceRevision(revision.into()),
        commit,
        includes: Vec::new(),
        rewinds: false,
        read_at: Timestamp::UNIX_EPOCH,
        services: services.into_iter().map(|service| (service.name.clone(), service)).collect(),
        acknowledged: acknowledged.iter().map(|text| name(text)).collect(),
    }))
}

/// The world: containers by service, and what goes wrong in it.
#[derive(Default)]
pub struct World {
    pub containers: Mutex<BTreeMap<ServiceName, Vec<Replica>>>,
    pub mutations: AtomicU64,
    pub looks: Mutex<BTreeMap<ServiceName, u64>>,
    pub resolves: Mutex<Vec<Duration>>,
    /// Steps about a container with this name fail so.
    pub failures: Mutex<BTreeMap<String, StepError>>,
    /// Steps about it panic.
    pub panics: Mutex<BTreeSet<String>>,
    /// Looks at it panic.
    pub panicking_looks: Mutex<BTreeSet<ServiceName>>,
    /// Steps wait for this while set.
    pub gate: Mutex<Option<Arc<Notify>>>,
    pub entered: Notify,
    /// Looks wait for this while set.
    pub look_gate: Mutex<Option<Arc<Notify>>>,
    pub looking: Notify,
    pub unowned: Mutex<bool>,
    pub memory: Mutex<BTreeMap<ServiceName, Memory>>,
    pub unreadable: Mutex<BTreeMap<String, Why>>,
    pub events: Mutex<Vec<Event>>,
    pub history: Mutex<BTreeMap<ServiceName, Vec<HistoryEntry>>>,
    pub unhealthy: Mutex<BTreeSet<String>>,
}

impl World {
    pub fn names(&self) -> Vec<String> {
        self.containers.lock().unwrap().values().flatten().map(|replica| replica.name.clone()).collect()
    }
    pub fn mutations(&self) -> u64 {
        self.mutations.load(Ordering::SeqCst)
    }
    pub fn looks(&self, service: &str) -> u64 {
        self.looks.lock().unwrap().get(&name(service)).copied().unwrap_or(0)
    }
    pub fn kinds(&self) -> Vec<EventKind> {
        self.events.lock().unwrap().iter().map(|event| event.kind).collect()
    }
    pub fn messages(&self) -> Vec<String> {
        self.events.lock().unwrap().iter().map(|event| event.message.clone()).collect()
    }
    pub fn lose(&self, container: &str) {
        self.containers.lock().unwrap().values_mut().for_each(|list| list.retain(|it| it.name != container));
    }
}

pub struct Edge(pub Arc<World>);

fn replica(run: &RunContainer) -> Replica {
    Replica {
        id: format!("id-{}", run.name),
        name: run.name.clone(),
        group: run.group,
        slot: run.slot,
        release: run.hash.clone(),
        digest: Some(run.release.digest.clone()),
        state: ReplicaState::Running,
        started_at: Some(Timestamp::UNIX_EPOCH),
        restart_count: 0,
        port: run.host_port,
        port_bound: true,
        address: Some("10.0.0.2:8080".parse().unwrap()),
        restart: run.restart,
        resources: run.resources,
        volumes: Vec::new(),
        health: holdfast::model::snapshot::Health::unasked(Timestamp::UNIX_EPOCH),
        has_healthcheck: false,
    }
}

#[async_trait]
impl Platform for Edge {
    fn name(&self) -> &'static str {
        "sandbox"
    }
    async fn look(&self, at: LookAt<'_>) -> PlatformSeen {
        *self.0.looks.lock().unwrap().entry(at.name.clone()).or_default() += 1;
        let panics = self.0.panicking_looks.lock().unwrap().contains(at.name);
        assert!(!panics, "the look at {} blew up", at.name);
        let gate = self.0.look_gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            self.0.looking.notify_one();
            gate.notified().await;
        }
        PlatformSeen {
            replicas: Fact::Seen(self.0.containers.lock().unwrap().get(at.name).cloned().unwrap_or_default()),
            strangers: Vec::new(),
            replaced: Vec::new(),
            free_ports: BTreeMap::new(),
            local_images: BTreeSet::new(),
            kept_images: Vec::new(),
        }
    }
    async fn owned(&self) -> Owned {
        if *self.0.unowned.lock().unwrap() {
            return Fact::Unreadable("the engine is away".into());
        }
        let containers = self.0.containers.lock().unwrap();
        Fact::Seen(containers.iter().filter(|(_, list)| !list.is_empty()).map(|(name, _)| name.clone()).collect())
    }
    async fn local_image(&self, _: &Repository, tag: &TagSpec) -> Fact<Digest> {
        Fact::Seen(digest(tag.tag.as_str()))
    }
    async fn perform(&self, step: &PlatformStep) -> Result<Ensured, StepError> {
        let about = match step {
            PlatformStep::Run(run) => run.name.clone(),
            PlatformStep::Remove { target, .. } => target.name.clone(),
            other => unreachable!("the toy planner does not {other}"),
        };
        let panics = self.0.panics.lock().unwrap().contains(&about);
        assert!(!panics, "the step about {about} blew up");
        let gate = self.0.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            self.0.entered.notify_one();
            gate.notified().await;
        }
        self.0.mutations.fetch_add(1, Ordering::SeqCst);
        if let Some(error) = self.0.failures.lock().unwrap().get(&about) {
            return Err(error.clone());
        }
        let mut containers = self.0.containers.lock().unwrap();
        match step {
            PlatformStep::Run(run) => containers.entry(run.service.clone()).or_default().push(replica(run)),
            PlatformStep::Remove { target, .. } => {
                containers.entry(target.service.clone()).or_default().retain(|it| it.name != target.name);
            }
            _ => {}
        }
        Ok(Ensured::Changed)
    }
    async fn watch(&self, _: Wakes) {
        std::future::pending().await
    }
    async fn last_words(&self, _: &str) -> String {
        "starting\npanic: no database\n".into()
    }
}

#[async_trait]
impl Registry for Edge {
    async fn resolve(&self, _: &Repository, tag: &TagSpec, max_age: Duration) -> Fact<Digest> {
        self.0.resolves.lock().unwrap().push(max_age);
        Fact::Seen(digest(tag.tag.as_str()))
    }
    async fn credentials(&self, _: &Repository) -> Result<Option<Credentials>, Why> {
        Ok(None)
    }
}

#[async_trait]
impl holdfast::ports::Cluster for Edge {
    async fn look(&self, _: holdfast::ports::EcsLookAt<'_>) -> holdfast::model::ecs::seen::EcsSeen {
        unreachable!("no service here is on ECS")
    }
    async fn perform(&self, _: &holdfast::plan::step::EcsStep) -> Result<Ensured, StepError> {
        unreachable!("no service here is on ECS")
    }
    async fn watch(&self, _: Wakes) {
        unreachable!("no service here is on ECS")
    }
}

#[async_trait]
impl holdfast::ports::LoadBalancer for Edge {
    async fn look(
        &self,
        _: &holdfast::model::ecs::AlbTraffic,
        _: Option<Group>,
    ) -> holdfast::model::ecs::seen::AlbSeen {
        unreachable!("no service here has a load balancer")
    }
    async fn perform(&self, _: &holdfast::plan::step::AlbStep) -> Result<Ensured, StepError> {
        unreachable!("no service here has a load balancer")
    }
}

#[async_trait]
impl Account for Edge {
    async fn account(&self, _: &AwsGuard) -> Fact<String> {
        Fact::Absent
    }
}

#[async_trait]
impl Traffic for Edge {
    async fn look(&self, _: &NginxTraffic) -> NginxSeen {
        unreachable!("no service here has nginx")
    }
    async fn perform(&self, _: &TrafficStep) -> Result<Ensured, StepError> {
        Ok(Ensured::AlreadySo)
    }
    async fn watch(&self, _: Wakes) {
        std::future::pending().await
    }
}

impl Probe for Edge {
    fn watch(&self, _: &ServiceName, _: Vec<ProbeTarget>) {}
    fn verdicts(&self, service: &ServiceName) -> BTreeMap<String, holdfast::model::snapshot::Health> {
        use holdfast::model::snapshot::Health;
        let unhealthy = self.0.unhealthy.lock().unwrap();
        let containers = self.0.containers.lock().unwrap();
        let replicas = containers.get(service).cloned().unwrap_or_default();
        let verdict = |it: Replica| {
            let bad = unhealthy.contains(&it.name);
            let why = || Health::Unhealthy(Timestamp::UNIX_EPOCH, "HTTP 500".into());
            (it.id, if bad { why() } else { Health::Healthy(Timestamp::UNIX_EPOCH) })
        };
        replicas.into_iter().map(verdict).collect()
    }
}

#[async_trait]
impl EnvFiles for Edge {
    async fn version(&self, _: &Path) -> Fact<EnvFileVersion> {
        Fact::Absent
    }
    async fn variables(&self, _: &EnvFileVersion) -> Result<EnvVariables, Why> {
        Ok(EnvVariables::new())
    }
}

#[async_trait]
impl Store for Edge {
    async fn load(&self) -> Result<BTreeMap<ServiceName, Memory>, Why> {
        Ok(self.0.memory.lock().unwrap().clone())
    }
    async fn unreadable(&self) -> Result<BTreeMap<String, Why>, Why> {
        Ok(self.0.unreadable.lock().unwrap().clone())
    }
    async fn remember(&self, service: &ServiceName, change: &MemoryChange) -> Result<Memory, Why> {
        let mut memory = self.0.memory.lock().unwrap();
        let memory = memory.entry(service.clone()).or_default();
        memory.apply(change);
        Ok(memory.clone())
    }
    async fn record(&self, event: Event) -> Result<Event, Why> {
        let mut events = self.0.events.lock().unwrap();
        let event = Event { id: events.len() as u64 + 1, ..event };
        events.push(event.clone());
        Ok(event)
    }
    async fn events(&self, service: Option<&ServiceName>, after: u64, limit: u32) -> Result<Vec<Event>, Why> {
        let events = self.0.events.lock().unwrap();
        let of = |event: &&Event| event.id > after && service.is_none_or(|name| event.service.as_ref() == Some(name));
        let found: Vec<Event> = events.iter().filter(of).cloned().collect();
        Ok(found[found.len().saturating_sub(limit as usize)..].to_vec())
    }
    async fn history_put(&self, service: &ServiceName, entry: HistoryEntry) -> Result<(), Why> {
        let mut history = self.0.history.lock().unwrap();
        let entries = history.entry(service.clone()).or_default();
        entries.retain(|known| known.started_at != entry.started_at || known.release != entry.release);
        entries.insert(0, entry);
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.started_at));
        Ok(())
    }
    async fn history(&self, service: &ServiceName, limit: u32) -> Result<Vec<HistoryEntry>, Why> {
        let history = self.0.history.lock().unwrap();
        Ok(history.get(service).map(|list| list.iter().take(limit as usize).cloned().collect()).unwrap_or_default())
    }
}

/// Time that follows tokio's, paused or not.
pub struct TokioClock(Instant);

impl TokioClock {
    pub fn new(start: Instant) -> Self {
        Self(start)
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + self.0.elapsed()
    }
}

pub struct TestSource(watch::Receiver<Vec<SourceUpdate>>);

#[async_trait]
impl Source for TestSource {
    async fn read(&self) -> SourceUpdate {
        self.0.borrow().last().cloned().unwrap()
    }
    fn place(&self) -> String {
        "a test".to_owned()
    }
    async fn watch(&self, updates: mpsc::Sender<SourceUpdate>) {
        let mut all = self.0.clone();
        let mut sent = 0;
        loop {
            let new: Vec<SourceUpdate> = all.borrow_and_update()[sent..].to_vec();
            for update in new {
                sent += 1;
                updates.send(update).await.unwrap();
            }
            if all.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Replicas in slots, one group; enough of a planner to drive a controller.
fn toy_plan(
    service: &Service,
    snapshot: &Snapshot,
    memory: &Memory,
    revision: &SourceRevision,
    now: Timestamp,
) -> Plan {
    assert_ne!(service.tag.tag.as_str(), "boom", "the planner blew up");
    let mut plan = Plan::default();
    if let Some(paused) = &memory.paused {
        plan.holds.push(Hold::Paused { by: paused.by.clone(), since: paused.at });
        return plan;
    }
    let Some(digest) = snapshot.image.seen() else { unreachable!("the fake registry knows every tag") };
    let mut release = Release::of(service, digest.clone(), None);
    if let Some(pin) = &memory.pin {
        release = pin.to.clone();
    }
    let hash = release.hash();
    plan.view = View { wanted: Some(release.clone()), serving: Some(Group::Only), stage: "working".into() };
    if let Some(failed) = memory.quarantined.get(&hash) {
        plan.holds.push(Hold::Quarantined { tag: failed.tag.clone(), why: failed.why.clone() });
        return plan;
    }
    if service.rollout.promote == Promote::Manual
        && memory.promoted.as_ref() != Some(&hash)
        && memory.committed.as_ref().is_none_or(|it| it.release.hash() != hash)
    {
        plan.holds.push(Hold::AwaitingPromotion { tag: release.tag.to_string(), release: hash });
        return plan;
    }
    let replicas = snapshot.platform.replicas.seen().cloned().unwrap_or_default();
    let mut stage = Vec::new();
    for slot in 1..=service.replicas {
        if !replicas.iter().any(|it| it.slot == slot && it.release == hash) {
            stage.push(run(service, slot, &release, &hash));
        }
    }
    let surplus = replicas.iter().filter(|it| it.slot > service.replicas || it.release != hash);
    let removals: Vec<PlannedStep> = surplus.map(|it| remove(&service.name, it)).collect();
    plan.stages = [removals, stage].into_iter().filter(|stage| !stage.is_empty()).collect();
    let committed = memory.committed.as_ref().map(|it| it.release.hash());
    let sick = replicas.iter().find(|it| !matches!(it.health, holdfast::model::snapshot::Health::Healthy(_)));
    if let Some(sick) = sick {
        let why = format!("{} answered HTTP 500", sick.name);
        let quarantine = holdfast::model::memory::Quarantine { why, at: now, tag: release.tag.to_string() };
        plan.stages = vec![vec![remember(MemoryChange::Quarantine(hash, quarantine), "it never became healthy")]];
    } else if plan.stages.is_empty() && committed.as_ref() != Some(&hash) {
        let revision = revision.clone();
        let commit = Committed { release, group: Group::Only, revision, at: now, servers_file: None, place: None };
        plan.stages.push(vec![remember(MemoryChange::Commit(Box::new(commit)), "every replica is healthy")]);
    }
    plan
}

fn remember(change: MemoryChange, because: &str) -> PlannedStep {
    PlannedStep { step: Step::Remember(change), because: because.into() }
}

fn run(service: &Service, slot: u32, release: &Release, hash: &ReleaseHash) -> PlannedStep {
    let run = RunContainer {
        service: service.name.clone(),
        name: container_name(&service.name, Group::Only, slot),
        group: Group::Only,
        slot,
        release: release.clone(),
        hash: hash.clone(),
        host_port: Some(20000),
        restart: service.docker.restart,
        resources: service.docker.resources,
    };
    let because = format!("the file asks for tag {}", release.tag);
    PlannedStep { step: Step::Platform(PlatformStep::Run(Box::new(run))), because }
}

fn remove(service: &ServiceName, replica: &Replica) -> PlannedStep {
    let target = Target { id: replica.id.clone(), name: replica.name.clone(), service: service.clone() };
    PlannedStep {
        step: Step::Platform(PlatformStep::Remove { target, stop_timeout: 10, only_if_down: false }),
        because: "it is surplus".into(),
    }
}

fn toy_removal(name: &ServiceName, snapshot: &Snapshot, memory: &Memory, acknowledged: bool, _: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let replicas = snapshot.platform.replicas.seen().cloned().unwrap_or_default();
    if !acknowledged {
        plan.holds.push(Hold::RemovalNotAcknowledged { service: name.to_string() });
    } else if !replicas.is_empty() {
        plan.stages.push(replicas.iter().map(|it| remove(name, it)).collect());
    } else if *memory != Memory::default() {
        plan.stages.push(vec![remember(MemoryChange::Forget, "nothing of it is left")]);
    }
    plan
}

fn toy_verify(_: &Plan, service: Option<&Service>, _: &Snapshot, _: &Memory, _: bool) -> Result<(), String> {
    if service.is_some_and(|it| it.tag.tag.as_str() == "illegal") { Err("S1".into()) } else { Ok(()) }
}

pub const TOY: Planner = Planner { plan: toy_plan, plan_removal: toy_removal, verify: toy_verify };

pub const RESYNC: Duration = Duration::from_secs(30);

/// A controller at work on a fake world.
pub struct Running {
    pub world: Arc<World>,
    pub handle: Handle,
    pub edits: watch::Sender<Vec<SourceUpdate>>,
    pub wakes: Wakes,
    pub shutdown: CancellationToken,
    pub task: tokio::task::JoinHandle<()>,
}

pub fn options(detect: bool) -> Options {
    Options { controller: ControllerId::new("test").unwrap(), resync: RESYNC, detect, planner: TOY }
}

pub fn edges(world: &Arc<World>) -> Edges {
    let edge = Arc::new(Edge(Arc::clone(world)));
    Edges {
        platform: edge.clone(),
        cluster: edge.clone(),
        balancer: edge.clone(),
        registry: edge.clone(),
        account: edge.clone(),
        traffic: edge.clone(),
        probe: edge.clone(),
        env_files: edge.clone(),
        write_back: Arc::new(holdfast::source::Closed("a test".into())),
        store: edge,
        clock: Arc::new(TokioClock(Instant::now())),
    }
}

pub fn source(updates: Vec<SourceUpdate>) -> (watch::Sender<Vec<SourceUpdate>>, Arc<TestSource>) {
    let (edits, all) = watch::channel(updates);
    (edits, Arc::new(TestSource(all)))
}

pub fn start_with(world: Arc<World>, first: SourceUpdate, detect: bool) -> Running {
    let (edits, source) = source(vec![first]);
    let controller = Controller::new(edges(&world), source, options(detect));
    let (handle, shutdown, (wakes, woken)) = (controller.handle(), CancellationToken::new(), Wakes::channel());
    let (stop, reports) = (shutdown.clone(), wakes.clone());
    let task = tokio::spawn(async move { controller.run((reports, woken), stop).await.unwrap() });
    Running { world, handle, edits, wakes, shutdown, task }
}

pub fn start(first: SourceUpdate) -> Running {
    start_with(Arc::new(World::default()), first, false)
}

impl Running {
    pub fn edit(&self, update: SourceUpdate) {
        self.edits.send_modify(|all| all.push(update));
    }

    pub fn service(&self, name: &str) -> Option<ServiceStatus> {
        self.handle.status().services.into_iter().find(|it| it.name.as_str() == name)
    }

    pub fn phase(&self, name: &str) -> Option<Phase> {
        self.service(name).map(|it| it.phase)
    }

    pub fn holds(&self, name: &str) -> Vec<String> {
        let holds = self.service(name).map(|it| it.holds).unwrap_or_default();
        holds.into_iter().map(|hold| hold.reason).collect()
    }

    /// Waits for a condition on the status, at most ten minutes of the test's clock.
    pub async fn until(&self, what: &str, test: impl Fn(&Self) -> bool) {
        let mut changes = self.handle.changes();
        let waiting = async {
            while !test(self) {
                changes.changed().await.unwrap();
            }
        };
        let end = tokio::time::timeout(Duration::from_secs(600), waiting).await;
        assert!(end.is_ok(), "never: {what}; status {:#?}\nevents {:#?}", self.handle.status(), self.world.messages());
    }

    pub async fn settled(&self, name: &str) {
        self.until(&format!("{name} settled"), |it| it.phase(name) == Some(Phase::Settled)).await;
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}
