//! Containers on one Docker Engine.
//!
//! | file | does |
//! |---|---|
//! | `engine` | the connection: lazy, renewed, every failure in words |
//! | `world` | one list for all services, inspects of what changed |
//! | `deaths` | ends of containers, before the engine tells |
//! | `classify`, `labels` | whose container is it (pure) |
//! | `ports` | free loopback ports, leased per service |
//! | `run`, `change`, `images` | the steps |
//! | `events` | the stream that makes lists old and wakes services |
//! | `logs`, `import` | last words, `holdfast import docker` |
//!
//! The socket is as good as root, so what can be asked of it is fixed here. Read: `/version`, `/_ping`,
//! `/containers/json`, `/containers/{id}/json`, `/containers/{id}/logs`, `/images/json`, `/images/{name}/json`, `/events`.
//! Written: `/containers/create`, `/containers/{id}/start|stop|update|unpause`, `DELETE /containers/{id}`,
//! `/images/create` (by digest), `/images/{name}/tag`, `DELETE /images/{name}` (never forced). A create sets image, env,
//! command, one loopback port, binds, log driver, restart policy, limits, init, stop timeout and labels, nothing else:
//! privileges, capabilities, devices and host namespaces have no words here.
//!
//! **Taking over another id** (`adopt --from OLD`): labels cannot be changed in place, and replacing every container at
//! once would be a restart of the fleet. So the former id is remembered ([`DockerOptions::former`]): containers under it
//! count as ours, every container made from then on carries our own id, and once no container carries the former id it may
//! be dropped.

mod change;
mod classify;
mod deaths;
mod engine;
mod events;
mod images;
mod import;
mod labels;
mod logs;
mod ports;
mod run;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use bollard::models::{ContainerSummary, ImageSummary};
use futures_util::future::join_all;

use crate::model::colour::Group;
use crate::model::desired::{Check, PortRange, Pull, Service};
use crate::model::image::{Digest, Repository, TagSpec};
use crate::model::names::{ControllerId, ServiceName};
use crate::model::snapshot::{Fact, Health, Owned, PlatformSeen, Replica, Why};
use crate::plan::step::{Ensured, PlatformStep};
use crate::ports::{Clock, EnvFiles, LookAt, Platform, Registry, StepError, Wakes};
use deaths::Deaths;
use engine::{Engine, lock};
use events::Interests;
use labels::Owners;
use ports::Leases;
use world::World;

/// What a [`Docker`] is made from.
#[derive(Clone)]
pub struct DockerOptions {
    /// The id on everything it creates.
    pub controller: ControllerId,
    /// Ids taken over with `adopt --from`: their containers count as ours.
    pub former: Vec<ControllerId>,
    /// `unix:///var/run/docker.sock`; `tcp://host:port` without TLS for a proxy on this host.
    pub endpoint: String,
    /// Loopback ports for groups without a range of their own.
    pub ports: PortRange,
    /// Where the variables of env files come from.
    pub env_files: Arc<dyn EnvFiles>,
    /// Credentials for pulls.
    pub registry: Arc<dyn Registry>,
    /// For leases and the event stream.
    pub clock: Arc<dyn Clock>,
}

/// One Docker Engine.
pub struct Docker {
    owners: Owners,
    engine: Arc<Engine>,
    world: World,
    deaths: Deaths,
    wakes: OnceLock<Wakes>,
    default_ports: PortRange,
    leases: Mutex<Leases>,
    interests: Mutex<Interests>,
    env_files: Arc<dyn EnvFiles>,
    registry: Arc<dyn Registry>,
    clock: Arc<dyn Clock>,
}

impl Docker {
    /// An engine that is not connected to yet: nothing is asked before the first look.
    pub fn new(options: DockerOptions) -> Arc<Self> {
        let DockerOptions { controller, former, endpoint, ports, env_files, registry, clock } = options;
        let engine = Arc::new(Engine::new(endpoint));
        Arc::new(Self {
            owners: Owners { own: controller, former },
            world: World::new(engine.clone()),
            deaths: Deaths::default(),
            wakes: OnceLock::new(),
            engine,
            default_ports: ports,
            leases: Mutex::new(Leases::default()),
            interests: Mutex::new(Interests::default()),
            env_files,
            registry,
            clock,
        })
    }

    /// Every replica of `name`, inspected; one removed since the list is simply gone.
    async fn replicas(&self, listed: &[ContainerSummary], name: &ServiceName) -> Result<Vec<Replica>, Why> {
        let mine = listed.iter().filter_map(|one| {
            let claim = classify::ours(one, &self.owners).filter(|claim| claim.service == *name)?;
            Some(async move {
                if let Some((seen, state)) = self.deaths.of(one) {
                    return Ok(Some((claim, seen, Some(state))));
                }
                let found = self.world.inspect(one).await?;
                Ok::<_, Why>(found.map(|seen| (claim, seen, None)))
            })
        });
        let mut replicas = Vec::new();
        for found in join_all(mine).await {
            let Some((claim, seen, state)) = found? else { continue };
            if state.is_none() {
                self.deaths.note(name, &seen, self.wakes.get().filter(|_| self.engine.is_local()));
            }
            let container = claim.name();
            let replica = classify::replica(claim, &seen, state);
            replicas.push(replica.ok_or_else(|| format!("the engine did not describe {container} in full"))?);
        }
        self.deaths.keep_only(|id| listed.iter().any(|one| one.id.as_deref() == Some(id)));
        replicas.sort_by(|a, b| (a.group, a.slot, &a.id).cmp(&(b.group, b.slot, &b.id)));
        Ok(replicas)
    }

    fn free_ports(&self, listed: &[ContainerSummary], service: &Service) -> BTreeMap<Group, Vec<u16>> {
        if service.docker.port.is_none() {
            return BTreeMap::new();
        }
        let (published, local) = (ports::published(listed), self.engine.is_local());
        let is_taken = |port| published.contains(&port) || (local && ports::is_bound_here(port));
        let range = |group: &Group| service.docker.publish.of(*group).unwrap_or(self.default_ports);
        let ranges: Vec<(Group, PortRange)> =
            classify::groups(service).iter().map(|group| (*group, range(group))).collect();
        let count = usize::try_from(service.replicas).unwrap_or(usize::MAX).saturating_add(1);
        lock(&self.leases).offer(&service.name, &ranges, count, is_taken, self.clock.now())
    }

    async fn lists(&self) -> Result<(Arc<Vec<ContainerSummary>>, Arc<Vec<ImageSummary>>), Why> {
        tokio::try_join!(self.world.containers(), self.world.images())
    }

    async fn seen(&self, at: &LookAt<'_>) -> Result<PlatformSeen, Why> {
        let (listed, images) = self.lists().await?;
        let mut replicas = self.replicas(&listed, at.name).await?;
        if at.service.is_some_and(|service| !matches!(service.health.check, None | Some(Check::Container))) {
            // The file asks otherwise: the image's own HEALTHCHECK has no say.
            let now = self.clock.now();
            replicas.iter_mut().for_each(|replica| replica.health = Health::unasked(now));
        }
        let needed: Vec<String> =
            at.service.map(|service| classify::needed_names(service).collect()).unwrap_or_default();
        let strangers = listed.iter().filter_map(|one| classify::stranger(one, at.name, &needed, &self.owners));
        let claimed: BTreeSet<&str> =
            at.service.map(|service| service.docker.replaces.iter().map(String::as_str).collect()).unwrap_or_default();
        let claimed = listed.iter().filter(|one| claimed.contains(classify::name_of(one)));
        let mut replaced = Vec::new();
        for found in join_all(claimed.map(|one| self.world.inspect(one))).await {
            if let Some(found) = found? {
                let name = found.name.clone().unwrap_or_default();
                let one = classify::replaced(&found, &self.owners);
                replaced.push(one.ok_or_else(|| format!("the engine did not describe {name} in full"))?);
            }
        }
        let free_ports = match at.service {
            Some(service) => self.free_ports(&listed, service),
            None => BTreeMap::new(),
        };
        Ok(PlatformSeen {
            replicas: Fact::Seen(replicas),
            strangers: strangers.collect(),
            replaced,
            free_ports,
            local_images: at.service.map(|service| images::local(&images, service)).unwrap_or_default(),
            kept_images: images::kept(&images, at.name, at.service),
        })
    }

    async fn act(&self, step: &PlatformStep) -> Result<Ensured, StepError> {
        match step {
            PlatformStep::Pull { service, repository, digest } => {
                lock(&self.leases).hold(service);
                self.pull(service, repository, digest).await
            }
            PlatformStep::Run(run) => {
                let lost = {
                    let mut leases = lock(&self.leases);
                    leases.hold(&run.service);
                    run.host_port.filter(|port| leases.is_anothers(*port, &run.service))
                };
                match lost {
                    Some(port) => Err(StepError::stale(format!("port {port} was given to another service meanwhile"))),
                    None => self.run(run).await,
                }
            }
            PlatformStep::Unpause { target } => self.unpause(target).await,
            PlatformStep::Update { target, restart, resources } => self.update(target, *restart, *resources).await,
            PlatformStep::Remove { target, stop_timeout, only_if_down } => {
                lock(&self.leases).hold(&target.service);
                self.remove(target, *stop_timeout, *only_if_down).await
            }
            PlatformStep::Retire { service: _, id, name, stop_timeout } => self.retire(id, name, *stop_timeout).await,
            PlatformStep::RemoveImage { service, digest, references } => {
                self.remove_image(service, digest, references).await
            }
        }
    }
}

#[async_trait]
impl Platform for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn look(&self, at: LookAt<'_>) -> PlatformSeen {
        match at.service {
            Some(service) => lock(&self.interests).note(service),
            None => {
                lock(&self.interests).forget(at.name);
                lock(&self.leases).forget(at.name);
            }
        }
        // A part that could not be read makes the whole unreadable: half a look is where wrong removals come from.
        self.seen(&at).await.unwrap_or_else(|why| PlatformSeen {
            replicas: Fact::Unreadable(why),
            strangers: Vec::new(),
            replaced: Vec::new(),
            free_ports: BTreeMap::new(),
            local_images: BTreeSet::new(),
            kept_images: Vec::new(),
        })
    }

    async fn owned(&self) -> Owned {
        match self.world.containers().await {
            Ok(listed) => Fact::Seen(
                listed
                    .iter()
                    .filter_map(|one| one.labels.as_ref().filter(|labels| self.owners.owns_labels(labels)))
                    .filter_map(|labels| ServiceName::new(labels.get(labels::SERVICE)?).ok())
                    .collect(),
            ),
            Err(why) => Fact::Unreadable(why),
        }
    }

    async fn local_image(&self, repository: &Repository, tag: &TagSpec) -> Fact<Digest> {
        match &tag.digest {
            Some(id) => images::id_of(&self.engine, id.as_str()).await,
            None => images::id_of(&self.engine, &format!("{repository}:{}", tag.tag)).await,
        }
    }

    async fn perform(&self, step: &PlatformStep) -> Result<Ensured, StepError> {
        let done = self.act(step).await;
        // Also after a failure: what was asked may have happened all the same.
        match step {
            PlatformStep::Pull { .. } | PlatformStep::RemoveImage { .. } => self.world.image_changed(),
            PlatformStep::Run(run) => {
                self.world.container_changed(Some(&run.name));
                if run.release.pull == Pull::Never {
                    self.world.image_changed();
                }
            }
            PlatformStep::Unpause { target }
            | PlatformStep::Update { target, .. }
            | PlatformStep::Remove { target, .. } => self.world.container_changed(Some(&target.id)),
            PlatformStep::Retire { id, .. } => self.world.container_changed(Some(id)),
        }
        done
    }

    async fn watch(&self, wakes: Wakes) {
        let wakes = self.wakes.get_or_init(|| wakes);
        self.follow(wakes).await;
    }

    async fn last_words(&self, container_id: &str) -> String {
        logs::last_words(&self.engine, container_id).await
    }
}
