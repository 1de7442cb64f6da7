//! The weights of a listener rule, and the health of its targets.
//!
//! `ModifyRule` and `ModifyListener` replace the whole list of actions, so it is read right before it is written, and
//! everything but the weights of the two target groups goes back as it came.
//!
//! | file | does |
//! |---|---|
//! | here | looks and steps |
//! | `actions` | weights read and changed |
//! | `rules` | rules asked for together |
//! | `api` | a client within the budget |

mod actions;
mod api;
mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_elasticloadbalancingv2::types::{Action, TargetHealthStateEnum};

use actions::{in_words, weights_of, with_weights};
use api::Api;
use rules::Rules;

use crate::aws::raw::Raw;
use crate::aws::{self, CallError, Shared};
use crate::model::colour::Group;
use crate::model::ecs::AlbTraffic;
use crate::model::ecs::seen::{AlbSeen, TargetsSeen};
use crate::model::snapshot::Fact;
use crate::plan::step::{AlbStep, Ensured};
use crate::ports::{LoadBalancer, StepError};

/// Load balancers in every region that is asked for.
pub struct Alb {
    api: Arc<Api>,
    rules: Rules,
}

/// What a rule does; none: there is no such rule.
type Actions = Result<Option<Vec<Action>>, CallError>;

impl Alb {
    /// Nothing is asked before the first look.
    pub fn new(aws: Shared) -> Self {
        let api = Arc::new(Api::new(aws));
        Self { rules: Rules::new(Arc::clone(&api)), api }
    }

    /// The actions of a rule, or of a listener's default rule. None: it does not exist.
    async fn actions(&self, traffic: &AlbTraffic) -> Actions {
        let region = traffic.region.as_deref();
        if !is_listener(&traffic.rule) {
            return self.rules.actions(region, &traffic.rule).await;
        }
        let action = "elasticloadbalancing:DescribeListeners";
        let client = self.api.client(region).await;
        tracing::debug!(target: "holdfast::aws", action, region, "call");
        let sent = client.describe_listeners().listener_arns(&traffic.rule).send().await;
        let answer = sent
            .map(|reply| reply.listeners().first().map(|it| it.default_actions().to_vec()))
            .map_err(|error| aws::classify(action, &error));
        match self.api.judged(region, answer).await {
            Err(error) if error.code() == "ListenerNotFound" => Ok(None),
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
        let client = self.api.client(region).await;
        tracing::debug!(target: "holdfast::aws", action, region, "call");
        let sent = client.describe_target_health().target_group_arn(target_group).send().await;
        let answer = sent.map_err(|error| aws::classify(action, &error));
        match self.api.judged(region, answer).await {
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
        let guard = self.api.aws.guard(step.realm.account.as_ref());
        let region = step.traffic.region.as_deref();
        let raw = Raw::writing(None, guard.clone());
        let answer = self.send(step, actions.clone(), raw.clone()).await;
        if !raw.is_unconfirmed() {
            return self.api.judged(region, answer).await;
        }
        self.api.aws.identities.ask(region).await.map_err(CallError::Transient)?;
        let answer = self.send(step, actions, Raw::writing(None, guard)).await;
        self.api.judged(region, answer).await
    }

    async fn send(&self, step: &AlbStep, actions: Vec<Action>, raw: Raw) -> Result<(), CallError> {
        let (rule, region) = (&step.traffic.rule, step.traffic.region.as_deref());
        let client = self.api.client(region).await;
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

#[async_trait]
impl LoadBalancer for Alb {
    async fn look(&self, traffic: &AlbTraffic, settled_on: Option<Group>) -> AlbSeen {
        let region = traffic.region.as_deref();
        let weights = self.weights(traffic).await;
        let mut targets = BTreeMap::new();
        let all_to = |group: Group| {
            let others = |(other, weight): (&Group, &u16)| (*other == group) == (*weight > 0);
            weights.seen().is_some_and(|weights| weights.iter().all(others))
        };
        if settled_on.is_some_and(all_to) {
            return AlbSeen { weights, targets };
        }
        for (group, arn) in &traffic.target_groups {
            targets.insert(*group, self.targets(region, arn).await);
        }
        AlbSeen { weights, targets }
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
