//! The one file that picks the adapters.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::aws::Shared;
use crate::memory::{Lock, Sqlite};
use crate::model::desired::DesiredState;
use crate::model::names::ControllerId;
use crate::model::secret::Secret;
use crate::platform::docker::{Docker, DockerOptions};
use crate::platform::ecs::{Ecs, EcsOptions};
use crate::platform::sandbox::Sandbox;
use crate::ports::{Clock, Edges, EnvFiles, Source, Store, Wakes, WallClock, WriteBack};
use crate::probe::Prober;
use crate::registry::{Auth, Images, ImagesOptions, Kind as RegistryKind, RegistryRule, Sts};
use crate::source::directory::Folder;
use crate::source::env_files::EnvRoot;
use crate::source::git::{GitOptions, GitSource};
use crate::source::settings::{RegistrySettings, Settings};
use crate::source::{self, CheckReport};
use crate::traffic::alb::Alb;
use crate::traffic::nginx::{Nginx, NginxOptions};
use crate::web::{Access, Hook};

use super::Surroundings;
use super::desired::Desired;
use super::failure::Failure;

/// Which world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The engine and the nginx of this host.
    Real,
    /// A platform in memory.
    Sandbox,
}

/// Everything a controller is made from.
pub(crate) struct Built {
    /// Every edge.
    pub(crate) edges: Edges,
    /// Where the desired state comes from.
    pub(crate) source: Arc<dyn Source>,
}

/// This machine's settings; flags of every verb win over the file.
///
/// # Errors
/// When the file cannot be read or something in it is wrong.
pub(crate) fn settings(around: &Surroundings) -> Result<Settings, Failure> {
    let mut settings = Settings::load(around.config.as_deref())
        .map_err(|error| Failure::from_words("could not read this machine's settings", &error.to_string()))?;
    if let Some(dir) = &around.state_dir {
        settings.state_dir.clone_from(dir);
    }
    if let Some(controller) = &around.controller {
        settings.controller = controller.clone();
        settings.controller_is_written = true;
    }
    Ok(settings)
}

/// The state folder of a sandbox without `--state-dir`: the user's own, so that nothing real is near.
pub(crate) fn sandbox_dir() -> PathBuf {
    std::env::temp_dir().join(format!("holdfast-sandbox-{}", rustix::process::getuid().as_raw()))
}

/// Whether there is anything at `path` to watch.
///
/// # Errors
/// When there is not: a typing error must not wait for a folder that never comes.
pub(crate) fn source_exists(settings: &Settings) -> Result<(), Failure> {
    if settings.git.is_some() {
        // A server that is away for a while is no typing error: what was good last is enforced meanwhile.
        return Ok(());
    }
    let path = &settings.source;
    let found = std::fs::metadata(path);
    found.map(|_| ()).map_err(|error| {
        Failure::new(format!("the desired state {} cannot be read", path.display()))
            .because(error)
            .try_this("name its folder as PATH, or as `source` in holdfast.yaml")
    })
}

/// Takes the lock that keeps a controller single.
///
/// # Errors
/// When the state folder cannot be written, or another controller holds the lock.
pub(crate) fn lock(settings: &Settings, kind: Kind) -> Result<Lock, Failure> {
    let endpoint = match kind {
        Kind::Real => settings.docker.clone(),
        // Every sandbox is a world of its own.
        Kind::Sandbox => {
            let dir = std::path::absolute(&settings.state_dir).unwrap_or_else(|_| settings.state_dir.clone());
            format!("sandbox:{}", dir.display())
        }
    };
    Lock::take(&settings.state_dir, &settings.controller, &endpoint)
        .map_err(|why| Failure::from_words("could not start the controller", &why))
}

/// Builds the edges for `run`.
///
/// # Errors
/// When the durable memory cannot be opened.
pub(crate) fn build(settings: &Settings, kind: Kind, wakes: &Wakes) -> Result<Built, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(WallClock);
    let (source, writer) = source_of(settings, &clock);
    let edges = match kind {
        Kind::Real => real(settings, open(&settings.state_dir)?, wakes, clock, writer),
        Kind::Sandbox => {
            let dir = settings.state_dir.join("sandbox");
            // The world of the last sandbox is gone, so its memory must go too. The folder is ours by name.
            match std::fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Failure::new(format!("could not clear {}", dir.display())).because(error));
                }
                _ => {}
            }
            sandbox(open(&dir)?, wakes, clock)
        }
    };
    Ok(Built { edges, source })
}

/// The folder or the branch the desired state is read from, and how the controller itself changes it.
fn source_of(settings: &Settings, clock: &Arc<dyn Clock>) -> (Arc<dyn Source>, Arc<dyn WriteBack>) {
    match &settings.git {
        Some(git) => {
            let source = Arc::new(GitSource::new(GitOptions {
                settings: git.clone(),
                folder: settings.state_dir.join("git"),
                rules: settings.rules(),
                clock: Arc::clone(clock),
            }));
            let writer = source.writer();
            (source, writer)
        }
        None => (
            Arc::new(Folder::new(settings.source.clone(), settings.rules(), Arc::clone(clock))),
            closed("the desired state is a folder; only one in git is written to"),
        ),
    }
}

/// Builds the edges for `plan`: they look and never write; the memory is opened for reading.
///
/// # Errors
/// When the durable memory is there and cannot be read.
pub(crate) fn build_read_only(settings: &Settings, wakes: &Wakes) -> Result<Edges, Failure> {
    let store = Sqlite::read_only(&settings.state_dir)
        .map_err(|why| Failure::from_words("could not read the durable memory", &why))?;
    let clock: Arc<dyn Clock> = Arc::new(WallClock);
    let (_, writer) = source_of(settings, &clock);
    Ok(real(settings, store, wakes, clock, writer))
}

fn open(dir: &Path) -> Result<Arc<Sqlite>, Failure> {
    Sqlite::open(dir).map_err(|why| Failure::from_words("could not open the durable memory", &why))
}

fn real(
    settings: &Settings,
    store: Arc<dyn Store>,
    wakes: &Wakes,
    clock: Arc<dyn Clock>,
    write_back: Arc<dyn WriteBack>,
) -> Edges {
    let registries = settings.registries.iter().map(rule).collect();
    let aws = Shared::new(settings.aws_budget);
    let registry = Images::new(ImagesOptions { registries, clock: Arc::clone(&clock), aws: aws.clone() });
    let platform = Docker::new(DockerOptions {
        controller: settings.controller.clone(),
        former: former(&settings.state_dir),
        endpoint: settings.docker.clone(),
        ports: settings.ports,
        env_files: env_files(settings),
        registry: registry.clone(),
        clock: Arc::clone(&clock),
    });
    let cluster = Ecs::new(EcsOptions {
        controller: settings.controller.clone(),
        former: former(&settings.state_dir),
        resync: settings.resync,
        queue: settings.aws_event_queue.clone(),
        aws: aws.clone(),
    });
    Edges {
        platform,
        cluster,
        balancer: Arc::new(Alb::new(aws.clone())),
        registry,
        account: Arc::new(Sts::new(Arc::clone(&clock), aws.identities)),
        traffic: nginx(settings),
        probe: Prober::new(wakes.clone(), Arc::clone(&clock)),
        env_files: env_files(settings),
        write_back,
        store,
        clock,
    }
}

/// Nobody writes to the desired state, for this reason.
fn closed(why: &str) -> Arc<dyn WriteBack> {
    Arc::new(source::Closed(why.to_owned()))
}

fn sandbox(store: Arc<dyn Store>, wakes: &Wakes, clock: Arc<dyn Clock>) -> Edges {
    let world = Sandbox::new(Arc::clone(&clock), wakes.clone());
    Edges {
        platform: world.clone(),
        cluster: world.clone(),
        balancer: world.clone(),
        registry: world.clone(),
        account: world.clone(),
        traffic: world.clone(),
        probe: world.clone(),
        env_files: world,
        // Nothing real is touched: a commit would be.
        write_back: closed("a sandbox commits nothing"),
        store,
        clock,
    }
}

fn env_files(settings: &Settings) -> Arc<dyn EnvFiles> {
    Arc::new(EnvRoot::new(settings.env_root.clone()))
}

/// The nginx of this host.
pub(crate) fn nginx(settings: &Settings) -> Arc<Nginx> {
    let nginx = &settings.nginx;
    Nginx::new(NginxOptions {
        binary: nginx.binary.clone(),
        config: nginx.config.clone(),
        pid: nginx.pid.clone(),
        clock: Arc::new(WallClock),
    })
}

fn rule(registry: &RegistrySettings) -> RegistryRule {
    let RegistrySettings { host, ecr, region, docker_config } = registry;
    RegistryRule {
        host: host.clone(),
        kind: ecr.then_some(RegistryKind::Ecr),
        region: region.clone(),
        auth: docker_config.clone().map(Auth::DockerConfig),
    }
}

/// The engine of this host, without a controller: for `check` and `import`.
pub(crate) fn docker(settings: &Settings) -> Arc<Docker> {
    let clock: Arc<dyn Clock> = Arc::new(WallClock);
    Docker::new(DockerOptions {
        controller: settings.controller.clone(),
        former: Vec::new(),
        endpoint: settings.docker.clone(),
        ports: settings.ports,
        env_files: env_files(settings),
        registry: Images::new(ImagesOptions {
            registries: Vec::new(),
            clock: Arc::clone(&clock),
            aws: Shared::new(settings.aws_budget),
        }),
        clock,
    })
}

/// ECS, without a controller: for `import`.
pub(crate) fn ecs(settings: &Settings) -> Arc<Ecs> {
    Ecs::new(EcsOptions {
        controller: settings.controller.clone(),
        former: Vec::new(),
        resync: settings.resync,
        queue: None,
        aws: Shared::new(settings.aws_budget),
    })
}

/// The host's env files, for `check`.
pub(crate) fn env_root(settings: &Settings) -> Arc<dyn EnvFiles> {
    env_files(settings)
}

/// Who may write over HTTP.
///
/// # Errors
/// When the token file is named and cannot be read, or is empty.
pub(crate) fn access(settings: &Settings) -> Result<Access, Failure> {
    let Some(path) = &settings.token_file else { return Ok(Access::ReadOnly) };
    let what = || Failure::new(format!("could not read the token file {}", path.display()));
    let token = std::fs::read_to_string(path)
        .map_err(|error| what().because(error).try_this("write one (`openssl rand -hex 32`), or remove `tokenFile`"))?;
    if token.trim().is_empty() {
        return Err(what().because("it is empty").try_this("write one with `openssl rand -hex 32`"));
    }
    Ok(Access::Token(Secret::new(token.trim().to_owned())))
}

/// Who may say that the repository moved; none without `git.webhookSecretFile`.
///
/// # Errors
/// When that file cannot be read, or holds no secret.
pub(crate) fn hook(settings: &Settings) -> Result<Option<Hook>, Failure> {
    let file = settings.git.as_ref().and_then(|git| git.webhook_secret_file.as_ref());
    let Some(path) = file else { return Ok(None) };
    let failure = |why: String| {
        Failure::new(format!("could not read the webhook secret {}", path.display()))
            .because(why)
            .try_this("write one (`openssl rand -hex 32`), or remove `git.webhookSecretFile`")
    };
    let secret = std::fs::read_to_string(path).map_err(|error| failure(error.to_string()))?;
    Hook::new(&Secret::new(secret)).map(Some).map_err(failure)
}

/// Ids taken over with `adopt --from`, as [`remember_former`] wrote them.
fn former(state_dir: &Path) -> Vec<ControllerId> {
    let text = std::fs::read_to_string(state_dir.join("former")).unwrap_or_default();
    text.lines().filter_map(|line| ControllerId::new(line.trim()).ok()).collect()
}

/// Makes sure no controller with the id `old` runs, then remembers it as taken over.
///
/// # Errors
/// When one runs, or the state folder cannot be written.
pub(crate) fn remember_former(settings: &Settings, old: &ControllerId) -> Result<(), Failure> {
    let aside = settings.state_dir.join("adopt");
    let held = Lock::take(&aside, old, &settings.docker)
        .map_err(|why| Failure::from_words(format!("could not take over from {old}"), &why))?;
    let mut ids = former(&settings.state_dir);
    if !ids.contains(old) {
        ids.push(old.clone());
    }
    let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
    let (new, path) = (settings.state_dir.join("former.new"), settings.state_dir.join("former"));
    let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path));
    drop(held);
    // Only our own lock file is in it.
    let _ = std::fs::remove_dir_all(&aside);
    written.map_err(|error| Failure::new(format!("could not write {}", path.display())).because(error))
}

/// The JSON Schema of a desired-state file.
pub(crate) fn json_schema() -> serde_json::Value {
    source::schema::json_schema()
}

/// What stands at `path`, and what is wrong with it.
pub(crate) fn look(path: &Path, settings: &Settings) -> (Option<DesiredState>, CheckReport) {
    source::look(path, &settings.rules())
}

/// What the commit `id` says, else the newest one of the branch; nothing of it is kept.
///
/// # Errors
/// When there is no repository, or it does not give out the commit.
pub(crate) async fn commit(settings: &Settings, id: Option<&str>) -> Result<Desired, Failure> {
    let Some(git) = &settings.git else { return Err(Failure::new("there is no repository")) };
    let reading = source::git::read_once(git, id, &settings.rules(), &settings.state_dir.join("git")).await;
    reading.map(Desired::of).map_err(|why| Failure::from_words("the desired state cannot be read", &why))
}
