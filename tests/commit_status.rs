//! What becomes of a commit is told to its host: a controller on fake edges, the host on a real socket.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]

#[path = "commit_status/host.rs"]
mod host;
#[path = "commit_status/log.rs"]
mod log;
#[path = "commit_status/program.rs"]
mod program;

mod fakes;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fakes::*;
use holdfast::alerts::CommitStatus;
use holdfast::model::desired::{Service, SourceRevision};
use holdfast::model::names::ControllerId;
use holdfast::ports::SourceUpdate;
use holdfast::source::settings::GitSettings;
use holdfast::source::settings::git::{GitStatus, Host as Kind};
use host::{Host, reply, within};
use log::Log;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "canary-4f1e";

fn id(letter: char) -> String {
    letter.to_string().repeat(40)
}

/// Commit `letter` wants one service at `tag`.
fn commit(letter: char, tag: &str) -> SourceUpdate {
    committed(&id(letter), [service("api", tag, 1)], &[])
}

fn rejected(letter: char, why: &str) -> SourceUpdate {
    SourceUpdate::Rejected { revision: Some(SourceRevision(id(letter))), commit: None, why: why.into() }
}

/// A controller and who tells of it.
struct Told {
    it: Running,
    closing: CancellationToken,
    task: JoinHandle<()>,
    dir: TempDir,
}

fn settings(host: &Host, kind: Kind, deployments: bool, dir: &TempDir) -> GitSettings {
    std::fs::write(dir.path().join("token"), format!("{TOKEN}\n")).unwrap();
    let (url, api) = match kind {
        Kind::GitHub => ("git@github.com:acme/deploy.git", host.address.clone()),
        Kind::GitLab => ("https://gitlab.com/g/sub/p.git", format!("{}/api/v4", host.address)),
    };
    let status = GitStatus {
        host: kind,
        api: Some(api),
        repository: None,
        token_file: dir.path().join("token"),
        deployments,
        environment: None,
    };
    GitSettings { status: Some(status), ..GitSettings::of(url.into(), "main".into(), String::new()) }
}

fn follow(host: &Host, kind: Kind, deployments: bool, it: Running) -> Told {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(host, kind, deployments, &dir);
    let status = CommitStatus::new(&settings, &ControllerId::new("test").unwrap()).unwrap().unwrap();
    assert!(!format!("{status:?}").contains(TOKEN));
    let closing = CancellationToken::new();
    let task = tokio::spawn(status.run(it.handle.clone(), closing.clone()));
    Told { it, closing, task, dir }
}

impl Told {
    /// The first commit, `a`, serves already: what follows begins under our eyes.
    async fn start(host: &Host, kind: Kind, deployments: bool) -> Self {
        let told = follow(host, kind, deployments, start(commit('a', "one")));
        host.until_told(&["a success"]).await;
        told
    }

    /// From now on every step waits.
    fn hold(&self) -> Arc<Notify> {
        let gate = Arc::new(Notify::new());
        *self.it.world.gate.lock().unwrap() = Some(Arc::clone(&gate));
        gate
    }

    fn let_go(&self, gate: &Notify) {
        *self.it.world.gate.lock().unwrap() = None;
        gate.notify_waiters();
        gate.notify_one();
    }

    async fn serves(&self, letter: char) {
        let id = id(letter);
        let serves = |it: &Running| it.service("api").and_then(|it| it.revision) == Some(id.clone());
        self.it.until(&format!("{letter} serves"), serves).await;
    }

    async fn end(self) {
        self.closing.cancel();
        within(5, self.task).await.expect("it ends soon after it is told to").unwrap();
        self.it.stop().await;
    }
}

#[tokio::test]
async fn a_good_rollout_is_pending_then_a_success() {
    let host = Host::start().await;
    let told = Told::start(&host, Kind::GitHub, false).await;
    let gate = told.hold();
    std::fs::write(told.dir.path().join("token"), "another").unwrap();
    told.it.edit(commit('b', "two"));
    host.until_told(&["a success", "b pending"]).await;
    told.let_go(&gate);
    host.until_told(&["a success", "b pending", "b success"]).await;
    let asked = host.asked();
    assert_eq!(asked.len(), 3);
    for (it, token) in asked.iter().zip([TOKEN, "another", "another"]) {
        assert!(it.path.starts_with("/repos/acme/deploy/statuses/") && it.path.len() == 28 + 40, "{}", it.path);
        assert_eq!(it.header("authorization"), format!("Bearer {token}"));
        assert_eq!(it.header("accept"), "application/vnd.github+json");
        assert_eq!(it.header("x-github-api-version"), "2022-11-28");
        assert_eq!(it.body["context"], "holdfast/test");
    }
    assert!(asked[1].body["description"].as_str().unwrap().starts_with("api: "), "{}", asked[1].body);
    assert_eq!(asked[2].body["description"], "1 service serves it");
    told.end().await;
    // Nothing is left to say at the end, but what had no answer yet.
    assert!(host.told()[3..].iter().all(|it| it == "b success"), "{:?}", host.told());
}

#[tokio::test]
async fn a_failed_rollout_is_a_failure_with_the_reason_in_140_characters() {
    let host = Host::start().await;
    let told = Told::start(&host, Kind::GitHub, true).await;
    told.it.world.unhealthy.lock().unwrap().insert("api-1".into());
    told.it.edit(commit('b', "two"));
    host.until("b failed", |it| it.told().last().is_some_and(|last| last == "b failure")).await;
    host.until("its deployment failed", |it| it.deployed().last().is_some_and(|it| it == "POST /2/statuses failure"))
        .await;
    let asked = host.asked();
    let last = asked.iter().rfind(|it| it.path.contains(&id('b')) && it.body["state"] == "failure").unwrap();
    let description = last.body["description"].as_str().unwrap();
    assert!(
        description.starts_with("api: two failed and is not tried again: api-1 answered HTTP 500"),
        "{description}"
    );
    assert!(description.chars().count() <= 140);
    // The next commit repairs it; what was said of the last one stays, and nothing of it is said of this one.
    told.it.world.unhealthy.lock().unwrap().clear();
    told.it.edit(commit('c', "three"));
    host.until("c served", |it| it.told().last().is_some_and(|last| last == "c success")).await;
    let states = host.told();
    assert!(!states.contains(&"c failure".to_owned()), "{states:?}");
    assert_eq!(states.iter().rfind(|it| it.starts_with("b ")).unwrap(), "b failure");
    told.end().await;
}

#[tokio::test]
async fn a_rejected_commit_is_a_failure_and_not_a_deployment() {
    let host = Host::start().await;
    let told = Told::start(&host, Kind::GitHub, true).await;
    told.it.edit(rejected('b', "prod.yaml:3:5: expected a number\n  and more"));
    host.until_told(&["a success", "b failure"]).await;
    let asked = host.asked();
    let last = asked.iter().find(|it| it.path.contains(&id('b'))).unwrap();
    assert_eq!(last.body["description"], "rejected: prod.yaml:3:5: expected a number");
    told.it.edit(commit('c', "two"));
    host.until("c served", |it| it.told().last().is_some_and(|last| last == "c success")).await;
    assert!(!host.asked().iter().any(|it| it.path.contains("deployments") && it.body["ref"] == id('b')));
    told.end().await;
}

#[tokio::test]
async fn a_commit_that_is_superseded_does_not_stay_pending() {
    let host = Host::start().await;
    let told = Told::start(&host, Kind::GitHub, true).await;
    let gate = told.hold();
    told.it.edit(commit('b', "two"));
    host.until("b is deployed", |it| it.deployed().last().is_some_and(|it| it == "POST /2/statuses in_progress")).await;
    told.it.edit(commit('c', "three"));
    host.until("c begins", |it| it.deployed().last().is_some_and(|it| it == "POST /3/statuses in_progress")).await;
    told.let_go(&gate);
    host.until("c is deployed", |it| it.deployed().last().is_some_and(|it| it == "POST /3/statuses success")).await;
    assert_eq!(host.told(), ["a success", "b pending", "b error", "c pending", "c success"]);
    let asked = host.asked();
    let last = asked.iter().find(|it| it.body["state"] == "error").unwrap();
    assert_eq!(last.body["description"], format!("superseded by {}", &id('c')[..12]));
    let deployed = [
        "POST  new",
        "POST /1/statuses success",
        "POST  new",
        "POST /2/statuses in_progress",
        "POST /2/statuses inactive",
        "POST  new",
        "POST /3/statuses in_progress",
        "POST /3/statuses success",
    ];
    assert_eq!(host.deployed(), deployed);
    let made = asked.iter().find(|it| it.method == "POST" && it.path.ends_with("/deployments")).unwrap();
    let body = json!({"ref": id('a'), "environment": "test", "description": "holdfast/test", "auto_merge": false,
        "required_contexts": []});
    assert_eq!(made.body, body);
    told.end().await;
}

#[tokio::test]
async fn a_host_that_comes_back_is_told_the_newest_word_alone() {
    let host = Host::start().await;
    let told = Told::start(&host, Kind::GitHub, false).await;
    host.rule(|_| reply(502, json!({"message": "Server Error"})));
    let gate = told.hold();
    told.it.edit(commit('b', "two"));
    host.until("it is tried again", |it| it.asked().iter().filter(|it| it.answered == 502).count() >= 2).await;
    told.let_go(&gate);
    told.serves('b').await;
    host.rule(|_| None);
    host.until_told(&["a success", "b success"]).await;
    told.end().await;
}

#[tokio::test]
async fn a_limit_is_waited_out() {
    let host = Host::start().await;
    let told = Told::start(&host, Kind::GitHub, false).await;
    let first = Mutex::new(true);
    host.rule(move |_| {
        let limit = std::mem::take(&mut *first.lock().unwrap());
        limit.then(|| Some((429, vec![("retry-after", "2")], json!({"message": "slow down"}))))
    });
    told.it.edit(commit('b', "two"));
    host.until("b is told", |it| it.told().last().is_some_and(|last| last == "b success")).await;
    let asked = host.asked();
    let limited = asked.iter().position(|it| it.answered == 429).unwrap();
    let waited = asked[limited + 1].at - asked[limited].at;
    assert!((Duration::from_secs(2)..Duration::from_secs(10)).contains(&waited), "{waited:?}");
    told.end().await;
}

#[tokio::test]
async fn a_refusal_is_warned_of_once_and_the_token_is_nowhere_in_the_log() {
    let (log, _guard) = Log::start();
    let host = Host::start().await;
    let told = Told::start(&host, Kind::GitHub, false).await;
    host.rule(|_| reply(403, json!({"message": format!("{TOKEN} is not accessible")})));
    let gate = told.hold();
    told.it.edit(commit('b', "two"));
    host.until("b is refused", |it| it.asked().len() == 2).await;
    told.let_go(&gate);
    // Another state is another question; no state is asked twice.
    host.until("its end is refused", |it| it.asked().len() == 3).await;
    told.serves('b').await;
    host.rule(|_| None);
    told.it.edit(commit('c', "three"));
    host.until("c is told", |it| it.told().last().is_some_and(|last| last == "c success")).await;
    let refused: Vec<_> =
        host.asked().into_iter().filter(|it| it.answered == 403).map(|it| it.body["state"].clone()).collect();
    assert_eq!(refused, ["pending", "success"]);
    told.end().await;
    let text = log.text();
    for line in ["told GitHub: aaaaaaaaaaaa success", "told GitHub: cccccccccccc success"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let warning =
        "GitHub is not told what becomes of commits: it answered 403 Forbidden: (secret) is not accessible; hint:";
    let warned = text.lines().filter(|line| line.contains("WARN") && line.contains(warning)).count();
    assert_eq!(warned, 1, "{text}");
    assert!(!text.contains(TOKEN), "{text}");
}

#[tokio::test]
async fn a_deployment_is_found_again_after_a_restart() {
    let host = Host::start().await;
    let told = Told::start(&host, Kind::GitHub, true).await;
    host.until("a is deployed", |it| it.deployed().last().is_some_and(|it| it == "POST /1/statuses success")).await;
    let world = Arc::clone(&told.it.world);
    told.end().await;
    let before = host.deployed().len();
    let again = follow(&host, Kind::GitHub, true, start_with(world, commit('a', "one"), false));
    host.until("it is told again", |it| it.deployed().len() > before).await;
    let deployed = host.deployed();
    assert_eq!(deployed[0], "POST  new");
    assert!(deployed[1..].iter().all(|it| it == "POST /1/statuses success"), "{deployed:?}");
    assert!(!host.told().contains(&"a pending".to_owned()), "{:?}", host.told());
    again.end().await;
}

#[tokio::test]
async fn gitlab_takes_no_state_twice_and_that_is_no_error() {
    let (log, _guard) = Log::start();
    let host = Host::start().await;
    let told = Told::start(&host, Kind::GitLab, true).await;
    let same = "Cannot transition status via :run from :running (Reason(s): Status cannot transition via \"run\")";
    host.rule(move |it| {
        let is_running = it.body["state"] == "running" || (it.method == "PUT" && it.body["status"] == "running");
        if is_running { reply(400, json!({"message": same})) } else { None }
    });
    let gate = told.hold();
    told.it.edit(commit('b', "two"));
    host.until("b is deployed", |it| it.deployed().len() == 2).await;
    told.let_go(&gate);
    host.until("b serves", |it| it.deployed().len() == 3).await;
    told.it.edit(rejected('c', "no"));
    host.until_told(&["a success", "b success", "c failed"]).await;
    assert_eq!(host.deployed(), ["POST  success", "POST  running", "PUT /2 success"]);
    let asked = host.asked();
    let running: Vec<_> = asked.iter().filter(|it| it.body["state"] == "running").collect();
    assert_eq!(running.len(), 1, "{running:?}");
    assert_eq!(running[0].path, format!("/api/v4/projects/g%2Fsub%2Fp/statuses/{}", id('b')));
    assert_eq!((&running[0].body["name"], &running[0].body["ref"]), (&json!("holdfast/test"), &json!("main")));
    told.end().await;
    let text = log.text();
    assert!(text.contains("told GitLab: bbbbbbbbbbbb pending") && !text.contains("is not told"), "{text}");
}

#[tokio::test]
async fn gitlab_has_a_word_for_superseded() {
    let host = Host::start().await;
    let told = Told::start(&host, Kind::GitLab, true).await;
    let gate = told.hold();
    told.it.edit(commit('b', "two"));
    host.until("b is deployed", |it| it.deployed().last().is_some_and(|it| it == "POST  running")).await;
    told.it.edit(commit('c', "three"));
    host.until("c begins", |it| it.deployed().iter().filter(|it| *it == "POST  running").count() == 2).await;
    told.let_go(&gate);
    host.until("c serves", |it| it.deployed().last().is_some_and(|it| it == "PUT /3 success")).await;
    assert_eq!(host.told(), ["a success", "b running", "b canceled", "c running", "c success"]);
    assert_eq!(host.deployed()[1..], ["POST  running", "PUT /2 canceled", "POST  running", "PUT /3 success"]);
    told.end().await;
}

#[tokio::test]
async fn the_last_word_is_told_at_the_end_and_a_silent_host_does_not_keep_us() {
    // Pending is held back right after a start: only the end brings it out.
    let host = Host::start().await;
    let mut manual: Service = service("api", "one", 1);
    manual.rollout.promote = holdfast::model::desired::Promote::Manual;
    let it = start(committed(&id('a'), [manual], &[]));
    it.until("it waits", |it| it.holds("api") == ["AwaitingPromotion"]).await;
    let told = follow(&host, Kind::GitHub, false, it);
    told.end().await;
    assert_eq!(host.told(), ["a pending"]);
    let description = host.asked()[0].body["description"].as_str().unwrap().to_owned();
    assert!(description.ends_with("it goes live with `holdfast promote`"), "{description}");

    let host = Host::start().await;
    host.rule(|_| Some(None));
    let told = follow(&host, Kind::GitHub, false, start(commit('a', "one")));
    host.until("it was asked", |it| !it.asked().is_empty()).await;
    let since = Instant::now();
    told.end().await;
    let took = since.elapsed();
    assert!((Duration::from_millis(1900)..Duration::from_secs(4)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_redirect_does_not_take_the_token_elsewhere() {
    let (host, other) = (Host::start().await, Host::start().await);
    let elsewhere: &'static str = Box::leak(other.address.clone().into_boxed_str());
    host.rule(move |_| Some(Some((307, vec![("location", elsewhere)], json!({})))));
    let told = follow(&host, Kind::GitHub, false, start(commit('a', "one")));
    host.until("it was asked", |it| !it.asked().is_empty()).await;
    host.rule(|_| None);
    told.it.edit(commit('b', "two"));
    host.until("b is told", |it| it.told().last().is_some_and(|last| last == "b success")).await;
    assert_eq!(other.asked().len(), 0);
    told.end().await;
}
