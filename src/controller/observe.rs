//! One look at the world for one service: every edge asked at once, every failure a fact.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use crate::model::desired::{Check, NginxTraffic, Pull, Service};
use crate::model::ecs::seen::{AlbSeen, EcsSeen};
use crate::model::ecs::{Ecs, Place};
use crate::model::image::Digest;
use crate::model::memory::Memory;
use crate::model::names::ServiceName;
use crate::model::snapshot::{Fact, Health, PlatformSeen, Replica, ReplicaState, Snapshot, TagSeen};
use crate::ports::{EcsLookAt, Edges, LookAt, ProbeTarget};

/// An edge that has not answered by then is not going to: adapters have shorter timeouts of their own.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tags are a wish, and everything else of the service waits for them.
const TAGS_PATIENCE: Duration = Duration::from_secs(5);

/// Tags are not asked for more often, unless somebody asks for a fresh look: a list is many calls.
const TAGS_AGE: Duration = Duration::from_secs(60);

/// A service without a port and without a HEALTHCHECK is healthy when it has run this long.
const RUNS: Duration = Duration::from_secs(10);

/// What to look at, and how hard.
pub struct Look<'a> {
    /// Which service.
    pub name: &'a ServiceName,
    /// As desired; none when it left the file.
    pub service: Option<&'a Service>,
    /// What is remembered of it.
    pub memory: &'a Memory,
    /// How old an answer of the registry may be.
    pub max_age: Duration,
    /// Whether the last plan was empty.
    pub settled: bool,
}

/// Looks at everything one plan needs.
pub async fn observe(edges: &Edges, look: Look<'_>) -> Snapshot {
    let Look { name, service, memory, max_age, settled } = look;
    let env_path = service.and_then(|service| service.docker.env_file.as_deref());
    let guard = service.and_then(|service| service.aws.as_ref()).filter(|guard| guard.account.is_some());
    let traffic = match service {
        Some(service) => service.nginx.clone(),
        None => memory.committed.as_ref().and_then(|it| it.servers_file.clone()).map(|file| NginxTraffic { file }),
    };
    let nobody = || PlatformSeen { replicas: unanswered(), ..PlatformSeen::nothing() };
    let place = match service {
        Some(service) => service.ecs.as_ref().map(Ecs::place),
        None => memory.committed.as_ref().and_then(|it| it.place.clone()),
    };
    let on_host = async {
        match &place {
            Some(_) => PlatformSeen::nothing(),
            None => patiently(edges.platform.look(LookAt { name, service }), nobody).await,
        }
    };
    let on_ecs = optional(place.as_ref().map(|place| {
        let at = EcsLookAt { name, place, service, memory, max_age };
        patiently(edges.cluster.look(at), move || nothing_of(place))
    }));
    let balancer = service.and_then(|service| service.alb.as_ref());
    // Whose targets are of interest while nothing is on its way: nobody's.
    let settled_on = memory.committed.as_ref().filter(|_| settled && memory.attempt.is_none()).map(|it| it.group);
    let due = service.filter(|service| is_due_for_cleaning(service, memory));
    let follows = service.filter(|service| service.follow.is_some());
    let tags_age = if max_age.is_zero() { max_age } else { max_age.max(TAGS_AGE) };
    let (mut platform, image, env_file, aws_account, nginx, mut ecs, sidecars, alb, repository, tags) = tokio::join!(
        on_host,
        patiently(image(edges, service, max_age), unanswered),
        optional(env_path.map(|path| patiently(edges.env_files.version(path), unanswered))),
        optional(guard.map(|guard| patiently(edges.account.account(guard), unanswered))),
        optional(traffic.as_ref().map(|traffic| patiently(edges.traffic.look(traffic), no_nginx))),
        on_ecs,
        sidecars(edges, service, max_age),
        optional(balancer.map(|balancer| patiently(edges.balancer.look(balancer, settled_on), no_balancer))),
        optional(due.map(|service| patiently(edges.registry.images(&service.image), unanswered))),
        optional(follows.map(|service| tags(edges, service, tags_age))),
    );
    if let Some(ecs) = &mut ecs {
        ecs.sidecars = sidecars;
    }
    if let Fact::Seen(replicas) = &mut platform.replicas {
        judge(edges, name, service, settled, replicas);
    }
    let source_closed = edges.write_back.closed();
    Snapshot { image, env_file, aws_account, platform, nginx, ecs, alb, repository, tags, source_closed }
}

/// The registry is cleaned up once after each commit.
fn is_due_for_cleaning(service: &Service, memory: &Memory) -> bool {
    let committed = memory.committed.as_ref().map(|it| it.at);
    service.ecr_keep.is_some() && committed.is_some() && memory.cleaned_after != committed && memory.attempt.is_none()
}

fn nothing_of(place: &Place) -> EcsSeen {
    EcsSeen {
        services: place.services.keys().map(|group| (*group, unanswered())).collect(),
        base: None,
        sidecars: BTreeMap::new(),
        registered: BTreeMap::new(),
        inactive: BTreeSet::new(),
    }
}

fn no_balancer() -> AlbSeen {
    AlbSeen { weights: unanswered(), targets: BTreeMap::new() }
}

/// What the tags of other containers of the task resolve to.
async fn sidecars(edges: &Edges, service: Option<&Service>, max_age: Duration) -> BTreeMap<String, Fact<Digest>> {
    let mut found = BTreeMap::new();
    for (name, sidecar) in service.and_then(|service| service.ecs.as_ref()).into_iter().flat_map(|ecs| &ecs.containers)
    {
        let asked = edges.registry.resolve(&sidecar.image, &sidecar.tag, max_age);
        found.insert(name.clone(), patiently(asked, unanswered).await);
    }
    found
}

fn unanswered<T>() -> Fact<T> {
    Fact::Unreadable(format!("no answer within {} s", PATIENCE.as_secs()))
}

async fn tags(edges: &Edges, service: &Service, max_age: Duration) -> Fact<Vec<TagSeen>> {
    let asked = edges.registry.tags(&service.image, max_age);
    let late = |_| Fact::Unreadable(format!("no list of tags within {} s", TAGS_PATIENCE.as_secs()));
    tokio::time::timeout(TAGS_PATIENCE, asked).await.unwrap_or_else(late)
}

fn no_nginx() -> crate::model::snapshot::NginxSeen {
    crate::model::snapshot::NginxSeen {
        file: unanswered(),
        processes: unanswered(),
        included: unanswered(),
        loaded: false,
    }
}

async fn patiently<T>(asked: impl Future<Output = T>, otherwise: impl FnOnce() -> T) -> T {
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| otherwise())
}

async fn optional<T>(asked: Option<impl Future<Output = T>>) -> Option<T> {
    match asked {
        Some(asked) => Some(asked.await),
        None => None,
    }
}

async fn image(edges: &Edges, service: Option<&Service>, max_age: Duration) -> Fact<Digest> {
    let Some(service) = service else {
        return Fact::Unreadable("nobody asks for an image: the service left the file".into());
    };
    match (service.docker.pull, &service.tag.digest) {
        (Pull::Never, _) => edges.platform.local_image(&service.image, &service.tag).await,
        // A digest needs nobody to resolve it.
        (Pull::Always, Some(digest)) => Fact::Seen(digest.clone()),
        (Pull::Always, None) => edges.registry.resolve(&service.image, &service.tag, max_age).await,
    }
}

/// Tells the prober what to probe and takes its verdicts.
fn judge(edges: &Edges, name: &ServiceName, service: Option<&Service>, settled: bool, replicas: &mut [Replica]) {
    let targets = targets(service, settled, replicas);
    let probed: Vec<String> = targets.iter().map(|target| target.id.clone()).collect();
    edges.probe.watch(name, targets);
    let mut verdicts = edges.probe.verdicts(name);
    let now = edges.clock.now();
    for replica in replicas.iter_mut().filter(|replica| probed.contains(&replica.id)) {
        replica.health = verdicts.remove(&replica.id).unwrap_or(Health::unasked(now));
    }
}

/// What is probed: replicas that run, unless the engine itself checks them.
pub(super) fn targets(service: Option<&Service>, settled: bool, replicas: &[Replica]) -> Vec<ProbeTarget> {
    let Some(service) = service else { return Vec::new() };
    let health = &service.health;
    let target = |replica: &Replica| {
        let check = check(service, replica);
        (replica.state == ReplicaState::Running && check != Check::Container).then_some(())?;
        Some(ProbeTarget {
            id: replica.id.clone(),
            started_at: replica.started_at?,
            address: replica.address,
            check,
            interval: health.interval,
            timeout: health.timeout,
            successes: health.successes,
            failures: health.failures,
            settled,
        })
    };
    replicas.iter().filter_map(target).collect()
}

/// The check of one replica: as written, else the image's own, else its port, else that it runs.
fn check(service: &Service, replica: &Replica) -> Check {
    match &service.health.check {
        Some(check) => check.clone(),
        None if replica.has_healthcheck => Check::Container,
        None if service.docker.port.is_some() => Check::Tcp { port: None },
        None => Check::Running(RUNS),
    }
}
