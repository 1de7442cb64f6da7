//! Tags followed and reverted on ECS: the same rules, seen once each.

use insta::assert_snapshot;

use super::world::{World, colours, digest_of, rolling};
use crate::model::desired::{OnFailure, Service};
use crate::model::follow::{Follow, TagOrder};
use crate::model::snapshot::Fact;
use crate::plan::tests::world::listed;

/// At rest with `v1`, and following `v2`, `bad3` …
fn following(mut service: Service, on_failure: OnFailure) -> World {
    service.rollout.on_failure = on_failure;
    let mut world = World::settled(service);
    world.aws.bad.insert(digest_of("bad2"));
    world.service.follow = Some(Follow::regex("[a-z]+([0-9]+)", TagOrder::Numeric).unwrap());
    world
}

fn lists(world: &mut World, tags: &[&str]) {
    world.tags = Some(Fact::Seen(listed(tags)));
}

#[test]
fn a_newer_tag_is_committed_and_rolled_out() {
    let mut world = following(rolling("v1", 2), OnFailure::Rollback);
    lists(&mut world, &["v1", "v2"]);
    assert_snapshot!(world.run());
    assert_eq!(world.memory.committed.as_ref().unwrap().release.tag.as_str(), "v2");
    assert!(world.plan().is_settled());
}

#[test]
fn a_tag_that_fails_is_reverted_and_not_followed_again() {
    let mut world = following(rolling("v1", 2), OnFailure::Revert);
    lists(&mut world, &["v1", "bad2"]);
    assert_snapshot!(world.run());
    assert_eq!((world.service.tag.to_string().as_str(), world.holds()), ("v1", vec!["TagSkipped"]));
    lists(&mut world, &["v1", "bad2", "v3"]);
    world.run();
    assert_eq!(world.memory.committed.as_ref().unwrap().release.tag.as_str(), "v3");
}

#[test]
fn a_colour_that_fails_is_reverted_once_the_other_serves_alone() {
    let mut world = following(colours("v1", 2), OnFailure::Revert);
    lists(&mut world, &["v1", "bad2"]);
    assert_snapshot!(world.run());
    assert_eq!((world.service.tag.to_string().as_str(), world.holds()), ("v1", vec!["TagSkipped"]));
}
