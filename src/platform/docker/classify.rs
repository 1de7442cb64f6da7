//! Whose is it: ours, a stranger's, or claimed by `replaces`. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, HealthStatusEnum, HostConfig,
    RestartPolicyNameEnum,
};
use jiff::Timestamp;

use super::labels::{self, Claim, Owners};
use crate::model::colour::Group;
use crate::model::desired::{Resources, Restart, Service, Strategy};
use crate::model::image::Digest;
use crate::model::names::{ServiceName, container_name};
use crate::model::snapshot::{Health, Replaced, Replica, ReplicaState, Stranger};

/// A container's own name, without the leading `/` (links add further names with more of them).
pub(super) fn name_of(listed: &ContainerSummary) -> &str {
    let names = listed.names.as_deref().unwrap_or_default();
    names.iter().filter_map(|name| name.strip_prefix('/')).find(|name| !name.contains('/')).unwrap_or_default()
}

pub(super) fn labels_of(listed: &ContainerSummary) -> Option<&HashMap<String, String>> {
    listed.labels.as_ref()
}

/// Whether `listed` is ours in full (id, labels and name), and what it claims.
pub(super) fn ours(listed: &ContainerSummary, owners: &Owners) -> Option<Claim> {
    let labels = labels_of(listed).filter(|labels| owners.owns_labels(labels))?;
    Claim::read(labels).ok().filter(|claim| claim.name() == name_of(listed))
}

/// The groups a service has.
pub(super) const fn groups(service: &Service) -> &'static [Group] {
    match service.rollout.strategy {
        Strategy::BlueGreen => &[Group::Blue, Group::Green],
        Strategy::Rolling => &[Group::Only],
    }
}

/// The names `service` may need: slots 1 to replicas + 1 of each of its groups.
pub(super) fn needed_names(service: &Service) -> impl Iterator<Item = String> {
    groups(service).iter().flat_map(move |group| {
        (1..=service.replicas.saturating_add(1)).map(|slot| container_name(&service.name, *group, slot))
    })
}

/// Why `listed` is a stranger to the service, if it is one.
pub(super) fn stranger(
    listed: &ContainerSummary,
    name: &ServiceName,
    needed: &[String],
    owners: &Owners,
) -> Option<Stranger> {
    if ours(listed, owners).is_some_and(|claim| claim.service == *name) {
        return None;
    }
    let wears = name_of(listed).to_owned();
    let blocks = needed.contains(&wears);
    let none = HashMap::new();
    let labels = labels_of(listed).unwrap_or(&none);
    let claims_us = owners.owns_labels(labels) && labels.get(labels::SERVICE).is_some_and(|of| of == name.as_str());
    if !blocks && !claims_us {
        return None;
    }
    let why = if let Some(other) = owners.other(labels) {
        format!("it carries the name we need and belongs to controller {other}")
    } else if !claims_us {
        "it carries the name we need and none of our labels; rename or remove it".to_owned()
    } else {
        match Claim::read(labels) {
            Ok(claim) => format!("it carries the labels of {} under another name", claim.name()),
            Err(missing) => format!("it carries our labels, but {missing}"),
        }
    };
    Some(Stranger { name: wears, why, blocks })
}

/// A container named in `replaces`. From its inspect: the list rounds the moment of creation to whole seconds.
pub(super) fn replaced(seen: &ContainerInspectResponse, owners: &Owners) -> Option<Replaced> {
    let labels = seen.config.as_ref().and_then(|config| config.labels.as_ref());
    let owner = labels.and_then(|labels| owners.other(labels)).map(str::to_owned);
    let state = replica_state(seen.state.as_ref()?.status?, 0);
    Some(Replaced {
        id: seen.id.clone()?,
        name: seen.name.as_deref()?.trim_start_matches('/').to_owned(),
        created_at: moment(seen.created.as_deref()?)?,
        running: matches!(state, ReplicaState::Running | ReplicaState::Restarting | ReplicaState::Paused),
        owner,
    })
}

/// A container of ours in full. `now`: its state where that is known to be another than `seen` says.
pub(super) fn replica(claim: Claim, seen: &ContainerInspectResponse, now: Option<ReplicaState>) -> Option<Replica> {
    let state = seen.state.as_ref()?;
    let none = HostConfig::default();
    let host = seen.host_config.as_ref().unwrap_or(&none);
    let started_at = state.started_at.as_deref().and_then(moment);
    let healthcheck = seen.config.as_ref().and_then(|config| config.healthcheck.as_ref());
    let test = healthcheck.and_then(|check| check.test.as_deref()).unwrap_or_default();
    let mut volumes = host.binds.clone().unwrap_or_default();
    volumes.sort();
    Some(Replica {
        id: seen.id.clone()?,
        name: claim.name(),
        group: claim.group,
        slot: claim.slot,
        release: claim.release,
        digest: digest_of(seen),
        state: now.or_else(|| Some(replica_state(state.status?, state.exit_code.unwrap_or_default())))?,
        started_at,
        restart_count: u32::try_from(seen.restart_count.unwrap_or_default()).unwrap_or_default(),
        port: claim.port,
        port_bound: claim.port.is_some_and(|port| is_bound(seen, port)),
        address: address_of(seen, host),
        restart: restart_of(host),
        resources: resources_of(host),
        volumes,
        health: health_of(seen, started_at),
        has_healthcheck: test.first().is_some_and(|first| first != "NONE"),
    })
}

fn replica_state(status: ContainerStateStatusEnum, code: i64) -> ReplicaState {
    match status {
        ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::EMPTY => ReplicaState::Created,
        ContainerStateStatusEnum::RUNNING => ReplicaState::Running,
        ContainerStateStatusEnum::PAUSED => ReplicaState::Paused,
        ContainerStateStatusEnum::RESTARTING => ReplicaState::Restarting,
        ContainerStateStatusEnum::REMOVING => ReplicaState::Removing,
        ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::STOPPING => ReplicaState::Exited(Some(code)),
        ContainerStateStatusEnum::DEAD => ReplicaState::Dead,
    }
}

/// A moment of the engine's; its zero time means "never".
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().filter(|at| at.as_second() > 0)
}

/// The digest the container was made from: written into its image name by whoever made it, else the image's id.
fn digest_of(seen: &ContainerInspectResponse) -> Option<Digest> {
    let written = seen.config.as_ref().and_then(|config| config.image.as_deref()).unwrap_or_default();
    let named = written.rsplit_once('@').map_or(written, |(_, digest)| digest);
    Digest::new(named).ok().or_else(|| Digest::new(seen.image.as_deref()?).ok())
}

/// Whether the host port is really published now.
pub(super) fn is_bound(seen: &ContainerInspectResponse, port: u16) -> bool {
    let ports = seen.network_settings.as_ref().and_then(|network| network.ports.as_ref());
    let wanted = port.to_string();
    ports.into_iter().flat_map(HashMap::values).flatten().flatten().any(|one| one.host_port.as_deref() == Some(&wanted))
}

/// The container's own address; the port is what the published one leads to, 0 when none is published.
fn address_of(seen: &ContainerInspectResponse, host: &HostConfig) -> Option<SocketAddr> {
    let networks = seen.network_settings.as_ref()?.networks.as_ref()?;
    let mode = match host.network_mode.as_deref() {
        None | Some("default" | "") => "bridge",
        Some(mode) => mode,
    };
    let ip = |name: &str| networks.get(name)?.ip_address.as_deref()?.parse::<IpAddr>().ok();
    let mut names: Vec<&String> = networks.keys().collect();
    names.sort();
    let ip = ip(mode).or_else(|| names.into_iter().find_map(|name| ip(name)))?;
    let ports = host.port_bindings.iter().flat_map(HashMap::keys);
    let port = ports.filter_map(|key| key.strip_suffix("/tcp")?.parse::<u16>().ok()).min();
    Some(SocketAddr::new(ip, port.unwrap_or_default()))
}

pub(super) fn restart_of(host: &HostConfig) -> Restart {
    match host.restart_policy.as_ref().and_then(|policy| policy.name) {
        None | Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO) => Restart::No,
        Some(RestartPolicyNameEnum::ALWAYS) => Restart::Always,
        Some(RestartPolicyNameEnum::UNLESS_STOPPED) => Restart::UnlessStopped,
        Some(RestartPolicyNameEnum::ON_FAILURE) => Restart::OnFailure,
    }
}

/// Whether the engine brings a container back that ended without anybody sending it a signal.
pub(super) const fn engine_restarts(restart: Restart) -> bool {
    matches!(restart, Restart::Always | Restart::UnlessStopped | Restart::OnFailure)
}

pub(super) fn resources_of(host: &HostConfig) -> Resources {
    let limit = |value: Option<i64>| value.filter(|value| *value > 0);
    Resources { nano_cpus: limit(host.nano_cpus), memory: limit(host.memory) }
}

/// The engine's verdict on the image's own HEALTHCHECK. It keeps the last five answers, so "since" is the first of the
/// last run of equal answers it still knows: never earlier than the truth.
fn health_of(seen: &ContainerInspectResponse, started_at: Option<Timestamp>) -> Health {
    // The engine asks from the start on, whoever looks.
    let asked_since = started_at.unwrap_or(Timestamp::UNIX_EPOCH);
    let Some(health) = seen.state.as_ref().and_then(|state| state.health.as_ref()) else {
        return Health::unasked(asked_since);
    };
    let log = health.log.as_deref().unwrap_or_default();
    let words = |code: i64, output: &str| match output.trim() {
        "" => format!("the health check exited with {code}"),
        output => super::logs::one_line(output, 200),
    };
    let last_bad = log.iter().rev().find_map(|one| {
        let code = one.exit_code.filter(|code| *code != 0)?;
        Some(words(code, one.output.as_deref().unwrap_or_default()))
    });
    let since = |good: bool| {
        let run = log.iter().rev().take_while(|one| (one.exit_code == Some(0)) == good);
        run.last().and_then(|one| moment(one.end.as_deref()?)).or(started_at).unwrap_or(Timestamp::UNIX_EPOCH)
    };
    match health.status {
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy(since(true)),
        Some(HealthStatusEnum::UNHEALTHY) => {
            Health::Unhealthy(since(false), last_bad.unwrap_or_else(|| "the health check failed".to_owned()))
        }
        _ => Health::Unknown { since: asked_since, last: last_bad },
    }
}
