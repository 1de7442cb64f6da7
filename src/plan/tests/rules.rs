//! Every rule of a rollout as one transcript.
// Long because it is a list: one rule, one test.

use insta::assert_snapshot;

use super::world::{World, name, service};
use crate::model::colour::{Colour, Group};
use crate::model::desired::{OnFailure, Order, Promote, Restart, Strategy};
use crate::model::memory::{Memory, MemoryChange, Pin};
use crate::model::snapshot::*;
use crate::plan::hold::Hold;
use crate::plan::step::PlannedStep;

#[test]
fn a_first_deploy_takes_blue_and_then_gets_the_requests() {
    let mut world = World::new(service("v1", 2));
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
    assert_eq!(world.serving(), [name(Group::Blue, 1), name(Group::Blue, 2)]);
}

#[test]
fn a_new_tag_comes_up_on_the_other_colour_and_the_old_one_stays_warm_for_the_bake() {
    let mut world = World::settled("v1", 2);
    world.tag("v2");
    assert_snapshot!("new_tag", world.run());
    assert_eq!(world.serving(), [name(Group::Green, 1), name(Group::Green, 2)]);
    world.after(60);
    assert_snapshot!("new_tag_after_the_bake", world.run());
    assert!(world.plan().is_settled());
    assert_eq!(world.replicas.len(), 2);
}

#[test]
fn a_declared_colour_that_does_not_serve_is_brought_up_and_switched_to() {
    let mut world = World::settled("v1", 1);
    world.declared(Colour::Green);
    assert_snapshot!(world.run());
    assert_eq!(world.serving(), [name(Group::Green, 1)]);
}

#[test]
fn going_back_to_a_warm_colour_is_one_switch() {
    let mut world = World::settled("v1", 1);
    world.tag("v2");
    world.run();
    world.tag("v1");
    assert_snapshot!(world.run());
    assert_eq!(world.serving(), [name(Group::Blue, 1)]);
}

#[test]
fn after_a_change_of_colour_alone_the_old_one_stays_warm_for_the_bake() {
    let mut world = World::settled("v1", 1);
    world.declared(Colour::Green);
    while world.memory.committed.as_ref().is_none_or(|it| it.group != Group::Green) {
        world.turn();
        world.probe();
    }
    let plan = world.plan();
    assert_eq!(plan.holds.iter().map(Hold::reason).collect::<Vec<_>>(), ["Baking"]);
    world.declared(Colour::Blue);
    assert_snapshot!(world.run());
    assert_eq!(world.serving(), [name(Group::Blue, 1)]);
}

#[test]
fn the_declared_colour_that_serves_is_replaced_in_place_one_by_one() {
    let mut world = World::settled("v1", 2);
    world.declared(Colour::Blue);
    assert!(world.plan().is_settled());
    world.tag("v2");
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
    assert!(world.replicas.iter().all(|it| it.group == Group::Blue));
}

#[test]
fn a_rolling_service_replaces_start_first() {
    let mut world = World::new(service("v1", 3));
    world.service.rollout.strategy = Strategy::Rolling;
    world.run();
    assert!(world.plan().is_settled());
    world.tag("v2");
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
}

#[test]
fn a_worker_without_traffic_rolls() {
    let mut world = World::new(service("v1", 2));
    world.service.rollout.strategy = Strategy::Rolling;
    world.service.nginx = None;
    world.service.docker.port = None;
    assert_snapshot!("worker_first", world.run());
    world.tag("v2");
    assert_snapshot!("worker_second", world.run());
    assert!(world.plan().is_settled());
}

#[test]
fn a_bad_release_is_quarantined_and_the_old_one_never_stops_serving() {
    let mut world = World::settled("v1", 2);
    world.bad_tags.insert("bad".to_owned());
    world.tag("bad");
    assert_snapshot!(world.run());
    assert_eq!(world.serving(), [name(Group::Blue, 1), name(Group::Blue, 2)]);
    assert_eq!(world.replicas.len(), 2);
    world.tag("v2");
    world.run();
    assert_eq!(world.serving(), [name(Group::Green, 1), name(Group::Green, 2)]);
    assert!(world.memory.quarantined.is_empty());
}

#[test]
fn a_failed_first_deploy_is_cleaned_up_and_held() {
    let mut world = World::new(service("bad", 1));
    world.bad_tags.insert("bad".to_owned());
    assert_snapshot!(world.run());
    assert!(world.replicas.is_empty());
}

#[test]
fn on_failure_hold_keeps_the_failed_replicas_for_a_look() {
    let mut world = World::settled("v1", 1);
    world.service.rollout.on_failure = OnFailure::Hold;
    world.bad_tags.insert("bad".to_owned());
    world.tag("bad");
    world.run();
    assert_eq!(world.replicas.len(), 2);
    assert_eq!(world.serving(), [name(Group::Blue, 1)]);
}

#[test]
fn unhealthy_during_the_bake_switches_back_at_once() {
    let mut world = World::settled("v1", 1);
    world.tag("v2");
    world.run();
    let now = world.now;
    world.replica("api-green-1").health = Health::Unhealthy(now, "GET / answered 500".to_owned());
    assert_snapshot!(world.run());
    assert_eq!(world.serving(), [name(Group::Blue, 1)]);
}

/// Regression: a release that crashed right after the switch outlasted a bake of three seconds, and the way back was gone.
#[test]
fn a_bake_does_not_end_while_what_serves_is_not_healthy() {
    let mut world = World::settled("v1", 1);
    world.service.rollout.bake = std::time::Duration::from_secs(3);
    world.tag("v2");
    world.run();
    assert_eq!(world.serving(), [name(Group::Green, 1)]);
    world.after(4);
    let now = world.now;
    world.replica("api-green-1").health = Health::unasked(now);
    let plan = world.plan();
    assert!(plan.holds.iter().any(|hold| matches!(hold, Hold::Baking { old: Group::Blue, .. })), "{:?}", plan.holds);
    assert!(!plan.steps().any(|it| it.step.to_string().contains("remove")), "{plan:?}");
    // It is healthy again: the bake is over.
    world.probe();
    let removes = world.plan().steps().any(|it| it.step.to_string().contains("remove api-blue-1"));
    assert!(removes, "{:?}", world.plan());
}

#[test]
fn a_controller_that_comes_back_gives_old_replicas_their_chance() {
    let mut world = World::settled("v1", 2);
    world.after(3600);
    let since = world.now;
    for name in ["api-blue-1", "api-blue-2"] {
        world.replica(name).health = Health::unasked(since);
    }
    let plan = world.plan();
    assert_eq!(plan.stages, Vec::<Vec<PlannedStep>>::new(), "an hour old and not asked yet is not unhealthy");
    assert!(matches!(plan.holds[..], [Hold::AwaitingHealth { .. }]), "{:?}", plan.holds);
}

#[test]
fn a_lost_memory_is_rebuilt_although_no_replica_was_asked_yet() {
    let mut world = World::settled("v1", 2);
    world.memory = Memory::default();
    world.after(3600);
    let since = world.now;
    for name in ["api-blue-1", "api-blue-2"] {
        world.replica(name).health = Health::unasked(since);
    }
    world.run();
    assert_eq!(world.memory.committed.as_ref().map(|it| it.release.tag.to_string()), Some("v1".to_owned()));
    assert!(world.memory.quarantined.is_empty());
    assert!(!world.log.iter().any(|line| line.contains("run ") || line.contains("remove ")), "{:#?}", world.log);
}

#[test]
fn a_health_deadline_missed_is_a_failure() {
    let mut world = World::settled("v1", 1);
    world.tag("v2");
    world.turn();
    let since = world.now;
    world.after(121);
    world.replica("api-green-1").health = Health::Unknown { since, last: Some("connection refused".to_owned()) };
    let plan = world.plan();
    assert!(
        plan.steps().any(|it| it.step.to_string().contains("not healthy within 120s: connection refused")),
        "{plan:?}"
    );
}

#[test]
fn manual_promotion_holds_before_the_switch() {
    let mut world = World::settled("v1", 1);
    world.service.rollout.promote = Promote::Manual;
    world.tag("v2");
    let log = world.run();
    assert!(log.contains("! AwaitingPromotion"), "{log}");
    assert_eq!(world.serving(), [name(Group::Blue, 1)]);
    let release = world.replica("api-green-1").release.clone();
    world.memory.apply(&MemoryChange::Promote(release));
    world.run();
    assert_eq!(world.serving(), [name(Group::Green, 1)]);
}

#[test]
fn rolling_with_manual_promotion_holds_before_the_first_replacement() {
    let mut world = World::new(service("v1", 2));
    world.service.rollout.strategy = Strategy::Rolling;
    world.run();
    world.service.rollout.promote = Promote::Manual;
    world.tag("v2");
    let log = world.run();
    assert!(log.starts_with("! AwaitingPromotion"), "{log}");
}

#[test]
fn a_rollback_by_a_person_pins_until_the_file_changes() {
    let mut world = World::settled("v1", 1);
    world.tag("v2");
    world.run();
    let committed = world.memory.committed.clone().unwrap().release;
    let previous = world.memory.previous.clone().unwrap().release;
    world.memory.apply(&MemoryChange::Pin(Box::new(Pin {
        to: previous,
        from: committed.hash(),
        from_tag: "v2".to_owned(),
        by: "ana".to_owned(),
        at: world.now,
    })));
    assert_snapshot!("rollback", world.run());
    assert_eq!(world.serving(), [name(Group::Blue, 1)]);
    world.tag("v3");
    assert_snapshot!("after_the_rollback", world.run());
    assert_eq!(world.serving(), [name(Group::Green, 1)]);
}

#[test]
fn a_newer_release_supersedes_one_on_its_way() {
    let mut world = World::settled("v1", 1);
    world.tag("v2");
    world.turn();
    world.tag("v3");
    assert_snapshot!(world.run());
    assert_eq!(world.memory.committed.as_ref().unwrap().release.tag.as_str(), "v3");
    assert!(world.memory.quarantined.is_empty());
}

#[test]
fn an_edit_taken_back_ends_the_rollout() {
    let mut world = World::settled("v1", 1);
    world.tag("v2");
    world.turn();
    world.tag("v1");
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
}

#[test]
fn a_newer_release_ends_the_bake_but_never_the_drain() {
    let mut world = World::settled("v1", 1);
    world.tag("v2");
    while world.memory.committed.as_ref().unwrap().release.tag.as_str() == "v1" {
        world.turn();
        world.replicas.iter_mut().for_each(|it| it.health = Health::Healthy(world.now));
    }
    world.leaving = true;
    world.tag("v3");
    world.turn();
    let plan = world.plan();
    assert!(plan.stages.is_empty(), "{plan:?}");
    assert_eq!(plan.holds.iter().map(crate::plan::hold::Hold::reason).collect::<Vec<_>>(), ["Draining"]);
    world.leaving = false;
    let log = world.run();
    assert!(log.contains("remove api-blue-1"), "{log}");
}

#[test]
fn a_killed_replica_is_replaced_and_its_remains_removed() {
    let mut world = World::settled("v1", 2);
    world.replica("api-blue-1").state = ReplicaState::Exited(Some(137));
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
}

#[test]
fn a_removed_replica_is_replaced() {
    let mut world = World::settled("v1", 1);
    world.replicas.clear();
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
}

#[test]
fn a_paused_replica_is_thawed() {
    let mut world = World::settled("v1", 1);
    world.replica("api-blue-1").state = ReplicaState::Paused;
    assert_snapshot!(world.run());
}

#[test]
fn an_unhealthy_replica_leaves_the_upstream_and_is_replaced_start_first() {
    let mut world = World::settled("v1", 2);
    world.after(3600);
    let now = world.now;
    world.replica("api-blue-2").health = Health::Unhealthy(now, "timeout".to_owned());
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
}

#[test]
fn the_last_replica_keeps_its_requests_while_unhealthy() {
    let mut world = World::settled("v1", 1);
    world.after(3600);
    let now = world.now;
    world.replica("api-blue-1").health = Health::Unhealthy(now, "timeout".to_owned());
    let plan = world.plan();
    assert!(plan.holds.iter().any(|it| it.reason() == "LastReplicaUnhealthy"), "{plan:?}");
    assert!(plan.steps().all(|it| !it.step.to_string().starts_with("remove")), "{plan:?}");
    world.run();
    assert_eq!(world.serving(), [name(Group::Blue, 2)]);
}

#[test]
fn a_changed_restart_policy_is_put_back_in_place() {
    let mut world = World::settled("v1", 1);
    world.replica("api-blue-1").restart = Restart::No;
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
}

#[test]
fn a_fight_over_a_field_ends_in_a_conflict_hold() {
    let mut world = World::settled("v1", 1);
    for _ in 0..3 {
        world.replica("api-blue-1").restart = Restart::No;
        world.run();
    }
    world.replica("api-blue-1").restart = Restart::No;
    let log = world.run();
    assert!(log.starts_with("! Conflict"), "{log}");
    world.after(61);
    assert!(world.run().contains("update api-blue-1"));
}

#[test]
fn a_hand_edited_upstream_is_put_back() {
    let mut world = World::settled("v1", 1);
    world.file = Some(("server 10.0.0.1:80;\n".to_owned(), vec!["10.0.0.1:80".to_owned()]));
    world.loaded = false;
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
}

#[test]
fn a_deleted_upstream_is_put_back() {
    let mut world = World::settled("v1", 1);
    world.file = None;
    world.loaded = false;
    assert_snapshot!(world.run());
}

#[test]
fn detect_mode_replaces_lost_replicas_and_reports_the_rest() {
    let mut world = World::settled("v1", 2);
    world.service.drift.detect_only = true;
    world.replica("api-blue-1").restart = Restart::No;
    world.replica("api-blue-2").state = ReplicaState::Dead;
    assert_snapshot!(world.run());
}

#[test]
fn somebody_elses_reload_confirms_itself() {
    let mut world = World::settled("v1", 1);
    world.generation += 1;
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
}

#[test]
fn an_nginx_that_is_not_running_is_never_started_and_nothing_is_removed() {
    let mut world = World::settled("v1", 1);
    world.nginx_runs = false;
    world.tag("v2");
    let log = world.run();
    assert!(log.contains("! NginxNotRunning"), "{log}");
    assert!(!log.contains("remove api-blue"), "{log}");
}

#[test]
fn a_missing_include_is_a_hold_and_retires_nothing() {
    let mut world = World::new(service("v1", 1));
    world.included = false;
    let hand_made = Replaced {
        id: "old".to_owned(),
        name: "dangdang-api-blue".to_owned(),
        created_at: "2020-01-01T00:00:00Z".parse().unwrap(),
        running: true,
        owner: None,
    };
    world.service.docker.replaces.insert(hand_made.name.clone());
    world.replaced.push(hand_made);
    assert_snapshot!("include_missing", world.run());
    world.included = true;
    world.loaded = true;
    world.generation += 1;
    assert_snapshot!("include_added", world.run());
    assert!(world.replaced.is_empty());
    assert!(world.plan().is_settled());
}

#[test]
fn scaling_up_precedes_and_scaling_down_follows_the_switch() {
    let mut world = World::settled("v1", 1);
    world.service.replicas = 3;
    assert_snapshot!("scale_up", world.run());
    assert_eq!(world.serving().len(), 3);
    world.service.replicas = 1;
    assert_snapshot!("scale_down", world.run());
    assert_eq!(world.serving(), [name(Group::Blue, 1)]);
    assert!(world.plan().is_settled());
}

#[test]
fn zero_replicas_is_a_statement() {
    let mut world = World::settled("v1", 2);
    world.service.replicas = 0;
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
    assert!(world.replicas.is_empty());
    world.service.replicas = 1;
    world.run();
    assert_eq!(world.serving(), [name(Group::Blue, 1)]);
}

#[test]
fn stop_first_never_overlaps() {
    let mut world = World::settled("v1", 1);
    world.service.rollout.order = Order::StopFirst;
    world.tag("v2");
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
    world.bad_tags.insert("bad".to_owned());
    world.tag("bad");
    assert_snapshot!("stop_first_failure", world.run());
    assert_eq!(world.serving().len(), 1);
}

#[test]
fn rolling_stop_first_takes_one_away_before_its_successor() {
    let mut world = World::new(service("v1", 1));
    world.service.rollout.strategy = Strategy::Rolling;
    world.service.rollout.order = Order::StopFirst;
    world.run();
    world.tag("v2");
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
}

#[test]
fn a_removal_needs_an_acknowledgement() {
    let mut world = World::settled("v1", 1);
    world.gone = true;
    assert!(world.run().starts_with("! RemovalNotAcknowledged"));
    world.acknowledged = true;
    assert_snapshot!(world.run());
    assert!(world.replicas.is_empty());
    assert_eq!(world.memory, Memory::default());
}

#[test]
fn a_registry_that_is_down_does_not_matter_to_repairs() {
    let mut world = World::settled("v1", 2);
    world.registry = Fact::Unreadable("503".to_owned());
    assert!(world.plan().is_settled());
    world.replicas.remove(0);
    world.run();
    assert!(world.plan().is_settled());
    world.tag("v2");
    assert_snapshot!(world.run());
}

#[test]
fn lost_memory_is_rebuilt_without_a_destructive_call() {
    let mut world = World::settled("v1", 2);
    world.memory = Memory::default();
    assert_snapshot!(world.run());
    assert!(world.plan().is_settled());
}

#[test]
fn lost_memory_with_split_traffic_is_a_hold() {
    let mut world = World::settled("v1", 1);
    world.tag("v2");
    world.run();
    let servers: Vec<String> = world.replicas.iter().map(|it| format!("127.0.0.1:{}", it.port.unwrap())).collect();
    world.file = Some(("both".to_owned(), servers));
    world.memory = Memory::default();
    assert!(world.run().starts_with("! ColourUnknown"));
}

#[test]
fn a_stranger_on_our_name_is_left_alone_and_gone_around() {
    let mut world = World::new(service("v1", 1));
    world.strangers.push(Stranger {
        name: "api-blue-1".to_owned(),
        why: "it does not carry this controller's labels".to_owned(),
        blocks: true,
    });
    assert_snapshot!(world.run());
    assert_eq!(world.serving(), [name(Group::Blue, 2)]);
}

#[test]
fn losses_that_keep_coming_are_backed_off() {
    let mut world = World::settled("v1", 1);
    for _ in 0..8 {
        world.replicas.clear();
        world.after(1);
        world.turn();
    }
    world.replicas.clear();
    let plan = world.plan();
    assert!(plan.holds.iter().any(|it| it.reason() == "LossBackoff"), "{plan:?}");
    world.after(300);
    world.run();
    assert!(world.plan().is_settled());
}

#[test]
fn a_changed_strategy_moves_like_a_colour() {
    let mut world = World::settled("v1", 2);
    world.service.rollout.strategy = Strategy::Rolling;
    world.run();
    world.after(100);
    world.run();
    assert!(world.plan().is_settled(), "{:?}", world.plan());
    assert!(world.replicas.iter().all(|it| it.group == Group::Only));
}

#[test]
fn another_tag_of_the_same_image_changes_no_container() {
    let mut world = World::settled("v1", 1);
    let before = world.replicas.clone();
    let mut committed = world.memory.committed.clone().unwrap();
    committed.release.tag = crate::model::image::Tag::new("v0").unwrap();
    world.memory.committed = Some(committed);
    assert_snapshot!(world.run());
    assert_eq!(world.replicas, before);
}

#[test]
fn a_paused_service_plans_nothing() {
    let mut world = World::settled("v1", 1);
    world.memory.apply(&MemoryChange::Pause(crate::model::memory::Paused { by: "ana".to_owned(), at: world.now }));
    world.tag("v2");
    world.replicas.clear();
    assert!(world.run().starts_with("! Paused"));
    assert!(world.replicas.is_empty());
}
