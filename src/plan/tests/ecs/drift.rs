//! What others change at ECS, and the file's part in it.

use insta::assert_snapshot;
use serde_json::json;

use super::world::{World, key, rolling};
use crate::model::desired::DriftField;
use crate::model::memory::Paused;
use crate::model::snapshot::Fact;

#[test]
fn a_desired_count_edited_by_hand_is_put_back() {
    let mut world = World::settled(rolling("initial", 2));
    world.aws.edit(&key("api"), |it| it.desired = 5);
    assert_snapshot!(world.run());
    assert_eq!(world.runs("api"), ("api:1".to_owned(), 2));
    assert_eq!(world.memory.repairs[&DriftField::Replicas].len(), 1);
}

#[test]
fn a_count_edited_in_the_file_is_no_repair() {
    let mut world = World::settled(rolling("initial", 2));
    world.service.replicas = 3;
    assert_snapshot!(world.run());
    assert_eq!(world.runs("api"), ("api:1".to_owned(), 3));
    assert!(world.memory.repairs.is_empty());
    world.service.replicas = 0;
    world.run();
    assert!(world.plan().is_settled());
    assert_eq!(world.runs("api"), ("api:1".to_owned(), 0));
    world.service.replicas = 1;
    world.run();
    assert!(world.plan().is_settled());
    assert!(world.memory.repairs.is_empty());
}

#[test]
fn a_service_at_zero_is_taken_over_at_zero() {
    let mut world = World::new(rolling("initial", 0));
    world.aws.edit(&key("api"), |it| it.desired = 0);
    world.after(10);
    world.run();
    assert!(world.plan().is_settled(), "{:#?}", world.plan());
    world.service.replicas = 1;
    world.run();
    assert!(world.plan().is_settled(), "{:#?}", world.plan());
    assert_eq!(world.serving(), 1);
}

#[test]
fn tag_and_count_together_are_one_update() {
    let mut world = World::settled(rolling("initial", 2));
    world.service.replicas = 3;
    world.tag("v1");
    world.run();
    assert!(world.plan().is_settled());
    let calls = world.calls();
    assert_eq!(calls.iter().filter(|it| it.starts_with("UpdateService")).count(), 1, "{calls:?}");
}

#[test]
fn external_replicas_are_never_written() {
    let mut service = rolling("initial", 1);
    service.ecs.as_mut().unwrap().external_replicas = true;
    let mut world = World::settled(service);
    for desired in [1, 7, 0, 3] {
        world.aws.edit(&key("api"), |it| it.desired = desired);
        world.run();
        assert!(world.plan().is_settled(), "{desired}: {:?}", world.plan());
    }
    world.tag("v1");
    world.run();
    assert!(world.plan().is_settled());
    world.aws.edit(&key("api"), |it| it.desired = 4);
    world.tag("bad");
    world.run();
    let calls = world.calls();
    assert!(!calls.iter().any(|it| it.contains("desired count")), "{calls:?}");
    assert_eq!(world.of("api").desired, 4);
}

#[test]
fn a_console_edit_is_put_back_and_after_three_there_is_a_conflict() {
    let mut world = World::settled(rolling("initial", 1));
    world.tag("v1");
    world.run();
    world.aws.edit_definition(&key("api"), "HAND");
    assert_snapshot!(world.run());
    assert_eq!(world.runs("api"), ("api:2".to_owned(), 1));
    for _ in 0..2 {
        world.aws.edit_definition(&key("api"), "HAND");
        world.run();
    }
    assert_eq!(world.memory.repairs[&DriftField::TaskDefinition].len(), 3);
    world.aws.edit_definition(&key("api"), "HAND");
    assert_eq!(world.holds(), ["Conflict"]);
    world.calls();
    world.turn();
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn a_console_edit_of_what_was_only_adopted_is_put_back_too() {
    let mut world = World::settled(rolling("initial", 1));
    world.aws.edit_definition(&key("api"), "HAND");
    world.run();
    assert!(world.plan().is_settled());
    assert_eq!(world.runs("api"), ("api:1".to_owned(), 1));
}

#[test]
fn a_revision_that_means_the_same_is_no_drift() {
    let mut world = World::settled(rolling("initial", 1));
    let definition = world.aws.definition(world.of("api").definition()).seen().unwrap().clone();
    world.tag("v1");
    world.run();
    world.tag("initial");
    world.run();
    // Somebody registers and chooses a copy.
    world.aws.edit_definition(&key("api"), "HAND");
    let arn = world.of("api").definition().to_owned();
    world.aws.definitions.get_mut(&arn).unwrap().0.content = definition.content;
    world.calls();
    world.run();
    assert!(world.plan().is_settled(), "{:#?}", world.plan());
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn a_deployment_configuration_edited_by_hand_is_put_back() {
    let mut world = World::settled(rolling("initial", 1));
    world.aws.edit(&key("api"), |it| it.configuration = json!({"maximumPercent": 100, "minimumHealthyPercent": 0}));
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
    assert_eq!(world.of("api").configuration["deploymentCircuitBreaker"]["enable"], json!(true));
}

#[test]
fn detect_reports_and_applies_edits() {
    let mut world = World::settled(rolling("initial", 1));
    world.service.drift.detect_only = true;
    world.aws.edit(&key("api"), |it| it.desired = 4);
    world.run();
    assert_eq!(world.holds(), ["DriftReported"]);
    assert_eq!(world.calls(), [""; 0]);
    world.aws.edit(&key("api"), |it| it.desired = 1);
    world.run();
    world.aws.edit_definition(&key("api"), "HAND");
    world.run();
    assert_eq!(world.holds(), ["DriftReported"]);
    assert_eq!(world.calls(), [""; 0]);
    world.tag("v1");
    world.run();
    assert!(world.plan().is_settled(), "{:#?}", world.plan());
    assert_eq!(world.runs("api").1, 1);
}

#[test]
fn an_ignored_field_is_left_alone() {
    let mut world = World::settled(rolling("initial", 1));
    world.service.drift.ignore.insert(DriftField::Replicas);
    world.aws.edit(&key("api"), |it| it.desired = 4);
    world.run();
    assert!(world.plan().is_settled(), "{:?}", world.plan());
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn a_lost_task_is_a_matter_of_ecs() {
    let mut world = World::settled(rolling("initial", 2));
    world.aws.lose_task(&key("api"));
    world.turn();
    world.run();
    assert!(world.plan().is_settled());
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn paused_takes_no_step_and_nothing_is_lost() {
    let mut world = World::settled(rolling("initial", 1));
    world.memory.paused = Some(Paused { by: "ana".to_owned(), at: world.now() });
    world.tag("v1");
    world.aws.edit(&key("api"), |it| it.desired = 4);
    world.run();
    assert_eq!(world.holds(), ["Paused"]);
    assert_eq!(world.calls(), [""; 0]);
    world.memory.paused = None;
    world.run();
    assert!(world.plan().is_settled());
    assert_eq!(world.runs("api"), ("api:2".to_owned(), 1));
}

#[test]
fn an_adversary_for_an_hour_meets_few_calls() {
    let mut world = World::settled(rolling("initial", 1));
    world.calls();
    let mut conflicts = 0;
    for _ in 0..360 {
        world.aws.edit(&key("api"), |it| it.desired = 4);
        world.turn();
        conflicts += usize::from(world.holds().contains(&"Conflict"));
        world.after(10);
    }
    let calls = world.calls();
    let updates = calls.iter().filter(|it| it.starts_with("UpdateService")).count();
    assert!(updates <= 10, "{updates} updates");
    assert!(conflicts > 0);
}

#[test]
fn an_unreadable_service_is_not_absent() {
    let mut world = World::settled(rolling("v1", 1));
    let mut snapshot = world.snapshot();
    let ecs = snapshot.ecs.as_mut().unwrap();
    ecs.services.values_mut().for_each(|it| *it = Fact::Unreadable("AccessDenied: ecs:DescribeServices".to_owned()));
    let plan = world.plan_on(&snapshot);
    assert!(plan.stages.is_empty());
    assert_eq!(plan.holds[0].reason(), "EcsUnreadable");
}
