//! An absent service: a copy of its sibling, or what `ecs.create` says.

use serde_json::{Map, Value, json};

use crate::model::colour::Group;
use crate::model::ecs::seen::ServiceSeen;
use crate::model::hash::sha256_hex;
use crate::model::release::Release;
use crate::plan::hold::Hold;
use crate::plan::step::{EcsStep, PlannedStep, Step};

use super::serve::{register, service_tags};
use super::{Facts, Lowered, release};

/// What a copy takes over from its sibling as it is.
const COPIED: [&str; 12] = [
    "launchType",
    "capacityProviderStrategy",
    "platformVersion",
    "networkConfiguration",
    "deploymentConfiguration",
    "placementConstraints",
    "placementStrategy",
    "enableECSManagedTags",
    "propagateTags",
    "enableExecuteCommand",
    "healthCheckGracePeriodSeconds",
    "availabilityZoneRebalancing",
];
/// What ECS keeps on the deployment and not on the service.
const OF_DEPLOYMENT: [&str; 2] = ["serviceConnectConfiguration", "volumeConfigurations"];

/// Creates the service of `group`, or says why not.
pub(super) fn create(facts: &Facts<'_>, group: Group, release: &Release, replicas: u32, out: &mut Lowered) {
    let because = match facts.serving {
        Some(serving) => format!("{group} does not exist yet; it is a copy of {serving}"),
        None => facts.wanted.because.clone(),
    };
    let Some(arn) = facts.arn_of(&release.hash()) else {
        if matches!(body(facts, group, release), Ok(_) | Err(None)) {
            register(facts, release, &because, out);
        } else if let Err(Some(hold)) = body(facts, group, release) {
            out.holds.push(hold);
        }
        return;
    };
    let mut body = match body(facts, group, release) {
        Ok(body) => body,
        Err(hold) => return out.holds.extend(hold),
    };
    let target = facts.target(group);
    let mut tags: Vec<Value> = Vec::new();
    for (key, value) in service_tags(facts, group, release) {
        tags.push(json!({"key": key, "value": value}));
    }
    let token = sha256_hex(format!("{} {} {arn} {}", target.cluster, target.name, facts.service.name));
    body.insert("cluster".to_owned(), json!(target.cluster));
    body.insert("serviceName".to_owned(), json!(target.name));
    body.insert("taskDefinition".to_owned(), json!(arn));
    body.insert("desiredCount".to_owned(), json!(replicas));
    body.insert("clientToken".to_owned(), json!(token[..32]));
    body.insert("tags".to_owned(), Value::Array(tags));
    out.act.push(PlannedStep { step: Step::Ecs(EcsStep::Create { target, body }), because });
}

fn body(facts: &Facts<'_>, group: Group, release: &Release) -> Result<Map<String, Value>, Option<Hold>> {
    let sibling =
        facts.ecs.services.keys().filter(|other| **other != group).find_map(|other| Some((*other, facts.of(*other)?)));
    match (sibling, &facts.ecs.create) {
        (Some((other, sibling)), _) => copy(facts, group, other, sibling).map_err(Some),
        (None, Some(_)) => from_file(facts, group, release).map_err(Some),
        (None, None) => {
            let hint = "create it once, or write `ecs.create` and `ecs.taskDefinition`".to_owned();
            Err(Some(Hold::EcsServiceMissing { name: facts.target(group).to_string(), hint }))
        }
    }
}

fn copy(facts: &Facts<'_>, group: Group, other: Group, sibling: &ServiceSeen) -> Result<Map<String, Value>, Hold> {
    let from = &sibling.description;
    let set = |value: &Value| {
        !matches!(value, Value::Null) && *value != json!([]) && *value != json!({}) && *value != json!("")
    };
    let mut body = Map::new();
    for key in COPIED {
        if let Some(value) = from.get(key).filter(|value| set(value)) {
            body.insert(key.to_owned(), value.clone());
        }
    }
    // Only with a load balancer or a provider strategy; ECS refuses both at once.
    if body.contains_key("capacityProviderStrategy") {
        body.remove("launchType");
    }
    let deployments = from.get("deployments").and_then(Value::as_array);
    let is_primary = |it: &&Value| it.get("status").and_then(Value::as_str) == Some("PRIMARY");
    if let Some(primary) = deployments.and_then(|list| list.iter().find(is_primary)) {
        for key in OF_DEPLOYMENT {
            if let Some(value) = primary.get(key).filter(|value| set(value)) {
                body.insert(key.to_owned(), value.clone());
            }
        }
    }
    let groups = facts.service.alb.as_ref().map(|alb| &alb.target_groups);
    let (Some(mine), Some(theirs)) = (groups.and_then(|it| it.get(&group)), groups.and_then(|it| it.get(&other)))
    else {
        return Ok(body);
    };
    let mut balancers = from.get("loadBalancers").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut found = false;
    for balancer in &mut balancers {
        if balancer.get("targetGroupArn").and_then(Value::as_str) == Some(theirs) {
            balancer["targetGroupArn"] = json!(mine);
            found = true;
        }
    }
    if !found {
        let name = facts.target(other).to_string();
        let why = format!("{name} does not register in its target group {theirs}, so a copy cannot either");
        return Err(Hold::EcsServiceMissing { name: facts.target(group).to_string(), hint: why });
    }
    body.insert("loadBalancers".to_owned(), Value::Array(balancers));
    Ok(body)
}

fn from_file(facts: &Facts<'_>, group: Group, release: &Release) -> Result<Map<String, Value>, Hold> {
    let Some(create) = &facts.ecs.create else { return Ok(Map::new()) };
    let mut body = Map::new();
    if let Some(launch) = &create.launch_type {
        body.insert("launchType".to_owned(), json!(launch));
    }
    if !create.subnets.is_empty() {
        let public = if create.assign_public_ip { "ENABLED" } else { "DISABLED" };
        let network = json!({"awsvpcConfiguration": {
            "subnets": create.subnets, "securityGroups": create.security_groups, "assignPublicIp": public,
        }});
        body.insert("networkConfiguration".to_owned(), network);
    }
    // A service of ours ends a deployment that fails, and goes back.
    let breaker = json!({"deploymentCircuitBreaker": {"enable": true, "rollback": true},
        "maximumPercent": 200, "minimumHealthyPercent": 100});
    body.insert("deploymentConfiguration".to_owned(), breaker);
    let of_colour = facts.service.alb.as_ref().and_then(|alb| alb.target_groups.get(&group));
    if let Some(target_group) = of_colour.or(create.target_group.as_ref()) {
        let container = release.ecs.as_ref().map(|part| part.container.clone()).unwrap_or_default();
        let made = release::of_file(facts.service, facts.ecs, facts.snapshot, facts.memory).ok();
        let port = create.port.map(u64::from).or_else(|| made.and_then(|made| made.definition.port(&container)));
        let Some(port) = port else {
            let why = format!("container `{container}` has no port for the target group; write `ecs.create.port`");
            return Err(Hold::TaskDefinitionUnusable { why });
        };
        let balancer = json!([{"targetGroupArn": target_group, "containerName": container, "containerPort": port}]);
        body.insert("loadBalancers".to_owned(), balancer);
    }
    Ok(body)
}
