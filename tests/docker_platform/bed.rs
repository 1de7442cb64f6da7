//! One test's corner of the engine: its own service, controller id and image, gone when the test ends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use holdfast::model::colour::Group;
use holdfast::model::desired as want;
use holdfast::model::image::{Digest, Repository, Tag, TagSpec};
use holdfast::model::names::{ControllerId, ServiceName, container_name};
use holdfast::model::release::{EnvFileVersion, Release};
use holdfast::model::secret::Secret;
use holdfast::model::snapshot::{Fact, PlatformSeen, Replica, Why};
use holdfast::plan::step::{Ensured, PlatformStep, RunContainer, Target};
use holdfast::platform::docker::{Docker, DockerOptions};
use holdfast::ports::{Credentials, LookAt, Platform, Registry, WallClock};
use holdfast::source::env_files::EnvRoot;

const SOCKET: &str = "unix:///var/run/docker.sock";
/// With characters that plain base64 writes as `/` and the engine then ignores.
const PASSWORD: &str = "pa?s~>>??~~rd";
const HTPASSWD: &str = "holdfast:$2b$05$wHDP2Nyn2rd3QeyKv68FsuPB0FJeDw5EhSLmsw9QgCiT5hYDjt7yW\n";

/// Runs `docker` and returns what it printed.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn service_name(case: &str) -> ServiceName {
    ServiceName::new(&format!("docker-{case}-{}", std::process::id())).unwrap()
}

fn controller(name: &ServiceName) -> ControllerId {
    ControllerId::new(&format!("test-{name}")).unwrap()
}

/// A blue/green service with two replicas of a local image.
pub(crate) fn service(name: &ServiceName, image: &str) -> want::Service {
    let second = Duration::from_secs(1);
    want::Service {
        name: name.clone(),
        file: "test.yaml".into(),
        image: Repository::new(image).unwrap(),
        tag: TagSpec { tag: Tag::new("1").unwrap(), digest: None },
        replicas: 2,
        active_colour: None,
        docker: want::Docker {
            pull: want::Pull::Never,
            port: Some(8080),
            publish: want::Publish::default(),
            env: BTreeMap::new(),
            env_file: None,
            volumes: Vec::new(),
            logging: None,
            command: Vec::new(),
            restart: want::Restart::UnlessStopped,
            resources: want::Resources::default(),
            init: true,
            stop_timeout: second,
            keep_images: 3,
            replaces: BTreeSet::new(),
        },
        ecs: None,
        health: want::Health {
            check: Some(want::Check::Tcp { port: None }),
            interval: second,
            timeout: second,
            successes: 1,
            failures: 1,
            deadline: second,
        },
        nginx: None,
        alb: None,
        rollout: want::Rollout {
            strategy: want::Strategy::BlueGreen,
            order: want::Order::StartFirst,
            promote: want::Promote::Auto,
            canary: Vec::new(),
            drain: second,
            bake: second,
            on_failure: want::OnFailure::Rollback,
            progress_deadline: second,
        },
        drift: want::Drift::default(),
        aws: None,
        ecr_keep: None,
        follow: None,
    }
}

struct Account(Option<Credentials>);

#[async_trait]
impl Registry for Account {
    async fn resolve(&self, _: &Repository, _: &TagSpec, _: Duration) -> Fact<Digest> {
        Fact::Unreadable("not asked here".to_owned())
    }

    async fn credentials(&self, _: &Repository) -> Result<Option<Credentials>, Why> {
        Ok(self.0.clone())
    }
}

/// A platform of its own controller id.
pub(crate) fn platform(endpoint: &str, controller: Option<ControllerId>, env_root: &Path) -> Arc<Docker> {
    with(endpoint, controller, env_root, None)
}

fn with(
    endpoint: &str,
    controller: Option<ControllerId>,
    env_root: &Path,
    credentials: Option<Credentials>,
) -> Arc<Docker> {
    Docker::new(DockerOptions {
        controller: controller.unwrap_or_else(|| ControllerId::new("test-none").unwrap()),
        former: Vec::new(),
        endpoint: endpoint.to_owned(),
        ports: want::PortRange { first: 28000, last: 28999 },
        env_files: Arc::new(EnvRoot::new(env_root.to_owned())),
        registry: Arc::new(Account(credentials)),
        clock: Arc::new(WallClock),
    })
}

/// One test's corner of the engine.
pub(crate) struct Bed {
    pub(crate) platform: Arc<Docker>,
    pub(crate) service: want::Service,
    /// Its own name and tag for the test image.
    pub(crate) image: String,
    /// The image's id.
    pub(crate) digest: Digest,
    /// Containers without our labels, to be removed too.
    pub(crate) extra: Vec<String>,
    pub(crate) folder: tempfile::TempDir,
}

/// The bed of `case`; none, with a line that says so, when the engine may not be used.
pub(crate) fn gated(case: &str) -> Option<Bed> {
    if std::env::var_os("HOLDFAST_TEST_DOCKER").is_none_or(|value| value != "1") {
        println!("not run: {case} needs a Docker Engine; run `make test` or set HOLDFAST_TEST_DOCKER=1");
        return None;
    }
    let name = service_name(case);
    let folder = tempfile::tempdir().unwrap();
    let (root, archive) = (folder.path().join("image"), folder.path().join("image.tar"));
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    let (root, archive) = (root.to_str().unwrap(), archive.to_str().unwrap());
    assert!(Command::new("tar").args(["-C", root, "-cf", archive, "."]).status().unwrap().success());
    let image = format!("{name}:1");
    // Imported, not built: builds share their steps, and the end of one test could take them away from another. A label of
    // its own makes it another image than those of the other tests.
    let label = format!("LABEL test={name}");
    let command = "CMD [\"/bin/busybox\", \"httpd\", \"-f\", \"-p\", \"8080\"]";
    docker(&["import", "-c", command, "-c", &label, archive, &image]);
    let digest = Digest::new(&docker(&["image", "inspect", "-f", "{{.Id}}", &image])).unwrap();
    std::fs::write(folder.path().join("app.env"), "FROM_FILE=1\n").unwrap();
    Some(Bed {
        platform: platform(SOCKET, Some(controller(&name)), folder.path()),
        service: service(&name, name.as_str()),
        image,
        digest,
        extra: Vec::new(),
        folder,
    })
}

impl Bed {
    pub(crate) fn name(&self, slot: u32) -> String {
        container_name(&self.service.name, Group::Blue, slot)
    }

    pub(crate) async fn look(&self) -> PlatformSeen {
        self.platform.look(LookAt { name: &self.service.name, service: Some(&self.service) }).await
    }

    pub(crate) async fn replicas(&self) -> Vec<Replica> {
        match self.look().await.replicas {
            Fact::Seen(replicas) => replicas,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn free_port(&self) -> u16 {
        self.look().await.free_ports[&Group::Blue][0]
    }

    /// A blue container of the test image with an env file, a mount and limits.
    pub(crate) fn run(&self, slot: u32, host_port: Option<u16>) -> RunContainer {
        // The digest of what `gated` writes.
        let version = EnvFileVersion {
            path: "app.env".into(),
            sha256: "2b15e46ec5f728aacf6313dd5ff939a48d6468412c1d7a7cca5fd939c58901d8".to_owned(),
        };
        let mut service = self.service.clone();
        service.docker.env.insert("GREETING".to_owned(), "hello world".to_owned());
        service.docker.volumes = vec!["/tmp:/data:ro".to_owned()];
        let release = Release::of(&service, self.digest.clone(), Some(version));
        RunContainer {
            service: self.service.name.clone(),
            name: self.name(slot),
            group: Group::Blue,
            slot,
            hash: release.hash(),
            release,
            host_port,
            restart: want::Restart::UnlessStopped,
            resources: want::Resources { nano_cpus: Some(500_000_000), memory: Some(64 << 20) },
        }
    }

    /// The labels of `run`, as `docker create -l` takes them.
    pub(crate) fn labels(&self, run: &RunContainer) -> Vec<String> {
        let mut labels = vec![
            format!("holdfast.controller={}", controller(&self.service.name)),
            format!("holdfast.service={}", run.service),
            format!("holdfast.colour={}", run.group),
            format!("holdfast.slot={}", run.slot),
            format!("holdfast.release={}", run.hash),
        ];
        labels.extend(run.host_port.map(|port| format!("holdfast.port={port}")));
        labels
    }

    pub(crate) async fn start(&self, slot: u32) -> Target {
        let run = self.run(slot, Some(self.free_port().await));
        assert_eq!(self.platform.perform(&PlatformStep::Run(Box::new(run.clone()))).await, Ok(Ensured::Changed));
        let replicas = self.replicas().await;
        let found = replicas.iter().find(|one| one.name == run.name).unwrap();
        Target { id: found.id.clone(), name: run.name, service: run.service }
    }

    pub(crate) fn with_credentials(&self, credentials: Option<Credentials>) -> Arc<Docker> {
        with(SOCKET, Some(controller(&self.service.name)), self.folder.path(), credentials)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let quiet = |arguments: &[&str]| {
            let output = Command::new("docker").args(arguments).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let label = format!("label=holdfast.controller={}", controller(&self.service.name));
        let mut containers: Vec<String> =
            quiet(&["ps", "-aq", "--filter", &label]).lines().map(str::to_owned).collect();
        containers.append(&mut self.extra);
        for container in &containers {
            quiet(&["rm", "-fv", container]);
        }
        let kept = quiet(&[
            "images",
            "--filter",
            &format!("reference=holdfast/{}", self.service.name),
            "--format",
            "{{.Repository}}:{{.Tag}}",
        ]);
        for image in kept.lines().chain([self.image.as_str()]) {
            quiet(&["rmi", image]);
        }
    }
}

/// A registry process with one user, holding the bed's image under one digest.
pub(crate) struct PrivateRegistry {
    process: Child,
    pub(crate) repository: Repository,
    pub(crate) digest: Digest,
}

impl PrivateRegistry {
    pub(crate) fn start(bed: &Bed) -> Self {
        let folder = bed.folder.path();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        std::fs::write(folder.join("htpasswd"), HTPASSWD).unwrap();
        let at = folder.display();
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {at}/registry}}}}\nhttp: {{addr: '{host}'}}\n\
             auth: {{htpasswd: {{realm: test, path: {at}/htpasswd}}}}\nlog: {{level: error}}\n"
        );
        std::fs::write(folder.join("registry.yml"), config).unwrap();
        let process = Command::new("docker-registry")
            .args(["serve".as_ref(), folder.join("registry.yml").as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(&host).is_err() {
            assert!(std::time::Instant::now() < end, "the registry does not start");
            std::thread::yield_now();
        }
        let login = folder.join("login");
        let login = login.to_str().unwrap();
        let reference = format!("{host}/{}:1", bed.service.name);
        docker(&["--config", login, "login", "-u", "holdfast", "-p", PASSWORD, &host]);
        docker(&["tag", &bed.image, &reference]);
        docker(&["--config", login, "push", "-q", &reference]);
        let named = docker(&["image", "inspect", "-f", "{{index .RepoDigests 0}}", &reference]);
        let digest = Digest::new(named.split_once('@').unwrap().1).unwrap();
        docker(&["rmi", &reference]);
        // Only with the bed's own tag gone too is there anything left to pull.
        docker(&["rmi", &bed.image]);
        Self { process, repository: Repository::new(&format!("{host}/{}", bed.service.name)).unwrap(), digest }
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials {
            username: "holdfast".to_owned(),
            password: Secret::new(PASSWORD.to_owned()),
            host: self.repository.host().to_owned(),
        }
    }
}

impl Drop for PrivateRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
