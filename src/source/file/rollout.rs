//! `rollout:` and `drift:` as written.

use super::given::{Given, section};
use super::scalars::{
    FieldText, Later, ModeText, OnFailureText, OrderText, PromoteText, Stay, StrategyText, Time, Weight,
};

section! {
    /// How a new release comes in.
    RawRollout {
        /// `blueGreen` (default with traffic) or `rolling`.
        "strategy" strategy: StrategyText,
        /// `startFirst` (default) or `stopFirst` (singletons that may not overlap).
        "order" order: OrderText,
        /// `auto` (default) or `manual`.
        "promote" promote: PromoteText,
        /// A share of the requests first.
        "canary" canary: Vec<Given<RawCanary>>,
        /// How long old connections may finish; default 10s.
        "drain" drain: Time,
        /// How long the old colour stays warm; default 1m.
        "bake" bake: Time,
        /// `rollback` (default), `hold`, or `revert`: the last good tag is committed too.
        "onFailure" on_failure: OnFailureText,
        /// From the start to the end of a rollout; default 10m.
        "progressDeadline" progress_deadline: Time,
        /// Times without new releases.
        "freeze" freeze: Later,
    }
}

section! {
    /// One step of `canary:`.
    RawCanary {
        /// Percent of the requests.
        "weight" weight: Weight,
        /// How long it stays so, or `manual`.
        "for" stays: Stay,
    }
}

section! {
    /// What happens when reality changes by itself.
    RawDrift {
        /// `enforce` (default) or `detect`.
        "mode" mode: ModeText,
        /// Fields that are left alone.
        "ignore" ignore: Vec<Given<FieldText>>,
    }
}
