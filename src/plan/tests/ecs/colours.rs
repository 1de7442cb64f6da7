//! Blue and green behind a listener rule.

use std::time::Duration;

use insta::assert_snapshot;

use super::world::{RULE, World, colours, key};
use crate::model::colour::{Colour, Group};
use crate::model::desired::{CanaryStep, DriftField, OnFailure, Promote};
use crate::model::memory::{Attempt, Memory, MemoryChange, Pin};
use crate::model::snapshot::Fact;

fn all_to(arn: &str) -> Vec<(String, u16)> {
    vec![(arn.to_owned(), 100)]
}

#[test]
fn adoption_of_a_colour_is_memory_only() {
    let mut world = World::new(colours("initial", 2));
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
    assert_eq!(world.calls(), [""; 0]);
    assert!(!world.aws.services.contains_key(&key("api-green")));
}

#[test]
fn the_absent_colour_is_created_as_a_copy_switched_to_and_the_old_one_goes_after_the_bake() {
    let mut world = World::settled(colours("initial", 2));
    world.tag("v1");
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
    assert_eq!(world.weights(), all_to("tg/green"));
    assert_eq!(world.runs("api").1, 0);
    assert_eq!(world.runs("api-green"), ("api:2".to_owned(), 2));
    assert_eq!(world.of("api-green").body["launchType"], "FARGATE");
    assert_eq!(world.calls().iter().filter(|it| it.starts_with("ModifyRule")).count(), 1);
}

#[test]
fn the_next_release_goes_back_to_the_first_colour() {
    let mut world = World::settled(colours("v1", 2));
    world.tag("v2");
    assert_snapshot!(world.run());
    assert_eq!(world.weights(), all_to("tg/blue"));
    assert_eq!(world.runs("api"), ("api:3".to_owned(), 2));
    assert_eq!(world.runs("api-green").1, 0);
}

#[test]
fn a_rollback_during_the_bake_is_one_call() {
    let mut world = World::settled(colours("initial", 2));
    world.tag("v1");
    world.run_until(|it| it.memory.committed.as_ref().unwrap().release.tag.as_str() == "v1");
    world.calls();
    let memory = &mut world.memory;
    let from = memory.committed.as_ref().unwrap().release.hash();
    let to = memory.previous.clone().unwrap().release;
    memory.pin = Some(Pin { to, from, from_tag: "v1".to_owned(), by: "ana".to_owned(), at: world.aws.now });
    world.run_until(|it| it.weights() == all_to("tg/blue"));
    assert_eq!(world.calls(), ["ModifyRule blue 100 %, green 0 %"]);
    world.run();
    assert_eq!(world.holds(), ["RolledBack"]);
    assert_eq!(world.runs("api"), ("api:1".to_owned(), 2));
}

#[test]
fn a_bad_colour_never_gets_a_request_and_is_scaled_away() {
    let mut world = World::settled(colours("initial", 2));
    world.tag("bad");
    assert_snapshot!(world.run());
    assert_eq!(world.weights(), [("tg/blue".to_owned(), 1)]);
    assert_eq!(world.runs("api"), ("api:1".to_owned(), 2));
    assert_eq!(world.of("api-green").desired, 0);
    world.tag("v2");
    world.run();
    assert!(world.plan().is_settled());
    assert_eq!(world.weights(), all_to("tg/green"));
}

#[test]
fn a_failed_colour_is_tried_once_more_by_a_new_deployment() {
    let mut world = World::settled(colours("initial", 2));
    world.tag("bad");
    world.run();
    assert_eq!(world.runs("api-green").1, 0);
    world.calls();
    let hash = world.memory.quarantined.keys().next().unwrap().clone();
    // `retry`.
    world.after(600);
    world.memory.apply(&MemoryChange::Release(hash));
    world.run();
    let calls = world.calls();
    let again = calls.iter().filter(|it| it.contains("once more (rolls tasks)")).count();
    assert_eq!(again, 1, "{calls:?}");
    assert!(
        calls.iter().all(|it| !it.starts_with("RegisterTaskDefinition") && !it.starts_with("ModifyRule")),
        "{calls:?}"
    );
    assert_eq!(world.memory.quarantined.len(), 1, "it failed again, and rests");
    assert_eq!(world.weights(), [("tg/blue".to_owned(), 1)], "and got no request");
}

#[test]
fn on_failure_hold_keeps_the_failed_colour_for_a_look() {
    let mut world = World::settled(colours("initial", 1));
    world.service.rollout.on_failure = OnFailure::Hold;
    world.tag("bad");
    world.run();
    assert_eq!(world.of("api-green").desired, 1);
    assert_eq!(world.weights(), [("tg/blue".to_owned(), 1)]);
}

#[test]
fn an_alarm_starts_no_task_of_the_release_before_on_the_idle_colour() {
    let mut world = World::settled(colours("v1", 2));
    world.aws.edit(&key("api"), |it| it.alarming = Some(vec!["5xx".to_owned()]));
    world.tag("v2");
    world.run();
    assert!(world.holds().contains(&"AlarmActive"));
    assert_eq!(world.of("api").desired, 0);
}

#[test]
fn hand_edited_weights_are_put_back() {
    let mut world = World::settled(colours("initial", 1));
    world.tag("v1");
    world.run();
    world.aws.edit_weights(RULE, &[("tg/blue", 50), ("tg/green", 50)]);
    assert_snapshot!(world.run());
    assert_eq!(world.weights(), all_to("tg/green"));
    assert_eq!(world.memory.repairs[&DriftField::Traffic].len(), 1);
}

#[test]
fn other_numbers_of_the_same_shares_are_no_drift() {
    let mut world = World::settled(colours("v1", 1));
    world.aws.edit_weights(RULE, &[("tg/blue", 0), ("tg/green", 1)]);
    world.calls();
    world.run();
    assert!(world.plan().is_settled());
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn canary_steps_take_their_time_and_a_person() {
    let mut world = World::settled(colours("initial", 1));
    world.service.rollout.canary =
        vec![CanaryStep { weight: 10, hold: Some(Duration::from_secs(60)) }, CanaryStep { weight: 50, hold: None }];
    world.tag("v1");
    assert_snapshot!("canary", world.run());
    assert_eq!(world.weights(), [("tg/blue".to_owned(), 50), ("tg/green".to_owned(), 50)]);
    let hash = world.memory.attempt.as_ref().unwrap().release.hash();
    world.memory.apply(&MemoryChange::Promote(hash));
    assert_snapshot!("canary_promoted", world.run());
    assert_eq!(world.weights(), all_to("tg/green"));
    assert!(world.plan().is_settled());
}

#[test]
fn an_edit_taken_back_during_a_canary_gives_everything_back() {
    let mut world = World::settled(colours("initial", 1));
    world.service.rollout.canary = vec![CanaryStep { weight: 10, hold: None }];
    world.tag("v1");
    world.run();
    assert_eq!(world.weights(), [("tg/blue".to_owned(), 90), ("tg/green".to_owned(), 10)]);
    world.tag("initial");
    world.run();
    assert_eq!(world.weights(), all_to("tg/blue"));
    assert!(world.plan().is_settled(), "{:#?}", world.plan());
    assert_eq!(world.of("api-green").desired, 0);
}

#[test]
fn manual_promotion_holds_before_the_switch() {
    let mut world = World::settled(colours("initial", 1));
    world.service.rollout.promote = Promote::Manual;
    world.tag("v1");
    world.run();
    assert_eq!(world.holds(), ["AwaitingPromotion"]);
    assert_eq!(world.weights(), [("tg/blue".to_owned(), 1)]);
}

#[test]
fn a_declared_colour_is_a_switch() {
    let mut world = World::settled(colours("initial", 1));
    world.service.active_colour = Some(Colour::Green);
    world.run();
    assert_eq!(world.weights(), all_to("tg/green"));
    assert!(world.plan().is_settled());
    assert_eq!(world.runs("api").1, 0);
}

#[test]
fn lost_memory_with_split_weights_holds_until_a_colour_is_declared() {
    let mut world = World::settled(colours("v1", 1));
    world.memory = Memory::default();
    world.aws.edit_weights(RULE, &[("tg/blue", 50), ("tg/green", 50)]);
    assert_eq!(world.holds(), ["ColourUnknown"]);
    world.calls();
    world.run();
    assert_eq!(world.calls(), [""; 0]);
    world.service.active_colour = Some(Colour::Green);
    world.run();
    assert!(world.plan().is_settled(), "{:#?}", world.plan());
    assert_eq!(world.weights(), all_to("tg/green"));
}

#[test]
fn a_declared_colour_that_does_not_exist_serves_nobody_whatever_its_share() {
    let mut world = World::new(colours("initial", 1));
    world.aws.edit_weights(RULE, &[("tg/blue", 50), ("tg/green", 50)]);
    world.service.active_colour = Some(Colour::Green);
    world.run();
    assert!(world.plan().is_settled(), "{:#?}", world.plan());
    assert_eq!(world.weights(), all_to("tg/green"));
}

#[test]
fn a_rollout_that_begins_does_not_follow_the_deployment_of_the_one_before() {
    let mut world = World::settled(colours("v1", 1));
    // A way back to blue begins, and the process dies before it saw blue's deployment.
    let attempt = Attempt {
        release: world.memory.previous.clone().unwrap().release,
        group: Group::Blue,
        started_at: world.now(),
        deployment: None,
    };
    world.memory.apply(&MemoryChange::Attempt(Box::new(attempt)));
    world.tag("v2");
    world.turn();
    assert_eq!(world.memory.attempt.as_ref().unwrap().deployment, None);
    world.run();
    assert!(world.plan().is_settled(), "{:#?}", world.plan());
}

#[test]
fn lost_memory_with_clear_weights_is_rebuilt_without_a_call() {
    let mut world = World::settled(colours("v1", 2));
    world.memory = Memory::default();
    world.aws.restart();
    world.calls();
    world.run();
    assert!(world.plan().is_settled(), "{:#?}", world.plan());
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn unread_weights_change_nothing() {
    let mut world = World::settled(colours("initial", 1));
    world.tag("v1");
    let mut snapshot = world.snapshot();
    snapshot.alb.as_mut().unwrap().weights = Fact::Unreadable("throttled".to_owned());
    let plan = world.plan_on(&snapshot);
    assert!(plan.stages.is_empty());
    assert_eq!(plan.holds[0].reason(), "EcsUnreadable");
}

#[test]
fn to_zero_and_back_stays_on_its_colour() {
    let mut world = World::settled(colours("v1", 2));
    world.service.replicas = 0;
    world.run();
    assert!(world.plan().is_settled(), "{:#?}", world.plan());
    assert_eq!(world.runs("api-green").1, 0);
    world.service.replicas = 2;
    world.run();
    assert!(world.plan().is_settled(), "{:#?}", world.plan());
    assert_eq!(world.serving(), 2);
}

#[test]
fn a_removal_takes_both_colours_where_they_are_ours() {
    let mut world = World::settled(colours("v1", 1));
    world.tag("v2");
    world.run();
    world.gone = true;
    world.acknowledged = true;
    world.run();
    assert!(world.aws.services.is_empty(), "{:?}", world.aws.services.keys());
}
