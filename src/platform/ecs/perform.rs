//! Steps, each checked once more right before it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Ecs;
use super::parse::{self, text};
use super::sweep::ClusterKey;
use crate::model::ecs::seen::{Owner, RolloutState, ServiceSeen};
use crate::model::ecs::tags;
use crate::model::snapshot::Fact;
use crate::plan::step::ecs::{EcsTarget, Update};
use crate::plan::step::{EcsStep, Ensured, revision};
use crate::ports::StepError;

impl Ecs {
    pub(super) async fn do_step(&self, step: &EcsStep) -> Result<Ensured, StepError> {
        match step {
            EcsStep::Register { realm, service: _, release, definition, tags } => {
                self.definitions.ensure(realm, release, definition, tags).await
            }
            EcsStep::RegisterAgain { realm, service: _, release, from } => {
                self.definitions.ensure_copy(realm, release, from).await
            }
            EcsStep::Tag { target, arn, tags } => self.tag(target, arn, tags).await,
            EcsStep::Update(update) => self.update(update).await,
            EcsStep::Create { target, body } => self.create(target, body).await,
            EcsStep::Delete { target } => self.delete(target).await,
        }
    }

    /// The service as it is now; another owner's is never touched (S3, S8).
    async fn current(&self, target: &EcsTarget) -> Result<Fact<ServiceSeen>, StepError> {
        let region = target.realm.region.as_deref();
        let names = std::slice::from_ref(&target.name);
        let reply = self.api.describe_services(region, &target.cluster, names).await?;
        let described = parse::list(&reply, "services").find(|it| text(it, "serviceName") == target.name);
        let Some(described) = described else {
            let missing = parse::list(&reply, "failures").any(|it| text(it, "reason") == "MISSING");
            return if missing {
                Ok(Fact::Absent)
            } else {
                Err(StepError::transient(format!("ecs:DescribeServices left {target} out")))
            };
        };
        let seen = parse::service(&Arc::new(described.clone()), &self.ours);
        if let Fact::Seen(ServiceSeen { owner: Owner::Another(owner), .. }) = &seen {
            return Err(StepError::refused(format!("{target} belongs to controller {owner}")));
        }
        Ok(seen)
    }

    async fn tag(
        &self,
        target: &EcsTarget,
        arn: &str,
        with: &std::collections::BTreeMap<String, String>,
    ) -> Result<Ensured, StepError> {
        let Fact::Seen(seen) = self.current(target).await? else {
            return Err(StepError::stale(format!("{target} is gone")));
        };
        let mut all = with.clone();
        all.insert(tags::CONTROLLER.to_owned(), self.controller.to_string());
        if all.iter().all(|(key, value)| seen.tags.get(key) == Some(value)) {
            return Ok(Ensured::AlreadySo);
        }
        let list: Vec<Value> = all.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        self.api.tag(&target.realm, &json!({"resourceArn": arn, "tags": list})).await?;
        self.sweeps.forget(&key(target), &target.name);
        Ok(Ensured::Changed)
    }

    async fn update(&self, update: &Update) -> Result<Ensured, StepError> {
        let Update { target, seen: planned_on, task_definition, again, desired, deployment_configuration } = update;
        let Fact::Seen(now) = self.current(target).await? else {
            return Err(StepError::stale(format!("{target} is gone")));
        };
        let failed = now.primary().is_some_and(|it| it.rollout == RolloutState::Failed);
        let so = (!again || !failed)
            && task_definition.as_ref().is_none_or(|arn| now.task_definition == *arn)
            && desired.is_none_or(|desired| now.desired == desired)
            && deployment_configuration.as_ref().is_none_or(|it| now.deployment_configuration == *it);
        if so {
            return Ok(Ensured::AlreadySo);
        }
        if now.task_definition != *planned_on {
            let what = revision(&now.task_definition);
            return Err(StepError::stale(format!("{target} is set to {what} by now")));
        }
        let mut body = json!({"cluster": target.cluster, "service": target.name});
        if let Some(arn) = task_definition {
            // An inactive one runs on, and cannot be chosen: it is registered again first.
            let definition = self.definitions.read(target.realm.region.as_deref(), arn).await;
            if definition == Fact::Absent || self.definitions.is_inactive(arn) {
                return Err(StepError::stale(format!("{} was deregistered", revision(arn))));
            }
            body["taskDefinition"] = json!(arn);
        }
        if *again {
            body["forceNewDeployment"] = json!(true);
        }
        if let Some(desired) = desired {
            body["desiredCount"] = json!(desired);
        }
        if let Some(configuration) = deployment_configuration {
            let mut wanted: Value = serde_json::from_str(configuration).unwrap_or_default();
            // What was left out as a default is said, or ECS would keep what it has.
            for (name, default) in [("maximumPercent", 200), ("minimumHealthyPercent", 100)] {
                if wanted.get(name).is_none() {
                    wanted[name] = json!(default);
                }
            }
            if wanted.get("deploymentCircuitBreaker").is_none() {
                wanted["deploymentCircuitBreaker"] = json!({"enable": false, "rollback": false});
            }
            body["deploymentConfiguration"] = wanted;
        }
        self.sweeps.forget(&key(target), &target.name);
        let reply = self.api.update_service(&target.realm, &body).await?;
        self.take_reply(target, &reply, &now);
        Ok(Ensured::Changed)
    }

    async fn create(&self, target: &EcsTarget, body: &serde_json::Map<String, Value>) -> Result<Ensured, StepError> {
        match self.current(target).await? {
            Fact::Absent => {}
            _ => return Err(StepError::stale(format!("{target} exists by now"))),
        }
        let mut body = Value::Object(body.clone());
        if let Some(list) = body.get_mut("tags").and_then(Value::as_array_mut) {
            list.push(json!({"key": tags::CONTROLLER, "value": self.controller.to_string()}));
        }
        self.sweeps.forget(&key(target), &target.name);
        self.api.create_service(&target.realm, &body).await?;
        // Its reply may leave the tags out, and with them that it is ours: it is read again.
        self.sweeps.moved.notify_one();
        Ok(Ensured::Changed)
    }

    async fn delete(&self, target: &EcsTarget) -> Result<Ensured, StepError> {
        let seen = match self.current(target).await? {
            Fact::Seen(seen) if !seen.draining => seen,
            _ => return Ok(Ensured::AlreadySo),
        };
        if seen.owner != Owner::Us {
            return Err(StepError::refused(format!("{target} does not carry our mark")));
        }
        if seen.desired > 0 {
            return Err(StepError::stale(format!("{target} wants tasks again")));
        }
        self.sweeps.forget(&key(target), &target.name);
        self.api.delete_service(&target.realm, &target.cluster, &target.name).await?;
        Ok(Ensured::Changed)
    }

    /// The reply to a write is the newest there is; it leaves the tags out, which a write of another kind changes.
    fn take_reply(&self, target: &EcsTarget, reply: &Value, before: &ServiceSeen) {
        if let Some(service) = reply.get("service").filter(|it| text(it, "serviceName") == target.name) {
            let mut service = service.clone();
            service["tags"] = before.description.get("tags").cloned().unwrap_or_default();
            self.sweeps.wrote(&key(target), &target.name, &service);
        }
    }
}

fn key(target: &EcsTarget) -> ClusterKey {
    ClusterKey { region: target.realm.region.clone(), cluster: target.cluster.clone() }
}
