//! One look at the world for one service: every edge asked at once, every failure a fact.

use std::future::Future;
use std::time::Duration;

use crate::model::desired::{Check, NginxTraffic, Pull, Service};
use crate::model::image::Digest;
use crate::model::memory::Memory;
use crate::model::names::ServiceName;
use crate::model::snapshot::{Fact, Health, PlatformSeen, Replica, ReplicaState, Snapshot};
use crate::ports::{Edges, LookAt, ProbeTarget};

/// An edge that has not answered by then is not going to: adapters have shorter timeouts of their own.
const PATIENCE: Duration = Duration::from_secs(60);

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
    let nobody = || PlatformSeen {
        replicas: unanswered(),
        strangers: Vec::new(),
        replaced: Vec::new(),
        free_ports: std::collections::BTreeMap::new(),
        local_images: std::collections::BTreeSet::new(),
        kept_images: Vec::new(),
    };
    let (mut platform, image, env_file, aws_account, nginx) = tokio::join!(
        patiently(edges.platform.look(LookAt { name, service }), nobody),
        patiently(image(edges, service, max_age), unanswered),
        optional(env_path.map(|path| patiently(edges.env_files.version(path), unanswered))),
        optional(guard.map(|guard| patiently(edges.account.account(guard), unanswered))),
        optional(traffic.as_ref().map(|traffic| patiently(edges.traffic.look(traffic), no_nginx))),
    );
    if let Fact::Seen(replicas) = &mut platform.replicas {
        judge(edges, name, service, settled, replicas);
    }
    Snapshot { image, env_file, aws_account, platform, nginx }
}

fn unanswered<T>() -> Fact<T> {
    Fact::Unreadable(format!("no answer within {} s", PATIENCE.as_secs()))
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
