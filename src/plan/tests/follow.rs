//! The rules of following and reverting tags, each as a transcript, and that neither ever flaps.

use insta::assert_snapshot;

use super::world::{World, digest_of, listed, name, service};
use crate::model::colour::Group;
use crate::model::desired::{OnFailure, Promote};
use crate::model::follow::{Follow, TagOrder};
use crate::model::image::{Tag, TagSpec};
use crate::model::memory::{Memory, MemoryChange, Paused, Pin, Quarantine};
use crate::model::names::ServiceName;
use crate::model::snapshot::{Fact, Health, TagSeen};
use crate::plan::check::verify;
use crate::plan::hold::Hold;
use crate::plan::step::{PlannedStep, SourceStep, Step};
use crate::plan::{Plan, display};

mod failed;
mod property;

const RANGE: &str = ">=1.4 <2";

/// A settled service that follows versions.
fn following(tag: &str, tags: &[&str]) -> World {
    let mut world = World::settled(tag, 1);
    world.service.follow = Some(Follow::semver(RANGE).unwrap());
    world.lists(tags);
    world
}

fn ordered(tag: &str, order: TagOrder, tags: &[&str]) -> World {
    let mut world = World::settled(tag, 1);
    world.service.follow = Some(Follow::regex("main-[0-9a-f]+-([0-9]+)", order).unwrap());
    world.lists(tags);
    world
}

fn commits(plan: &Plan) -> Vec<String> {
    plan.steps().filter(|it| matches!(it.step, Step::Source(_))).map(|it| it.step.to_string()).collect()
}

fn commits_of(world: &World) -> Vec<String> {
    commits(&world.plan())
}

fn reasons(plan: &Plan) -> Vec<&'static str> {
    plan.holds.iter().map(Hold::reason).collect()
}

fn shown(world: &World) -> String {
    display::show("api", &world.plan())
}

#[test]
fn the_newest_version_that_fits_is_committed_and_then_rolled_out() {
    let mut world = following("1.4.0", &["1.3.0", "1.4.0", "1.5.0", "1.10.0", "2.0.0", "1.11.0-rc.1", "latest", "1.4"]);
    let plan = world.plan();
    let Step::Source(step) = &plan.stages[0][0].step else { panic!("{plan:?}") };
    assert_eq!(step.why, "1.10.0 is the newest tag that fits >=1.4 <2. It is a tag of registry.example/api.");
    assert_snapshot!(world.run());
    world.after(60);
    world.run();
    assert!(world.plan().is_settled());
    assert_eq!(world.memory.committed.as_ref().unwrap().release.tag.as_str(), "1.10.0");
}

#[test]
fn a_higher_tag_of_the_file_stays() {
    assert!(following("1.9.0", &["1.4.0", "1.8.0"]).plan().is_settled());
    assert!(following("v1.8.0", &["1.4.0", "1.8.0"]).plan().is_settled());
    let tags = ["main-a-9", "main-b-10"];
    assert!(ordered("main-c-0011", TagOrder::Numeric, &tags).plan().is_settled());
    assert!(ordered("main-c-10", TagOrder::Numeric, &tags).plan().is_settled());
    assert!(ordered("main-a-9", TagOrder::Alphabetical, &tags).plan().is_settled());
}

#[test]
fn a_tag_that_does_not_fit_gives_way_to_one_that_does() {
    assert_snapshot!(shown(&following("2.1.0", &["1.4.0", "1.8.0", "2.1.0"])));
    assert_eq!(commits(&following("latest", &["1.4.0"]).plan()), ["commit api: tag latest -> 1.4.0"]);
    // A pinned one too, once there is a newer one.
    let mut world = following("1.4.0", &["1.4.0"]);
    world.service.tag.digest = Some(digest_of("1.4.0"));
    assert!(world.plan().is_settled());
    world.lists(&["1.4.0", "1.4.1"]);
    assert_eq!(commits(&world.plan()), [format!("commit api: tag 1.4.0@{} -> 1.4.1", digest_of("1.4.0"))]);
}

#[test]
fn of_two_spellings_the_one_of_the_file_is_kept() {
    let tags = ["1.5.0", "v1.5.0", "v1.4.0"];
    assert_eq!(commits(&following("v1.4.0", &tags).plan()), ["commit api: tag v1.4.0 -> v1.5.0"]);
    assert_eq!(commits(&following("1.4.0", &tags).plan()), ["commit api: tag 1.4.0 -> 1.5.0"]);
}

#[test]
fn each_order_has_a_newest_of_its_own() {
    let tags = ["main-f-10", "main-c-9", "main-a-100", "main-b-11"];
    let next = |order| commits(&ordered("main-0-1", order, &[&["main-0-1"], tags.as_slice()].concat()).plan());
    assert_eq!(next(TagOrder::Numeric), ["commit api: tag main-0-1 -> main-a-100"]);
    assert_eq!(next(TagOrder::Alphabetical), ["commit api: tag main-0-1 -> main-c-9"]);
    assert_eq!(next(TagOrder::Newest), ["commit api: tag main-0-1 -> main-b-11"]);
    // Nobody says when the file's own was pushed: perhaps a moment ago.
    assert!(ordered("main-0-1", TagOrder::Newest, &tags).plan().is_settled());
}

#[test]
fn what_is_not_known_changes_nothing_and_disturbs_nothing() {
    let mut world = following("1.4.0", &[]);
    for tags in [
        None,
        Some(Fact::Absent),
        Some(Fact::Seen(Vec::new())),
        Some(Fact::Unreadable("registry.example answered 503".to_owned())),
    ] {
        world.tags = tags;
        let plan = world.plan();
        assert_eq!((plan.stages.len(), reasons(&plan)), (0, vec!["FollowUnreadable"]));
        assert!(plan.holds.iter().all(Hold::is_aside));
    }
    assert_snapshot!(shown(&world));
    // An edit is rolled out meanwhile.
    world.tag("1.4.1");
    world.run();
    assert_eq!(world.memory.committed.as_ref().unwrap().release.tag.as_str(), "1.4.1");
}

#[test]
fn where_no_tag_fits_it_is_said_why() {
    assert_snapshot!("none_of_the_tags", shown(&following("dev", &["2.0.0", "latest"])));
    let mut named = World::settled("dev", 1);
    named.service.follow = Some(Follow::regex("build-(.+)", TagOrder::Numeric).unwrap());
    named.lists(&["build-a", "build-b", "x"]);
    assert_snapshot!("no_number", shown(&named));
    named.service.follow = Some(Follow::regex("dev|build-.+", TagOrder::Newest).unwrap());
    let undated = |it: TagSeen| TagSeen { pushed_at: None, ..it };
    named.tags = Some(Fact::Seen(listed(&["build-a", "dev"]).into_iter().map(undated).collect()));
    assert_snapshot!("no_dates", shown(&named));
    // The file's own fits: nothing is wrong.
    assert!(following("1.4.0", &["latest", "2.0.0"]).plan().is_settled());
}

#[test]
fn a_desired_state_that_cannot_be_written_to_is_said_at_once() {
    let mut world = following("1.4.0", &["1.4.0"]);
    world.closed = Some("`git.write` is off".to_owned());
    assert_snapshot!("closed", shown(&world));
    world.lists(&["1.4.0", "1.5.0"]);
    assert_snapshot!("closed_with_a_newer_tag", shown(&world));
    assert!(commits(&world.plan()).is_empty());
}

#[test]
fn nothing_is_followed_while_paused_or_rolled_back_by_a_person() {
    let mut world = following("1.5.0", &["1.6.0"]);
    assert_eq!(commits(&world.plan()).len(), 1);
    let mut paused = world.memory.clone();
    paused.apply(&MemoryChange::Pause(Paused { by: "ann".into(), at: world.now }));
    let before = std::mem::replace(&mut world.memory, paused);
    assert_eq!(reasons(&world.plan()), ["Paused"]);
    world.memory = before;
    let release = world.memory.committed.clone().unwrap().release;
    let pin = Pin { from: release.hash(), from_tag: "1.5.0".into(), to: release, by: "ann".into(), at: world.now };
    world.memory.apply(&MemoryChange::Pin(Box::new(pin)));
    assert_eq!((commits(&world.plan()).len(), reasons(&world.plan())), (0, vec!["RolledBack"]));
}

#[test]
fn a_rollout_has_its_time_before_a_newer_tag_takes_its_place() {
    let mut world = following("1.4.0", &["1.4.0", "1.5.0"]);
    world.bad_tags.insert("1.5.0".to_owned());
    // Shorter than the deadline of a replica, which would end it.
    world.service.rollout.progress_deadline = std::time::Duration::from_secs(90);
    world.turn();
    world.lists(&["1.4.0", "1.5.0", "1.6.0"]);
    assert!(commits(&world.plan()).is_empty(), "in the plan that begins it");
    world.turn();
    assert!(commits(&world.plan()).is_empty());
    world.after(89);
    assert!(commits(&world.plan()).is_empty());
    world.after(1);
    assert!(commits(&world.plan()).is_empty(), "in the plan that gives it up");
    let log = world.run();
    assert!(log.contains("commit api: tag 1.5.0 -> 1.6.0"), "{log}");
    assert_eq!(world.memory.committed.as_ref().unwrap().release.tag.as_str(), "1.6.0");
}

#[test]
fn what_waits_for_approval_is_passed_by_a_newer_tag_once_it_had_its_time() {
    let mut world = following("1.4.0", &["1.4.0", "1.5.0"]);
    world.service.rollout.promote = Promote::Manual;
    world.run();
    assert_eq!(reasons(&world.plan()), ["AwaitingPromotion"]);
    world.lists(&["1.4.0", "1.5.0", "1.6.0"]);
    assert!(commits_of(&world).is_empty());
    world.after(world.service.rollout.progress_deadline.as_secs());
    assert_eq!(commits_of(&world), ["commit api: tag 1.5.0 -> 1.6.0"]);
    world.run();
    assert!(matches!(&world.plan().holds[..], [Hold::AwaitingPromotion { tag, .. }] if tag == "1.6.0"));
    assert_eq!(world.memory.committed.as_ref().unwrap().release.tag.as_str(), "1.4.0");
}

#[test]
fn a_followed_tag_that_fails_is_left_alone_until_a_newer_one_comes() {
    let mut world = following("1.4.0", &["1.4.0", "1.5.0"]);
    world.bad_tags.insert("1.5.0".to_owned());
    assert_snapshot!("failed_and_kept", world.run());
    world.lists(&["1.4.0", "1.5.0", "1.5.1"]);
    assert_snapshot!("failed_and_superseded", world.run());
    assert!(world.memory.reverted.contains_key("1.5.0"));
    // A person who goes back by hand is not led forward to it again.
    world.lists(&["1.4.0", "1.5.0"]);
    world.tag("1.4.0");
    world.run();
    assert_eq!(reasons(&world.plan()).last(), Some(&"TagSkipped"));
}

#[test]
fn a_person_who_takes_a_failed_tag_out_is_not_led_back_to_it() {
    let mut world = following("1.4.0", &["1.4.0", "1.5.0"]);
    world.bad_tags.insert("1.5.0".to_owned());
    world.run();
    world.tag("1.4.0");
    assert_snapshot!(world.run());
    world.memory.apply(&MemoryChange::Unrevert("1.5.0".to_owned()));
    assert_eq!(commits(&world.plan()), ["commit api: tag 1.4.0 -> 1.5.0"]);
}

#[test]
fn a_failed_release_is_reverted_in_the_file_once_the_last_good_one_serves() {
    let mut world = World::settled("v1", 2);
    world.service.rollout.on_failure = OnFailure::Revert;
    world.bad_tags.insert("bad".to_owned());
    world.tag("bad");
    assert_snapshot!(world.run());
    assert_eq!(world.service.tag.to_string(), "v1");
    assert!(world.plan().is_settled() && world.memory.quarantined.is_empty());
    // Somebody writes it back: it is tried, it fails, and it is theirs from then on.
    world.tag("bad");
    world.run();
    assert_eq!((reasons(&world.plan()), world.service.tag.to_string()), (vec!["Quarantined"], "bad".to_owned()));
    // After `retry` it is tried and reverted as at first.
    let quarantined: Vec<_> = world.memory.quarantined.keys().cloned().collect();
    quarantined.into_iter().for_each(|it| world.memory.apply(&MemoryChange::Release(it)));
    world.memory.apply(&MemoryChange::Unrevert("bad".to_owned()));
    world.run();
    assert_eq!(world.service.tag.to_string(), "v1");
}

#[test]
fn a_tag_that_was_pushed_again_is_reverted_to_the_digest_that_served() {
    let mut world = World::settled("stable", 1);
    world.service.rollout.on_failure = OnFailure::Revert;
    world.bad_tags.insert("bad".to_owned());
    world.moved = Some(digest_of("bad"));
    assert_snapshot!(world.run());
    assert_eq!(world.service.tag, TagSpec { tag: Tag::new("stable").unwrap(), digest: Some(digest_of("stable")) });
    assert!(world.plan().is_settled());
}

#[test]
fn a_release_that_fails_during_the_bake_is_reverted_once_the_switch_back_is_over() {
    let mut world = World::settled("v1", 1);
    world.service.rollout.on_failure = OnFailure::Revert;
    world.tag("v2");
    world.run();
    let now = world.now;
    world.replica("api-green-1").health = Health::Unhealthy(now, "GET / answered 500".to_owned());
    let log = world.run();
    let at = |what: &str| log.find(what).unwrap_or_else(|| panic!("no {what} in\n{log}"));
    assert!(at("commit v1 on blue") < at("commit api: tag v2 -> v1"), "{log}");
    assert_eq!((world.service.tag.to_string(), world.serving()), ("v1".to_owned(), vec![name(Group::Blue, 1)]));
    assert_eq!(reasons(&world.plan()), [""; 0]);
}

#[test]
fn what_another_tag_would_not_mend_is_not_reverted() {
    // The image is the same, the variables are not.
    let mut world = World::settled("v1", 1);
    world.service.rollout.on_failure = OnFailure::Revert;
    world.bad_tags.insert("v1".to_owned());
    world.service.docker.env.insert("A".into(), "1".into());
    world.run();
    assert_eq!((reasons(&world.plan()), commits(&world.plan()).len()), (vec!["Quarantined"], 0));
    // Nothing served before it.
    let mut world = World::new(service("bad", 1));
    world.service.rollout.on_failure = OnFailure::Revert;
    world.bad_tags.insert("bad".to_owned());
    world.run();
    assert_eq!((reasons(&world.plan()), world.service.tag.to_string()), (vec!["Quarantined"], "bad".to_owned()));
}

#[test]
fn a_newer_tag_is_better_than_the_way_back() {
    let mut world = following("1.4.0", &["1.4.0", "1.5.0"]);
    world.service.rollout.on_failure = OnFailure::Revert;
    world.bad_tags.extend(["1.5.0".to_owned(), "1.5.1".to_owned()]);
    world.run();
    assert_eq!(world.service.tag.to_string(), "1.4.0");
    assert_eq!(reasons(&world.plan()), ["TagSkipped"]);
    world.lists(&["1.4.0", "1.5.0", "1.5.1"]);
    world.run();
    // Neither of the two that failed is chosen again.
    assert_eq!(world.service.tag.to_string(), "1.4.0");
    assert_eq!(world.memory.reverted.keys().collect::<Vec<_>>(), ["1.5.0", "1.5.1"]);
    world.lists(&["1.4.0", "1.5.0", "1.5.1", "1.5.2"]);
    world.run();
    world.after(60);
    world.run();
    assert_eq!(world.service.tag.to_string(), "1.5.2");
    assert!(world.plan().is_settled());
}

#[test]
fn a_plan_that_leads_the_desired_state_astray_is_refused() {
    let world = following("1.4.0", &["1.4.0", "1.5.0"]);
    let good = world.plan();
    let snapshot = world.snapshot();
    let judge = |change: &dyn Fn(&mut SourceStep), memory: &Memory| {
        let mut plan = good.clone();
        let Step::Source(step) = &mut plan.stages[0][0].step else { panic!("{plan:?}") };
        change(step);
        verify(&plan, Some(&world.service), &snapshot, memory, false)
    };
    let tag = |text: &str| TagSpec { tag: Tag::new(text).unwrap(), digest: None };
    assert_eq!(judge(&|_| {}, &world.memory), Ok(()));
    let bad = |change: &dyn Fn(&mut SourceStep)| judge(change, &world.memory).unwrap_err();
    assert!(bad(&|it| it.to = tag("1.6.0")).contains("was never seen"));
    assert!(bad(&|it| it.to = tag("1.4.0")).contains("not from what the file says"));
    assert!(bad(&|it| it.from = tag("1.3.0")).contains("not from what the file says"));
    assert!(bad(&|it| it.service = ServiceName::new("web").unwrap()).contains("not from what the file says"));
    assert!(bad(&|it| it.to.digest = Some(digest_of("x"))).contains("was never seen"));
    let mut failed = world.memory.clone();
    failed.apply(&MemoryChange::Revert(Quarantine { why: "500".into(), at: world.now, tag: "1.5.0".into() }));
    assert!(judge(&|_| {}, &failed).unwrap_err().contains("failed here"));
    assert!(verify(&good, None, &snapshot, &world.memory, true).unwrap_err().contains("left the file"));
    let mut early = good.clone();
    let note = MemoryChange::Unrevert("x".to_owned());
    early.stages.push(vec![PlannedStep { step: Step::Remember(note), because: String::new() }]);
    assert!(
        verify(&early, Some(&world.service), &snapshot, &world.memory, false).unwrap_err().contains("alone and last")
    );
}
