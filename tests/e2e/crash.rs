//! The controller itself dies, doubles, or is stopped.

use std::time::Duration;

use crate::support::engine::text;
use crate::support::pause;
use crate::support::world::World;

/// A small generator with a fixed seed: the moments are random, the run can be repeated.
struct Moments(u64);

impl Moments {
    fn next(&mut self, below_ms: u64) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis((self.0 >> 33) % below_ms)
    }
}

#[test]
fn killed_at_20_random_points_of_a_rollout_under_load() {
    let Some(mut world) = World::new("kill9") else { return };
    let spec = |world: &World, tag: &str| world.spec(tag).replicas(2);
    world.write(&[&spec(&world, "v1")]);
    world.start();
    world.until_settled("v1");
    let seed = 20_241_122;
    let mut moments = Moments(seed);
    let load = world.load();
    let mut tag = "v1";
    for round in 0..20 {
        tag = if tag == "v1" { "v2" } else { "v1" };
        world.write(&[&spec(&world, tag)]);
        pause(moments.next(900));
        world.kill9();
        world.start();
        // Every other rollout is interrupted a second time before it is let through.
        if round % 2 == 1 {
            world.until_settled(tag);
        }
    }
    world.until_settled(tag);
    let counts = load.stop();
    println!("seed {seed}: {} requests, {} failed", counts.ok + counts.failed, counts.failed);
    counts.assert_none_failed();
    assert_eq!(world.slots().len(), 2, "nothing is left over: {:?}", world.slots());
    assert_eq!(world.answer().as_deref(), Some(tag));
}

#[test]
fn a_second_controller_with_the_same_id_refuses() {
    let Some(mut world) = World::without_nginx("two") else { return };
    let mut spec = world.spec("v1").rolling();
    spec.servers = None;
    world.write(&[&spec]);
    world.start();
    world.until_settled("v1");
    let before = world.containers();
    let mut command = world.command("run", &["--once"]);
    let output = command.output().expect("holdfast starts");
    assert_eq!(output.status.code(), Some(1), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stderr).contains("hint:"), "{}", text(&output.stderr));
    assert_eq!(world.containers(), before);
    world.until_settled("v1");
}

#[test]
fn a_stop_is_graceful_and_changes_nothing() {
    let Some(mut world) = World::new("stop") else { return };
    world.write(&[&world.spec("v1")]);
    world.start();
    world.until_settled("v1");
    let id = world.container_id(&format!("{}-blue-1", world.service));
    let load = world.load();
    assert_eq!(world.stop(), Some(0));
    assert_eq!(world.answer().as_deref(), Some("v1"), "the containers do not need the controller");
    world.start();
    world.until_settled("v1");
    load.stop().assert_none_failed();
    assert_eq!(world.container_id(&format!("{}-blue-1", world.service)), id);
}

#[test]
fn a_lost_memory_is_rebuilt_without_touching_anything() {
    let Some(mut world) = World::new("memory") else { return };
    world.write(&[&world.spec("v1").replicas(2)]);
    world.start();
    world.until_settled("v1");
    let ids: Vec<String> = world.containers().iter().map(|name| world.container_id(name)).collect();
    let load = world.load();
    world.kill9();
    std::fs::remove_dir_all(world.path("state")).expect("the memory is lost");
    std::fs::create_dir(world.path("state")).expect("an empty folder");
    world.start();
    world.until_settled("v1");
    load.stop().assert_none_failed();
    let now: Vec<String> = world.containers().iter().map(|name| world.container_id(name)).collect();
    assert_eq!(now, ids);
}

#[test]
fn once_ends_settled_with_0_and_unsettled_with_2() {
    let Some(world) = World::new("once") else { return };
    world.write(&[&world.spec("v1")]);
    let output = world.holdfast("run", &["--once"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(world.answer().as_deref(), Some("v1"));
    world.write(&[&world.spec("bad")]);
    let output = world.holdfast("run", &["--once"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert_eq!(world.answer().as_deref(), Some("v1"));
    // A settled plan is empty, and says so with its exit code.
    world.write(&[&world.spec("v1")]);
    assert_eq!(world.holdfast("run", &["--once"]).status.code(), Some(0));
    assert_eq!(world.holdfast("plan", &[]).status.code(), Some(0));
    world.write(&[&world.spec("v2")]);
    assert_eq!(world.holdfast("plan", &[]).status.code(), Some(2));
    assert_eq!(world.answer().as_deref(), Some("v1"), "a plan changes nothing");
}
