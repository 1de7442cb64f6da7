//! `rollout:` and `drift:`.

use std::time::Duration;

use crate::model::desired::{CanaryStep, Drift, DriftField, OnFailure, Order, Promote, Rollout, Strategy};
use crate::source::error::shown;
use crate::source::file::given::Given;
use crate::source::file::rollout::{RawDrift, RawRollout};
use crate::source::file::scalars::{Scalar, Time};
use crate::source::file::service::RawService;
use crate::source::report::Scope;
use crate::source::scalar;

/// The strategy: as written, else blue/green with traffic and rolling without.
pub(super) fn strategy(scope: &mut Scope<'_, '_>, raw: &RawService, traffic: bool) -> Strategy {
    let written = raw.rollout.get().and_then(|rollout| {
        scope.take(&["rollout", "strategy"], &rollout.strategy, |text| match text {
            "blueGreen" => Some(Strategy::BlueGreen),
            "rolling" => Some(Strategy::Rolling),
            _ => None,
        })
    });
    written.unwrap_or(if traffic { Strategy::BlueGreen } else { Strategy::Rolling })
}

/// A duration under `section`, `default` when it is left out.
pub(super) fn time(
    scope: &mut Scope<'_, '_>,
    path: &[&str],
    given: Option<&Given<Time>>,
    zero: bool,
    default: Duration,
) -> Duration {
    let Some(given) = given else { return default };
    match scope.take(path, given, scalar::duration) {
        Some(Duration::ZERO) if !zero => {
            let what = format!("`{}` is zero", path.last().unwrap_or(&""));
            scope.expected(path, what, "a duration longer than zero");
            default
        }
        Some(duration) => duration,
        None => default,
    }
}

pub(super) fn lower(
    scope: &mut Scope<'_, '_>,
    written: &RawService,
    merged: &RawService,
    strategy: Strategy,
) -> Rollout {
    let empty = RawRollout::default();
    let raw = merged.rollout.get().unwrap_or(&empty);
    scope.later(&["rollout", "freeze"], &raw.freeze);
    let bake_written = written.rollout.get().is_some_and(|rollout| rollout.bake.is_given());
    if strategy == Strategy::Rolling && bake_written {
        scope.error(&["rollout", "bake"], "`bake` has no meaning with `strategy: rolling`").hint =
            Some("remove it, or use `strategy: blueGreen`".to_owned());
    }
    let order = scope.take(&["rollout", "order"], &raw.order, |text| match text {
        "startFirst" => Some(Order::StartFirst),
        "stopFirst" => Some(Order::StopFirst),
        _ => None,
    });
    let promote = scope.take(&["rollout", "promote"], &raw.promote, |text| match text {
        "auto" => Some(Promote::Auto),
        "manual" => Some(Promote::Manual),
        _ => None,
    });
    let bake = time(scope, &["rollout", "bake"], Some(&raw.bake), true, Duration::from_secs(60));
    Rollout {
        strategy,
        order: order.unwrap_or(Order::StartFirst),
        promote: promote.unwrap_or(Promote::Auto),
        canary: canary(scope, merged, raw),
        drain: time(scope, &["rollout", "drain"], Some(&raw.drain), true, Duration::from_secs(10)),
        bake: if strategy == Strategy::Rolling { Duration::ZERO } else { bake },
        on_failure: on_failure(scope, raw),
        progress_deadline: time(
            scope,
            &["rollout", "progressDeadline"],
            Some(&raw.progress_deadline),
            false,
            Duration::from_secs(600),
        ),
    }
}

fn canary(scope: &mut Scope<'_, '_>, service: &RawService, raw: &RawRollout) -> Vec<CanaryStep> {
    let mut steps: Vec<CanaryStep> = Vec::new();
    let alb = service.traffic.get().is_some_and(|traffic| traffic.alb.is_given());
    if raw.canary.is_given() && !alb {
        scope.error(&["rollout", "canary"], "`rollout.canary` is available behind a load balancer only").hint =
            Some("add `traffic: {alb: …}`, or remove it".to_owned());
        return steps;
    }
    for (index, step) in raw.canary.get().into_iter().flatten().enumerate() {
        let Some(step) = step.get() else { continue };
        let index = index.to_string();
        let at = ["rollout", "canary", index.as_str()];
        for (key, missing) in [("weight", !step.weight.is_given()), ("for", !step.stays.is_given())] {
            if missing {
                scope.expected(&at, format!("a canary step has no `{key}`"), "`{weight: 10, for: 1m}`");
            }
        }
        let weight = scope.take(&[at[0], at[1], at[2], "weight"], &step.weight, |text| scalar::number(text, 1, 99));
        let stays = scope.take(&[at[0], at[1], at[2], "for"], &step.stays, |text| match text {
            "manual" => Some(None),
            text => scalar::duration(text).map(Some),
        });
        if let (Some(weight), Some(hold)) = (weight, stays) {
            if steps.last().is_some_and(|before| before.weight >= weight) {
                scope.error(&at, format!("{weight} is not more than the step before")).hint =
                    Some("write the steps from the smallest share to the largest".to_owned());
            }
            steps.push(CanaryStep { weight, hold });
        }
    }
    steps
}

fn on_failure(scope: &mut Scope<'_, '_>, raw: &RawRollout) -> OnFailure {
    let on_failure = scope.take(&["rollout", "onFailure"], &raw.on_failure, |text| match text {
        "rollback" => Some(OnFailure::Rollback),
        "hold" => Some(OnFailure::Hold),
        "revert" => Some(OnFailure::Revert),
        _ => None,
    });
    on_failure.unwrap_or(OnFailure::Rollback)
}

pub(super) fn drift(scope: &mut Scope<'_, '_>, raw: Option<&RawDrift>) -> Drift {
    let Some(raw) = raw else { return Drift::default() };
    let detect_only = scope.take(&["drift", "mode"], &raw.mode, |text| match text {
        "enforce" => Some(false),
        "detect" => Some(true),
        _ => None,
    });
    let mut drift = Drift { detect_only: detect_only.unwrap_or(false), ..Drift::default() };
    for (index, field) in raw.ignore.get().into_iter().flatten().enumerate() {
        let Some(field) = field.get() else { continue };
        match DriftField::ALL.into_iter().find(|known| known.to_string() == field.0) {
            Some(field) => {
                drift.ignore.insert(field);
            }
            None => {
                let path = ["drift", "ignore", &index.to_string()];
                let expected = crate::source::file::scalars::FieldText::EXPECTED;
                scope.expected(&path, format!("`ignore`: found `{}`", shown(&field.0)), expected);
            }
        }
    }
    drift
}
