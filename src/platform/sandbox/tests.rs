//! The world in memory, lived in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::*;
use crate::model::colour::Group;
use crate::model::desired::{Check, NginxTraffic, Pull, Resources, Restart};
use crate::model::image::{Repository, Tag, TagSpec};
use crate::model::names::container_name;
use crate::model::release::Release;
use crate::model::snapshot::{Fact, Health, Replica};
use crate::plan::step::{Ensured, PlatformStep, RunContainer, Target, TrafficStep};
use crate::ports::{LookAt, Platform, Probe, ProbeTarget, Registry, StepErrorKind, Traffic, Wake};

/// The clock that tokio's own pause moves.
struct Paused(Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap() + SignedDuration::try_from(self.0.elapsed()).unwrap()
    }
}

fn world() -> (Arc<Sandbox>, UnboundedReceiver<Wake>) {
    let (wakes, queue) = Wakes::channel();
    (Sandbox::new(Arc::new(Paused(Instant::now())), wakes), queue)
}

fn api() -> ServiceName {
    ServiceName::new("api").unwrap()
}

async fn release(world: &Sandbox, tag: &str) -> Release {
    let repository = Repository::new("app").unwrap();
    let spec = TagSpec { tag: Tag::new(tag).unwrap(), digest: None };
    let digest = world.resolve(&repository, &spec, Duration::ZERO).await;
    Release {
        repository,
        tag: spec.tag,
        digest: digest.seen().unwrap().clone(),
        pull: Pull::Always,
        port: Some(8080),
        env: BTreeMap::new(),
        env_file: None,
        volumes: Vec::new(),
        logging: None,
        command: Vec::new(),
        init: false,
        stop_timeout: 10,
        ecs: None,
    }
}

async fn run(world: &Sandbox, tag: &str, slot: u32, port: u16) -> Result<Ensured, crate::ports::StepError> {
    let release = release(world, tag).await;
    let run = RunContainer {
        service: api(),
        name: container_name(&api(), Group::Blue, slot),
        group: Group::Blue,
        slot,
        hash: release.hash(),
        release,
        host_port: Some(port),
        restart: Restart::UnlessStopped,
        resources: Resources::default(),
    };
    Platform::perform(world, &PlatformStep::Run(Box::new(run))).await
}

async fn replicas(world: &Sandbox) -> Vec<Replica> {
    Platform::look(world, LookAt { name: &api(), service: None }).await.replicas.seen().unwrap().clone()
}

fn probe_of(replica: &Replica) -> ProbeTarget {
    ProbeTarget {
        id: replica.id.clone(),
        started_at: replica.started_at.unwrap(),
        address: replica.address,
        check: Check::Tcp { port: None },
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        successes: 1,
        failures: 1,
        settled: false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_becomes_healthy_and_a_bad_one_never_does() {
    let (world, mut queue) = world();
    assert_eq!(run(&world, "1", 1, 20000).await, Ok(Ensured::Changed));
    assert_eq!(run(&world, "1", 1, 20000).await, Ok(Ensured::AlreadySo));
    assert_eq!(run(&world, "2-bad", 2, 20001).await, Ok(Ensured::Changed));
    let seen = replicas(&world).await;
    Probe::watch(&*world, &api(), seen.iter().map(probe_of).collect());
    while !queue.recv().await.unwrap().why.contains("probe") {}
    tokio::time::sleep(Duration::from_secs(60)).await;
    let verdicts = world.verdicts(&api());
    assert!(matches!(verdicts[&seen[0].id], Health::Healthy(_)));
    assert!(matches!(verdicts[&seen[1].id], Health::Unknown { last: Some(_), .. }));
    assert!(world.last_words(&seen[1].id).await.contains("never gets ready"));
}

#[tokio::test(start_paused = true)]
async fn what_somebody_breaks_is_seen_and_wakes() {
    let (world, mut queue) = world();
    run(&world, "1", 1, 20000).await.unwrap();
    assert!(world.kill("api-blue-1") && !world.kill("api-blue-2"));
    assert_eq!(replicas(&world).await[0].state, ReplicaState::Exited(Some(137)));
    assert!(!replicas(&world).await[0].port_bound);
    assert!(world.remove("api-blue-1"));
    assert_eq!(replicas(&world).await, []);
    let mut wakes = Vec::new();
    while let Ok(wake) = queue.try_recv() {
        wakes.push(wake.why);
    }
    assert_eq!(wakes, ["sandbox: start api-blue-1", "sandbox: die api-blue-1", "sandbox: destroy api-blue-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_removal_meets_only_the_container_that_was_seen() {
    let (world, _queue) = world();
    run(&world, "1", 1, 20000).await.unwrap();
    let old = Target { id: replicas(&world).await[0].id.clone(), name: "api-blue-1".to_owned(), service: api() };
    world.remove("api-blue-1");
    let remove = PlatformStep::Remove { target: old, stop_timeout: 10, only_if_down: false };
    assert_eq!(Platform::perform(&*world, &remove).await, Ok(Ensured::AlreadySo));
    run(&world, "1", 1, 20000).await.unwrap();
    assert_eq!(Platform::perform(&*world, &remove).await.unwrap_err().kind, StepErrorKind::Stale);
    assert_eq!(replicas(&world).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_brings_new_workers_and_the_old_ones_leave() {
    let (world, _queue) = world();
    let nginx = NginxTraffic { file: PathBuf::from("/etc/nginx/api.servers") };
    let before = Traffic::look(&*world, &nginx).await;
    assert_eq!(before.file, Fact::Absent);
    let servers = vec!["127.0.0.1:20000".parse().unwrap()];
    let step = TrafficStep { service: api(), file: nginx.file.clone(), servers, reload: true };
    assert_eq!(Traffic::perform(&*world, &step).await, Ok(Ensured::Changed));
    let after = Traffic::look(&*world, &nginx).await;
    assert_eq!(after.file.seen().unwrap().servers, ["127.0.0.1:20000"]);
    let (old, new) = (before.processes.seen().unwrap(), after.processes.seen().unwrap());
    assert_eq!(new.leaving, old.workers);
    assert!(new.workers.is_disjoint(&old.workers));
    tokio::time::sleep(LEAVE * 2).await;
    assert!(Traffic::look(&*world, &nginx).await.processes.seen().unwrap().leaving.is_empty());
    world.edit_servers(&nginx.file, "server 127.0.0.1:1 down;\n");
    let edited = Traffic::look(&*world, &nginx).await;
    assert_eq!(edited.file.seen().unwrap().servers, Vec::<String>::new());
    assert_eq!(edited.processes.seen().unwrap().workers, new.workers, "no reload came with the edit");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_unreadable_and_never_absent() {
    let (world, _queue) = world();
    run(&world, "1", 1, 20000).await.unwrap();
    let mutations = world.mutations();
    world.outage(true);
    let seen = Platform::look(&*world, LookAt { name: &api(), service: None }).await;
    assert!(matches!(seen.replicas, Fact::Unreadable(_)));
    assert!(matches!(world.owned().await, Fact::Unreadable(_)));
    assert_eq!(run_step_error(&world).await, StepErrorKind::Transient);
    assert_eq!(world.mutations(), mutations);
    world.outage(false);
    assert_eq!(replicas(&world).await.len(), 1);
}

async fn run_step_error(world: &Sandbox) -> StepErrorKind {
    let target = Target { id: "x".to_owned(), name: "api-blue-1".to_owned(), service: api() };
    Platform::perform(world, &PlatformStep::Unpause { target }).await.unwrap_err().kind
}

#[tokio::test(start_paused = true)]
async fn tags_resolve_to_stable_digests_or_are_missing() {
    let (world, _queue) = world();
    let app = Repository::new("app").unwrap();
    let spec = |tag: &str| TagSpec { tag: Tag::new(tag).unwrap(), digest: None };
    let one = world.resolve(&app, &spec("1"), Duration::ZERO).await;
    assert_eq!(one, world.resolve(&app, &spec("1"), Duration::ZERO).await);
    assert_ne!(one, world.resolve(&app, &spec("2"), Duration::ZERO).await);
    assert_eq!(world.resolve(&app, &spec("missing-1"), Duration::ZERO).await, Fact::Absent);
}
