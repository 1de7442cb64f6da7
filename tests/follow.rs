//! Tags followed and reverted by a whole controller: the planner and the sandbox are the real ones, the desired state is a
//! text that the controller itself rewrites.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]

mod fakes;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fakes::{RESYNC, Running, TokioClock, World, edges, name, options, source};
use holdfast::controller::{Controller, Options, Planner, Verb};
use holdfast::model::desired::SourceRevision;
use holdfast::model::image::{Digest, Repository, Tag, TagSpec};
use holdfast::model::names::ControllerId;
use holdfast::model::snapshot::{Fact, TagSeen, Why};
use holdfast::model::status::Phase;
use holdfast::plan::step::{Ensured, SourceStep};
use holdfast::platform::sandbox::Sandbox;
use holdfast::ports::{Clock, Credentials, Edges, Registry, SourceUpdate, StepError, Wakes, WriteBack};
use holdfast::source::{self as desired, FileText, HostRules};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The repository of the desired state: a text, and what was committed to it.
struct Repo {
    text: Mutex<String>,
    commits: Mutex<Vec<(String, String)>>,
    fails: Mutex<Option<StepError>>,
    attempts: Mutex<usize>,
    edits: watch::Sender<Vec<SourceUpdate>>,
}

fn read(text: &str, number: usize) -> SourceUpdate {
    let controller = ControllerId::new("test").unwrap();
    let rules = HostRules { controller, named: true, mounts: vec![PathBuf::from("/srv")] };
    let file = FileText { path: PathBuf::from("api.yaml"), text: text.to_owned() };
    let revision = SourceRevision(format!("r{number}"));
    let state = desired::parse(Path::new("."), &[file], &rules, &revision, Timestamp::UNIX_EPOCH);
    SourceUpdate::Accepted(Arc::new(state.unwrap_or_else(|errors| panic!("{errors:?}"))))
}

impl Repo {
    fn edit(&self, from: &str, to: &str) {
        let mut text = self.text.lock().unwrap();
        assert!(text.contains(from), "{text}");
        *text = text.replace(from, to);
        self.edits.send_modify(|all| all.push(read(&text, all.len())));
    }

    fn attempts(&self) -> usize {
        *self.attempts.lock().unwrap()
    }

    fn tags(&self) -> Vec<String> {
        self.commits.lock().unwrap().iter().map(|(tag, _)| tag.clone()).collect()
    }
}

#[async_trait]
impl WriteBack for Repo {
    fn closed(&self) -> Option<Why> {
        None
    }
    async fn perform(&self, step: &SourceStep) -> Result<Ensured, StepError> {
        *self.attempts.lock().unwrap() += 1;
        if let Some(error) = &*self.fails.lock().unwrap() {
            return Err(error.clone());
        }
        self.commits.lock().unwrap().push((step.to.to_string(), step.why.clone()));
        self.edit(&format!("tag: {}\n", step.from), &format!("tag: {}\n", step.to));
        Ok(Ensured::Changed)
    }
}

/// The sandbox's registry, which may lose its lists, and says how often it was asked for them.
struct Lists {
    sandbox: Arc<Sandbox>,
    broken: Mutex<bool>,
    slow: Mutex<bool>,
    asked: Mutex<Vec<Duration>>,
}

#[async_trait]
impl Registry for Lists {
    async fn resolve(&self, repository: &Repository, tag: &TagSpec, max_age: Duration) -> Fact<Digest> {
        self.sandbox.resolve(repository, tag, max_age).await
    }
    async fn credentials(&self, repository: &Repository) -> Result<Option<Credentials>, Why> {
        self.sandbox.credentials(repository).await
    }
    async fn tags(&self, repository: &Repository, max_age: Duration) -> Fact<Vec<TagSeen>> {
        self.asked.lock().unwrap().push(max_age);
        let slow = *self.slow.lock().unwrap();
        if slow {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        let broken = *self.broken.lock().unwrap();
        match broken {
            true => Fact::Unreadable("registry.example answered 503".to_owned()),
            false => self.sandbox.tags(repository, max_age).await,
        }
    }
}

struct Bed {
    run: Running,
    repo: Arc<Repo>,
    lists: Arc<Lists>,
    clock: Arc<dyn Clock>,
}

const FILE: &str = "services:
  api:
    image: registry.example/api
    tag: v1
    replicas: 1
    docker: {port: 8080}
    follow: {regex: \"(?:v|bad)([0-9]+)\"}
    rollout: {onFailure: revert, progressDeadline: 30s}
    health: {tcp: {}, deadline: 20s}
";

fn start(text: &str) -> Bed {
    let world = Arc::new(World::default());
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::new(Instant::now()));
    let (wakes, woken) = Wakes::channel();
    let sandbox = Sandbox::new(Arc::clone(&clock), wakes.clone());
    let (edits, source) = source(vec![read(text, 0)]);
    let repo = Arc::new(Repo {
        text: Mutex::new(text.to_owned()),
        commits: Mutex::default(),
        fails: Mutex::default(),
        attempts: Mutex::default(),
        edits: edits.clone(),
    });
    let lists = Arc::new(Lists {
        sandbox: sandbox.clone(),
        broken: Mutex::default(),
        slow: Mutex::default(),
        asked: Mutex::default(),
    });
    let edges = Edges {
        platform: sandbox.clone(),
        cluster: sandbox.clone(),
        balancer: sandbox.clone(),
        account: sandbox.clone(),
        traffic: sandbox.clone(),
        probe: sandbox.clone(),
        env_files: sandbox,
        registry: lists.clone(),
        write_back: repo.clone(),
        clock: Arc::clone(&clock),
        ..edges(&world)
    };
    let planner = Planner {
        plan: holdfast::plan::plan,
        plan_removal: holdfast::plan::plan_removal,
        verify: holdfast::plan::check::verify,
    };
    let controller = Controller::new(edges, source, Options { planner, ..options(false) });
    let (handle, shutdown) = (controller.handle(), CancellationToken::new());
    let (stop, reports) = (shutdown.clone(), wakes.clone());
    let task = tokio::spawn(async move { controller.run((reports, woken), stop).await.unwrap() });
    Bed { run: Running { world, handle, edits, wakes, shutdown, task }, repo, lists, clock }
}

impl Bed {
    fn push(&self, tag: &str) {
        self.lists.sandbox.push(&Repository::new("registry.example/api").unwrap(), &Tag::new(tag).unwrap());
    }

    fn serves(&self) -> String {
        self.run.service("api").and_then(|it| it.serving).map(|it| it.tag).unwrap_or_default()
    }

    async fn until_serves(&self, tag: &str) {
        self.run.until(&format!("{tag} serves"), |_| self.serves() == tag).await;
        self.run.until("at rest", |it| it.phase("api") == Some(Phase::Settled)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_pushed_is_committed_and_serves() {
    let bed = start(FILE);
    bed.until_serves("v1").await;
    for tag in ["v2", "v10", "v9", "latest"] {
        bed.push(tag);
    }
    bed.until_serves("v10").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(bed.repo.tags().last().map(String::as_str), Some("v10"));
    assert_eq!(bed.run.phase("api"), Some(Phase::Settled));
    let why = bed.repo.commits.lock().unwrap().last().unwrap().1.clone();
    assert!(why.contains("v10 is the newest tag that fits (?:v|bad)([0-9]+) (numeric)"), "{why}");
    assert_eq!(bed.run.service("api").unwrap().revision, Some(format!("r{}", bed.repo.tags().len())));
    bed.run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_reverted_and_followed_again_only_when_somebody_says_so() {
    let bed = start(FILE);
    bed.until_serves("v1").await;
    bed.push("bad2");
    bed.run.until("it is reverted", |_| bed.repo.tags() == ["bad2", "v1"]).await;
    bed.run.until("at rest", |it| it.holds("api") == ["TagSkipped"]).await;
    assert_eq!((bed.serves().as_str(), bed.run.phase("api")), ("v1", Some(Phase::Settled)));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(bed.repo.tags(), ["bad2", "v1"]);
    let said = bed.run.handle.command("api", Verb::Retry, "ann", None).await.unwrap();
    assert!(said.contains("bad2 may be tried once more"), "{said}");
    bed.run.until("it is tried again", |_| bed.repo.tags() == ["bad2", "v1", "bad2", "v1"]).await;
    bed.push("v3");
    bed.until_serves("v3").await;
    bed.run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_does_not_come_delays_no_look_by_more_than_a_few_seconds() {
    let bed = start(FILE);
    bed.until_serves("v1").await;
    *bed.lists.slow.lock().unwrap() = true;
    let before = Instant::now();
    bed.repo.edit("replicas: 1", "replicas: 2");
    bed.run.until("it is said", |it| it.holds("api") == ["FollowUnreadable"]).await;
    bed.run.until("r1 serves", |it| it.service("api").unwrap().revision.as_deref() == Some("r1")).await;
    assert!(before.elapsed() < Duration::from_secs(50), "{:?}", before.elapsed());
    bed.run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_lost_leaves_the_service_as_it_is() {
    let bed = start(FILE);
    bed.until_serves("v1").await;
    *bed.lists.broken.lock().unwrap() = true;
    bed.run.until("it is said", |it| it.holds("api") == ["FollowUnreadable"]).await;
    let status = bed.run.service("api").unwrap();
    assert_eq!(
        (status.phase, status.stage.as_str(), status.revision.as_deref()),
        (Phase::Settled, "settled", Some("r0"))
    );
    // An edit goes all the way meanwhile, and counts as served.
    bed.repo.edit("tag: v1", "tag: v2");
    bed.run.until("r1 serves", |it| it.service("api").unwrap().revision.as_deref() == Some("r1")).await;
    assert_eq!((bed.serves().as_str(), bed.run.holds("api")), ("v2", vec!["FollowUnreadable".to_owned()]));
    // A sweep may take an answer of a minute ago; who asks for a fresh look gets one.
    assert!(RESYNC < Duration::from_secs(60));
    assert!(bed.lists.asked.lock().unwrap().iter().all(|age| age.is_zero() || *age == Duration::from_secs(60)));
    *bed.lists.broken.lock().unwrap() = false;
    bed.run.handle.command("api", Verb::Reconcile, "ann", None).await.unwrap();
    bed.run.until("it is over", |it| it.holds("api").is_empty()).await;
    assert_eq!(bed.lists.asked.lock().unwrap().last(), Some(&Duration::ZERO));
    bed.run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_holds_up_nothing_else() {
    let bed = start(FILE);
    bed.until_serves("v1").await;
    *bed.repo.fails.lock().unwrap() = Some(StepError::refused("the branch is protected"));
    bed.push("v5");
    bed.run.until("it is held", |it| it.holds("api") == ["StepFailed"]).await;
    let held = bed.run.service("api").unwrap().holds[0].message.clone();
    assert!(held.contains("could not commit api: tag v1 -> v5: the branch is protected"), "{held}");
    // Let the backoff grow long, then lose the only replica: it is back before the commit is tried again.
    tokio::time::sleep(Duration::from_secs(1200)).await;
    let before = Instant::now();
    let lost = bed.lists.sandbox.containers()[0].clone();
    assert!(bed.lists.sandbox.remove(&lost));
    bed.run.until("it is back", |_| !bed.lists.sandbox.containers().is_empty()).await;
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    // A person's edit is rolled out and remembered as served though the commit goes on failing.
    bed.repo.edit("tag: v1", "tag: v2");
    bed.run.until("v2 serves", |_| bed.serves() == "v2").await;
    bed.run.until("held again", |it| it.holds("api") == ["StepFailed"]).await;
    // Its own backoff is long by now; the service is looked at as often as ever.
    let held = bed.repo.attempts();
    tokio::time::sleep(Duration::from_secs(1200)).await;
    assert!(bed.repo.attempts() - held < 20, "{}", bed.repo.attempts() - held);
    let next = bed.run.service("api").unwrap().next_look.unwrap();
    assert!(next.duration_since(bed.clock.now()).unsigned_abs() <= RESYNC, "{next}");
    *bed.repo.fails.lock().unwrap() = None;
    bed.until_serves("v5").await;
    assert_eq!(bed.repo.tags(), ["v5"]);
    assert!(bed.run.world.memory.lock().unwrap()[&name("api")].committed.is_some());
    bed.run.stop().await;
}
