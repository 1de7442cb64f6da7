//! Create and start: the one step that makes something.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerStateStatusEnum, HostConfig, HostConfigLogConfig, PortBinding, RestartPolicy,
    RestartPolicyNameEnum,
};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions};

use super::Docker;
use super::classify::is_bound;
use super::engine::Failed;
use super::labels::{Claim, Owners};
use crate::model::desired::{Pull, Resources, Restart};
use crate::model::env_file::EnvVariables;
use crate::plan::step::{Ensured, RunContainer};
use crate::ports::StepError;

/// The loopback address replicas are published on: nginx is on this host, nobody else may ask them.
const LOOPBACK: &str = "127.0.0.1";

/// What the labels of `run` claim.
fn claim_of(run: &RunContainer) -> Claim {
    Claim {
        service: run.service.clone(),
        group: run.group,
        slot: run.slot,
        release: run.hash.clone(),
        port: run.host_port,
    }
}

/// What the engine is asked to create. Only these fields are ever set: nothing privileged can be expressed.
fn body(run: &RunContainer, owners: &Owners, env_file: &EnvVariables) -> ContainerCreateBody {
    let release = &run.release;
    let image = match release.pull {
        Pull::Always => format!("{}@{}", release.repository, release.digest),
        Pull::Never => release.digest.to_string(),
    };
    // The file's own variables come later and win over those of the env file.
    let from_file = env_file.iter().map(|(name, value)| format!("{name}={}", value.reveal()));
    let env = from_file.chain(release.env.iter().map(|(name, value)| format!("{name}={value}")));
    let exposed = release.port.map(|port| format!("{port}/tcp"));
    let bindings = exposed.clone().zip(run.host_port).map(|(exposed, port)| {
        let binding = PortBinding { host_ip: Some(LOOPBACK.to_owned()), host_port: Some(port.to_string()) };
        HashMap::from([(exposed, Some(vec![binding]))])
    });
    let logging = release.logging.as_ref().map(|logging| HostConfigLogConfig {
        typ: Some(logging.driver.clone()),
        config: Some(logging.options.clone().into_iter().collect()),
    });
    ContainerCreateBody {
        image: Some(image),
        env: Some(env.collect()),
        cmd: (!release.command.is_empty()).then(|| release.command.clone()),
        exposed_ports: exposed.map(|port| vec![port]),
        labels: Some(claim_of(run).labels(&owners.own)),
        stop_timeout: Some(i64::from(release.stop_timeout)),
        host_config: Some(HostConfig {
            binds: Some(release.volumes.clone()),
            port_bindings: bindings,
            log_config: logging,
            restart_policy: Some(restart_policy(run.restart)),
            nano_cpus: run.resources.nano_cpus,
            memory: run.resources.memory,
            memory_swap: memory_swap(run.resources),
            init: Some(release.init),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

pub(super) const fn restart_policy(restart: Restart) -> RestartPolicy {
    let name = match restart {
        Restart::No => RestartPolicyNameEnum::NO,
        Restart::Always => RestartPolicyNameEnum::ALWAYS,
        Restart::UnlessStopped => RestartPolicyNameEnum::UNLESS_STOPPED,
        Restart::OnFailure => RestartPolicyNameEnum::ON_FAILURE,
    };
    RestartPolicy { name: Some(name), maximum_retry_count: None }
}

/// Twice the memory, as the engine defaults at create; in an update it must be said.
pub(super) fn memory_swap(resources: Resources) -> Option<i64> {
    resources.memory.map(|bytes| bytes.saturating_mul(2))
}

impl Docker {
    /// Creates and starts `run`, or finishes what an earlier try of the same step began.
    pub(super) async fn run(&self, run: &RunContainer) -> Result<Ensured, StepError> {
        let variables = match &run.release.env_file {
            Some(version) => self.env_files.variables(version).await.map_err(StepError::stale)?,
            None => EnvVariables::new(),
        };
        let body = body(run, &self.owners, &variables);
        let options = CreateContainerOptionsBuilder::new().name(&run.name).build();
        let created = self
            .engine
            .write(Duration::ZERO, |client| async move { client.create_container(Some(options), body).await })
            .await;
        let id = match created {
            Ok(created) => created.id,
            Err(failed) if failed.status == Some(409) => return self.adopt(run, &failed).await,
            Err(failed) => return Err(failed.into_step()),
        };
        self.start(run, &id).await?;
        self.keep_local(run).await?;
        Ok(Ensured::Changed)
    }

    /// A rebuilt tag leaves the old image nameless: ours keeps it for a rollback. The container itself spares it until then,
    /// and a replica that is missed does not wait for this.
    async fn keep_local(&self, run: &RunContainer) -> Result<(), StepError> {
        if run.release.pull == Pull::Never {
            self.keep(&run.service, run.release.digest.as_str(), &run.release.digest).await?;
        }
        Ok(())
    }

    /// The name is taken: by the container an earlier try made (its reply was lost), or by somebody else's.
    async fn adopt(&self, run: &RunContainer, conflict: &Failed) -> Result<Ensured, StepError> {
        let found = self.world.inspect_now(&run.name).await.map_err(StepError::transient)?;
        let Some(found) = found else { return Err(StepError::stale(conflict.why.clone())) };
        let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
        let ours = labels.is_some_and(|labels| {
            self.owners.owns_labels(labels) && Claim::read(labels).is_ok_and(|claim| claim == claim_of(run))
        });
        if !ours {
            return Err(StepError::stale(format!("the name {} is taken by a container that is another", run.name)));
        }
        let state = found.state.as_ref().and_then(|state| state.status);
        match (state, found.id.as_deref()) {
            (Some(ContainerStateStatusEnum::RUNNING), _) => {
                self.keep_local(run).await?;
                Ok(Ensured::AlreadySo)
            }
            (Some(ContainerStateStatusEnum::CREATED), Some(id)) => {
                self.start(run, id).await?;
                self.insist_on_port(run, id).await?;
                self.keep_local(run).await?;
                Ok(Ensured::Changed)
            }
            (state, _) => {
                let state = state.map(|state| state.to_string()).unwrap_or_default();
                Err(StepError::stale(format!("{} is there already and {state}", run.name)))
            }
        }
    }

    async fn start(&self, run: &RunContainer, id: &str) -> Result<(), StepError> {
        let started =
            self.engine
                .write(Duration::ZERO, |client| async move {
                    client.start_container(id, None::<StartContainerOptions>).await
                })
                .await;
        let Err(failed) = started else { return Ok(()) };
        if failed.status.is_none() {
            // Whether it started is unknown: the next look tells, and this step adopts what it finds.
            return Err(failed.into_step());
        }
        let lost = self.discard(id, false).await;
        let lower = failed.why.to_ascii_lowercase();
        let busy = [
            "port is already allocated",
            "address already in use",
            "failed to bind",
            "programming external connectivity",
        ];
        let error = match run.host_port {
            // The engine answers 500 to a taken port; another one may be free at the next look.
            Some(port) if busy.iter().any(|words| lower.contains(words)) => {
                StepError::transient(format!("port {port} on {LOOPBACK} is taken: {}", failed.why))
            }
            _ if failed.status == Some(404) => StepError::stale(failed.why),
            _ => StepError::refused(failed.why),
        };
        match lost {
            Ok(()) => Err(error),
            Err(why) => Err(StepError {
                why: format!("{}; and what was created could not be removed: {why}", error.why),
                ..error
            }),
        }
    }

    /// A container whose first start failed on its port may come up later without any.
    async fn insist_on_port(&self, run: &RunContainer, id: &str) -> Result<(), StepError> {
        let Some(port) = run.host_port else { return Ok(()) };
        let found = self.world.inspect_now(id).await.map_err(StepError::transient)?;
        if found.as_ref().is_some_and(|found| is_bound(found, port)) {
            return Ok(());
        }
        let why = format!("{} came up without port {port} and was removed", run.name);
        match self.discard(id, true).await {
            Ok(()) => Err(StepError::transient(why)),
            Err(lost) => Err(StepError::transient(format!("{} came up without port {port}: {lost}", run.name))),
        }
    }

    /// Removes a container that this very step made and that never served.
    async fn discard(&self, id: &str, force: bool) -> Result<(), String> {
        let options = RemoveContainerOptionsBuilder::new().v(true).force(force).build();
        let removed = self
            .engine
            .write(Duration::ZERO, |client| async move { client.remove_container(id, Some(options)).await })
            .await;
        match removed {
            Ok(()) => Ok(()),
            Err(failed) if failed.status == Some(404) => Ok(()),
            Err(failed) => Err(failed.why),
        }
    }
}
