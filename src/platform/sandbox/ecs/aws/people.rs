//! What others do with the console and with tools of their own.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Aws, EcsService, Key};
use crate::model::ecs::task_definition::TaskDefinition;
use crate::plan::hold::after;

impl Aws {
    /// Somebody changes a variable in the console: a new revision with the tags of the old one, put in force.
    pub(crate) fn edit_definition(&mut self, key: &Key, variable: &str) {
        let Some(service) = self.services.get(key) else { return };
        let Some((definition, _)) = self.definitions.get(service.definition()).cloned() else { return };
        let mut request = Value::Object(definition.content.request());
        request["containerDefinitions"][0]["environment"] = json!([{"name": variable, "value": "by hand"}]);
        let Ok(content) = TaskDefinition::new(&request) else { return };
        let arn = self.register(content, definition.tags);
        self.begin(key, &arn, "");
    }

    /// Somebody puts another revision in force.
    pub(crate) fn choose(&mut self, key: &Key, arn: &str) {
        if self.services.get(key).is_some_and(|it| it.definition() != arn) {
            self.begin(key, arn, "");
        }
    }

    /// Somebody changes a service by whatever `change` does.
    pub(crate) fn edit(&mut self, key: &Key, change: impl FnOnce(&mut EcsService)) {
        let due = after(self.now, self.pace);
        if let Some(service) = self.services.get_mut(key) {
            change(service);
            service.due = Some(due);
        }
    }

    /// A task of the primary deployment ends; ECS starts another.
    pub(crate) fn lose_task(&mut self, key: &Key) {
        self.edit(key, |it| {
            if let Some(first) = it.deployments.first_mut() {
                first.running = first.running.saturating_sub(1);
            }
        });
    }

    /// Somebody edits the weights of a rule.
    pub(crate) fn edit_weights(&mut self, rule: &str, weights: &[(&str, u16)]) {
        let weights: BTreeMap<String, u16> = weights.iter().map(|(arn, weight)| ((*arn).to_owned(), *weight)).collect();
        self.rules.insert(rule.to_owned(), weights);
    }

    /// Somebody deregisters a task definition: it runs on and cannot be chosen any more.
    pub(crate) fn deregister(&mut self, arn: &str) {
        if let Some((_, active)) = self.definitions.get_mut(arn) {
            *active = false;
        }
    }

    /// The process ends: what it alone knew is lost.
    pub(crate) fn restart(&mut self) {
        self.known.clear();
    }
}
