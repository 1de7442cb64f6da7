//! The sandbox has no ECS yet.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::Sandbox;
use crate::model::ecs::AlbTraffic;
use crate::model::ecs::seen::{AlbSeen, EcsSeen};
use crate::model::snapshot::Fact;
use crate::plan::step::{AlbStep, EcsStep, Ensured};
use crate::ports::{Cluster, EcsLookAt, LoadBalancer, StepError, Wakes};

#[async_trait]
impl Cluster for Sandbox {
    async fn look(&self, at: EcsLookAt<'_>) -> EcsSeen {
        let none = || Fact::Unreadable("the sandbox has no ECS".to_owned());
        EcsSeen {
            services: at.place.services.keys().map(|group| (*group, none())).collect(),
            base: None,
            sidecars: BTreeMap::new(),
            registered: BTreeMap::new(),
            inactive: std::collections::BTreeSet::new(),
        }
    }

    async fn perform(&self, _: &EcsStep) -> Result<Ensured, StepError> {
        Err(StepError::refused("the sandbox has no ECS"))
    }

    async fn watch(&self, _: Wakes) {
        std::future::pending().await
    }
}

#[async_trait]
impl LoadBalancer for Sandbox {
    async fn look(&self, _: &AlbTraffic) -> AlbSeen {
        AlbSeen { weights: Fact::Unreadable("the sandbox has no load balancer".to_owned()), targets: BTreeMap::new() }
    }

    async fn perform(&self, _: &AlbStep) -> Result<Ensured, StepError> {
        Err(StepError::refused("the sandbox has no load balancer"))
    }
}
