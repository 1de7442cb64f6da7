//! Steps, with the checks the real edge makes right before each.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::look::{canonical, owner};
use super::{Aws, CONTROLLER, Key, short};
use crate::model::ecs::seen::{Owner, RolloutState};
use crate::model::ecs::tags;
use crate::model::ecs::task_definition::TaskDefinition;
use crate::model::release::ReleaseHash;
use crate::plan::hold::after;
use crate::plan::step::ecs::{EcsTarget, Update};
use crate::plan::step::{AlbStep, EcsStep, Ensured, revision};
use crate::ports::StepError;

impl Aws {
    /// Does one step at ECS.
    ///
    /// # Errors
    /// As the real edge: the world moved on, or it is somebody else's.
    pub(crate) fn perform(&mut self, step: &EcsStep) -> Result<Ensured, StepError> {
        match step {
            EcsStep::Register { release, definition, tags, .. } => Ok(self.ensure(release, definition, tags)),
            EcsStep::RegisterAgain { release, from, .. } => {
                let Some((found, _)) = self.definitions.get(from).cloned() else {
                    return Err(StepError::refused(format!("{from} was deleted")));
                };
                Ok(self.ensure(release, &found.content, &found.tags))
            }
            EcsStep::Tag { target, tags: with, .. } => {
                let key = self.ours(target)?;
                let mut all = with.clone();
                all.insert(tags::CONTROLLER.to_owned(), CONTROLLER.to_owned());
                let Some(service) = self.services.get_mut(&key) else { return Ok(Ensured::AlreadySo) };
                if all.iter().all(|(key, value)| service.tags.get(key) == Some(value)) {
                    return Ok(Ensured::AlreadySo);
                }
                service.tags.extend(all);
                self.calls.push(format!("TagResource {target}"));
                Ok(Ensured::Changed)
            }
            EcsStep::Update(update) => self.update(update),
            EcsStep::Create { target, body } => self.create(target, body),
            EcsStep::Delete { target } => self.delete(target),
        }
    }

    /// Sets the weights of a rule.
    pub(crate) fn weigh(&mut self, step: &AlbStep) -> Ensured {
        let rule = self.rules.entry(step.traffic.rule.clone()).or_default();
        let groups = &step.traffic.target_groups;
        let wanted: BTreeMap<String, u16> =
            step.weights.iter().filter_map(|(group, weight)| Some((groups.get(group)?.clone(), *weight))).collect();
        if *rule == wanted {
            return Ensured::AlreadySo;
        }
        *rule = wanted;
        self.calls.push(format!("ModifyRule {}", crate::plan::step::ecs::shares(&step.weights)));
        Ensured::Changed
    }

    fn ensure(&mut self, release: &ReleaseHash, content: &TaskDefinition, with: &BTreeMap<String, String>) -> Ensured {
        let same = |it: &(crate::model::ecs::seen::Definition, bool)| {
            let tagged = it.0.tags.get(tags::RELEASE).is_some_and(|tag| tag == release.as_str());
            it.1 && tagged && it.0.content.sha256() == content.sha256()
        };
        if let Some((arn, _)) = self.definitions.iter().find(|(_, it)| same(it)) {
            self.known.insert(release.clone(), arn.clone());
            return Ensured::AlreadySo;
        }
        let mut all = with.clone();
        all.insert(tags::CONTROLLER.to_owned(), CONTROLLER.to_owned());
        let arn = self.register(content.clone(), all);
        self.calls.push(format!("RegisterTaskDefinition {}", revision(&arn)));
        self.known.insert(release.clone(), arn);
        Ensured::Changed
    }

    /// The target, unless it is gone or another's.
    fn ours(&self, target: &EcsTarget) -> Result<Key, StepError> {
        let key = (short(&target.cluster), target.name.clone());
        let found = self.services.get(&key).ok_or_else(|| StepError::stale(format!("{target} is gone")))?;
        match owner(&found.tags) {
            Owner::Another(owner) => Err(StepError::refused(format!("{target} belongs to controller {owner}"))),
            Owner::Nobody | Owner::Us => Ok(key),
        }
    }

    fn update(&mut self, update: &Update) -> Result<Ensured, StepError> {
        let Update { target, seen, task_definition, again, desired, deployment_configuration } = update;
        let key = self.ours(target)?;
        let (now, pace) = (self.now, self.pace);
        let Some(service) = self.services.get_mut(&key) else { return Ok(Ensured::AlreadySo) };
        let failed = service.deployments.first().is_some_and(|it| it.rollout == RolloutState::Failed);
        let so = (!again || !failed)
            && task_definition.as_ref().is_none_or(|arn| service.definition() == *arn)
            && desired.is_none_or(|desired| service.desired == desired)
            && deployment_configuration.as_ref().is_none_or(|it| canonical(&service.configuration) == *it);
        if so {
            return Ok(Ensured::AlreadySo);
        }
        if service.definition() != *seen {
            let what = revision(service.definition());
            return Err(StepError::stale(format!("{target} is set to {what} by now")));
        }
        if let Some(arn) = task_definition
            && !self.definitions.get(arn).is_some_and(|(_, active)| *active)
        {
            return Err(StepError::stale(format!("{} was deregistered", revision(arn))));
        }
        if let Some(desired) = desired {
            service.desired = *desired;
            service.due = Some(after(now, pace));
        }
        if let Some(configuration) = deployment_configuration {
            service.configuration = serde_json::from_str(configuration).unwrap_or_default();
        }
        if let Some(arn) = task_definition.as_ref().filter(|arn| service.definition() != **arn) {
            self.begin(&key, arn, "");
        }
        if *again {
            let arn = seen.clone();
            self.begin(&key, &arn, "");
        }
        self.calls.push(format!("UpdateService {}", update.to_string().trim_start_matches("update ")));
        Ok(Ensured::Changed)
    }

    fn create(&mut self, target: &EcsTarget, body: &Map<String, Value>) -> Result<Ensured, StepError> {
        let key = (short(&target.cluster), target.name.clone());
        if self.services.contains_key(&key) {
            return Err(StepError::stale(format!("{target} exists by now")));
        }
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let list = body.get("tags").and_then(Value::as_array).into_iter().flatten();
        let mut tags: BTreeMap<String, String> = list.map(|it| (text(it.get("key")), text(it.get("value")))).collect();
        tags.insert(tags::CONTROLLER.to_owned(), CONTROLLER.to_owned());
        let mut rest = body.clone();
        for key in ["tags", "cluster", "serviceName", "taskDefinition", "desiredCount", "clientToken"] {
            rest.remove(key);
        }
        let configuration = rest.remove("deploymentConfiguration").unwrap_or_else(|| json!({}));
        let desired = body.get("desiredCount").and_then(Value::as_u64).and_then(|it| u32::try_from(it).ok());
        let arn = text(body.get("taskDefinition"));
        let made = self.service(&target.name, &arn, desired.unwrap_or(1), configuration, rest, tags);
        self.services.insert(key, made);
        self.calls.push(format!("CreateService {target} with {}", revision(&arn)));
        Ok(Ensured::Changed)
    }

    fn delete(&mut self, target: &EcsTarget) -> Result<Ensured, StepError> {
        let key = (short(&target.cluster), target.name.clone());
        let (now, pace) = (self.now, self.pace);
        let Some(service) = self.services.get_mut(&key).filter(|it| !it.draining) else {
            return Ok(Ensured::AlreadySo);
        };
        if owner(&service.tags) != Owner::Us {
            return Err(StepError::refused(format!("{target} does not carry our mark")));
        }
        if service.desired > 0 {
            return Err(StepError::stale(format!("{target} wants tasks again")));
        }
        service.draining = true;
        service.due = Some(after(now, pace));
        self.calls.push(format!("DeleteService {target}"));
        Ok(Ensured::Changed)
    }
}
