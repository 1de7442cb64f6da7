//! The first way Holdfast is used: a commit is pushed, and it serves.

use std::time::{Duration, Instant};

use crate::support::engine::{run, text};
use crate::support::world::World;
use crate::support::{pause, until};

#[test]
fn a_commit_serves_a_bad_one_changes_nothing_and_a_revert_goes_back() {
    let Some(mut world) = World::new("git") else { return };
    let repository = world.follows_git("");
    let first = repository.push_specs(&[&world.spec("v1").replicas(2)], "api: v1");
    world.start();
    world.until_settled("v1");
    let load = world.load();
    let second = repository.push_specs(&[&world.spec("v2").replicas(2)], "api: tag v1 -> v2");
    let service = world.service.clone();
    let waited = world.holdfast("wait", &[&service, "--source-revision", &second, "--timeout", "60s"]);
    assert_eq!(waited.status.code(), Some(0), "{}{}", text(&waited.stdout), text(&waited.stderr));
    assert_eq!(world.answer().as_deref(), Some("v2"));
    world.until_settled("v2");
    // Who changed what is told everywhere.
    let source = world.status().unwrap_or_default()["source"].clone();
    assert_eq!(source["commit"]["subject"], "api: tag v1 -> v2");
    assert_eq!(source["commit"]["author"], "Ann");
    assert!(world.log().contains(&format!("commit {} \"api: tag v1 -> v2\" by Ann accepted", &second[..12])));
    let history: serde_json::Value =
        serde_json::from_str(&world.says("history", &[&service, "-o", "json"])).expect("history is JSON");
    assert_eq!(history[0]["commit"]["id"], second.as_str(), "{history:#}");
    assert_eq!(history[1]["revision"], first.as_str(), "{history:#}");

    // A bad commit changes nothing.
    let containers = world.containers();
    let bad = repository.push("services:\n  api:\n    imagee: x\n", "oops");
    let why = world.until_refused();
    assert!(why.contains("prod/services.yaml:3:5: unknown key `imagee`"), "{why}");
    let waited = world.holdfast("wait", &[&service, "--source-revision", &bad, "--timeout", "60s"]);
    assert_eq!(waited.status.code(), Some(3), "{}{}", text(&waited.stdout), text(&waited.stderr));
    assert_eq!(world.containers(), containers);

    // A rollback is a commit like any other.
    repository.git(&["revert", "--no-edit", &bad, &second]);
    repository.git(&["push", "--quiet", "origin", "HEAD:main"]);
    world.until_settled("v1");
    assert_eq!(world.answer().as_deref(), Some("v1"));
    assert_eq!(world.status().unwrap_or_default()["source"]["error"], serde_json::Value::Null);
    load.stop().assert_none_failed();
}

#[test]
fn an_outage_a_rewind_and_a_restart_leave_the_last_good_commit_in_force() {
    let Some(mut world) = World::new("rewind") else { return };
    let repository = world.follows_git("");
    let first = repository.push_specs(&[&world.spec("v1")], "v1");
    let second = repository.push_specs(&[&world.spec("v2")], "v2");
    world.start();
    world.until_settled("v2");

    // The branch goes back: held, with the way out.
    repository.git(&["push", "--quiet", "--force", "origin", &format!("{first}:refs/heads/main")]);
    let why = world.until_refused();
    assert!(why.contains("rewound or rewritten") && why.contains("--accept-rewind"), "{why}");
    assert_eq!(world.answer().as_deref(), Some("v2"));

    // The server is gone and the controller is killed: what was good is repaired without it.
    let server = repository.server();
    std::fs::rename(&server, server.with_extension("away")).expect("the server goes");
    world.kill9();
    let colour = world.seen()["activeColour"].as_str().map(str::to_owned);
    assert_eq!(colour, None, "nobody answers");
    for name in world.containers() {
        world.docker(&["rm", "-f", &name]);
    }
    world.start();
    until("v2 to serve again", 60, || world.answer().as_deref() == Some("v2"));

    // It comes back with the rewound branch: still held, until a person accepts exactly that commit.
    std::fs::rename(server.with_extension("away"), &server).expect("the server comes back");
    let mut why = String::new();
    until("the rewind to be refused again", 60, || {
        why = world.until_refused();
        why.contains("rewound or rewritten")
    });
    let wrong = world.holdfast("reconcile", &["--accept-rewind", &second]);
    assert_eq!(wrong.status.code(), Some(1), "{}", text(&wrong.stdout));
    assert_eq!(world.answer().as_deref(), Some("v2"));
    world.says("reconcile", &["--accept-rewind", &first[..12]]);
    world.until_settled("v1");
    assert_eq!(world.answer().as_deref(), Some("v1"));
    // What was pushed away is in force no more, and nobody who waits for it is told that it serves.
    let source = world.status().unwrap_or_default()["source"].clone();
    assert!(!source["includes"].to_string().contains(&second), "{source:#}");
}

#[test]
fn a_service_that_leaves_the_repository_is_removed_only_when_a_commit_says_so() {
    let Some(mut world) = World::without_nginx("gitgone") else { return };
    let repository = world.follows_git("");
    let worker = |world: &World, name: &str| {
        let mut spec = world.spec("v1").rolling();
        spec.servers = None;
        spec.name = name.to_owned();
        spec
    };
    let (gone, stays) = (world.service.clone(), format!("{}-other", world.service));
    repository.push_specs(&[&worker(&world, &gone), &worker(&world, &stays)], "both");
    world.start();
    world.until_settled("v1");
    let one = repository.push_specs(&[&worker(&world, &stays)], "one leaves");
    world.until_in_force(&one);
    world.until_held("RemovalNotAcknowledged");
    assert!(!world.container_id(&format!("{gone}-1")).is_empty(), "it still runs");
    // The branch without the folder, and no branch at all, remove nothing either.
    repository.git(&["rm", "-r", "--quiet", "prod"]);
    repository.git(&["commit", "--quiet", "-m", "no folder"]);
    repository.git(&["push", "--quiet", "origin", "HEAD:main"]);
    assert!(world.until_refused().contains("there is no such folder in this commit"));
    run("git", &["-C", &repository.server().display().to_string(), "update-ref", "-d", "refs/heads/main"]);
    world.until("the branch to be missed", 30, |world, _| {
        let status = world.status().unwrap_or_default();
        status["source"]["error"].as_str().is_some_and(|why| why.contains("there is no branch `main`"))
    });
    assert_eq!(world.slots().len(), 2);
    let text = format!("acknowledge: [remove {gone}]\nservices:\n{}", worker(&world, &stays).yaml());
    repository.push(&text, "and it may go");
    world.until("it to go", 30, |world, _| world.container_id(&format!("{gone}-1")).is_empty());
    assert!(!world.container_id(&format!("{stays}-1")).is_empty());
}

#[test]
fn a_webhook_makes_a_push_serve_without_waiting_for_the_poll() {
    let Some(mut world) = World::new("hook") else { return };
    let secret = world.path("hook-secret");
    std::fs::write(&secret, "it's a secret\n").expect("a secret");
    let repository = world.follows_git(&format!("  webhookSecretFile: {}\n", secret.display()));
    // No poll comes in the life of this test, and no test in parallel has this port.
    for line in &mut world.settings {
        *line = line.replace("interval: 1s", "interval: 10m");
    }
    let port = world.web + 1;
    world.env.push(("HOLDFAST_LISTEN".to_owned(), format!("127.0.0.1:{port}")));
    repository.push_specs(&[&world.spec("v1")], "v1");
    world.start();
    world.until_settled("v1");
    pause(Duration::from_secs(1));
    assert_eq!(world.answer().as_deref(), Some("v1"));
    let commit = repository.push_specs(&[&world.spec("v2")], "v2");
    let body = format!("{{\"after\":\"{commit}\"}}");
    let sign = |secret: &str| {
        let script = format!("printf %s '{body}' | openssl dgst -sha256 -hmac \"{secret}\" -r | cut -d' ' -f1");
        run("sh", &["-c", &script]).trim().to_owned()
    };
    let post = |signature: &str| {
        let header = format!("X-Hub-Signature-256: sha256={signature}");
        let url = format!("http://127.0.0.1:{port}/hooks/git");
        run("curl", &["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", &header, "-d", &body, &url])
    };
    assert_eq!(post(&sign("another")), "401");
    let began = Instant::now();
    assert_eq!(post(&sign("it's a secret")), "202");
    world.until_in_force(&commit);
    println!("in force {:?} after the webhook", began.elapsed());
    world.until_settled("v2");
    assert_eq!(world.answer().as_deref(), Some("v2"));
}
