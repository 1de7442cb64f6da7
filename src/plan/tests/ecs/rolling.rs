//! A rolling service on ECS, rule by rule.

use std::collections::BTreeMap;

use insta::assert_snapshot;
use serde_json::json;

use super::world::{World, key, rolling};
use crate::model::desired::{Order, Promote};
use crate::model::ecs::tags;
use crate::model::memory::{Memory, MemoryChange, Pin};
use crate::model::snapshot::Fact;

fn no_breaker(world: &mut World) {
    world.aws.edit(&key("api"), |it| it.configuration = json!({}));
    world.after(4);
    world.run();
    world.calls();
}

#[test]
fn adoption_is_memory_only() {
    let mut world = World::new(rolling("initial", 2));
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
    assert_eq!(world.calls(), [""; 0]);
    assert!(world.of("api").tags.is_empty());
}

#[test]
fn a_new_tag_is_one_registration_and_one_update() {
    let mut world = World::settled(rolling("initial", 2));
    world.tag("v1");
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
    assert_eq!(
        world.calls(),
        [
            "RegisterTaskDefinition api:2",
            "TagResource plog/api",
            "UpdateService plog/api: api:1 -> api:2 (rolls tasks)"
        ]
    );
    assert_eq!(world.runs("api"), ("api:2".to_owned(), 2));
}

#[test]
fn a_new_tag_at_the_first_look_is_adopted_and_then_rolled_out() {
    let mut world = World::new(rolling("v1", 1));
    world.run();
    assert_eq!(world.memory.previous.as_ref().unwrap().release.tag.as_str(), "initial");
    assert_eq!(world.memory.committed.as_ref().unwrap().release.tag.as_str(), "v1");
}

#[test]
fn going_back_needs_no_registration() {
    let mut world = World::settled(rolling("initial", 1));
    for tag in ["v1", "v2", "v1", "initial"] {
        world.tag(tag);
        world.run();
    }
    let calls = world.calls();
    let of = |what: &str| calls.iter().filter(|it| it.starts_with(what)).count();
    assert_eq!((of("RegisterTaskDefinition"), of("UpdateService")), (2, 4));
    assert_eq!(world.runs("api"), ("api:1".to_owned(), 1));
}

#[test]
fn a_release_the_breaker_ends_is_quarantined_and_ecs_goes_back_by_itself() {
    let mut world = World::settled(rolling("initial", 2));
    world.tag("bad");
    assert_snapshot!(world.run());
    let calls = world.calls();
    assert_eq!(calls.iter().filter(|it| it.starts_with("UpdateService")).count(), 1, "{calls:?}");
    assert_eq!(world.runs("api"), ("api:1".to_owned(), 2));
    world.after(3600);
    world.run();
    assert_eq!(world.calls(), [""; 0], "a quarantined release is not tried again");
    world.tag("v2");
    world.run();
    assert!(world.plan().is_settled());
    assert!(world.memory.quarantined.is_empty());
}

#[test]
fn where_the_breaker_does_not_go_back_we_do() {
    let mut world = World::settled(rolling("initial", 2));
    let configuration = json!({"deploymentCircuitBreaker": {"enable": true, "rollback": false}});
    world.aws.edit(&key("api"), |it| it.configuration = configuration.clone());
    world.run();
    world.memory.ecs_live.as_mut().unwrap().deployment_configuration = configuration.to_string();
    world.aws.edit(&key("api"), |it| it.configuration = configuration);
    world.run();
    world.calls();
    world.tag("bad");
    assert_snapshot!(world.run());
    let calls = world.calls();
    assert_eq!(calls.iter().filter(|it| it.starts_with("UpdateService")).count(), 2, "{calls:?}");
    assert_eq!(world.runs("api"), ("api:1".to_owned(), 2));
}

#[test]
fn without_a_breaker_our_own_deadline_ends_it() {
    let mut world = World::new(rolling("initial", 2));
    no_breaker(&mut world);
    world.tag("bad");
    let begun = world.now();
    assert_snapshot!(world.run());
    assert_eq!(world.runs("api"), ("api:1".to_owned(), 2));
    let quarantine = world.memory.quarantined.values().next().unwrap();
    assert_eq!(quarantine.at.duration_since(begun).as_secs(), 600);
}

#[test]
fn manual_promotion_holds_before_the_first_call() {
    let mut world = World::settled(rolling("initial", 1));
    world.service.rollout.promote = Promote::Manual;
    world.tag("v1");
    let log = world.run();
    assert!(log.starts_with("! AwaitingPromotion"), "{log}");
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn a_rollback_by_a_person_is_one_update() {
    let mut world = World::settled(rolling("initial", 1));
    world.tag("v1");
    world.run();
    world.calls();
    let memory = &mut world.memory;
    let from = memory.committed.as_ref().unwrap().release.hash();
    let to = memory.previous.clone().unwrap().release;
    memory.pin = Some(Pin { to, from, from_tag: "v1".to_owned(), by: "ana".to_owned(), at: world.aws.now });
    assert_snapshot!(world.run());
    assert_eq!(world.runs("api"), ("api:1".to_owned(), 1));
}

#[test]
fn a_variable_is_a_release_and_null_removes_one() {
    let mut world = World::settled(rolling("initial", 1));
    world.ecs().env = BTreeMap::from([("PROFILE".to_owned(), Some("dev".to_owned()))]);
    assert_snapshot!(world.run());
    world.ecs().env = BTreeMap::from([("PROFILE".to_owned(), None)]);
    world.run();
    assert!(world.plan().is_settled());
    let definition = world.aws.definition(world.of("api").definition());
    assert_eq!(definition.seen().unwrap().content.variable("app", "PROFILE"), None);
}

#[test]
fn an_edit_in_the_middle_supersedes_and_nothing_is_quarantined() {
    let mut world = World::settled(rolling("initial", 2));
    world.tag("v1");
    world.run_until(|it| it.of("api").deployments.len() > 1);
    world.tag("v2");
    world.run();
    assert!(world.plan().is_settled());
    assert!(world.memory.quarantined.is_empty());
    assert_eq!(world.memory.committed.as_ref().unwrap().release.tag.as_str(), "v2");
    assert_eq!(world.memory.previous.as_ref().unwrap().release.tag.as_str(), "initial");
}

#[test]
fn an_edit_taken_back_in_the_middle_is_one_more_update() {
    let mut world = World::settled(rolling("initial", 2));
    world.tag("v1");
    world.run_until(|it| it.of("api").deployments.len() > 1);
    world.tag("initial");
    world.run();
    assert!(world.plan().is_settled());
    assert_eq!(world.runs("api"), ("api:1".to_owned(), 2));
}

#[test]
fn a_lost_memory_is_rebuilt_without_a_call() {
    let mut world = World::settled(rolling("initial", 2));
    world.tag("v1");
    world.run();
    world.calls();
    world.memory = Memory::default();
    world.aws.restart();
    assert_snapshot!(world.run());
    assert_eq!(world.calls(), [""; 0]);
    assert_eq!(world.memory.base.as_deref().map(crate::plan::step::revision), Some("api:1"), "the base is in the tags");
}

#[test]
fn a_lost_memory_does_not_try_the_failed_release_again() {
    let mut world = World::settled(rolling("initial", 2));
    world.tag("bad");
    world.run();
    world.calls();
    world.memory = Memory::default();
    world.aws.restart();
    assert_snapshot!(world.run());
    let calls = world.calls();
    assert_eq!(calls, [""; 0]);
    assert_eq!(world.runs("api"), ("api:1".to_owned(), 2));
    assert!(world.of("api").tags.contains_key(tags::FAILED));
}

#[test]
fn one_that_failed_once_and_serves_now_is_adopted_when_the_memory_is_lost() {
    let mut world = World::settled(rolling("initial", 1));
    world.tag("bad");
    world.run();
    let hash = world.memory.quarantined.keys().next().unwrap().clone();
    world.aws.bad.clear();
    world.memory.apply(&MemoryChange::Release(hash));
    world.run();
    assert!(world.plan().is_settled());
    assert!(world.of("api").tags.contains_key(tags::FAILED));
    world.memory = Memory::default();
    world.aws.restart();
    world.calls();
    world.run();
    assert!(world.plan().is_settled(), "{:#?}", world.plan());
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn stop_first_is_a_deployment_configuration_and_goes_with_the_file() {
    let mut world = World::settled(rolling("initial", 1));
    let before = world.of("api").configuration.clone();
    world.service.rollout.order = Order::StopFirst;
    world.run();
    assert_eq!(world.of("api").configuration["maximumPercent"], json!(100));
    world.service.rollout.order = Order::StartFirst;
    assert_snapshot!(world.run());
    assert_eq!(world.of("api").configuration, before);
    assert!(world.memory.repairs.is_empty());
}

#[test]
fn a_memory_lost_in_the_middle_of_a_deployment_begins_no_second_one() {
    let mut world = World::settled(rolling("initial", 2));
    world.tag("v1");
    world.run_until(|it| it.of("api").deployments.len() > 1);
    world.memory = Memory::default();
    world.aws.restart();
    world.run();
    assert!(world.plan().is_settled(), "{:#?}", world.plan());
    let calls = world.calls();
    assert_eq!(calls.iter().filter(|it| it.contains("rolls tasks")).count(), 1, "{calls:?}");
    assert_eq!(calls.iter().filter(|it| it.starts_with("Register")).count(), 1, "{calls:?}");
}

#[test]
fn a_reply_lost_after_the_registration_makes_no_second_revision() {
    let mut world = World::settled(rolling("initial", 1));
    world.tag("v1");
    world.turn();
    world.aws.restart();
    world.run();
    let calls = world.calls();
    assert_eq!(calls.iter().filter(|it| it.starts_with("Register")).count(), 1, "{calls:?}");
}

#[test]
fn a_reply_lost_until_ecs_went_back_begins_no_second_deployment() {
    let mut world = World::settled(rolling("initial", 1));
    world.tag("bad");
    world.run_until(|it| it.of("api").deployments.len() > 1);
    // Nobody looked while it failed and went back.
    world.memory.attempt.as_mut().unwrap().deployment = None;
    world.after(600);
    assert_eq!(world.runs("api"), ("api:1".to_owned(), 1));
    world.run();
    assert_eq!(world.holds(), ["Quarantined"]);
    let calls = world.calls();
    assert_eq!(calls.iter().filter(|it| it.contains("rolls tasks")).count(), 1, "{calls:?}");
}

#[test]
fn an_inactive_task_definition_is_registered_again_before_it_is_chosen() {
    let mut world = World::settled(rolling("initial", 1));
    let first = world.of("api").definition().to_owned();
    world.tag("v1");
    world.run();
    world.aws.deregister(&first);
    world.calls();
    world.tag("initial");
    assert_snapshot!(world.run());
    assert_eq!(world.runs("api"), ("api:3".to_owned(), 1));
    assert!(world.plan().is_settled());
}

#[test]
fn a_registry_that_does_not_answer_holds_only_what_is_new() {
    let mut world = World::settled(rolling("initial", 1));
    world.registry = Fact::Unreadable("503".to_owned());
    assert!(world.plan().is_settled(), "{:?}", world.plan());
    world.tag("v1");
    assert_eq!(world.holds(), ["ImageUnresolved"]);
    world.run();
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn a_tag_that_moved_is_a_new_release() {
    let mut world = World::settled(rolling("initial", 1));
    world.tag("v1");
    world.run();
    let mut snapshot = world.snapshot();
    snapshot.image = Fact::Seen(super::world::digest_of("pushed again"));
    let plan = world.plan_on(&snapshot);
    assert!(plan.steps().any(|it| it.step.to_string().starts_with("register ")), "{plan:?}");
}
