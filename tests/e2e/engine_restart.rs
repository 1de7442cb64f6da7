//! The engine dies and comes back. An engine of the test's own: the shared one is never touched.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::engine::{run, text, try_run};
use crate::support::world::World;
use crate::support::{pause, until};

/// A second dockerd with its own bridge, data, containerd namespace and socket.
struct Engine {
    bridge: String,
    folder: std::path::PathBuf,
    child: Option<Child>,
}

impl Engine {
    fn start(world: &World) -> Self {
        let number = world.web % 200;
        let bridge = format!("hf{}", world.web);
        run("ip", &["link", "add", &bridge, "type", "bridge"]);
        run("ip", &["addr", "add", &format!("10.213.{number}.1/24"), "dev", &bridge]);
        run("ip", &["link", "set", &bridge, "up"]);
        let mut engine = Self { bridge, folder: world.path("engine"), child: None };
        std::fs::create_dir(&engine.folder).expect("a folder");
        engine.run();
        engine
    }

    fn host(&self) -> String {
        format!("unix://{}/sock", self.folder.display())
    }

    fn run(&mut self) {
        let folder = self.folder.display();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).expect("a log");
        let errors = log.try_clone().expect("a log");
        let child = Command::new("dockerd")
            .args(["--data-root", &format!("{folder}/data"), "--exec-root", &format!("{folder}/exec")])
            .args(["--pidfile", &format!("{folder}/pid"), "-H", &self.host(), "--bridge", &self.bridge])
            .args(["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--containerd-namespace", &self.bridge])
            .args(["--containerd-plugins-namespace", &format!("{}-plugins", self.bridge)])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn();
        self.child = Some(child.expect("dockerd starts"));
        let host = self.host();
        until("the second engine", 60, || try_run("docker", &["-H", &host, "info"]).status.success());
    }

    fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Its containerd dies with it. Where process 1 reaps nobody, that one stays a zombie, which the next dockerd
        // takes for a running containerd and waits for in vain: its pid file has to go.
        let _ = std::fs::remove_file(self.containerd_pid());
    }

    fn containerd_pid(&self) -> std::path::PathBuf {
        self.folder.join("exec/containerd/containerd.pid")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let script = format!("docker -H {0} ps -aq | xargs -r docker -H {0} rm -f -v", self.host());
        let _ = try_run("sh", &["-c", &script]);
        if let Some(mut child) = self.child.take() {
            let _ = try_run("kill", &["-TERM", &child.id().to_string()]);
            let _ = child.wait();
        }
        if let Ok(pid) = std::fs::read_to_string(self.containerd_pid()) {
            let _ = try_run("kill", &["-TERM", pid.trim()]);
        }
        // What a failed test leaves running outlives its engine.
        let _ = try_run("pkill", &["-KILL", "-f", &format!("containerd-shim-runc-v2 -namespace {}", self.bridge)]);
        for _ in 0..20 {
            let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
            let folder = self.folder.display().to_string();
            let Some(path) =
                mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).find(|path| path.starts_with(&folder))
            else {
                break;
            };
            let _ = try_run("umount", &["-l", path]);
        }
        let _ = try_run("ip", &["link", "del", &self.bridge]);
    }
}

#[test]
fn a_killed_engine_is_unreadable_not_empty_and_is_picked_up_again() {
    let Some(mut world) = World::without_nginx("engine") else { return };
    let mut engine = Engine::start(&world);
    world.docker_host = Some(engine.host());
    let script = format!("docker save holdfast-test:v1 holdfast-test:v2 | docker -H {} load", engine.host());
    let loaded = try_run("sh", &["-c", &script]);
    assert!(loaded.status.success(), "{}", text(&loaded.stderr));
    let mut spec = world.spec("v1").replicas(2).rolling().docker("restart: always");
    spec.servers = None;
    world.write(&[&spec]);
    world.start();
    world.until_settled("v1");

    engine.kill9();
    world.until_held("PlatformUnreadable");
    // An edit in the dark waits.
    world.write(&[&spec.clone().tag("v2")]);
    pause(Duration::from_millis(500));
    engine.run();
    world.until_settled("v2");
    world.until("two replicas", 60, |world, seen| seen["phase"] == "Settled" && world.containers().len() == 2);

    // The event stream was opened again: a killed container is noticed without a resync in between.
    let name = world.containers().first().cloned().expect("a container");
    let id = world.container_id(&name);
    world.docker(&["rm", "-f", &name]);
    world.until("the replacement", 60, |world, seen| {
        let containers = world.containers();
        seen["phase"] == "Settled"
            && containers.len() == 2
            && containers.iter().all(|name| world.container_id(name) != id)
    });
}
