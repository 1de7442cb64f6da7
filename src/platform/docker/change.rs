//! Changing and removing what exists. Each step looks at its target once more right before it acts.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, ContainerUpdateBody};
use bollard::query_parameters::{RemoveContainerOptionsBuilder, StopContainerOptionsBuilder};

use super::Docker;
use super::classify;
use super::engine::Failed;
use super::labels::Claim;
use super::run::{memory_swap, restart_policy};
use crate::model::desired::{Resources, Restart};
use crate::plan::step::{Ensured, Target};
use crate::ports::StepError;

fn name_of(found: &ContainerInspectResponse) -> &str {
    found.name.as_deref().unwrap_or_default().trim_start_matches('/')
}

fn status_of(found: &ContainerInspectResponse) -> Option<ContainerStateStatusEnum> {
    found.state.as_ref()?.status
}

impl Docker {
    /// The target as it is now, still ours in full; `None`: it is gone.
    async fn target(&self, target: &Target) -> Result<Option<(Claim, ContainerInspectResponse)>, StepError> {
        let found = self.world.inspect_now(&target.id).await.map_err(StepError::transient)?;
        let Some(found) = found else { return Ok(None) };
        let none = HashMap::new();
        let labels = found.config.as_ref().and_then(|config| config.labels.as_ref()).unwrap_or(&none);
        let same_id = found.id.as_deref() == Some(&target.id);
        let claim = Claim::read(labels).ok().filter(|claim| {
            same_id
                && self.owners.owns_labels(labels)
                && claim.service == target.service
                && claim.name() == target.name
                && name_of(&found) == target.name
        });
        match claim {
            Some(claim) => Ok(Some((claim, found))),
            None => Err(StepError::stale(format!("{} no longer carries our name and labels", target.name))),
        }
    }

    pub(super) async fn unpause(&self, target: &Target) -> Result<Ensured, StepError> {
        let Some((_, found)) = self.target(target).await? else { return Err(gone(target)) };
        if status_of(&found) != Some(ContainerStateStatusEnum::PAUSED) {
            return Ok(Ensured::AlreadySo);
        }
        let id = target.id.as_str();
        self.engine
            .write(Duration::ZERO, |client| async move { client.unpause_container(id).await })
            .await
            .map_err(Failed::into_step)?;
        Ok(Ensured::Changed)
    }

    pub(super) async fn update(
        &self,
        target: &Target,
        restart: Restart,
        resources: Resources,
    ) -> Result<Ensured, StepError> {
        let Some((claim, found)) = self.target(target).await? else { return Err(gone(target)) };
        let Some(now) = classify::replica(claim, &found, None) else {
            return Err(StepError::transient(format!("the engine did not describe {} in full", target.name)));
        };
        // No limit cannot be set in place (0 changes nothing): lifting one is a replacement, never an update.
        let same = |wanted: Option<i64>, has: Option<i64>| wanted.is_none() || wanted == has;
        let limits_same =
            same(resources.memory, now.resources.memory) && same(resources.nano_cpus, now.resources.nano_cpus);
        if now.restart == restart && limits_same {
            return Ok(Ensured::AlreadySo);
        }
        let change = ContainerUpdateBody {
            restart_policy: Some(restart_policy(restart)),
            nano_cpus: resources.nano_cpus,
            memory: resources.memory,
            memory_swap: memory_swap(resources),
            ..ContainerUpdateBody::default()
        };
        let id = target.id.as_str();
        self.engine
            .write(Duration::ZERO, |client| async move { client.update_container(id, change).await })
            .await
            .map_err(|failed| match failed.status {
                Some(409) => StepError::stale(failed.why),
                _ => failed.into_step(),
            })?;
        Ok(Ensured::Changed)
    }

    pub(super) async fn remove(
        &self,
        target: &Target,
        stop_timeout: u32,
        only_if_down: bool,
    ) -> Result<Ensured, StepError> {
        match self.target(target).await? {
            Some((_, found)) if only_if_down && is_up(&found) => {
                Err(StepError::stale(format!("{} runs again", target.name)))
            }
            Some((_, found)) => self.stop_and_remove(&target.id, &found, stop_timeout).await,
            None => Ok(Ensured::AlreadySo),
        }
    }

    /// A hand-made container claimed by `replaces`: the very one that was seen, and nobody else's.
    pub(super) async fn retire(&self, id: &str, name: &str, stop_timeout: u32) -> Result<Ensured, StepError> {
        let found = self.world.inspect_now(id).await.map_err(StepError::transient)?;
        let Some(found) = found else { return Ok(Ensured::AlreadySo) };
        if found.id.as_deref() != Some(id) || name_of(&found) != name {
            return Err(StepError::stale(format!("the container {name} is another one now")));
        }
        let none = HashMap::new();
        let labels = found.config.as_ref().and_then(|config| config.labels.as_ref()).unwrap_or(&none);
        if let Some(owner) = self.owners.other(labels) {
            return Err(StepError::stale(format!("{name} belongs to controller {owner}")));
        }
        self.stop_and_remove(id, &found, stop_timeout).await
    }

    async fn stop_and_remove(
        &self,
        id: &str,
        found: &ContainerInspectResponse,
        stop_timeout: u32,
    ) -> Result<Ensured, StepError> {
        if status_of(found) == Some(ContainerStateStatusEnum::REMOVING) {
            return Ok(Ensured::AlreadySo);
        }
        if is_up(found) {
            let seconds = i32::try_from(stop_timeout).unwrap_or(i32::MAX);
            let options = StopContainerOptionsBuilder::new().t(seconds).build();
            let stopped = self
                .engine
                .write(Duration::from_secs(u64::from(stop_timeout)), |client| async move {
                    client.stop_container(id, Some(options)).await
                })
                .await;
            match stopped {
                Ok(()) => {}
                Err(failed) if failed.status == Some(404) => return Ok(Ensured::AlreadySo),
                Err(failed) => return Err(failed.into_step()),
            }
        }
        let options = RemoveContainerOptionsBuilder::new().v(true).build();
        let removed = self
            .engine
            .write(Duration::ZERO, |client| async move { client.remove_container(id, Some(options)).await })
            .await;
        match removed {
            Ok(()) => Ok(Ensured::Changed),
            Err(failed) if failed.status == Some(404) => Ok(Ensured::AlreadySo),
            Err(failed) if failed.status == Some(409) && failed.why.contains("already in progress") => {
                Ok(Ensured::AlreadySo)
            }
            // Somebody started it between our stop and our removal.
            Err(failed) if failed.status == Some(409) => Err(StepError::stale(failed.why)),
            Err(failed) => Err(failed.into_step()),
        }
    }
}

/// Whether a process of it runs or will by itself.
fn is_up(found: &ContainerInspectResponse) -> bool {
    use ContainerStateStatusEnum::{CREATED, DEAD, EXITED, REMOVING};
    !matches!(status_of(found), Some(CREATED | EXITED | DEAD | REMOVING))
}

fn gone(target: &Target) -> StepError {
    StepError::stale(format!("{} is gone", target.name))
}
