//! What failed stays behind: no way down through older tags, none becomes eligible again, `newest` without a date.

use insta::assert_snapshot;

use super::{commits, commits_of, following, ordered, reasons, shown};
use crate::model::desired::OnFailure;
use crate::model::follow::{Follow, TagOrder};
use crate::model::image::Tag;
use crate::model::memory::{MemoryChange, Quarantine};
use crate::model::snapshot::{Fact, TagSeen};
use crate::plan::follow::crowded_out;
use crate::plan::tests::world::World;

#[test]
fn the_way_back_to_a_tag_that_does_not_fit_is_no_way_down_through_every_older_one() {
    let old: Vec<String> = (0..70).map(|n| format!("2.{n}.0")).collect();
    let listed: Vec<&str> = old.iter().map(String::as_str).collect();
    let mut world = World::settled("1.9.0", 1);
    world.service.rollout.on_failure = OnFailure::Revert;
    world.service.follow = Some(Follow::semver(">=2").unwrap());
    world.lists(&listed);
    world.bad_tags.extend(old.iter().cloned().chain(["2.70.0".to_owned()]));
    let log = world.run();
    assert_eq!(log.lines().filter(|line| line.starts_with("commit api: tag")).count(), 2, "{log}");
    assert_eq!(world.service.tag.to_string(), "1.9.0");
    assert_eq!(reasons(&world.plan()), ["TagSkipped", "NoTagFits"]);
    // The one that failed is no longer listed: the one below it is not tried either.
    world.lists(&listed[..69]);
    assert!(commits_of(&world).is_empty());
    assert_snapshot!("below_one_that_failed", shown(&world));
    // One that comes after all is tried.
    world.lists(&[listed.as_slice(), &["2.70.0", "2.71.0"]].concat());
    assert_eq!(commits_of(&world), ["commit api: tag 1.9.0 -> 2.71.0"]);
}

#[test]
fn a_fix_of_the_release_that_serves_is_followed_though_a_later_one_failed() {
    let mut world = following("1.6.0", &["1.6.0", "1.7.0"]);
    world.service.rollout.on_failure = OnFailure::Revert;
    world.bad_tags.insert("1.7.0".to_owned());
    world.run();
    world.lists(&["1.6.0", "1.7.0", "1.6.1"]);
    world.run();
    assert_eq!(world.service.tag.to_string(), "1.6.1");
}

#[test]
fn what_was_pushed_after_the_files_own_tag_served_is_newer_though_that_is_not_listed() {
    let mut world = ordered("main-0-1", TagOrder::Newest, &["main-f-2"]);
    assert!(world.plan().is_settled());
    let served = world.memory.committed.as_ref().unwrap().at;
    let pushed = |tag: &str, after: i64| TagSeen {
        tag: Tag::new(tag).unwrap(),
        pushed_at: Some(served + jiff::SignedDuration::from_secs(after)),
    };
    world.tags = Some(Fact::Seen(vec![pushed("main-a-3", 1), pushed("main-b-4", -1)]));
    assert_eq!(commits_of(&world), ["commit api: tag main-0-1 -> main-a-3"]);
    // Of one that never served nobody knows it.
    world.tag("main-e-9");
    world.bad_tags.insert("main-e-9".to_owned());
    world.turn();
    let plan = world.plan();
    assert!(commits(&plan).is_empty());
    let hold = plan.holds.iter().find(|it| it.reason() == "FollowUnreadable").unwrap().to_string();
    assert!(hold.contains("nobody says when main-e-9 was pushed"), "{hold}");
    // Once it failed: what came after that.
    world.probe();
    world.run();
    assert!(commits_of(&world).is_empty());
    let failed = world.memory.failed_tags()["main-e-9"].at;
    let seen =
        TagSeen { tag: Tag::new("main-a-1").unwrap(), pushed_at: Some(failed + jiff::SignedDuration::from_secs(1)) };
    world.tags = Some(Fact::Seen(vec![seen]));
    assert_eq!(commits_of(&world), ["commit api: tag main-e-9 -> main-a-1"]);
}

#[test]
fn the_lowest_failed_tag_is_let_go_of_and_none_that_was_becomes_eligible_again() {
    let tags: Vec<String> = (0..200).map(|n| format!("1.{n}.0")).collect();
    let mut world = following("1.300.0", &["1.300.0"]);
    world.service.follow = Some(Follow::semver("<1.300").unwrap());
    world.bad_tags.extend(tags.iter().cloned());
    // The highest failed first: it is the oldest.
    let at = |n: i64| jiff::Timestamp::from_second(n).unwrap();
    for n in 0..64 {
        let tag = format!("1.{}.0", 150 - n);
        world.memory.apply(&MemoryChange::Revert(Quarantine { why: "500".into(), at: at(n), tag }));
    }
    world.lists(&tags[..151].iter().map(String::as_str).collect::<Vec<_>>());
    assert!(commits_of(&world).is_empty());
    world.service.rollout.on_failure = OnFailure::Revert;
    world.lists(&tags[..152].iter().map(String::as_str).collect::<Vec<_>>());
    let log = world.run();
    assert!(log.contains("1.300.0 -> 1.151.0") && log.contains("1.151.0 -> 1.300.0"), "{log}");
    let known = &world.memory.reverted;
    assert!(known.len() == 64 && known.contains_key("1.150.0") && known.contains_key("1.151.0"), "{known:?}");
    assert!(!known.contains_key("1.87.0"), "the lowest");
    // What does not fit goes first of all, whatever its place would be.
    world.service.tag.tag = Tag::new("1.100.0").unwrap();
    world.service.follow = Some(Follow::semver("<1.151").unwrap());
    let failed = Quarantine { why: "500".into(), at: at(99), tag: "1.9.0".into() };
    let gone = crowded_out(&world.service, &world.snapshot(), &world.memory, &failed);
    assert_eq!(gone.first().map(|it| &it.0), Some(&MemoryChange::Unrevert("1.151.0".to_owned())));
}
