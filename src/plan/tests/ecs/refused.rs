//! What Holdfast leaves alone, and what leaves the file.

use jiff::Timestamp;

use super::world::{World, digest_of, key, rolling};
use crate::model::desired::AwsGuard;
use crate::model::ecs::{Create, tags};
use crate::model::snapshot::{Fact, RegistryImage};
use insta::assert_snapshot;

#[test]
fn a_service_of_another_controller_is_left_alone() {
    let mut world = World::new(rolling("v1", 1));
    world.aws.edit(&key("api"), |it| drop(it.tags.insert(tags::CONTROLLER.to_owned(), "other".to_owned())));
    assert_snapshot!(world.run());
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn a_service_that_something_else_deploys_is_left_alone() {
    let mut world = World::new(rolling("v1", 1));
    world.aws.edit(&key("api"), |it| it.deployed_by = Some("CODE_DEPLOY".to_owned()));
    assert_snapshot!(world.run());
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn a_draining_service_is_waited_for() {
    let mut world = World::settled(rolling("initial", 1));
    world.aws.edit(&key("api"), |it| it.draining = true);
    world.tag("v1");
    assert_eq!(world.holds(), ["EcsServiceDraining"]);
    world.run();
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn no_deployment_is_begun_while_an_alarm_is_active() {
    let mut world = World::settled(rolling("initial", 1));
    world.aws.edit(&key("api"), |it| it.alarming = Some(vec!["5xx".to_owned()]));
    assert!(world.plan().is_settled());
    world.tag("v1");
    world.run();
    assert!(world.holds().contains(&"AlarmActive"), "{:?}", world.holds());
    assert!(!world.calls().iter().any(|it| it.starts_with("UpdateService")));
    world.aws.edit(&key("api"), |it| it.alarming = Some(Vec::new()));
    world.run();
    assert!(world.plan().is_settled());
}

#[test]
fn the_wrong_account_is_refused_before_anything_is_decided() {
    let mut service = rolling("v1", 1);
    service.aws = Some(AwsGuard { account: Some("1".repeat(12)), region: None });
    let mut world = World::new(service);
    world.account = Some(Fact::Seen("2".repeat(12)));
    assert_eq!(world.holds(), ["WrongAwsAccount"]);
    world.account = Some(Fact::Unreadable("no answer".to_owned()));
    assert_eq!(world.holds(), ["AwsAccountUnknown"]);
    world.run();
    assert_eq!(world.calls(), [""; 0]);
    world.account = Some(Fact::Seen("1".repeat(12)));
    world.run();
    assert!(world.plan().is_settled());
}

#[test]
fn an_absent_service_is_created_only_where_the_file_says_how() {
    let mut service = rolling("v1", 2);
    let base = crate::model::ecs::task_definition::TaskDefinition::new(&serde_json::json!({
        "family": "api", "containerDefinitions": [{"name": "app", "image": "x"}]}));
    let base = crate::model::ecs::BaseFile { path: "api.json".to_owned(), content: base.unwrap().into() };
    service.ecs.as_mut().unwrap().base = Some(base);
    service.ecs.as_mut().unwrap().create = Some(Create {
        launch_type: Some("FARGATE".to_owned()),
        subnets: vec!["subnet-1".to_owned()],
        security_groups: Vec::new(),
        assign_public_ip: false,
        target_group: None,
        port: None,
    });
    let mut world = World::new(service);
    let create = world.ecs().create.take();
    let log = world.run();
    assert!(log.contains("! EcsServiceMissing"), "{log}");
    assert_eq!(world.calls(), [""; 0]);
    world.memory = crate::model::memory::Memory::default();
    world.ecs().create = create;
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
    assert_eq!(world.runs("api"), ("api:1".to_owned(), 2));
}

#[test]
fn a_removal_needs_a_name_and_drains_before_it_deletes() {
    let mut world = World::settled(rolling("v1", 2));
    world.calls();
    world.gone = true;
    assert_eq!(world.holds(), ["RemovalNotAcknowledged"]);
    world.run();
    assert_eq!(world.calls(), [""; 0]);
    world.acknowledged = true;
    assert_snapshot!(world.run());
    assert!(!world.aws.services.contains_key(&key("api")));
    assert_eq!(world.memory, crate::model::memory::Memory::default());
}

#[test]
fn what_does_not_carry_our_mark_is_forgotten_and_not_removed() {
    let mut world = World::settled(rolling("initial", 2));
    world.gone = true;
    world.acknowledged = true;
    world.run();
    assert_eq!(world.calls(), [""; 0]);
    assert_eq!(world.runs("api").1, 2);
    assert_eq!(world.memory, crate::model::memory::Memory::default());
}

#[test]
fn clean_up_of_the_registry_spares_what_is_needed() {
    let mut service = rolling("initial", 1);
    service.ecr_keep = Some(1);
    let mut world = World::settled(service);
    world.tag("v1");
    world.run();
    world.tag("v2");
    world.run();
    let pushed = |seconds: i64| Timestamp::from_second(1_700_000_000 + seconds).unwrap();
    let image = |tag: &str, seconds| RegistryImage {
        digest: digest_of(tag),
        tags: vec![tag.to_owned()],
        pushed_at: pushed(seconds),
    };
    let all = [("initial", 1), ("older", 2), ("v1", 3), ("v2", 4), ("next", 5)];
    world.images = Some(Fact::Seen(all.map(|(tag, at)| image(tag, at)).into()));
    world.calls();
    let log = world.run();
    let calls = world.calls();
    assert!(calls.iter().all(|it| it.starts_with("delete ")), "{calls:?}");
    let deleted = |tag: &str| calls.iter().any(|it| it.contains(digest_of(tag).short()));
    assert!(deleted("older"), "{log}");
    assert!(!deleted("v1") && !deleted("v2") && !deleted("next"), "{log}");
}
