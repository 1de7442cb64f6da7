//! The sandbox's container engine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

use async_trait::async_trait;
use jiff::Timestamp;

use super::state::{Container, State, digest_of};
use super::{FIRST_ANSWER, START, STOP, Sandbox};
use crate::model::colour::Group;
use crate::model::desired::{Check, PortRange, Pull, Service, Strategy};
use crate::model::image::{Digest, Repository, TagSpec};
use crate::model::snapshot::{Fact, Health, KeptImage, Owned, PlatformSeen, Replica, ReplicaState};
use crate::plan::hold::after;
use crate::plan::step::{Ensured, PlatformStep, RunContainer, Target};
use crate::ports::{LookAt, Platform, StepError, Wakes};

pub(super) const OUTAGE: &str = "the sandbox has an outage";
/// Where ports come from without a range of the service's own.
const PORTS: PortRange = PortRange { first: 20000, last: 20999 };

impl Container {
    /// What the engine would say of a HEALTHCHECK in the image.
    fn engine_health(&self, now: Timestamp) -> Health {
        let first = self.replica.started_at.map(|at| after(at, FIRST_ANSWER));
        match first.filter(|first| *first <= now && self.replica.state == ReplicaState::Running) {
            Some(first) if !self.tag.as_str().contains("bad") => Health::Healthy(first),
            Some(since) => Health::Unknown { since, last: Some("the health check exited with 1".to_owned()) },
            None => Health::unasked(now),
        }
    }
}

impl State {
    fn free_ports(&mut self, service: &Service) -> BTreeMap<Group, Vec<u16>> {
        if service.docker.port.is_none() {
            return BTreeMap::new();
        }
        let groups: &[Group] = match service.rollout.strategy {
            Strategy::BlueGreen => &[Group::Blue, Group::Green],
            Strategy::Rolling => &[Group::Only],
        };
        let mut taken: BTreeSet<u16> = self.containers.values().filter_map(|one| one.replica.port).collect();
        taken.extend(self.leases.iter().filter(|(name, _)| **name != service.name).flat_map(|(_, ports)| ports));
        let mut leased = BTreeSet::new();
        let mut free = BTreeMap::new();
        let count = usize::try_from(service.replicas).unwrap_or_default() + 1;
        for group in groups {
            let range = service.docker.publish.of(*group).unwrap_or(PORTS);
            let ports: Vec<u16> = (range.first..=range.last)
                .filter(|port| !taken.contains(port) && !leased.contains(port))
                .take(count)
                .collect();
            leased.extend(ports.iter().copied());
            free.insert(*group, ports);
        }
        self.leases.insert(service.name.clone(), leased);
        free
    }

    fn kept(&self, at: &LookAt<'_>) -> Vec<KeptImage> {
        let kept = self.kept.iter().filter(|(service, _)| service == at.name);
        kept.map(|(service, digest)| KeptImage {
            digest: digest.clone(),
            references: vec![format!("holdfast/{service}:{}", digest.short())],
        })
        .collect()
    }

    /// The target, still the one that was seen.
    fn target(&mut self, target: &Target) -> Result<Option<&mut Container>, StepError> {
        match self.containers.get_mut(&target.name) {
            Some(found) if found.replica.id == target.id => Ok(Some(found)),
            Some(_) => Err(StepError::stale(format!("{} is another container now", target.name))),
            None => Ok(None),
        }
    }

    fn started(&mut self, run: &RunContainer, now: Timestamp) -> Container {
        let id = self.next_id();
        let last = u8::try_from(self.number() % 250).unwrap_or_default() + 2;
        let address = SocketAddr::from((Ipv4Addr::new(172, 17, 0, last), run.release.port.unwrap_or_default()));
        let mut volumes = run.release.volumes.clone();
        volumes.sort();
        let replica = Replica {
            id,
            name: run.name.clone(),
            group: run.group,
            slot: run.slot,
            release: run.hash.clone(),
            digest: Some(run.release.digest.clone()),
            state: ReplicaState::Running,
            started_at: Some(now),
            restart_count: 0,
            port: run.host_port,
            port_bound: run.host_port.is_some(),
            address: Some(address),
            restart: run.restart,
            resources: run.resources,
            volumes,
            health: Health::unasked(now),
            has_healthcheck: false,
        };
        Container { service: run.service.clone(), tag: run.release.tag.clone(), replica }
    }
}

impl Sandbox {
    async fn run(&self, run: &RunContainer) -> Result<Ensured, StepError> {
        if let Some(found) = self.state().containers.get(&run.name) {
            let same = found.replica.release == run.hash && found.replica.port == run.host_port;
            return if same && found.replica.state == ReplicaState::Running {
                Ok(Ensured::AlreadySo)
            } else {
                Err(StepError::stale(format!("the name {} is taken", run.name)))
            };
        }
        tokio::time::sleep(START).await;
        let now = self.clock.now();
        {
            let mut state = self.state();
            if run.host_port.is_some_and(|port| state.containers.values().any(|one| one.replica.port == Some(port))) {
                return Err(StepError::transient("the port is taken"));
            }
            let container = state.started(run, now);
            state.containers.insert(run.name.clone(), container);
        }
        self.wake(Some(&run.service), &format!("start {}", run.name));
        let service = run.service.clone();
        self.later(FIRST_ANSWER, move |world| world.wake(Some(&service), "health_status"));
        Ok(Ensured::Changed)
    }

    async fn act(&self, step: &PlatformStep) -> Result<Ensured, StepError> {
        let changed = |changed| if changed { Ensured::Changed } else { Ensured::AlreadySo };
        match step {
            PlatformStep::Pull { service, repository, digest } => {
                let mut state = self.state();
                let pulled = state.images.insert((repository.clone(), digest.clone()));
                let kept = state.kept.insert((service.clone(), digest.clone()));
                Ok(changed(pulled || kept))
            }
            PlatformStep::Run(run) => self.run(run).await,
            PlatformStep::Unpause { target } => {
                let mut state = self.state();
                let found = state.target(target)?.ok_or_else(|| StepError::stale("it is gone"))?;
                let paused = found.replica.state == ReplicaState::Paused;
                if paused {
                    found.replica.state = ReplicaState::Running;
                }
                Ok(changed(paused))
            }
            PlatformStep::Update { target, restart, resources } => {
                let mut state = self.state();
                let found = state.target(target)?.ok_or_else(|| StepError::stale("it is gone"))?;
                let differs = found.replica.restart != *restart || found.replica.resources != *resources;
                (found.replica.restart, found.replica.resources) = (*restart, *resources);
                Ok(changed(differs))
            }
            PlatformStep::Remove { target, stop_timeout: _, only_if_down } => {
                match self.state().target(target)? {
                    None => return Ok(Ensured::AlreadySo),
                    Some(found) if *only_if_down && found.replica.state == ReplicaState::Running => {
                        return Err(StepError::stale(format!("{} runs again", target.name)));
                    }
                    Some(_) => {}
                }
                tokio::time::sleep(STOP).await;
                let mut state = self.state();
                if state.target(target)?.is_some() {
                    state.containers.remove(&target.name);
                }
                drop(state);
                self.wake(Some(&target.service), &format!("destroy {}", target.name));
                Ok(Ensured::Changed)
            }
            // Nobody makes containers by hand here.
            PlatformStep::Retire { .. } => Ok(Ensured::AlreadySo),
            PlatformStep::RemoveImage { service, digest, references: _ } => {
                let mut state = self.state();
                let used = state.containers.values().any(|one| one.replica.digest.as_ref() == Some(digest));
                let gone = !used && state.kept.remove(&(service.clone(), digest.clone()));
                if gone && !state.kept.iter().any(|(_, kept)| kept == digest) {
                    state.images.retain(|(_, known)| known != digest);
                }
                Ok(changed(gone))
            }
        }
    }
}

#[async_trait]
impl Platform for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    async fn look(&self, at: LookAt<'_>) -> PlatformSeen {
        let mut state = self.state();
        let mut seen = PlatformSeen {
            replicas: Fact::Unreadable(OUTAGE.to_owned()),
            strangers: Vec::new(),
            replaced: Vec::new(),
            free_ports: BTreeMap::new(),
            local_images: BTreeSet::new(),
            kept_images: Vec::new(),
        };
        if state.outage {
            return seen;
        }
        let now = self.clock.now();
        let asks_engine = at.service.is_some_and(|service| service.health.check == Some(Check::Container));
        let mine = state.containers.values().filter(|one| one.service == *at.name);
        let mut replicas: Vec<Replica> = mine
            .map(|one| Replica {
                health: if asks_engine { one.engine_health(now) } else { Health::unasked(now) },
                ..one.replica.clone()
            })
            .collect();
        for replica in &mut replicas {
            // An engine binds ports only while the container runs.
            replica.port_bound &= matches!(replica.state, ReplicaState::Running | ReplicaState::Paused);
        }
        replicas.sort_by_key(|replica| (replica.group, replica.slot));
        seen.replicas = Fact::Seen(replicas);
        seen.kept_images = state.kept(&at);
        if let Some(service) = at.service {
            seen.free_ports = state.free_ports(service);
            let images = state.images.iter().filter(|(repository, _)| repository.same_as(&service.image));
            seen.local_images = images.map(|(_, digest)| digest.clone()).collect();
            if service.docker.pull == Pull::Never {
                seen.local_images.extend(digest_of(&service.image, &service.tag.tag));
                seen.local_images.extend(state.kept.iter().map(|(_, digest)| digest.clone()));
            }
        } else {
            state.leases.remove(at.name);
        }
        seen
    }

    async fn owned(&self) -> Owned {
        let state = self.state();
        if state.outage {
            return Fact::Unreadable(OUTAGE.to_owned());
        }
        Fact::Seen(state.containers.values().map(|one| one.service.clone()).collect())
    }

    async fn local_image(&self, repository: &Repository, tag: &TagSpec) -> Fact<Digest> {
        crate::ports::Registry::resolve(self, repository, tag, std::time::Duration::ZERO).await
    }

    async fn perform(&self, step: &PlatformStep) -> Result<Ensured, StepError> {
        if self.state().outage {
            return Err(StepError::transient(OUTAGE));
        }
        self.state().mutations += 1;
        self.act(step).await
    }

    async fn watch(&self, _wakes: Wakes) {
        // Everything that changes here wakes at once; there is nothing to watch.
        std::future::pending::<()>().await;
    }

    async fn last_words(&self, container_id: &str) -> String {
        let state = self.state();
        let found = state.containers.values().find(|one| one.replica.id == container_id);
        match found {
            Some(one) if one.tag.as_str().contains("bad") => {
                "sandbox: this release is bad and never gets ready".to_owned()
            }
            _ => String::new(),
        }
    }
}
