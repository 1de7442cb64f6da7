//! Random lives of a service on ECS: whatever happens, the invariants hold in the account (not only in the calls), and the
//! world comes to rest.

use proptest::prelude::*;

use super::life::{Life, any_life, happening};
use crate::model::desired::Strategy as Way;

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, max_shrink_iters: 3000, ..ProptestConfig::default() })]

    #[test]
    fn any_life_keeps_the_invariants_and_comes_to_rest(
        way in 0u8..6,
        life in proptest::collection::vec(happening(), 0..40),
    ) {
        let mut it = Life::new(any_life(way));
        for happening in &life {
            let text = format!("> {happening:?}");
            it.world.log.push(text);
            if let Err(why) = it.happen(happening) {
                prop_assert!(false, "{why}\n{}", it.told());
            }
        }
        let end = it.rest("v9");
        prop_assert!(end.is_ok(), "{end:?}\n{}", it.told());
        let plan = it.world.plan();
        let split = plan.holds.iter().any(|it| it.reason() == "ColourUnknown");
        prop_assert!(plan.is_settled() || split, "L1: {:#?}\n{}", plan, it.told());
        if !split {
            let (serving, wanted) = (it.world.serving(), it.world.service.replicas);
            prop_assert_eq!(serving, wanted, "L1: {}", it.told());
            prop_assert!(it.serves("v9"), "L1: {}", it.told());
        }
        it.world.calls();
        it.world.after(7200);
        it.world.run();
        prop_assert_eq!(it.world.calls(), Vec::<String>::new());
    }

    #[test]
    fn a_bad_release_ends_rolled_back_or_held_and_is_not_tried_again(
        way in 0u8..6,
        life in proptest::collection::vec(happening(), 0..20),
    ) {
        let mut it = Life::new(any_life(way));
        for happening in &life {
            if let Err(why) = it.happen(happening) {
                prop_assert!(false, "{why}\n{}", it.told());
            }
        }
        for (tag, replicas) in [("v8", 2), ("worse", 2)] {
            it.world.service.replicas = replicas;
            if it.world.service.rollout.strategy == Way::BlueGreen {
                it.world.service.active_colour = it.world.service.active_colour.filter(|_| tag == "v8");
            }
            let end = it.rest(tag);
            prop_assert!(end.is_ok(), "{end:?}\n{}", it.told());
        }
        let plan = it.world.plan();
        let reasons: Vec<&str> = plan.holds.iter().map(crate::plan::hold::Hold::reason).collect();
        prop_assert!(reasons == ["Quarantined"] || reasons == ["ColourUnknown"], "L2: {:?}\n{}", reasons, it.told());
        if reasons == ["Quarantined"] {
            prop_assert_eq!(it.world.serving(), 2, "L2: {}", it.told());
            prop_assert!(it.serves("v8"), "L2: {}", it.told());
        }
        it.world.calls();
        it.world.after(7200);
        it.world.run();
        prop_assert_eq!(it.world.calls(), Vec::<String>::new());
    }
}
