//! The sandbox's ECS and load balancer: the account in [`aws`] moved by the sandbox's clock.

pub(super) mod aws;
pub(super) mod console;

use async_trait::async_trait;

use super::engine::OUTAGE;
use super::{ROUND, Sandbox};
use crate::model::colour::Group;
use crate::model::ecs::seen::{AlbSeen, EcsSeen};
use crate::model::ecs::{AlbTraffic, Place};
use crate::model::names::ServiceName;
use crate::model::snapshot::Fact;
use crate::plan::step::{AlbStep, EcsStep, Ensured};
use crate::ports::{Cluster, EcsLookAt, LoadBalancer, StepError, Wakes};

fn outage_of(place: &Place) -> EcsSeen {
    let none = || Fact::Unreadable(OUTAGE.to_owned());
    EcsSeen {
        services: place.services.keys().map(|group| (*group, none())).collect(),
        base: None,
        sidecars: std::collections::BTreeMap::new(),
        registered: std::collections::BTreeMap::new(),
        inactive: std::collections::BTreeSet::new(),
    }
}

const fn service_of(step: &EcsStep) -> &ServiceName {
    match step {
        EcsStep::Register { service, .. } | EcsStep::RegisterAgain { service, .. } => service,
        EcsStep::Tag { target, .. } | EcsStep::Create { target, .. } | EcsStep::Delete { target } => &target.service,
        EcsStep::Update(update) => &update.target.service,
    }
}

impl Sandbox {
    /// Lets ECS work until it has nothing left to do, one round after the other; every round wakes `service`.
    fn drive(&self, service: &ServiceName) {
        {
            let mut state = self.state();
            if state.driven || state.ecs.next().is_none() {
                return;
            }
            state.driven = true;
        }
        let service = service.clone();
        self.later(ROUND, move |world| {
            let now = world.clock.now();
            {
                let mut state = world.state();
                state.driven = false;
                state.ecs.advance(now);
            }
            world.wake(Some(&service), "ecs: its deployment moved");
            world.drive(&service);
        });
    }
}

#[async_trait]
impl Cluster for Sandbox {
    async fn look(&self, at: EcsLookAt<'_>) -> EcsSeen {
        let now = self.clock.now();
        let mut state = self.state();
        if state.outage {
            return outage_of(at.place);
        }
        state.ecs.advance(now);
        if let Some(service) = at.service {
            state.ecs.exist(service);
        }
        state.ecs.look(at.place, at.service, at.memory)
    }

    async fn perform(&self, step: &EcsStep) -> Result<Ensured, StepError> {
        let now = self.clock.now();
        let done = {
            let mut state = self.state();
            if state.outage {
                return Err(StepError::transient(OUTAGE));
            }
            state.mutations += 1;
            state.ecs.advance(now);
            state.ecs.perform(step)
        };
        self.drive(service_of(step));
        done
    }

    async fn watch(&self, _: Wakes) {
        // Everything that changes here wakes at once; there is nothing to watch.
        std::future::pending().await
    }
}

#[async_trait]
impl LoadBalancer for Sandbox {
    async fn look(&self, traffic: &AlbTraffic, _settled_on: Option<Group>) -> AlbSeen {
        let now = self.clock.now();
        let mut state = self.state();
        if state.outage {
            let none = || Fact::Unreadable(OUTAGE.to_owned());
            let targets = traffic.target_groups.keys().map(|group| (*group, Fact::Unreadable(OUTAGE.to_owned())));
            return AlbSeen { weights: none(), targets: targets.collect() };
        }
        state.ecs.advance(now);
        state.ecs.balance(traffic)
    }

    async fn perform(&self, step: &AlbStep) -> Result<Ensured, StepError> {
        let mut state = self.state();
        if state.outage {
            return Err(StepError::transient(OUTAGE));
        }
        state.mutations += 1;
        Ok(state.ecs.weigh(step))
    }
}
