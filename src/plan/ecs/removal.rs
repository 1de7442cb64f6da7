//! A service on ECS that left the file: nothing happens until its removal is acknowledged by name, and only what
//! carries our mark is touched.

use crate::model::colour::Group;
use crate::model::ecs::Place;
use crate::model::ecs::seen::{Owner, ServiceSeen};
use crate::model::memory::{Memory, MemoryChange};
use crate::model::names::ServiceName;
use crate::model::snapshot::{Fact, Snapshot};
use crate::plan::Plan;
use crate::plan::hold::Hold;
use crate::plan::step::ecs::{EcsTarget, Realm, Update};
use crate::plan::step::{EcsStep, PlannedStep, Step};

const BECAUSE: &str = "its removal is acknowledged";

/// Tasks end first, then the service, then the memory.
pub fn plan(name: &ServiceName, place: &Place, snapshot: &Snapshot, memory: &Memory, acknowledged: bool) -> Plan {
    if let Some(paused) = &memory.paused {
        return Plan::waiting(vec![Hold::Paused { by: paused.by.clone(), since: paused.at }]);
    }
    if !acknowledged && !memory.removal_approved {
        return Plan::waiting(vec![Hold::RemovalNotAcknowledged { service: name.to_string() }]);
    }
    let mut plan = Plan::default();
    "removing".clone_into(&mut plan.view.stage);
    let (mut steps, mut left) = (Vec::new(), false);
    for (group, ecs_name) in &place.services {
        let fact = snapshot.ecs.as_ref().and_then(|seen| seen.services.get(group));
        match fact {
            Some(Fact::Absent) => {}
            Some(Fact::Seen(seen)) if seen.owner != Owner::Us => {}
            Some(Fact::Seen(seen)) => {
                left = true;
                steps.extend(remove(name, place, *group, seen, &mut plan.holds));
            }
            Some(Fact::Unreadable(why)) => {
                let what = format!("{}/{ecs_name}", place.cluster);
                return Plan::waiting(vec![Hold::EcsUnreadable { what, why: why.clone() }]);
            }
            None => {
                let what = format!("{}/{ecs_name}", place.cluster);
                return Plan::waiting(vec![Hold::EcsUnreadable { what, why: "nobody looked".to_owned() }]);
            }
        }
    }
    plan.stage(steps);
    if !left {
        plan.remember(vec![(MemoryChange::Forget, "nothing of ours is left of it".to_owned())]);
    }
    plan
}

fn remove(
    name: &ServiceName,
    place: &Place,
    group: Group,
    seen: &ServiceSeen,
    holds: &mut Vec<Hold>,
) -> Option<PlannedStep> {
    let target = EcsTarget {
        realm: Realm { account: place.account.clone(), region: place.region.clone() },
        cluster: place.cluster.clone(),
        name: place.services.get(&group).cloned().unwrap_or_default(),
        service: name.clone(),
    };
    let step = if seen.draining {
        holds.push(Hold::EcsServiceDraining { name: target.to_string() });
        return None;
    } else if seen.desired > 0 {
        EcsStep::Update(Box::new(Update {
            target,
            seen: seen.task_definition.clone(),
            task_definition: None,
            desired: Some(0),
            again: false,
            deployment_configuration: None,
        }))
    } else if seen.running > 0 {
        holds.push(Hold::EcsServiceDraining { name: target.to_string() });
        return None;
    } else {
        EcsStep::Delete { target }
    };
    Some(PlannedStep { step: Step::Ecs(step), because: BECAUSE.to_owned() })
}
