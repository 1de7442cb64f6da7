//! Rules asked for together: what several services ask at about the same time is one `DescribeRules`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Actions;
use super::api::Api;
use crate::aws::{self, CallError};

const ACTION: &str = "elasticloadbalancing:DescribeRules";
/// How long the first one to ask waits for others.
const GATHER: Duration = Duration::from_millis(3);
/// Rules named in one call.
const BATCH: usize = 20;

/// Rules waiting to be asked for, by region.
pub(super) struct Rules {
    api: Arc<Api>,
    waiting: Arc<Mutex<HashMap<Option<String>, Vec<Asked>>>>,
}

struct Asked {
    rule: String,
    answer: oneshot::Sender<Actions>,
}

impl Rules {
    pub(super) fn new(api: Arc<Api>) -> Self {
        Self { api, waiting: Arc::default() }
    }

    /// What `rule` does. The first one to ask of a region asks for all who come with it.
    pub(super) async fn actions(&self, region: Option<&str>, rule: &str) -> Actions {
        let region = region.map(str::to_owned);
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let asked = waiting.entry(region.clone()).or_default();
            asked.push(Asked { rule: rule.to_owned(), answer });
            asked.len() == 1
        };
        if first {
            let (waiting, api) = (Arc::clone(&self.waiting), Arc::clone(&self.api));
            // On its own: who asks for others must not stop because it is given up on.
            tokio::spawn(async move {
                tokio::time::sleep(GATHER).await;
                let asked = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&region);
                answer_all(&api, region.as_deref(), asked.unwrap_or_default()).await;
            });
        }
        // The task ends early only with the process.
        answered.await.unwrap_or_else(|_| Err(CallError::Transient(format!("{ACTION} was given up on"))))
    }
}

async fn answer_all(api: &Api, region: Option<&str>, mut asked: Vec<Asked>) {
    while !asked.is_empty() {
        let rest = asked.split_off(asked.len().min(BATCH));
        let batch = std::mem::replace(&mut asked, rest);
        let names: Vec<String> = batch.iter().map(|it| it.rule.clone()).collect();
        match describe(api, region, &names).await {
            // One that is missing fails the whole call: each is asked for by itself, to see which.
            Err(error) if error.code() == "RuleNotFound" && names.len() > 1 => {
                for it in batch {
                    let answer = describe(api, region, std::slice::from_ref(&it.rule)).await;
                    let _ = it.answer.send(one(answer, &it.rule));
                }
            }
            answer => {
                for it in batch {
                    // One that waits no more does not need it.
                    let _ = it.answer.send(one(answer.clone(), &it.rule));
                }
            }
        }
    }
}

type Found = Result<HashMap<String, Vec<aws_sdk_elasticloadbalancingv2::types::Action>>, CallError>;

fn one(answer: Found, rule: &str) -> Actions {
    match answer {
        Ok(mut found) => Ok(found.remove(rule)),
        Err(error) if error.code() == "RuleNotFound" => Ok(None),
        Err(error) => Err(error),
    }
}

async fn describe(api: &Api, region: Option<&str>, rules: &[String]) -> Found {
    let client = api.client(region).await;
    tracing::debug!(target: "holdfast::aws", action = ACTION, rules = rules.len(), "call");
    let sent = client.describe_rules().set_rule_arns(Some(rules.to_vec())).send().await;
    let answer = sent.map_err(|error| aws::classify(ACTION, &error));
    let reply = api.judged(region, answer).await?;
    let of = |rule: &aws_sdk_elasticloadbalancingv2::types::Rule| {
        Some((rule.rule_arn()?.to_owned(), rule.actions().to_vec()))
    };
    Ok(reply.rules().iter().filter_map(of).collect())
}
