//! The Docker platform on a real engine.
//!
//! Needs an engine at unix:///var/run/docker.sock and static busybox; runs only with `HOLDFAST_TEST_DOCKER=1`, which
//! `make test` sets. Touches only what it made itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]

#[path = "docker_platform/bed.rs"]
mod bed;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bed::{docker, gated};
use holdfast::model::colour::Group;
use holdfast::model::desired::{Check, Logging, Resources, Restart};
use holdfast::model::image::{Tag, TagSpec};
use holdfast::model::snapshot::{Fact, Health, ReplicaState};
use holdfast::plan::step::{Ensured, PlatformStep};
use holdfast::ports::{LookAt, Platform, StepErrorKind, Wakes};

fn answers(address: SocketAddr) -> bool {
    let Ok(mut socket) = TcpStream::connect(address) else { return false };
    socket.write_all(b"GET /nothing HTTP/1.0\r\n\r\n").unwrap();
    let mut head = [0; 12];
    socket.read_exact(&mut head).is_ok() && head.starts_with(b"HTTP/1.")
}

/// Waits for a condition, not for a time.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_run_is_done_once_and_seen_as_it_is() {
    let Some(bed) = gated("run") else { return };
    let port = bed.free_port().await;
    let run = bed.run(1, Some(port));
    let step = PlatformStep::Run(Box::new(run.clone()));
    assert_eq!(bed.platform.perform(&step).await, Ok(Ensured::Changed));
    assert_eq!(bed.platform.perform(&step).await, Ok(Ensured::AlreadySo));
    let replicas = bed.replicas().await;
    let [replica] = &replicas[..] else { panic!("one replica, not {replicas:?}") };
    assert_eq!((replica.name.as_str(), replica.group, replica.slot), (run.name.as_str(), Group::Blue, 1));
    assert_eq!((&replica.release, replica.digest.as_ref()), (&run.hash, Some(&run.release.digest)));
    assert_eq!((replica.state, replica.port, replica.port_bound), (ReplicaState::Running, Some(port), true));
    assert_eq!((replica.restart, replica.resources), (run.restart, run.resources));
    assert_eq!(replica.volumes, run.release.volumes);
    assert!(matches!(replica.health, Health::Unknown { last: None, .. }) && !replica.has_healthcheck);
    let own = replica.address.unwrap();
    assert_eq!(own.port(), 8080);
    until("the container answers itself", || answers(own));
    until("the published port answers", || answers(([127, 0, 0, 1], port).into()));
    let env = docker(&["inspect", "-f", "{{json .Config.Env}}", &replica.id]);
    assert!(env.contains("\"FROM_FILE=1\"") && env.contains("\"GREETING=hello world\""), "{env}");
    assert_eq!(bed.platform.owned().await, Fact::Seen(BTreeSet::from([bed.service.name.clone()])));
}

#[tokio::test]
async fn a_lost_reply_is_adopted_and_another_release_is_not() {
    let Some(bed) = gated("adopt") else { return };
    let port = bed.free_port().await;
    let run = bed.run(1, Some(port));
    let mut arguments = vec!["create".to_owned(), "--name".to_owned(), run.name.clone()];
    arguments.extend(bed.labels(&run).into_iter().flat_map(|label| ["-l".to_owned(), label]));
    arguments.extend(["-p".to_owned(), format!("127.0.0.1:{port}:8080"), "--init".to_owned(), bed.image.clone()]);
    let made = docker(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let step = PlatformStep::Run(Box::new(run.clone()));
    assert_eq!(bed.platform.perform(&step).await, Ok(Ensured::Changed));
    let replicas = bed.replicas().await;
    assert_eq!((replicas.len(), replicas[0].id.as_str(), replicas[0].port_bound), (1, made.as_str(), true));
    let mut other = run;
    other.hash.0.push('x');
    let error = bed.platform.perform(&PlatformStep::Run(Box::new(other))).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Stale, "{error}");
    assert_eq!(bed.replicas().await[0].id, made);
}

#[tokio::test]
async fn a_taken_port_leaves_nothing_behind() {
    let Some(bed) = gated("port") else { return };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = bed.platform.perform(&PlatformStep::Run(Box::new(bed.run(1, Some(port))))).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Transient, "{error}");
    assert!(error.why.starts_with(&format!("port {port} on 127.0.0.1 is taken")), "{error}");
    assert_eq!(bed.replicas().await, []);
}

#[tokio::test]
async fn a_command_that_is_not_there_leaves_nothing_behind() {
    let Some(bed) = gated("start") else { return };
    let mut run = bed.run(1, None);
    // With docker-init the start itself succeeds and the container exits with 127.
    run.release.init = false;
    run.release.command = vec!["/no/such/program".to_owned()];
    let error = bed.platform.perform(&PlatformStep::Run(Box::new(run))).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Refused, "{error}");
    assert!(error.why.contains("/no/such/program"), "{error}");
    assert_eq!(bed.replicas().await, []);
}

#[tokio::test]
async fn what_drifted_is_put_back_in_place_and_only_once() {
    let Some(bed) = gated("drift") else { return };
    let target = bed.start(1).await;
    docker(&["pause", &target.name]);
    assert_eq!(bed.replicas().await[0].state, ReplicaState::Paused);
    let unpause = PlatformStep::Unpause { target: target.clone() };
    assert_eq!(bed.platform.perform(&unpause).await, Ok(Ensured::Changed));
    assert_eq!(bed.platform.perform(&unpause).await, Ok(Ensured::AlreadySo));
    let resources = Resources { nano_cpus: Some(250_000_000), memory: Some(96 << 20) };
    let update = PlatformStep::Update { target: target.clone(), restart: Restart::Always, resources };
    assert_eq!(bed.platform.perform(&update).await, Ok(Ensured::Changed));
    assert_eq!(bed.platform.perform(&update).await, Ok(Ensured::AlreadySo));
    let replica = bed.replicas().await.remove(0);
    assert_eq!(
        (replica.state, replica.restart, replica.resources),
        (ReplicaState::Running, Restart::Always, resources)
    );
    let mut renamed = target.clone();
    renamed.name = "another-blue-1".to_owned();
    let remove = |target| PlatformStep::Remove { target, stop_timeout: 1, only_if_down: false };
    assert_eq!(bed.platform.perform(&remove(renamed)).await.unwrap_err().kind, StepErrorKind::Stale);
    let dead = PlatformStep::Remove { target: target.clone(), stop_timeout: 1, only_if_down: true };
    let refused = bed.platform.perform(&dead).await.unwrap_err();
    assert_eq!(refused.kind, StepErrorKind::Stale, "it was seen dead and runs: {refused}");
    assert_eq!(bed.platform.perform(&remove(target.clone())).await, Ok(Ensured::Changed));
    assert_eq!(bed.platform.perform(&remove(target.clone())).await, Ok(Ensured::AlreadySo));
    assert_eq!(bed.platform.perform(&unpause).await.unwrap_err().kind, StepErrorKind::Stale);
    assert_eq!(bed.replicas().await, []);
}

#[tokio::test]
async fn strangers_are_named_and_never_touched() {
    let Some(mut bed) = gated("strange") else { return };
    let run = bed.run(1, None);
    let labels: Vec<String> = bed.labels(&run).into_iter().flat_map(|label| ["-l".to_owned(), label]).collect();
    let create = |name: &str, labels: &[&str]| {
        docker(&[&["create", "--name", name][..], labels, &[&bed.image]].concat());
    };
    let copied: Vec<&str> = labels.iter().map(String::as_str).collect();
    let copy = format!("{}-copy", bed.service.name);
    create(&copy, &copied);
    create(&bed.name(1), &[]);
    create(&bed.name(2), &["-l", "holdfast.controller=somebody-else"]);
    bed.extra.extend([copy.clone(), bed.name(1), bed.name(2)]);
    let seen = bed.look().await;
    assert_eq!(seen.replicas, Fact::Seen(vec![]));
    let mut strangers: Vec<(String, bool)> = seen.strangers.iter().map(|one| (one.name.clone(), one.blocks)).collect();
    strangers.sort();
    assert_eq!(strangers, [(bed.name(1), true), (bed.name(2), true), (copy, false)]);
    let of = |name: &str| &seen.strangers.iter().find(|one| one.name == name).unwrap().why;
    assert!(of(&bed.name(2)).contains("belongs to controller somebody-else"));
    let error = bed.platform.perform(&PlatformStep::Run(Box::new(run))).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Stale, "{error}");
    assert_eq!(bed.look().await.strangers.len(), 3);
}

#[tokio::test]
async fn a_hand_made_container_is_retired_only_by_its_own_id_and_without_another_owner() {
    let Some(mut bed) = gated("retire") else { return };
    let (ours, theirs) = (format!("{}-old", bed.service.name), format!("{}-theirs", bed.service.name));
    let id = docker(&["run", "-d", "--init", "--name", &ours, &bed.image]);
    let other = docker(&["create", "--name", &theirs, "-l", "holdfast.controller=somebody-else", &bed.image]);
    bed.extra.extend([ours.clone(), theirs.clone()]);
    bed.service.docker.replaces = BTreeSet::from([ours.clone(), theirs.clone()]);
    let seen = bed.look().await;
    let replaced: Vec<_> = seen.replaced.iter().map(|one| (one.name.clone(), one.running, one.owner.clone())).collect();
    assert!(replaced.contains(&(ours.clone(), true, None)), "{replaced:?}");
    assert!(replaced.contains(&(theirs.clone(), false, Some("somebody-else".to_owned()))), "{replaced:?}");
    let retire = |id: &str, name: &str| PlatformStep::Retire {
        service: bed.service.name.clone(),
        id: id.to_owned(),
        name: name.to_owned(),
        stop_timeout: 1,
    };
    assert_eq!(bed.platform.perform(&retire(&other, &theirs)).await.unwrap_err().kind, StepErrorKind::Stale);
    assert_eq!(bed.platform.perform(&retire(&id, &theirs)).await.unwrap_err().kind, StepErrorKind::Stale);
    assert_eq!(bed.platform.perform(&retire(&id, &ours)).await, Ok(Ensured::Changed));
    assert_eq!(bed.platform.perform(&retire(&id, &ours)).await, Ok(Ensured::AlreadySo));
}

#[tokio::test]
async fn free_ports_are_leased_and_skip_what_listens() {
    let Some(bed) = gated("lease") else { return };
    let first = bed.look().await.free_ports;
    assert_eq!(first.keys().collect::<Vec<_>>(), [&Group::Blue, &Group::Green]);
    assert_eq!(first[&Group::Blue].len(), 3);
    let taken = TcpListener::bind(("127.0.0.1", first[&Group::Blue][0])).unwrap();
    let mut other = bed.service.clone();
    other.name = bed::service_name("lease-two");
    let look = bed.platform.look(LookAt { name: &other.name, service: Some(&other) }).await;
    let ours: BTreeSet<u16> = first.values().flatten().copied().collect();
    let theirs: BTreeSet<u16> = look.free_ports.values().flatten().copied().collect();
    assert_eq!((ours.len(), theirs.len(), ours.is_disjoint(&theirs)), (6, 6, true));
    assert!(!bed.look().await.free_ports[&Group::Blue].contains(&taken.local_addr().unwrap().port()));
}

#[tokio::test]
async fn events_wake_the_service_they_are_about() {
    let Some(bed) = gated("events") else { return };
    let (wakes, mut queue) = Wakes::channel();
    let watching = bed.platform.clone();
    let watch = tokio::spawn(async move { watching.watch(wakes).await });
    let wait = Duration::from_secs(10);
    let first = tokio::time::timeout(wait, queue.recv()).await.unwrap().unwrap();
    assert_eq!((first.service, first.why.as_str()), (None, "docker: the event stream is open"));
    let target = bed.start(1).await;
    assert_eq!(bed.replicas().await[0].state, ReplicaState::Running);
    docker(&["kill", &target.name]);
    loop {
        let wake = tokio::time::timeout(wait, queue.recv()).await.unwrap().unwrap();
        assert_eq!(wake.service.as_ref(), Some(&bed.service.name), "{}", wake.why);
        if wake.why == format!("docker: die {}", target.name) {
            break;
        }
    }
    // The list was kept until the event; now it is asked for again.
    assert_eq!(bed.replicas().await[0].state, ReplicaState::Exited(Some(137)));
    docker(&["rm", "-f", &target.name]);
    while tokio::time::timeout(wait, queue.recv()).await.unwrap().unwrap().why
        != format!("docker: destroy {}", target.name)
    {}
    assert_eq!(bed.replicas().await, []);
    watch.abort();
}

#[tokio::test]
async fn local_images_are_known_by_id_and_kept_under_a_tag() {
    let Some(bed) = gated("local") else { return };
    let spec = |tag: &str| TagSpec { tag: Tag::new(tag).unwrap(), digest: None };
    let id = bed.platform.local_image(&bed.service.image, &spec("1")).await;
    assert_eq!(id, Fact::Seen(bed.digest.clone()));
    assert_eq!(bed.platform.local_image(&bed.service.image, &spec("none")).await, Fact::Absent);
    bed.start(1).await;
    let seen = bed.look().await;
    assert!(seen.local_images.contains(&bed.digest));
    let [kept] = &seen.kept_images[..] else { panic!("one kept image, not {:?}", seen.kept_images) };
    assert_eq!(kept.digest, bed.digest);
    let step = PlatformStep::RemoveImage {
        service: bed.service.name.clone(),
        digest: bed.digest.clone(),
        references: vec![bed.image.clone()],
    };
    assert_eq!(bed.platform.perform(&step).await.unwrap_err().kind, StepErrorKind::Refused, "a tag of the user's");
}

#[tokio::test]
async fn last_words_are_the_last_lines() {
    let Some(bed) = gated("words") else { return };
    let mut run = bed.run(1, None);
    let script = "for i in 1 2 3 4 5 6; do echo line $i; done; printf '\\033[31mfatal\\033[0m: no database\\n'; exit 3";
    run.release.command = ["/bin/busybox", "sh", "-c", script].map(str::to_owned).to_vec();
    run.restart = Restart::No;
    bed.platform.perform(&PlatformStep::Run(Box::new(run.clone()))).await.unwrap();
    until("it exits", || docker(&["inspect", "-f", "{{.State.Status}}", &run.name]) == "exited");
    let replica = bed.replicas().await.remove(0);
    assert_eq!(replica.state, ReplicaState::Exited(Some(3)));
    let words = bed.platform.last_words(&replica.id).await;
    assert!(words.contains("fatal: no database") && words.contains("line 6") && !words.contains("line 1"), "{words}");
}

#[tokio::test]
async fn what_a_container_writes_reaches_fluentd_under_its_tag() {
    let Some(bed) = gated("fluentd") else { return };
    // fluentd's forward protocol is msgpack over TCP: what is written stands in it as it is.
    let fluentd = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = fluentd.local_addr().unwrap().to_string();
    let (sender, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in fluentd.incoming().flatten() {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = std::io::Read::read(&mut stream, &mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        }
    });
    let mut run = bed.run(1, None);
    run.release.command =
        ["/bin/busybox", "sh", "-c", "echo said by the app; exec sleep 60"].map(str::to_owned).to_vec();
    let options = [("fluentd-address", address.as_str()), ("tag", "dangdang")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    run.release.logging = Some(Logging { driver: "fluentd".to_owned(), options: options.into_iter().collect() });
    let step = PlatformStep::Run(Box::new(run.clone()));
    assert_eq!(bed.platform.perform(&step).await, Ok(Ensured::Changed));
    let mut seen = Vec::new();
    let is_there = |seen: &[u8], words: &str| seen.windows(words.len()).any(|part| part == words.as_bytes());
    while !(is_there(&seen, "dangdang") && is_there(&seen, "said by the app")) {
        let more = received.recv_timeout(Duration::from_secs(20));
        seen.extend(more.unwrap_or_else(|_| panic!("fluentd heard only {:?}", String::from_utf8_lossy(&seen))));
    }
}

#[tokio::test]
async fn a_health_check_of_the_image_is_the_engines_word() {
    let Some(mut bed) = gated("health") else { return };
    bed.service.health.check = Some(Check::Container);
    let run = bed.run(1, None);
    let labels: Vec<String> = bed.labels(&run).into_iter().flat_map(|label| ["-l".to_owned(), label]).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let check = ["--health-cmd", "/bin/busybox true", "--health-interval", "1s"];
    // The engine runs the command through /bin/sh, which this image does not have: the check must fail, in words.
    docker(
        &[&["run", "-d", "--name", &run.name, "--health-retries", "1"][..], &check, &labels, &[&bed.image]].concat(),
    );
    until("it has a verdict", || docker(&["inspect", "-f", "{{.State.Health.Status}}", &run.name]) == "unhealthy");
    let replica = bed.replicas().await.remove(0);
    assert!(replica.has_healthcheck);
    assert!(matches!(&replica.health, Health::Unhealthy(_, why) if !why.is_empty()), "{:?}", replica.health);
}

#[tokio::test]
async fn import_prints_what_runs() {
    let Some(mut bed) = gated("import") else { return };
    let name = format!("{}-blue", bed.service.name);
    docker(&[
        "create",
        "--name",
        &name,
        "-e",
        "A=1 \"2\"",
        "-p",
        "127.0.0.1::8080",
        "-v",
        "/tmp:/data:ro",
        "--restart",
        "always",
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--init",
        &bed.image,
    ]);
    bed.extra.push(name.clone());
    let yaml = bed.platform.import(&name).await.unwrap();
    let value: serde_json::Value = serde_yaml::from_str(&yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    let service = &value["services"][bed.service.name.as_str()];
    assert_eq!(
        (service["image"].as_str(), service["tag"].as_str()),
        (Some(bed.service.image.as_str()), Some("1")),
        "{yaml}"
    );
    let docker = &service["docker"];
    let wanted = serde_json::json!({
        "pull": "never", "port": 8080, "env": {"A": "1 \"2\""}, "volumes": ["/tmp:/data:ro"], "restart": "always",
        "resources": {"cpus": 0.5, "memory": "64MiB"}, "init": true, "replaces": [name],
    });
    assert_eq!(docker, &wanted, "{yaml}");
    assert!(bed.platform.import("holdfast-test-none").await.unwrap_err().contains("hint: `docker ps -a`"));
}

#[tokio::test]
async fn a_pull_needs_the_right_password_and_is_kept() {
    let Some(bed) = gated("pull") else { return };
    let registry = bed::PrivateRegistry::start(&bed);
    let step = PlatformStep::Pull {
        service: bed.service.name.clone(),
        repository: registry.repository.clone(),
        digest: registry.digest.clone(),
    };
    let anonymous = bed.with_credentials(None);
    let error = anonymous.perform(&step).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Refused, "{error}");
    let platform = bed.with_credentials(Some(registry.credentials()));
    assert_eq!(platform.perform(&step).await, Ok(Ensured::Changed));
    assert_eq!(platform.perform(&step).await, Ok(Ensured::AlreadySo));
    let mut service = bed.service.clone();
    service.image = registry.repository.clone();
    service.docker.pull = holdfast::model::desired::Pull::Always;
    let seen = platform.look(LookAt { name: &service.name, service: Some(&service) }).await;
    assert_eq!(seen.local_images, BTreeSet::from([registry.digest.clone()]));
    let kept = seen.kept_images.iter().find(|kept| kept.digest == registry.digest).unwrap().clone();
    assert_eq!(kept.references.len(), 2, "{kept:?}");
    let remove = PlatformStep::RemoveImage {
        service: service.name.clone(),
        digest: kept.digest.clone(),
        references: kept.references,
    };
    assert_eq!(platform.perform(&remove).await, Ok(Ensured::Changed));
    assert_eq!(platform.perform(&remove).await, Ok(Ensured::AlreadySo));
    let seen = platform.look(LookAt { name: &service.name, service: Some(&service) }).await;
    assert_eq!(seen.local_images, BTreeSet::new());
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_unreadable() {
    let platform = bed::platform("unix:///nonexistent/docker.sock", None, std::path::Path::new("/nonexistent"));
    let service = bed::service(&bed::service_name("gone"), "app");
    let seen = platform.look(LookAt { name: &service.name, service: Some(&service) }).await;
    let Fact::Unreadable(why) = seen.replicas else { panic!("not unreadable") };
    assert!(why.contains("no engine at unix:///nonexistent/docker.sock") && why.contains("hint: "), "{why}");
    assert!(matches!(platform.owned().await, Fact::Unreadable(_)));
}
