//! The colour table of design.md §3, row by row, and the other ways replicas are replaced.

use crate::support::engine::text;
use crate::support::load::get;
use crate::support::until;
use crate::support::world::World;

#[test]
fn a_first_deploy_takes_blue_and_serves() {
    let Some(mut world) = World::new("first") else { return };
    world.write(&[&world.spec("v1").replicas(2)]);
    world.start();
    world.until_settled("v1");
    assert_eq!(world.slots(), ["blue-1", "blue-2"]);
    assert_eq!(world.answer().as_deref(), Some("v1"));
    assert_eq!(world.seen()["activeColour"], "blue");
    assert_eq!(world.seen()["colours"]["blue"]["healthy"], 2);
}

#[test]
fn auto_brings_a_release_up_on_the_other_colour_and_switches() {
    let Some(mut world) = World::new("auto") else { return };
    world.write(&[&world.spec("v1").replicas(2)]);
    world.start();
    world.until_settled("v1");
    let load = world.load();
    world.write(&[&world.spec("v2").replicas(2)]);
    world.until_settled("v2");
    let counts = load.stop();
    counts.assert_none_failed();
    assert!(counts.versions.contains_key("v1") && counts.versions.contains_key("v2"), "{counts:?}");
    assert_eq!(world.slots(), ["green-1", "green-2"]);
    // And back again: blue is the other colour now.
    world.write(&[&world.spec("v3").replicas(2)]);
    world.until_settled("v3");
    assert_eq!(world.slots(), ["blue-1", "blue-2"]);
}

#[test]
fn a_declared_other_colour_runs_the_files_release_and_switches() {
    let Some(mut world) = World::new("declared") else { return };
    world.write(&[&world.spec("v1")]);
    world.start();
    world.until_settled("v1");
    let load = world.load();
    world.write(&[&world.spec("v2").colour("green")]);
    world.until_settled("v2");
    load.stop().assert_none_failed();
    assert_eq!(world.slots(), ["green-1"]);
}

#[test]
fn a_declared_other_colour_with_the_same_release_is_a_switch_alone() {
    let Some(mut world) = World::new("pure") else { return };
    let mut blue = world.spec("v1").colour("blue");
    blue.bake = "60s";
    world.write(&[&blue]);
    world.start();
    world.until_settled("v1");
    // While blue bakes after the switch to green, the way back is a switch: the same container serves again.
    let serving = world.container_id(&format!("{}-blue-1", world.service));
    let load = world.load();
    let mut green = world.spec("v1").colour("green");
    green.bake = "60s";
    world.write(&[&green]);
    world.until("green to serve", 30, |_, seen| seen["activeColour"] == "green");
    assert_eq!(world.container_id(&format!("{}-blue-1", world.service)), serving, "blue is still warm");
    world.write(&[&blue]);
    world.until("blue to serve again", 30, |_, seen| seen["activeColour"] == "blue");
    load.stop().assert_none_failed();
    assert_eq!(world.container_id(&format!("{}-blue-1", world.service)), serving, "nothing was recreated");
}

#[test]
fn the_declared_serving_colour_is_replaced_in_place_start_first() {
    let Some(mut world) = World::new("place") else { return };
    world.write(&[&world.spec("v1").replicas(2).colour("blue")]);
    world.start();
    world.until_settled("v1");
    let load = world.load();
    world.write(&[&world.spec("v2").replicas(2).colour("blue")]);
    world.until_settled("v2");
    load.stop().assert_none_failed();
    let slots = world.slots();
    assert_eq!(slots.len(), 2, "{slots:?}");
    assert!(slots.iter().all(|slot| slot.starts_with("blue-")), "{slots:?}");
    assert_eq!(world.answer().as_deref(), Some("v2"));
}

#[test]
fn rolling_replaces_replica_by_replica() {
    let Some(mut world) = World::new("rolling") else { return };
    world.write(&[&world.spec("v1").replicas(3).rolling()]);
    world.start();
    world.until_settled("v1");
    assert_eq!(world.slots(), ["1", "2", "3"]);
    let load = world.load();
    world.write(&[&world.spec("v2").replicas(3).rolling()]);
    world.until_settled("v2");
    load.stop().assert_none_failed();
    assert_eq!(world.slots().len(), 3);
    assert_eq!(world.answer().as_deref(), Some("v2"));
}

#[test]
fn a_newer_edit_supersedes_a_rollout_under_way() {
    let Some(mut world) = World::new("newer") else { return };
    world.write(&[&world.spec("v1")]);
    world.start();
    world.until_settled("v1");
    let load = world.load();
    world.write(&[&world.spec("v2").docker("env: {START_DELAY_MS: \"3000\"}")]);
    world.until("the rollout of v2 to begin", 20, |_, seen| seen["colours"]["green"]["running"] == 1);
    world.write(&[&world.spec("v3")]);
    world.until_settled("v3");
    let counts = load.stop();
    counts.assert_none_failed();
    assert!(!counts.versions.contains_key("v2"), "v2 never served: {counts:?}");
    assert_eq!(world.seen()["quarantined"], serde_json::json!({}), "superseded is not failed");
    assert_eq!(world.slots().len(), 1);
}

#[test]
fn replicas_follow_the_file_up_and_down_and_to_zero() {
    let Some(mut world) = World::new("scale") else { return };
    world.write(&[&world.spec("v1")]);
    world.start();
    world.until_settled("v1");
    let first = world.container_id(&format!("{}-blue-1", world.service));
    let load = world.load();
    for replicas in [3, 1] {
        world.write(&[&world.spec("v1").replicas(replicas)]);
        let wanted = usize::try_from(replicas).expect("small");
        world.until("the count", 40, |world, seen| seen["phase"] == "Settled" && world.slots().len() == wanted);
    }
    load.stop().assert_none_failed();
    assert_eq!(world.container_id(&format!("{}-blue-1", world.service)), first, "a count is no reason to recreate");
    world.write(&[&world.spec("v1").replicas(0)]);
    world.until("none to be left", 40, |world, seen| seen["phase"] == "Settled" && world.slots().is_empty());
    let servers = std::fs::read_to_string(world.servers()).expect("the servers file");
    assert!(servers.contains("down;"), "{servers}");
}

#[test]
fn stop_first_never_runs_two_at_once() {
    let Some(mut world) = World::without_nginx("single") else { return };
    let spec = |world: &World, tag: &str| {
        let mut spec = world.spec(tag).rolling().rollout("order: stopFirst");
        spec.servers = None;
        spec
    };
    world.write(&[&spec(&world, "v1")]);
    world.start();
    world.until_settled("v1");
    world.write(&[&spec(&world, "v2")]);
    let mut most = 0;
    world.until("v2 to settle", 60, |world, seen| {
        most = most.max(world.slots().len());
        seen["phase"] == "Settled" && seen["serving"]["tag"] == "v2"
    });
    assert_eq!(most, 1, "a singleton overlapped with itself");
}

#[test]
fn manual_promotion_holds_until_a_person_says_so() {
    let Some(mut world) = World::new("manual") else { return };
    world.write(&[&world.spec("v1")]);
    world.start();
    world.until_settled("v1");
    world.write(&[&world.spec("v2").rollout("promote: manual")]);
    world.until_held("AwaitingPromotion");
    assert_eq!(world.answer().as_deref(), Some("v1"));
    let output = world.holdfast("promote", &[&world.service]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    world.until_settled("v2");
    assert_eq!(world.answer().as_deref(), Some("v2"));
}

#[test]
fn requests_in_the_middle_of_a_switch_are_answered() {
    let Some(mut world) = World::new("slow") else { return };
    world.write(&[&world.spec("v1")]);
    world.start();
    world.until_settled("v1");
    let web = world.web;
    let slow = std::thread::spawn(move || get(web, "/slow?ms=2000"));
    // The request is with the old colour once its worker reads it; the edit takes longer than that to get anywhere.
    until("the slow request to be sent", 5, || !slow.is_finished());
    world.write(&[&world.spec("v2")]);
    world.until_settled("v2");
    let (status, body) = slow.join().expect("a thread").expect("an answer");
    assert_eq!((status, body.as_str()), (200, "v1"));
}
