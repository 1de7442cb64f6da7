//! Failure of a release: given up, rolled back, not tried again, and what people can say about it.

use crate::support::engine::text;
use crate::support::world::World;

#[test]
fn a_release_that_never_becomes_healthy_is_given_up() {
    let Some(mut world) = World::new("bad") else { return };
    world.write(&[&world.spec("v1")]);
    world.start();
    world.until_settled("v1");
    let load = world.load();
    world.write(&[&world.spec("bad")]);
    world.until_held("Quarantined");
    world.until("the failed replicas to go", 30, |world, _| world.slots() == ["blue-1"]);
    let counts = load.stop();
    counts.assert_none_failed();
    assert_eq!(counts.versions.len(), 1, "only v1 answered: {counts:?}");
    let seen = world.seen();
    assert_eq!(seen["serving"]["tag"], "v1");
    assert_eq!(seen["rolledBackFrom"], "bad");

    // `wait` tells the CI job.
    let revision = world.status().expect("a status")["source"]["revision"].as_str().unwrap_or_default().to_owned();
    let output = world.holdfast("wait", &[&world.service, "--source-revision", &revision, "--timeout", "20s"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));

    // The file's next release ends it.
    world.write(&[&world.spec("v2")]);
    world.until_settled("v2");
}

#[test]
fn a_crash_loop_is_given_up() {
    let Some(mut world) = World::new("loop") else { return };
    world.write(&[&world.spec("v1")]);
    world.start();
    world.until_settled("v1");
    // Not healthy before it crashes: no probe succeeds within its half second of life.
    world.write(&[&world.spec("crash").docker("env: {FAIL_HEALTH: \"1\"}")]);
    world.until_held("Quarantined");
    assert_eq!(world.answer().as_deref(), Some("v1"));
}

#[test]
fn retry_tries_a_quarantined_release_once_more() {
    let Some(mut world) = World::new("retry") else { return };
    world.write(&[&world.spec("v1")]);
    world.start();
    world.until_settled("v1");
    world.write(&[&world.spec("bad")]);
    world.until_held("Quarantined");
    let output = world.holdfast("retry", &[&world.service]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    world.until("another attempt", 20, |world, _| world.slots().iter().any(|slot| slot.starts_with("green")));
    world.until_held("Quarantined");
}

#[test]
fn rollback_pins_the_previous_release_until_the_file_changes() {
    let Some(mut world) = World::new("rollback") else { return };
    world.write(&[&world.spec("v1")]);
    world.start();
    world.until_settled("v1");
    let output = world.holdfast("rollback", &[&world.service]);
    assert_eq!(output.status.code(), Some(1), "there is nothing to go back to yet");
    world.write(&[&world.spec("v2")]);
    world.until_settled("v2");
    let load = world.load();
    let output = world.holdfast("rollback", &[&world.service]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    world.until("v1 to serve", 30, |_, seen| seen["serving"]["tag"] == "v1");
    world.until_held("RolledBack");
    load.stop().assert_none_failed();
    assert_eq!(world.answer().as_deref(), Some("v1"));
    world.write(&[&world.spec("v3")]);
    world.until_settled("v3");
}

#[test]
fn rollback_with_commit_edits_the_tag_and_pins_nothing() {
    let Some(mut world) = World::new("commit") else { return };
    let desired = world.path("desired").display().to_string();
    let git = |args: &[&str]| {
        let identity = ["-C", &desired, "-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"];
        crate::support::engine::run("git", &[&identity[..], args].concat())
    };
    world.write(&[&world.spec("v1")]);
    git(&["init", "-q"]);
    git(&["config", "user.name", "t"]);
    git(&["config", "user.email", "t@t"]);
    git(&["add", "services.yaml"]);
    git(&["commit", "-q", "-m", "v1"]);
    world.start();
    world.until_settled("v1");
    let output = world.holdfast("rollback", &[&world.service, "--commit"]);
    assert_eq!(output.status.code(), Some(1), "there is nothing to go back to yet");
    let output = world.holdfast("set", &[&world.service, "tag=v2", "--commit"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    world.until_settled("v2");
    let output = world.holdfast("rollback", &[&world.service, "--commit"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    world.until_settled("v1");
    assert_eq!(world.answer().as_deref(), Some("v1"));
    assert_eq!(world.seen()["pin"], serde_json::Value::Null);
    assert_eq!(git(&["log", "-1", "--format=%s"]), format!("{}: tag v2 -> v1", world.service));
    assert!(git(&["log", "-1", "--format=%b"]).starts_with("Rolled back by "));
}

#[test]
fn wait_is_0_when_the_revision_serves_and_4_at_its_timeout() {
    let Some(mut world) = World::new("wait") else { return };
    world.write(&[&world.spec("v1")]);
    world.start();
    world.until_settled("v1");
    let revision = world.status().expect("a status")["source"]["revision"].as_str().unwrap_or_default().to_owned();
    let wait = |revision: &str| {
        let output = world.holdfast("wait", &[&world.service, "--source-revision", revision, "--timeout", "2s"]);
        output.status.code()
    };
    assert_eq!(wait(&revision), Some(0));
    assert_eq!(wait("0000000000000000"), Some(4));
}

#[test]
fn a_replica_that_turns_unhealthy_leaves_the_upstream_and_is_replaced() {
    let Some(mut world) = World::new("sick") else { return };
    world.write(&[&world.spec("v1").replicas(2)]);
    world.start();
    world.until_settled("v1");
    let sick = format!("{}-blue-1", world.service);
    let before = world.container_id(&sick);
    let port: u16 = world.inspect(&sick, "{{index .Config.Labels \"holdfast.port\"}}").parse().expect("a port label");
    let load = world.load();
    crate::support::load::request(port, "POST", "/unhealthy").expect("the app answers");
    world.until("its replacement", 60, |world, seen| {
        seen["phase"] == "Settled" && world.containers().iter().all(|name| world.container_id(name) != before)
    });
    load.stop().assert_none_failed();
    assert_eq!(world.slots().len(), 2);
}
