//! For tests: what others do in the console, and what is there.

use super::aws::{Key, short};
use crate::model::ecs::AlbTraffic;
use crate::model::names::ServiceName;
use crate::platform::sandbox::Sandbox;

/// One ECS service, as tests ask about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcsState {
    /// `family:revision` it is set to.
    pub definition: String,
    /// The tag of the release that task definition was registered for; empty where nobody here did.
    pub tag: String,
    /// The wanted number of tasks.
    pub desired: u32,
    /// Tasks that run.
    pub running: u32,
    /// How many deployments it has.
    pub deployments: usize,
    /// Whether it carries our mark.
    pub is_ours: bool,
}

fn key(cluster: &str, name: &str) -> Key {
    (short(cluster), name.to_owned())
}

impl Sandbox {
    /// The ECS service `name`; none: there is no such service.
    pub fn ecs_service(&self, cluster: &str, name: &str) -> Option<EcsState> {
        let state = self.state();
        let it = state.ecs.services.get(&key(cluster, name))?;
        let definition = state.ecs.definitions.get(it.definition());
        let tag = definition.and_then(|(definition, _)| definition.tags.get(crate::model::ecs::tags::TAG).cloned());
        Some(EcsState {
            tag: tag.unwrap_or_default(),
            definition: crate::plan::step::revision(it.definition()).to_owned(),
            desired: it.desired,
            running: it.running(),
            deployments: it.deployments.len(),
            is_ours: it.tags.contains_key(crate::model::ecs::tags::CONTROLLER),
        })
    }

    /// Every call that changed something at ECS and the load balancer, in order.
    pub fn ecs_calls(&self) -> Vec<String> {
        self.state().ecs.calls.clone()
    }

    /// Healthy targets of the target groups that get requests by this rule.
    pub fn alb_serving(&self, traffic: &AlbTraffic) -> u32 {
        let state = self.state();
        let Some(rule) = state.ecs.rules.get(&traffic.rule) else { return 0 };
        rule.iter().filter(|(_, weight)| **weight > 0).map(|(arn, _)| state.ecs.healthy_targets(arn)).sum()
    }

    /// Somebody sets the desired count.
    pub fn ecs_scale(&self, service: &ServiceName, cluster: &str, name: &str, desired: u32) {
        self.state().ecs.edit(&key(cluster, name), |it| it.desired = desired);
        self.moved(service);
    }

    /// Somebody changes a variable of the task definition in the console.
    pub fn ecs_edit(&self, service: &ServiceName, cluster: &str, name: &str) {
        self.state().ecs.edit_definition(&key(cluster, name), "HAND");
        self.moved(service);
    }

    /// Somebody puts `family:revision` in force.
    pub fn ecs_choose(&self, service: &ServiceName, cluster: &str, name: &str, definition: &str) {
        let mut state = self.state();
        let found = state.ecs.definitions.keys().find(|arn| crate::plan::step::revision(arn) == definition).cloned();
        if let Some(arn) = found {
            state.ecs.choose(&key(cluster, name), &arn);
        }
        drop(state);
        self.moved(service);
    }

    /// A task ends.
    pub fn ecs_lose_task(&self, service: &ServiceName, cluster: &str, name: &str) {
        self.state().ecs.lose_task(&key(cluster, name));
        self.moved(service);
    }

    /// Somebody deregisters the task definition a service is set to.
    pub fn ecs_deregister(&self, cluster: &str, name: &str) {
        let mut state = self.state();
        let arn = state.ecs.services.get(&key(cluster, name)).map(|it| it.definition().to_owned());
        arn.into_iter().for_each(|arn| state.ecs.deregister(&arn));
    }

    /// Somebody edits the weights of a rule.
    pub fn alb_edit(&self, service: &ServiceName, traffic: &AlbTraffic, weights: &[(&str, u16)]) {
        self.state().ecs.edit_weights(&traffic.rule, weights);
        self.moved(service);
    }

    /// The process that asked is another one now, or never got its reply: what it alone knew is lost.
    pub fn ecs_reconnect(&self) {
        self.state().ecs.restart();
    }

    fn moved(&self, service: &ServiceName) {
        self.wake(Some(service), "ecs: somebody changed it");
        self.drive(service);
    }
}
