//! The edges fail: nginx refuses its configuration, the disk is full, the registry is ill.

use std::fs;

use crate::support::engine::try_run;
use crate::support::registry_stub::RegistryStub;
use crate::support::until;
use crate::support::world::{World, has_hold};

#[test]
fn a_configuration_nginx_refuses_holds_and_keeps_what_serves() {
    let Some(mut world) = World::new("refused") else { return };
    world.write(&[&world.spec("v1")]);
    world.start();
    world.until_settled("v1");
    let before = fs::read(world.servers()).expect("the servers file");
    let load = world.load();
    world.write_nginx_conf("no_such_directive on;");
    world.write(&[&world.spec("v2")]);
    world.until("the hold", 40, |_, seen| has_hold(seen, "NginxConfigInvalid") || has_hold(seen, "TrafficUnreadable"));
    // Each try has the new bytes in place while `nginx -t` reads them.
    until("the old bytes to be back", 5, || fs::read(world.servers()).is_ok_and(|now| now == before));
    assert!(world.slots().contains(&"blue-1".to_owned()), "what serves stays");
    world.write_nginx_conf("");
    world.until_settled("v2");
    load.stop().assert_none_failed();
}

#[test]
fn a_file_that_is_not_included_yet_holds_with_the_lines_to_add() {
    let Some(mut world) = World::new("include") else { return };
    let mut spec = world.spec("v1");
    spec.servers = Some(world.path("nginx/other.servers").display().to_string());
    world.write(&[&spec]);
    world.start();
    world.until_held("NginxIncludeMissing");
    let file =
        fs::read_to_string(world.path("nginx/other.servers")).expect("the file is written before it is included");
    assert!(file.contains("server 127.0.0.1:"), "{file}");
}

#[test]
fn a_full_disk_under_the_state_folder_stops_changes_and_no_requests() {
    let Some(mut world) = World::new("full") else { return };
    let state = world.path("state");
    let mounted = try_run("mount", &["-t", "tmpfs", "-o", "size=2m", "tmpfs", &state.display().to_string()]);
    assert!(mounted.status.success(), "this test mounts a small tmpfs and needs root");
    world.unmount = Some(state.clone());
    world.write(&[&world.spec("v1")]);
    world.start();
    world.until_settled("v1");
    let load = world.load();
    let ballast = state.join("ballast");
    let _ = try_run("dd", &["if=/dev/zero", &format!("of={}", ballast.display()), "bs=4k"]);
    world.write(&[&world.spec("v2")]);
    // The memory is written before the step it describes: without it, no step.
    world.until("a reason", 40, |_, seen| {
        seen["phase"] != "Settled" && seen["holds"].as_array().is_some_and(|holds| !holds.is_empty())
    });
    assert_eq!(world.answer().as_deref(), Some("v1"));
    fs::remove_file(&ballast).expect("the disk has room again");
    world.until_settled("v2");
    load.stop().assert_none_failed();
}

#[test]
fn an_ill_registry_holds_its_own_service_alone() {
    // The status, and the hold it leads to. 0 is a registry that takes the request and never answers.
    for (status, reason) in [
        (401, "ImageUnresolved"),
        (404, "ImageMissing"),
        (429, "ImageUnresolved"),
        (500, "ImageUnresolved"),
        (0, "ImageUnresolved"),
    ] {
        let Some(mut world) = World::without_nginx(&format!("reg{status}")) else { return };
        let stub = RegistryStub::start(status);
        let mut ill = world.spec("v1").rolling();
        ill.servers = None;
        ill.image = format!("localhost:{}/app", stub.port);
        ill.pull = "always";
        let mut well = world.spec("v1").rolling();
        well.servers = None;
        well.name = format!("{}-well", world.service);
        world.write(&[&ill, &well]);
        world.start();
        world.until(&format!("{reason} after {status}"), 90, |_, seen| has_hold(seen, reason));
        assert!(stub.asked() > 0, "the registry was asked");
        let name = well.name.clone();
        world.until("the other service", 60, |world, _| {
            world.status_of(&name).is_some_and(|seen| seen["phase"] == "Settled")
        });
        assert!(world.container_id(&format!("{}-1", world.service)).is_empty());
        if status == 429 {
            let asked = stub.asked();
            assert!(asked < 40, "{asked} requests to a registry that asks for less");
        }
    }
}

#[test]
fn a_missing_env_file_holds_until_it_is_there() {
    let Some(mut world) = World::without_nginx("env") else { return };
    let mut spec = world.spec("v1").rolling().docker("envFile: app.env");
    spec.servers = None;
    world.write(&[&spec]);
    world.start();
    world.until_held("EnvFileMissing");
    fs::write(world.path("env/app.env"), "GREETING=hello\nPASSWORD=canary-5b1c\n").expect("written");
    world.until_settled("v1");
    let name = format!("{}-1", world.service);
    let env = world.inspect(&name, "{{.Config.Env}}");
    assert!(env.contains("GREETING=hello"), "{env}");
    assert!(!world.log().contains("canary-5b1c"), "a secret reached the log");
    let found = try_run("grep", &["-r", "-l", "canary-5b1c", &world.path("state").display().to_string()]);
    assert!(found.stdout.is_empty(), "a secret reached the state folder");
    // Its content is part of the release.
    let id = world.container_id(&name);
    fs::write(world.path("env/app.env"), "GREETING=hi\n").expect("written");
    world.until("the new release", 60, |world, seen| {
        let containers = world.containers();
        seen["phase"] == "Settled" && containers.len() == 1 && world.container_id(&containers[0]) != id
    });
}
