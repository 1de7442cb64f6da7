//! Services that leave the file, and hand-made containers that make room.

use crate::support::engine::text;
use crate::support::world::{World, has_hold};

#[test]
fn a_service_that_leaves_the_file_stays_until_somebody_says_so() {
    let Some(mut world) = World::without_nginx("leaves") else { return };
    let worker = |world: &World, name: String| {
        let mut spec = world.spec("v1").rolling();
        spec.servers = None;
        spec.name = name;
        spec
    };
    let other = worker(&world, format!("{}-other", world.service));
    let service = worker(&world, world.service.clone());
    world.write(&[&service, &other]);
    world.start();
    world.until_settled("v1");
    world.write(&[&other]);
    world.until("the hold", 30, |_, seen| has_hold(seen, "RemovalNotAcknowledged"));
    assert!(world.slots().contains(&"1".to_owned()), "it still runs");
    let output = world.holdfast("remove", &[&world.service]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let name = format!("{}-1", world.service);
    world.until("it to go", 30, |world, _| world.container_id(&name).is_empty());
    assert!(!world.container_id(&format!("{}-other-1", world.service)).is_empty(), "the other one stays");
}

#[test]
fn an_acknowledgement_in_the_file_removes() {
    let Some(mut world) = World::without_nginx("acked") else { return };
    let mut spec = world.spec("v1").rolling();
    spec.servers = None;
    world.write(&[&spec]);
    world.start();
    world.until_settled("v1");
    world.write_text(&format!("services: {{}}\nacknowledge: [remove {}]\n", world.service));
    world.until("it to go", 30, |world, _| world.containers().is_empty());
}

#[test]
fn an_empty_or_broken_edit_deletes_nothing_and_says_why() {
    let Some(mut world) = World::new("broken") else { return };
    world.write(&[&world.spec("v1")]);
    world.start();
    world.until_settled("v1");
    let id = world.container_id(&format!("{}-blue-1", world.service));
    for text in ["", "services:\n  - [", "services: {}\n", "services:\n  x:\n    imagee: y\n"] {
        world.write_text(text);
        world.until("the reason", 20, |world, _| {
            world.status().is_some_and(|status| status["source"]["error"].is_string())
        });
        assert_eq!(world.container_id(&format!("{}-blue-1", world.service)), id, "after {text:?}");
    }
    world.write(&[&world.spec("v1").replicas(2)]);
    world.until("the next good edit", 40, |world, seen| seen["phase"] == "Settled" && world.slots().len() == 2);
}

#[test]
fn hand_made_containers_are_retired_after_the_first_switch() {
    let Some(mut world) = World::new("claims") else { return };
    let old = format!("{}-old", world.service);
    world.docker(&["run", "-d", "--name", &old, "holdfast-test:v1"]);
    world.write(&[&world.spec("v2").docker(&format!("replaces: [{old}]"))]);
    world.start();
    world.until_settled("v2");
    world.until("the old one to go", 30, |world, _| world.container_id(&old).is_empty());
    // Made again by hand after the switch: younger than it, so not ours to retire.
    world.docker(&["run", "-d", "--name", &old, "holdfast-test:v1"]);
    let output = world.holdfast("reconcile", &[&world.service]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    world.until_settled("v2");
    assert!(!world.container_id(&old).is_empty(), "a younger container was retired");
}
