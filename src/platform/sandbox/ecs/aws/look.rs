//! What a look at the account sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Aws, CONTROLLER, EcsService, short};
use crate::model::desired::Service;
use crate::model::ecs::seen::{AlbSeen, Breaker, Definition, DeploymentSeen, EcsSeen, Owner, ServiceSeen, TargetsSeen};
use crate::model::ecs::task_definition::sorted_keys;
use crate::model::ecs::{AlbTraffic, Place, tags};
use crate::model::memory::Memory;
use crate::model::snapshot::Fact;

impl Aws {
    /// One look at the services of `place`.
    pub(crate) fn look(&self, place: &Place, service: Option<&Service>, memory: &Memory) -> EcsSeen {
        let mut services = BTreeMap::new();
        for (group, name) in &place.services {
            let found = self.services.get(&(short(&place.cluster), name.clone()));
            services.insert(*group, found.map_or(Fact::Absent, |it| Fact::Seen(self.seen(&place.cluster, it))));
        }
        let seen: Vec<&ServiceSeen> = services.values().filter_map(Fact::seen).collect();
        let base = service.and_then(|_| {
            let tagged = seen.iter().filter(|it| it.owner == Owner::Us).find_map(|it| it.tags.get(tags::BASE).cloned());
            memory.base.clone().or(tagged)
        });
        let inactive = self.definitions.iter().filter(|(_, (_, active))| !active);
        EcsSeen {
            base: base.map(|arn| self.definition(&arn)),
            sidecars: BTreeMap::new(),
            registered: self.known.clone(),
            inactive: inactive.map(|(arn, _)| arn.clone()).collect(),
            services,
        }
    }

    /// A task definition.
    pub(crate) fn definition(&self, arn: &str) -> Fact<Definition> {
        self.definitions.get(arn).map_or(Fact::Absent, |(definition, _)| Fact::Seen(definition.clone()))
    }

    fn seen(&self, cluster: &str, it: &EcsService) -> ServiceSeen {
        let definition = self.definition(it.definition());
        let mut digests = BTreeMap::new();
        if let Some(definition) = definition.seen().filter(|_| it.deployments.iter().any(|it| it.running > 0)) {
            for container in definition.content.containers() {
                let digest = definition.content.image(container).and_then(|image| self.digest(image));
                digests.extend(digest.map(|digest| (container.to_owned(), digest)));
            }
        }
        let flag = |key: &str| it.configuration["deploymentCircuitBreaker"][key] == json!(true);
        ServiceSeen {
            arn: format!("arn:aws:ecs:sandbox:000000000000:service/{}/{}", short(cluster), it.name),
            name: it.name.clone(),
            draining: it.draining,
            desired: it.desired,
            daemon: false,
            running: it.running(),
            pending: it.desired.saturating_sub(it.running()),
            task_definition: it.definition().to_owned(),
            definition,
            deployments: deployments(it),
            other_controller: it.deployed_by.clone(),
            owner: owner(&it.tags),
            tags: it.tags.clone(),
            deployment_configuration: canonical(&it.configuration),
            breaker: Breaker { enabled: flag("enable"), rollback: flag("rollback") },
            alarming: it.alarming.clone().map_or(Fact::Absent, Fact::Seen),
            target_groups: it.target_groups().map(str::to_owned).collect(),
            digests,
            youngest: it.deployments.first().and_then(|it| it.youngest),
            stopped: it.stopped.clone(),
            description: Arc::new(description(it)),
        }
    }

    /// What the load balancer does. A rule nobody knows yet sends everything to blue.
    pub(crate) fn balance(&mut self, traffic: &AlbTraffic) -> AlbSeen {
        let first = traffic.target_groups.values().next().cloned().unwrap_or_default();
        let rule = self.rules.entry(traffic.rule.clone()).or_insert_with(|| BTreeMap::from([(first, 1)]));
        let of = |arn: &String| rule.get(arn).copied().unwrap_or(0);
        let weights = traffic.target_groups.iter().map(|(group, arn)| (*group, of(arn))).collect();
        let mut targets = BTreeMap::new();
        for (group, arn) in &traffic.target_groups {
            let healthy = self.healthy_targets(arn);
            targets.insert(*group, Fact::Seen(TargetsSeen { healthy, total: healthy, why: None }));
        }
        AlbSeen { weights: Fact::Seen(weights), targets }
    }
}

pub(super) fn owner(tags: &BTreeMap<String, String>) -> Owner {
    match tags.get(tags::CONTROLLER) {
        None => Owner::Nobody,
        Some(id) if id == CONTROLLER => Owner::Us,
        Some(id) => Owner::Another(id.clone()),
    }
}

fn deployments(it: &EcsService) -> Vec<DeploymentSeen> {
    let seen = it.deployments.iter().enumerate().map(|(at, deployment)| DeploymentSeen {
        id: deployment.id.clone(),
        primary: at == 0,
        task_definition: deployment.definition.clone(),
        desired: if at == 0 { it.desired } else { 0 },
        running: deployment.running,
        failed: deployment.failed,
        rollout: deployment.rollout,
        reason: deployment.reason.clone(),
        created_at: Some(deployment.created_at),
    });
    seen.collect()
}

/// The configuration with its defaults left out, as the real edge has it.
pub(super) fn canonical(configuration: &Value) -> String {
    let mut value = configuration.clone();
    if let Value::Object(map) = &mut value {
        for (key, default) in [("maximumPercent", 200), ("minimumHealthyPercent", 100)] {
            if map.get(key) == Some(&json!(default)) {
                map.remove(key);
            }
        }
        if map.get("deploymentCircuitBreaker").is_some_and(|it| it["enable"] != json!(true)) {
            map.remove("deploymentCircuitBreaker");
        }
    }
    sorted_keys(&value).to_string()
}

fn description(it: &EcsService) -> Value {
    let mut all = it.body.clone();
    all.insert("serviceName".to_owned(), json!(it.name));
    all.insert("deploymentConfiguration".to_owned(), it.configuration.clone());
    all.insert("deployments".to_owned(), json!([{"status": "PRIMARY", "taskDefinition": it.definition()}]));
    Value::Object(all)
}
