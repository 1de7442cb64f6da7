//! The weights of a listener rule, and the health of its targets.
//!
//! `ModifyRule` and `ModifyListener` replace the whole list of actions, so it is read right before it is written, and
//! everything but the weights of the two target groups goes back as it came.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::types::{Action, ActionTypeEnum, ForwardActionConfig, TargetGroupTuple};
use aws_sdk_elasticloadbalancingv2::types::{TargetHealth, TargetHealthReasonEnum, TargetHealthStateEnum};
use tokio::sync::OnceCell;

use crate::aws::budget::{Bucket, Budget};
use crate::aws::identity::Identities;
use crate::aws::raw::{Guard, Raw};
use crate::aws::{self, CallError};
use crate::model::colour::Group;
use crate::model::ecs::AlbTraffic;
use crate::model::ecs::seen::{AlbSeen, TargetsSeen};
use crate::model::snapshot::Fact;
use crate::plan::step::{AlbStep, Ensured};
use crate::ports::{LoadBalancer, StepError};

/// Load balancers in every region that is asked for.
pub struct Alb {
    budget: Arc<Budget>,
    identities: Arc<Identities>,
    clients: Mutex<HashMap<Option<String>, Arc<OnceCell<Client>>>>,
}

impl Alb {
    /// Nothing is asked before the first look.
    pub fn new(budget: Arc<Budget>, identities: Arc<Identities>) -> Self {
        Self { budget, identities, clients: Mutex::default() }
    }

    /// The client, once the budget allows one call.
    async fn client(&self, region: Option<&str>) -> Client {
        let cell = {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(clients.entry(region.map(str::to_owned)).or_default())
        };
        let client = cell.get_or_init(|| async { Client::new(&aws::config(region).await) }).await.clone();
        self.budget.take(region, Bucket::Balancer).await;
        client
    }

    async fn judged<T>(&self, region: Option<&str>, answer: Result<T, CallError>) -> Result<T, CallError> {
        match &answer {
            Ok(_) => self.budget.answered(region, Bucket::Balancer).await,
            Err(CallError::Throttled(_)) => drop(self.budget.slow_down(region, Bucket::Balancer).await),
            Err(_) => {}
        }
        answer
    }

    /// The actions of a rule, or of a listener's default rule. None: it does not exist.
    async fn actions(&self, traffic: &AlbTraffic) -> Result<Option<Vec<Action>>, CallError> {
        let region = traffic.region.as_deref();
        let client = self.client(region).await;
        let answer = if is_listener(&traffic.rule) {
            let action = "elasticloadbalancing:DescribeListeners";
            tracing::debug!(target: "holdfast::aws", action, region, "call");
            let sent = client.describe_listeners().listener_arns(&traffic.rule).send().await;
            sent.map(|reply| reply.listeners().first().map(|it| it.default_actions().to_vec()))
                .map_err(|error| aws::classify(action, &error))
        } else {
            let action = "elasticloadbalancing:DescribeRules";
            tracing::debug!(target: "holdfast::aws", action, region, "call");
            let sent = client.describe_rules().rule_arns(&traffic.rule).send().await;
            sent.map(|reply| reply.rules().first().map(|it| it.actions().to_vec()))
                .map_err(|error| aws::classify(action, &error))
        };
        match self.judged(region, answer).await {
            Err(error) if matches!(error.code(), "RuleNotFound" | "ListenerNotFound") => Ok(None),
            other => other,
        }
    }

    async fn weights(&self, traffic: &AlbTraffic) -> Fact<BTreeMap<Group, u16>> {
        match self.actions(traffic).await {
            Err(error) => Fact::Unreadable(error.why().to_owned()),
            Ok(actions) => actions.and_then(|actions| weights_of(&actions, traffic)).map_or(Fact::Absent, Fact::Seen),
        }
    }

    async fn targets(&self, region: Option<&str>, target_group: &str) -> Fact<TargetsSeen> {
        let action = "elasticloadbalancing:DescribeTargetHealth";
        let client = self.client(region).await;
        tracing::debug!(target: "holdfast::aws", action, region, "call");
        let sent = client.describe_target_health().target_group_arn(target_group).send().await;
        let answer = sent.map_err(|error| aws::classify(action, &error));
        match self.judged(region, answer).await {
            Err(error) if error.code() == "TargetGroupNotFound" => Fact::Absent,
            Err(error) => Fact::Unreadable(error.why().to_owned()),
            Ok(reply) => {
                let mut seen = TargetsSeen::default();
                for target in reply.target_health_descriptions().iter().filter_map(|it| it.target_health()) {
                    // One that is being deregistered gets no new request and is on its way out.
                    if target.state() == Some(&TargetHealthStateEnum::Draining) {
                        continue;
                    }
                    seen.total += 1;
                    match target.state() {
                        Some(TargetHealthStateEnum::Healthy) => seen.healthy += 1,
                        _ => seen.why = Some(in_words(target)),
                    }
                }
                Fact::Seen(seen)
            }
        }
    }

    async fn write(&self, step: &AlbStep, actions: Vec<Action>) -> Result<(), CallError> {
        let account = step.realm.account.clone();
        let guard = account.map(|account| Guard { account, identities: Arc::clone(&self.identities) });
        let region = step.traffic.region.as_deref();
        let raw = Raw::writing(None, guard.clone());
        let answer = self.send(step, actions.clone(), raw.clone()).await;
        if !raw.is_unconfirmed() {
            return self.judged(region, answer).await;
        }
        self.identities.ask(region).await.map_err(CallError::Transient)?;
        let answer = self.send(step, actions, Raw::writing(None, guard)).await;
        self.judged(region, answer).await
    }

    async fn send(&self, step: &AlbStep, actions: Vec<Action>, raw: Raw) -> Result<(), CallError> {
        let (rule, region) = (&step.traffic.rule, step.traffic.region.as_deref());
        let client = self.client(region).await;
        if is_listener(rule) {
            let action = "elasticloadbalancing:ModifyListener";
            tracing::debug!(target: "holdfast::aws", action, region, "call");
            let call = client.modify_listener().listener_arn(rule).set_default_actions(Some(actions));
            let sent = call.customize().interceptor(raw).send().await;
            return sent.map(drop).map_err(|error| aws::classify(action, &error));
        }
        let action = "elasticloadbalancing:ModifyRule";
        tracing::debug!(target: "holdfast::aws", action, region, "call");
        let call = client.modify_rule().rule_arn(rule).set_actions(Some(actions));
        let sent = call.customize().interceptor(raw).send().await;
        sent.map(drop).map_err(|error| aws::classify(action, &error))
    }
}

fn is_listener(arn: &str) -> bool {
    arn.contains(":listener/")
}

fn in_words(health: &TargetHealth) -> String {
    let state = health.state().map_or("unknown", TargetHealthStateEnum::as_str);
    match health.description().or(health.reason().map(TargetHealthReasonEnum::as_str)) {
        Some(why) => format!("the load balancer says {state}: {why}"),
        None => format!("the load balancer says {state}"),
    }
}

/// The weights of both target groups in the forward action; none when it does not forward to either.
fn weights_of(actions: &[Action], traffic: &AlbTraffic) -> Option<BTreeMap<Group, u16>> {
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
fn with_weights(actions: &[Action], traffic: &AlbTraffic, weights: &BTreeMap<Group, u16>) -> Option<Vec<Action>> {
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

#[async_trait]
impl LoadBalancer for Alb {
    async fn look(&self, traffic: &AlbTraffic) -> AlbSeen {
        let region = traffic.region.as_deref();
        let mut targets = BTreeMap::new();
        for (group, arn) in &traffic.target_groups {
            targets.insert(*group, self.targets(region, arn).await);
        }
        AlbSeen { weights: self.weights(traffic).await, targets }
    }

    async fn perform(&self, step: &AlbStep) -> Result<Ensured, StepError> {
        let Some(actions) = self.actions(&step.traffic).await? else {
            return Err(StepError::stale(format!("{} does not exist any more", step.traffic.rule)));
        };
        if weights_of(&actions, &step.traffic).as_ref() == Some(&step.weights) {
            return Ok(Ensured::AlreadySo);
        }
        let changed = with_weights(&actions, &step.traffic, &step.weights)
            .ok_or_else(|| StepError::refused(format!("{} does not forward", step.traffic.rule)))?;
        self.write(step, changed).await?;
        Ok(Ensured::Changed)
    }
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
