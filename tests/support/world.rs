//! A world of one's own: a controller id, a folder, an nginx, ports and containers that no other test shares.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::engine::{build_images, enabled, run, text, try_run};
use super::load::{Load, get};
use super::spec::Spec;
use super::until;

/// Ports of a world: the first 20 for replicas, then nginx.
const PORTS_PER_WORLD: u16 = 24;

/// One test's world. Dropping it removes every trace.
pub(crate) struct World {
    /// The controller's id.
    pub(crate) id: String,
    /// The service most tests are about.
    pub(crate) service: String,
    /// Where nginx listens.
    pub(crate) web: u16,
    /// Further global settings, as lines of `holdfast.yaml`.
    pub(crate) settings: Vec<String>,
    /// `resync` of holdfast.yaml.
    pub(crate) resync: &'static str,
    /// Further environment of the binary.
    pub(crate) env: Vec<(String, String)>,
    /// `-H` of the docker client; none: the shared engine.
    pub(crate) docker_host: Option<String>,
    /// Ran before the folder goes: what the test mounted.
    pub(crate) unmount: Option<PathBuf>,
    first_port: u16,
    directory: TempDir,
    controller: Option<Child>,
}

impl World {
    /// A world named after its test; none when the end-to-end tests are switched off.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let mut world = Self::without_nginx(name)?;
        world.settings.push(format!(
            "nginx: {{binary: nginx, config: {0}/nginx.conf, pid: {0}/nginx.pid}}",
            world.path("nginx").display()
        ));
        fs::write(world.servers(), "server 127.0.0.1:1 down;\n").expect("the servers file is written");
        world.write_nginx_conf("");
        world.start_nginx();
        Some(world)
    }

    /// A world whose services have no traffic, or another engine.
    pub(crate) fn without_nginx(name: &str) -> Option<Self> {
        if !enabled() {
            return None;
        }
        build_images();
        let first_port = free_block();
        let unique = format!("{}-{}", std::process::id(), first_port);
        let directory = tempfile::Builder::new().prefix("hf-").tempdir_in("/tmp").expect("a folder");
        for folder in ["desired", "nginx", "state", "env"] {
            fs::create_dir(directory.path().join(folder)).expect("a folder");
        }
        Some(Self {
            id: format!("e2e-{unique}"),
            service: format!("{name}-{unique}"),
            web: first_port + 20,
            settings: Vec::new(),
            resync: "2s",
            env: Vec::new(),
            docker_host: None,
            unmount: None,
            first_port,
            directory,
            controller: None,
        })
    }

    /// A path inside the world's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The servers file of the service.
    pub(crate) fn servers(&self) -> PathBuf {
        self.path("nginx/api.servers")
    }

    /// The service with one replica of `tag` behind nginx.
    pub(crate) fn spec(&self, tag: &str) -> Spec {
        Spec {
            name: self.service.clone(),
            image: "holdfast-test".to_owned(),
            tag: tag.to_owned(),
            replicas: 1,
            colour: None,
            pull: "never",
            docker: Vec::new(),
            rollout: Vec::new(),
            bake: "1s",
            deadline: "8s",
            servers: Some(self.servers().display().to_string()),
            more: Vec::new(),
        }
    }

    /// Makes `specs` the desired state: beside and renamed, as editors do.
    pub(crate) fn write(&self, specs: &[&Spec]) {
        let mut text = "services:\n".to_owned();
        for spec in specs {
            text += &spec.yaml();
        }
        self.write_text(&text);
    }

    /// Makes `text` the desired state, whatever it is.
    pub(crate) fn write_text(&self, text: &str) {
        fs::write(self.path("desired/.new"), text).expect("the desired state is written");
        fs::rename(self.path("desired/.new"), self.path("desired/services.yaml")).expect("and renamed");
    }

    // ---- nginx ----

    /// Writes the user's nginx configuration, with `extra` in its http block.
    pub(crate) fn write_nginx_conf(&self, extra: &str) {
        let folder = self.path("nginx");
        let folder = folder.display();
        let (web, servers) = (self.web, self.servers());
        let text = format!(
            "user root;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log warn;\nworker_processes 2;\n\
             worker_shutdown_timeout 3s;\nevents {{ worker_connections 512; }}\nhttp {{\n  access_log off;\n  \
             client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n  fastcgi_temp_path {folder}/fastcgi;\n  \
             uwsgi_temp_path {folder}/uwsgi;\n  scgi_temp_path {folder}/scgi;\n  {extra}\n  \
             upstream api {{ include {servers}; keepalive 32; }}\n  server {{\n    listen 127.0.0.1:{web};\n    \
             location / {{ proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ''; }}\n  }}\n}}\n",
            servers = servers.display()
        );
        fs::write(self.path("nginx/nginx.conf"), text).expect("nginx.conf is written");
    }

    /// Starts the world's nginx; it answers when this returns.
    pub(crate) fn start_nginx(&self) {
        run("nginx", &["-c", &self.path("nginx/nginx.conf").display().to_string()]);
        until("nginx to answer", 10, || get(self.web, "/").is_ok());
    }

    /// Stops it, and waits until it is gone.
    pub(crate) fn stop_nginx(&self) {
        let file = self.path("nginx/nginx.pid");
        let Ok(pid) = fs::read_to_string(&file) else { return };
        let _ = try_run("kill", &["-QUIT", pid.trim()]);
        until("nginx to end", 10, || !Path::new("/proc").join(pid.trim()).exists());
    }

    /// What nginx answers now.
    pub(crate) fn answer(&self) -> Option<String> {
        get(self.web, "/").ok().filter(|(status, _)| *status == 200).map(|(_, body)| body)
    }

    /// Requests through nginx without a pause.
    pub(crate) fn load(&self) -> Load {
        Load::start(self.web, 3)
    }

    // ---- holdfast ----

    fn config(&self) -> PathBuf {
        let file = self.path("holdfast.yaml");
        let (id, first, last) = (&self.id, self.first_port, self.first_port + 19);
        let root = self.directory.path().display();
        let resync = self.resync;
        let mut text = format!(
            "controller: {id}\nsource: {root}/desired\nstateDir: {root}/state\nlisten: none\nresync: {resync}\n\
             ports: {first}-{last}\nenvRoot: {root}/env\n"
        );
        if let Some(host) = &self.docker_host {
            text += &format!("docker: {host}\n");
        }
        for line in &self.settings {
            text += &format!("{line}\n");
        }
        // Another command may be reading it now: it is replaced whole, and only when it changes.
        if fs::read_to_string(&file).ok().as_ref() != Some(&text) {
            let new = self.path("holdfast.yaml.new");
            fs::write(&new, text).expect("holdfast.yaml is written");
            fs::rename(&new, &file).expect("and renamed");
        }
        file
    }

    /// The command, not started.
    pub(crate) fn command(&self, verb: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command.arg(verb).arg("--config").arg(self.config()).args(args).env_remove("HOLDFAST_CONFIG");
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Runs a verb to its end.
    pub(crate) fn holdfast(&self, verb: &str, args: &[&str]) -> Output {
        self.command(verb, args).output().expect("holdfast starts")
    }

    /// Starts the controller and waits until it answers.
    pub(crate) fn start(&mut self) {
        self.spawn(&[]);
        until("the controller to answer", 20, || {
            self.assert_alive();
            self.status().is_some()
        });
    }

    /// Starts the controller and does not wait.
    pub(crate) fn spawn(&mut self, args: &[&str]) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).expect("a log");
        let errors = log.try_clone().expect("a log");
        let child = self.command("run", args).stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        self.controller = Some(child.expect("holdfast starts"));
    }

    fn assert_alive(&mut self) {
        let ended = self.controller.as_mut().and_then(|child| child.try_wait().ok().flatten());
        assert!(ended.is_none(), "the controller ended: {ended:?}\n{}", self.log());
    }

    /// `kill -9`, as the kernel would.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut child) = self.controller.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM; the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let mut child = self.controller.take()?;
        run("kill", &["-TERM", &child.id().to_string()]);
        until("the controller to stop", 20, || matches!(child.try_wait(), Ok(Some(_))));
        child.wait().ok()?.code()
    }

    /// Everything the controller said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    // ---- status ----

    /// `status -o json`; none while nobody answers.
    pub(crate) fn status(&self) -> Option<Value> {
        let output = self.holdfast("status", &["-o", "json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// The status of a service by name.
    pub(crate) fn status_of(&self, name: &str) -> Option<Value> {
        let status = self.status()?;
        status["services"].as_array()?.iter().find(|service| service["name"] == name).cloned()
    }

    /// The status of the service.
    pub(crate) fn seen(&self) -> Value {
        self.status_of(&self.service).unwrap_or_default()
    }

    /// Waits until `met` holds of the service's status; a failure shows the status and the log.
    pub(crate) fn until(&mut self, what: &str, seconds: u64, mut met: impl FnMut(&Self, &Value) -> bool) {
        let give_up = std::time::Instant::now() + Duration::from_secs(seconds);
        loop {
            self.assert_alive();
            let seen = self.seen();
            if met(self, &seen) {
                return;
            }
            assert!(
                std::time::Instant::now() < give_up,
                "waited {seconds} s in vain for {what}\n{seen:#}\n{}",
                tail(&self.log(), 40)
            );
            super::pause(Duration::from_millis(50));
        }
    }

    /// Waits until `tag` serves and nothing is left to do.
    pub(crate) fn until_settled(&mut self, tag: &str) {
        self.until(&format!("{tag} to settle"), 60, |_, seen| {
            seen["phase"] == "Settled" && seen["serving"]["tag"] == tag
        });
    }

    /// Waits until a hold of this name is there.
    pub(crate) fn until_held(&mut self, reason: &str) {
        self.until(&format!("the hold {reason}"), 60, |_, seen| has_hold(seen, reason));
    }

    // ---- containers ----

    /// Runs the docker client against this world's engine.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        let mut all = Vec::new();
        if let Some(host) = &self.docker_host {
            all.extend(["-H", host.as_str()]);
        }
        all.extend(args);
        run("docker", &all)
    }

    fn list(&self, format: &str) -> Vec<String> {
        let filter = format!("label=holdfast.controller={}", self.id);
        let mut names: Vec<String> =
            self.docker(&["ps", "-a", "--filter", &filter, "--format", format]).lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Names of the containers of this controller, sorted.
    pub(crate) fn containers(&self) -> Vec<String> {
        self.list("{{.Names}}")
    }

    /// Their names without the service: `blue-1`.
    pub(crate) fn slots(&self) -> Vec<String> {
        let prefix = format!("{}-", self.service);
        self.containers().iter().map(|name| name.strip_prefix(&prefix).unwrap_or(name).to_owned()).collect()
    }

    /// A field of `docker inspect`; empty when the container is not there.
    pub(crate) fn inspect(&self, name: &str, format: &str) -> String {
        let mut all = Vec::new();
        if let Some(host) = &self.docker_host {
            all.extend(["-H", host.as_str()]);
        }
        all.extend(["inspect", "-f", format, name]);
        text(&try_run("docker", &all).stdout)
    }

    /// The id of a container; empty when it is not there.
    pub(crate) fn container_id(&self, name: &str) -> String {
        self.inspect(name, "{{.Id}}")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- {} said:\n{}", self.id, tail(&self.log(), 60));
        }
        self.kill9();
        let mut docker = vec!["docker".to_owned()];
        if let Some(host) = &self.docker_host {
            docker.extend(["-H".to_owned(), host.clone()]);
        }
        let docker = docker.join(" ");
        // By label and by our own name prefix: a test may have renamed one, or made one by hand.
        let script = format!(
            "ids=$({docker} ps -aq --filter label=holdfast.controller={id}; {docker} ps -aq --filter name={service}); \
             [ -z \"$ids\" ] || {docker} rm -f -v $ids; \
             images=$({docker} images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' | grep '^holdfast/{service}:'); \
             [ -z \"$images\" ] || {docker} rmi $images",
            id = self.id,
            service = self.service
        );
        let _ = try_run("sh", &["-c", &script]);
        if let Ok(pid) = fs::read_to_string(self.path("nginx/nginx.pid")) {
            let _ = try_run("kill", &["-TERM", pid.trim()]);
        }
        if let Some(path) = &self.unmount {
            let _ = try_run("umount", &["-l", &path.display().to_string()]);
        }
    }
}

/// Whether `seen` has a hold of this name.
pub(crate) fn has_hold(seen: &Value, reason: &str) -> bool {
    seen["holds"].as_array().is_some_and(|holds| holds.iter().any(|hold| hold["reason"] == reason))
}

/// The last `count` lines.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The first port of a block nobody listens on, below the kernel's ephemeral range.
fn free_block() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 22_000 + u16::try_from(std::process::id() % 16).unwrap_or(0) * 600;
    for _ in 0..400 {
        let offset = NEXT.fetch_add(PORTS_PER_WORLD, Ordering::Relaxed);
        let first = 22_000 + (start - 22_000 + offset) % 9_600;
        let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (first..first + PORTS_PER_WORLD).all(free) {
            return first;
        }
    }
    panic!("no {PORTS_PER_WORLD} free ports in a row");
}
