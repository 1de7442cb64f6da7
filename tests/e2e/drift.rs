//! Reality changed by somebody else, every kind of it: put back, with requests running where the fault spares them.

use std::fs;

use crate::support::engine::run;
use crate::support::world::{World, has_hold};

/// A settled service with two replicas of v1.
fn settled(name: &str) -> Option<World> {
    let mut world = World::new(name)?;
    world.write(&[&world.spec("v1").replicas(2)]);
    world.start();
    world.until_settled("v1");
    Some(world)
}

/// Waits until two replicas run, none of them with this id, and all is settled.
fn until_replaced(world: &mut World, old: &str) {
    world.until("its replacement", 60, |world, seen| {
        let containers = world.containers();
        seen["phase"] == "Settled"
            && containers.len() == 2
            && containers.iter().all(|name| world.container_id(name) != old && running(world, name))
    });
    assert_eq!(world.answer().as_deref(), Some("v1"));
}

fn running(world: &World, name: &str) -> bool {
    world.inspect(name, "{{.State.Status}}") == "running"
}

#[test]
fn a_killed_container_is_replaced() {
    let Some(mut world) = settled("killed") else { return };
    let name = format!("{}-blue-1", world.service);
    world.docker(&["kill", &name]);
    world.until("two running replicas", 60, |world, seen| {
        let containers = world.containers();
        seen["phase"] == "Settled" && containers.len() == 2 && containers.iter().all(|name| running(world, name))
    });
    assert_eq!(world.answer().as_deref(), Some("v1"));
}

#[test]
fn a_removed_container_is_replaced() {
    let Some(mut world) = settled("removed") else { return };
    let name = format!("{}-blue-1", world.service);
    let id = world.container_id(&name);
    world.docker(&["rm", "-f", &name]);
    until_replaced(&mut world, &id);
}

#[test]
fn a_paused_container_runs_again() {
    let Some(mut world) = settled("paused") else { return };
    let name = format!("{}-blue-2", world.service);
    world.docker(&["pause", &name]);
    world.until("two running replicas", 60, |world, seen| {
        let containers = world.containers();
        seen["phase"] == "Settled" && containers.len() == 2 && containers.iter().all(|name| running(world, name))
    });
}

#[test]
fn a_renamed_container_is_left_alone_and_replaced() {
    let Some(mut world) = settled("renamed") else { return };
    let name = format!("{}-blue-1", world.service);
    let odd = format!("{}-mine", world.service);
    let id = world.container_id(&name);
    world.docker(&["rename", &name, &odd]);
    // It carries our labels on a name we would not give: not ours to touch, and not counted.
    world.until("the replacement", 60, |world, seen| running(world, &name) && has_hold(seen, "NotOurs"));
    assert_eq!(world.container_id(&odd), id, "a stranger was touched");
    world.docker(&["rm", "-f", &odd]);
    world.until_settled("v1");
}

#[test]
fn a_container_that_crashes_again_and_again_is_backed_off_while_the_other_serves() {
    let Some(mut world) = settled("crashes") else { return };
    let name = format!("{}-blue-1", world.service);
    for _ in 0..3 {
        let port = world.inspect(&name, "{{index .Config.Labels \"holdfast.port\"}}");
        if let Ok(port) = port.parse() {
            let _ = crate::support::load::get(port, "/crash");
        }
        world.until("an answer through nginx", 30, |world, _| world.answer().is_some());
    }
    world.until_settled("v1");
    assert_eq!(world.slots().len(), 2);
}

#[test]
fn a_container_with_another_image_is_replaced() {
    let Some(mut world) = settled("image") else { return };
    let name = format!("{}-blue-1", world.service);
    let labels = world.inspect(&name, "{{range $key, $value := .Config.Labels}}--label={{$key}}={{$value}}\n{{end}}");
    let port = world.inspect(&name, "{{index .Config.Labels \"holdfast.port\"}}");
    world.docker(&["rm", "-f", &name]);
    // Made again by hand with every label, from another image.
    let publish = format!("127.0.0.1:{port}:8080");
    let mut args = vec!["create", "--name", &name, "-p", &publish];
    args.extend(labels.lines().filter(|line| line.starts_with("--label=holdfast.")));
    args.push("holdfast-test:v2");
    let made = crate::support::engine::try_run("docker", &args);
    if made.status.success() {
        let _ = crate::support::engine::try_run("docker", &["start", &name]);
    }
    let v2 = world.docker(&["image", "inspect", "-f", "{{.Id}}", "holdfast-test:v2"]);
    world.until("v1 alone", 60, |world, seen| {
        let containers = world.containers();
        seen["phase"] == "Settled"
            && containers.len() == 2
            && containers.iter().all(|name| running(world, name) && world.inspect(name, "{{.Image}}") != v2)
    });
}

#[test]
fn restart_policy_and_memory_are_put_back_in_place() {
    let Some(mut world) = World::new("limits") else { return };
    world.write(&[&world.spec("v1").docker("resources: {memory: 64MiB}")]);
    world.start();
    world.until_settled("v1");
    let name = format!("{}-blue-1", world.service);
    let id = world.container_id(&name);
    let limit = world.inspect(&name, "{{.HostConfig.Memory}}");
    assert_eq!(limit, "67108864");
    let load = world.load();
    world.docker(&["update", "--restart=no", "--memory=32m", "--memory-swap=64m", &name]);
    world.until("both to be back", 60, |world, seen| {
        seen["phase"] == "Settled"
            && world.inspect(&name, "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}}")
                == "unless-stopped 67108864"
    });
    load.stop().assert_none_failed();
    assert_eq!(world.container_id(&name), id, "in place means in place");
}

#[test]
fn an_extra_container_with_copied_labels_is_left_alone() {
    let Some(mut world) = settled("copied") else { return };
    let name = format!("{}-blue-1", world.service);
    let labels = world.inspect(&name, "{{range $key, $value := .Config.Labels}}--label={{$key}}={{$value}}\n{{end}}");
    let odd = format!("{}-copy", world.service);
    let mut args = vec!["run", "-d", "--name", odd.as_str()];
    args.extend(labels.lines().filter(|line| line.starts_with("--label=holdfast.")));
    args.push("holdfast-test:v2");
    let id = world.docker(&args);
    world.until_held("NotOurs");
    assert_eq!(world.container_id(&odd), id);
    assert!(running(&world, &odd), "a label alone makes nothing ours");
    assert_eq!(world.answer().as_deref(), Some("v1"), "and it gets no requests");
}

#[test]
fn an_edited_servers_file_is_put_back() {
    let Some(mut world) = settled("edited") else { return };
    let before = fs::read(world.servers()).expect("the servers file");
    fs::write(world.servers(), "server 127.0.0.1:9;\n").expect("edited");
    world.until("the file to be back", 30, |world, seen| {
        seen["phase"] == "Settled" && fs::read(world.servers()).is_ok_and(|now| now == before)
    });
    assert_eq!(world.answer().as_deref(), Some("v1"));
}

#[test]
fn an_edited_servers_file_that_was_loaded_is_put_back() {
    let Some(mut world) = settled("loaded") else { return };
    let before = fs::read(world.servers()).expect("the servers file");
    fs::write(world.servers(), "server 127.0.0.1:9;\n").expect("edited");
    run("nginx", &["-c", &world.path("nginx/nginx.conf").display().to_string(), "-s", "reload"]);
    world.until("the file to be back and loaded", 30, |world, seen| {
        let back = fs::read(world.servers()).is_ok_and(|now| now == before);
        seen["phase"] == "Settled" && back && world.answer().as_deref() == Some("v1")
    });
}

#[test]
fn a_deleted_servers_file_is_written_again() {
    let Some(mut world) = settled("deleted") else { return };
    let before = fs::read(world.servers()).expect("the servers file");
    let load = world.load();
    fs::remove_file(world.servers()).expect("deleted");
    world.until("the file to be back", 30, |world, seen| {
        seen["phase"] == "Settled" && fs::read(world.servers()).is_ok_and(|now| now == before)
    });
    load.stop().assert_none_failed();
}

#[test]
fn a_stopped_nginx_is_said_and_never_started_by_us() {
    let Some(mut world) = settled("nginx") else { return };
    world.stop_nginx();
    world.until_held("NginxNotRunning");
    assert!(world.answer().is_none(), "nobody started it");
    assert_eq!(world.slots().len(), 2, "and nothing was removed");
    world.start_nginx();
    world.until_settled("v1");
    assert_eq!(world.answer().as_deref(), Some("v1"));
}

#[test]
fn detect_mode_reports_and_leaves_alone() {
    let Some(mut world) = World::new("detect") else { return };
    world.write(&[&world.spec("v1").docker("resources: {memory: 64MiB}").more("drift: {mode: detect}")]);
    world.start();
    world.until_settled("v1");
    let name = format!("{}-blue-1", world.service);
    world.docker(&["update", "--memory=32m", "--memory-swap=64m", &name]);
    world.until_held("DriftReported");
    assert_eq!(world.inspect(&name, "{{.HostConfig.Memory}}"), "33554432");
    // A lost replica is replaced all the same.
    world.docker(&["rm", "-f", &name]);
    world.until("the replacement", 60, |world, _| world.slots().len() == 1 && world.answer().as_deref() == Some("v1"));
}
