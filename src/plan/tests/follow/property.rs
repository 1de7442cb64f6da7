//! Whatever is listed and whatever failed: no failed tag is followed, and a followed one stays.

use proptest::prelude::*;

use super::{commits, shown};
use crate::model::desired::OnFailure;
use crate::model::follow::{Follow, TagOrder};
use crate::model::image::Tag;
use crate::model::memory::{MemoryChange, Quarantine, REVERTED};
use crate::model::release::ReleaseHash;
use crate::model::snapshot::{Fact, TagSeen};
use crate::plan::step::Step;
use crate::plan::tests::world::World;

fn policies() -> impl Strategy<Value = Follow> {
    let range = prop_oneof![Just(">=1.1 <2"), Just("*"), Just("~1.2 || ^2"), Just(">=1.2.0-rc.1")];
    let order = prop_oneof![Just(TagOrder::Numeric), Just(TagOrder::Alphabetical), Just(TagOrder::Newest)];
    let pattern = prop_oneof![Just("v?[0-9.]+"), Just("b-([0-9]+)"), Just("[^-]+-([0-9]+)-?.*"), Just(".*")];
    prop_oneof![
        range.prop_map(|it| Follow::semver(it).unwrap()),
        (pattern, order).prop_map(|(pattern, order)| Follow::regex(pattern, order).unwrap()),
    ]
}

fn tag() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "v?[12]\\.[0-3]\\.[0-2](-rc\\.[12])?",
        2 => "b-[0-9]{1,3}",
        1 => "[a-c]-[0-9]{1,2}-[a-c]",
        1 => Just("latest".to_owned()),
    ]
}

fn seen_tag() -> impl Strategy<Value = TagSeen> {
    (tag(), proptest::option::of(0i64..50)).prop_map(|(tag, at)| TagSeen {
        tag: Tag::new(&tag).unwrap(),
        pushed_at: at.map(|at| jiff::Timestamp::from_second(at).unwrap()),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_failed_tag_is_never_followed_and_a_followed_one_stays(
        policy in policies(),
        file in tag(),
        tags in proptest::collection::vec(seen_tag(), 0..12),
        reverted in proptest::collection::vec(tag(), 0..6),
        quarantined in proptest::option::of(tag()),
    ) {
        let mut world = World::settled(&file, 1);
        world.service.follow = Some(policy);
        let mut seen: Vec<TagSeen> = tags;
        seen.sort_by(|a, b| a.tag.cmp(&b.tag));
        seen.dedup_by(|a, b| a.tag == b.tag);
        world.tags = Some(Fact::Seen(seen));
        let why = |tag: &String| Quarantine { why: "500".into(), at: world.now, tag: tag.clone() };
        let failed: Vec<String> = reverted.iter().chain(&quarantined).cloned().collect();
        let changes: Vec<MemoryChange> = reverted.iter().map(|tag| MemoryChange::Revert(why(tag)))
            .chain(quarantined.iter().map(|tag| MemoryChange::Quarantine(ReleaseHash("v1:0000000000000000".to_owned()), why(tag))))
            .collect();
        changes.iter().for_each(|change| world.memory.apply(change));
        // `World::plan` verifies each; a few turns are enough to come to rest.
        for _ in 0..6 {
            for step in world.plan().steps() {
                if let Step::Source(step) = &step.step {
                    prop_assert!(!failed.contains(&step.to.tag.to_string()), "{step}");
                }
            }
            if !world.turn() {
                break;
            }
            // Only the desired state is of interest here: what it asks for serves at once.
            world = settled_at(world);
        }
        prop_assert!(commits(&world.plan()).is_empty(), "{}", shown(&world));
        prop_assert!(!world.turn(), "{}", shown(&world));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Each tag is committed by itself once at most, and the way back is taken once for each.
    #[test]
    fn with_one_list_the_commits_come_to_an_end(
        policy in policies(),
        file in tag(),
        tags in proptest::collection::vec(seen_tag(), 0..16),
        bad in proptest::collection::vec(proptest::bool::weighted(0.7), 16),
        revert in proptest::bool::weighted(0.8),
        full in proptest::bool::weighted(0.3),
    ) {
        let mut world = World::settled(&file, 1);
        world.service.follow = Some(policy);
        if revert {
            world.service.rollout.on_failure = OnFailure::Revert;
        }
        let mut seen: Vec<TagSeen> = tags;
        seen.sort_by(|a, b| a.tag.cmp(&b.tag));
        seen.dedup_by(|a, b| a.tag == b.tag);
        let fails = |(it, bad): (&TagSeen, &bool)| (*bad && it.tag.as_str() != file).then(|| it.tag.to_string());
        world.bad_tags = seen.iter().zip(&bad).filter_map(fails).collect();
        let count = seen.len();
        world.tags = Some(Fact::Seen(seen));
        for n in 0..if full { REVERTED - 1 } else { 0 } {
            let failed = Quarantine { why: "500".into(), at: world.now, tag: format!("1.0.{}", 100 + n) };
            world.memory.apply(&MemoryChange::Revert(failed));
        }
        let (mut on, mut back) = (Vec::new(), 0);
        // Until nothing is done for an hour.
        for _ in 0..240 {
            for step in world.plan().steps() {
                if let Step::Source(step) = &step.step {
                    if step.why.contains("is the newest tag that fits") {
                        on.push(step.to.tag.to_string());
                    } else {
                        back += 1;
                    }
                }
            }
            if !world.turn() {
                world.after(61);
            }
            world.probe();
        }
        let mut distinct = on.clone();
        distinct.sort();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), on.len(), "{:?}\n{}", on, shown(&world));
        prop_assert!(on.len() <= count && back <= on.len(), "{:?} and {} back", on, back);
        prop_assert!(world.memory.reverted.len() <= REVERTED);
    }
}

/// The world once everything under way has come to its end.
fn settled_at(mut world: World) -> World {
    let tags = world.tags.take();
    let follow = world.service.follow.take();
    world.run();
    world.after(3600);
    world.run();
    world.tags = tags;
    world.service.follow = follow;
    world
}
