//! Actions of a rule: their weights read, and changed without touching anything else.

use std::collections::BTreeMap;

use aws_sdk_elasticloadbalancingv2::types::{Action, ActionTypeEnum, ForwardActionConfig, TargetGroupTuple};
use aws_sdk_elasticloadbalancingv2::types::{TargetHealth, TargetHealthReasonEnum, TargetHealthStateEnum};

use crate::model::colour::Group;
use crate::model::ecs::AlbTraffic;

pub(super) fn in_words(health: &TargetHealth) -> String {
    let state = health.state().map_or("unknown", TargetHealthStateEnum::as_str);
    match health.description().or(health.reason().map(TargetHealthReasonEnum::as_str)) {
        Some(why) => format!("the load balancer says {state}: {why}"),
        None => format!("the load balancer says {state}"),
    }
}

/// The weights of both target groups in the forward action; none when it does not forward to either.
pub(super) fn weights_of(actions: &[Action], traffic: &AlbTraffic) -> Option<BTreeMap<Group, u16>> {
    let forward = actions.iter().find(|it| it.r#type() == Some(&ActionTypeEnum::Forward))?;
    let mut found: BTreeMap<Group, u16> = traffic.target_groups.keys().map(|group| (*group, 0)).collect();
    let mut known = false;
    let group_of = |arn: &str| traffic.target_groups.iter().find(|(_, it)| *it == arn).map(|(group, _)| *group);
    for tuple in forward.forward_config().map(ForwardActionConfig::target_groups).unwrap_or_default() {
        if let Some(group) = tuple.target_group_arn().and_then(group_of) {
            known = true;
            found.insert(group, u16::try_from(tuple.weight().unwrap_or(1)).unwrap_or(0));
        }
    }
    if !known && let Some(group) = forward.target_group_arn().and_then(group_of) {
        known = true;
        found.insert(group, 1);
    }
    known.then_some(found)
}

/// The same actions with these weights: whatever else is forwarded to, stickiness and every other action stay.
pub(super) fn with_weights(
    actions: &[Action],
    traffic: &AlbTraffic,
    weights: &BTreeMap<Group, u16>,
) -> Option<Vec<Action>> {
    let at = actions.iter().position(|it| it.r#type() == Some(&ActionTypeEnum::Forward))?;
    let mut changed = actions.to_vec();
    let config = actions[at].forward_config().cloned();
    let ours = |arn: Option<&str>| arn.is_some_and(|arn| traffic.target_groups.values().any(|it| it == arn));
    let mut tuples: Vec<TargetGroupTuple> = config.as_ref().map(|it| it.target_groups().to_vec()).unwrap_or_default();
    tuples.retain(|it| !ours(it.target_group_arn()));
    for (group, arn) in &traffic.target_groups {
        let weight = i32::from(weights.get(group).copied().unwrap_or(0));
        tuples.push(TargetGroupTuple::builder().target_group_arn(arn).weight(weight).build());
    }
    let stickiness = config.and_then(|it| it.target_group_stickiness_config().cloned());
    let forward = ForwardActionConfig::builder()
        .set_target_groups(Some(tuples))
        .set_target_group_stickiness_config(stickiness)
        .build();
    // Both forms at once are refused once they name more than one group.
    changed[at] = Action::builder()
        .r#type(ActionTypeEnum::Forward)
        .set_order(actions[at].order())
        .forward_config(forward)
        .build();
    Some(changed)
}

#[cfg(test)]
mod tests {
    use aws_sdk_elasticloadbalancingv2::types::TargetGroupStickinessConfig;

    use super::*;

    fn traffic() -> AlbTraffic {
        let target_groups =
            BTreeMap::from([(Group::Blue, "tg/blue".to_owned()), (Group::Green, "tg/green".to_owned())]);
        AlbTraffic { rule: "arn:…:listener-rule/x".to_owned(), target_groups, region: None }
    }

    fn tuple(arn: &str, weight: i32) -> TargetGroupTuple {
        TargetGroupTuple::builder().target_group_arn(arn).weight(weight).build()
    }

    #[test]
    fn only_the_weights_of_ours_change() {
        let sticky = TargetGroupStickinessConfig::builder().enabled(true).duration_seconds(60).build();
        let config = ForwardActionConfig::builder()
            .target_groups(tuple("tg/blue", 1))
            .target_groups(tuple("tg/somebody", 7))
            .target_group_stickiness_config(sticky.clone())
            .build();
        let login = Action::builder().r#type(ActionTypeEnum::AuthenticateOidc).order(1).build();
        let forward = Action::builder().r#type(ActionTypeEnum::Forward).order(2).forward_config(config).build();
        let before = vec![login.clone(), forward];
        let weights = BTreeMap::from([(Group::Blue, 0), (Group::Green, 100)]);
        let after = with_weights(&before, &traffic(), &weights).unwrap();
        assert_eq!(after[0], login);
        assert_eq!(after[1].order(), Some(2));
        let config = after[1].forward_config().unwrap();
        assert_eq!(config.target_group_stickiness_config(), Some(&sticky));
        let expected = [tuple("tg/somebody", 7), tuple("tg/blue", 0), tuple("tg/green", 100)];
        assert_eq!(config.target_groups(), expected);
        assert_eq!(weights_of(&after, &traffic()), Some(weights));
    }

    #[test]
    fn one_target_group_without_weights_has_them_all() {
        let forward = |arn: &str| Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn(arn).build();
        let all_blue = BTreeMap::from([(Group::Blue, 1), (Group::Green, 0)]);
        assert_eq!(weights_of(&[forward("tg/blue")], &traffic()), Some(all_blue));
        assert_eq!(weights_of(&[forward("tg/other")], &traffic()), None);
    }
}
