//! Switches on a real nginx: needs `HOLDFAST_TEST_NGINX=1`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]
#![allow(missing_docs, reason = "tests")]

#[path = "support/nginx.rs"]
mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast::model::desired::NginxTraffic;
use holdfast::model::names::ServiceName;
use holdfast::model::snapshot::{Fact, NginxSeen, Worker};
use holdfast::plan::step::{Ensured, TrafficStep};
use holdfast::ports::{Clock as _, StepErrorKind, Traffic, Wake, Wakes, WallClock};
use holdfast::traffic::nginx::{Nginx, NginxOptions};
use tokio::sync::mpsc::UnboundedReceiver;

use support::{Backend, Load, TestNginx, enabled, free_port, get, wait_until};

const SECONDS: Duration = Duration::from_secs(10);

fn adapter(nginx: &TestNginx) -> Arc<Nginx> {
    Nginx::new(NginxOptions {
        binary: support::binary(),
        config: nginx.config(),
        pid: nginx.pid_file(),
        clock: Arc::new(WallClock),
    })
}

fn step(nginx: &TestNginx, name: &str, servers: &[SocketAddr]) -> TrafficStep {
    let service = ServiceName::new(name).unwrap();
    TrafficStep { service, file: nginx.file(name), servers: servers.to_vec(), reload: true }
}

async fn look(adapter: &Nginx, nginx: &TestNginx, name: &str) -> NginxSeen {
    adapter.look(&NginxTraffic { file: nginx.file(name) }).await
}

/// Whether the accepting workers were all started after the file last changed: what a plan takes for a proof.
fn is_loaded(seen: &NginxSeen) -> bool {
    let (Fact::Seen(file), Fact::Seen(processes)) = (&seen.file, &seen.processes) else { panic!("{seen:?}") };
    let changed = file.changed_at.as_nanosecond();
    !processes.workers.is_empty()
        && processes.workers.iter().all(|worker| i128::from(worker.started_ms) * 1_000_000 > changed)
}

fn workers(seen: &NginxSeen) -> Vec<Worker> {
    seen.processes.seen().unwrap().workers.iter().cloned().collect()
}

fn is_worker_leaving_or_gone(pid: u32) -> bool {
    let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    title.is_empty() || title.contains("shutting down")
}

fn watch(adapter: &Arc<Nginx>) -> UnboundedReceiver<Wake> {
    let (wakes, woken) = Wakes::channel();
    let adapter = Arc::clone(adapter);
    tokio::spawn(async move { adapter.watch(wakes).await });
    woken
}

/// The first wake whose reason contains `part`.
async fn woken_by(woken: &mut UnboundedReceiver<Wake>, part: &str, longest: Duration) -> Wake {
    let wait = async {
        loop {
            let wake = woken.recv().await.expect("the watch goes on for ever");
            if wake.why.contains(part) {
                return wake;
            }
        }
    };
    tokio::time::timeout(longest, wait).await.unwrap_or_else(|_| panic!("no wake for {part:?} within {longest:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_is_proved_by_new_workers_and_answered_by_the_new_backend() {
    if !enabled("a_switch_is_proved") {
        return;
    }
    let (nginx, blue, green) = (TestNginx::started(&["api"]), Backend::start("blue"), Backend::start("green"));
    let adapter = adapter(&nginx);
    assert_eq!(adapter.perform(&step(&nginx, "api", &[blue.address])).await, Ok(Ensured::Changed));
    assert_eq!(get(nginx.url(0)).unwrap(), (200, "blue".to_owned()));
    let before = look(&adapter, &nginx, "api").await;
    assert!(is_loaded(&before), "{before:?}");
    assert_eq!(before.included, Fact::Seen(true));
    assert_eq!(before.file.seen().unwrap().servers, [blue.address.to_string()]);

    for round in 0..10 {
        let (backend, name) = if round % 2 == 0 { (&green, "green") } else { (&blue, "blue") };
        assert_eq!(adapter.perform(&step(&nginx, "api", &[backend.address])).await, Ok(Ensured::Changed));
        let seen = look(&adapter, &nginx, "api").await;
        assert!(is_loaded(&seen), "at once, in round {round}: {seen:?}");
        assert_eq!(get(nginx.url(0)).unwrap().1, name, "at once, in round {round}");
        assert_eq!(adapter.perform(&step(&nginx, "api", &[backend.address])).await, Ok(Ensured::AlreadySo));
        assert_eq!(workers(&look(&adapter, &nginx, "api").await), workers(&seen), "workers keep their identity");
    }
    assert!(workers(&before).iter().all(|worker| is_worker_leaving_or_gone(worker.pid)));
    wait_until("two workers are left, no more", SECONDS, || nginx.workers().len() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nginx_refuses_is_put_back_and_only_the_guilty_file_fails() {
    if !enabled("what_nginx_refuses") {
        return;
    }
    let (nginx, blue) = (TestNginx::started(&["a", "b", "c"]), Backend::start("blue"));
    // `b` is included where no `server` address may stand, so whatever is written there is refused.
    let original = fs::read_to_string(nginx.config()).unwrap();
    let b_path = nginx.file("b").display().to_string();
    let broken = original.replace(
        &format!("upstream b {{ include {b_path}; keepalive 8; }}"),
        &format!("include {b_path}; upstream b {{ server 127.0.0.1:1; }}"),
    );
    assert_ne!(original, broken);
    fs::write(nginx.config(), broken).unwrap();
    fs::write(nginx.file("b"), "# as it was\n").unwrap();
    let adapter = adapter(&nginx);
    let (a, b, c) =
        (step(&nginx, "a", &[blue.address]), step(&nginx, "b", &[blue.address]), step(&nginx, "c", &[blue.address]));
    let (a, b, c) = tokio::join!(adapter.perform(&a), adapter.perform(&b), adapter.perform(&c));
    assert_eq!((a, c), (Ok(Ensured::Changed), Ok(Ensured::Changed)));
    let error = b.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Refused);
    let words = format!("directive \"server\" has no opening \"{{\" in {b_path}:2");
    assert_eq!(error.why, format!("nginx refuses the configuration: {words}"));
    assert_eq!(fs::read_to_string(nginx.file("b")).unwrap(), "# as it was\n");
    assert_eq!(get(nginx.url(0)).unwrap().1, "blue");
    assert_eq!(get(nginx.url(2)).unwrap().1, "blue");

    // Alone, and where there was no file: a file without requests stays, or nginx would not start again.
    fs::remove_file(nginx.file("b")).unwrap();
    let error = adapter.perform(&step(&nginx, "b", &[blue.address])).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Refused);
    assert!(fs::read_to_string(nginx.file("b")).unwrap().contains("server 127.0.0.1:1 down;"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_of_somebody_else_is_reported_in_nginxs_words() {
    if !enabled("a_broken_configuration") {
        return;
    }
    let (nginx, blue) = (TestNginx::started(&["api"]), Backend::start("blue"));
    let adapter = adapter(&nginx);
    assert_eq!(adapter.perform(&step(&nginx, "api", &[blue.address])).await, Ok(Ensured::Changed));
    let before = fs::read(nginx.file("api")).unwrap();
    nginx.configure(&["api"], "no_such_directive on;");
    let seen = look(&adapter, &nginx, "api").await;
    let Fact::Unreadable(why) = &seen.included else { panic!("{seen:?}") };
    assert!(why.contains("unknown directive \"no_such_directive\" in"), "{why}");
    let error = adapter.perform(&step(&nginx, "api", &[])).await.unwrap_err();
    assert!(error.why.contains("no_such_directive"), "{error}");
    assert_eq!(fs::read(nginx.file("api")).unwrap(), before);
    assert_eq!(get(nginx.url(0)).unwrap().1, "blue");

    nginx.configure(&[], "");
    assert_eq!(look(&adapter, &nginx, "api").await.included, Fact::Seen(false), "seen at once when it leaves");
    nginx.configure(&["api"], "");
    assert_eq!(look(&adapter, &nginx, "api").await.included, Fact::Seen(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_that_wait_share_a_reload() {
    if !enabled("switches_that_wait") {
        return;
    }
    let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (nginx, blue) = (TestNginx::started(&names), Backend::start("blue"));
    let adapter = adapter(&nginx);
    let tasks: Vec<_> = names
        .iter()
        .map(|name| {
            let (adapter, step) = (Arc::clone(&adapter), step(&nginx, name, &[blue.address]));
            tokio::spawn(async move { adapter.perform(&step).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(Ensured::Changed));
    }
    assert!(nginx.reloads() <= 6, "{} reloads for 20 switches", nginx.reloads());
    for index in 0..20 {
        assert_eq!(get(nginx.url(index)).unwrap().1, "blue", "s{index}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_write_and_reload_shows_and_is_mended() {
    if !enabled("a_crash_between") {
        return;
    }
    let (nginx, blue, green) = (TestNginx::started(&["api"]), Backend::start("blue"), Backend::start("green"));
    let first = adapter(&nginx);
    assert_eq!(first.perform(&step(&nginx, "api", &[blue.address])).await, Ok(Ensured::Changed));
    let wanted = step(&nginx, "api", &[green.address]);
    fs::write(nginx.file("api"), TrafficStep::render(&wanted.service, &wanted.servers)).unwrap();
    let after_the_crash = adapter(&nginx);
    assert!(!is_loaded(&look(&after_the_crash, &nginx, "api").await), "the workers are older than the file");
    assert_eq!(get(nginx.url(0)).unwrap().1, "blue");
    assert_eq!(after_the_crash.perform(&wanted).await, Ok(Ensured::Changed), "equal bytes, but not loaded");
    assert!(is_loaded(&look(&after_the_crash, &nginx, "api").await));
    assert_eq!(get(nginx.url(0)).unwrap().1, "green");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_reload_wakes_and_its_workers_are_young() {
    if !enabled("somebody_elses_reload") {
        return;
    }
    let (nginx, blue) = (TestNginx::started(&["api"]), Backend::start("blue"));
    let adapter = adapter(&nginx);
    assert_eq!(adapter.perform(&step(&nginx, "api", &[blue.address])).await, Ok(Ensured::Changed));
    let before = look(&adapter, &nginx, "api").await;
    let mut woken = watch(&adapter);
    woken_by(&mut woken, "changed", SECONDS).await;
    nginx.reload();
    let wake = woken_by(&mut woken, "workers accept", Duration::from_secs(4)).await;
    assert_eq!(wake.service.unwrap().as_str(), "api");
    wait_until("the old workers leave", SECONDS, || {
        workers(&before).iter().all(|worker| is_worker_leaving_or_gone(worker.pid))
    });
    let after = look(&adapter, &nginx, "api").await;
    assert!(is_loaded(&after));
    assert!(workers(&before).iter().all(|worker| !workers(&after).contains(worker)));
    assert_eq!(before.file, after.file);
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_and_deletions_wake_the_owner_within_a_second() {
    if !enabled("edits_and_deletions") {
        return;
    }
    let (nginx, blue) = (TestNginx::started(&["api", "other"]), Backend::start("blue"));
    let one = adapter(&nginx);
    assert_eq!(one.perform(&step(&nginx, "api", &[blue.address])).await, Ok(Ensured::Changed));
    let second = Duration::from_secs(1);
    // An adapter after a restart knows the owner from the file itself.
    let adapter = adapter(&nginx);
    look(&adapter, &nginx, "api").await;
    let mut woken = watch(&adapter);
    woken_by(&mut woken, "api.servers changed", second).await;
    let good = fs::read(nginx.file("api")).unwrap();

    let in_place = fs::read_to_string(nginx.file("api")).unwrap() + "server 127.0.0.1:2;\n";
    fs::write(nginx.file("api"), &in_place).unwrap();
    assert_eq!(woken_by(&mut woken, "api.servers changed", second).await.service.unwrap().as_str(), "api");
    let seen = look(&adapter, &nginx, "api").await;
    assert_eq!(seen.file.seen().unwrap().servers.len(), 2);
    assert!(!is_loaded(&seen));

    let beside = nginx.dir.path().join("servers/editor");
    fs::write(&beside, &good).unwrap();
    while woken.try_recv().is_ok() {}
    fs::rename(&beside, nginx.file("api")).unwrap();
    woken_by(&mut woken, "api.servers changed", second).await;

    while woken.try_recv().is_ok() {}
    fs::remove_file(nginx.file("api")).unwrap();
    woken_by(&mut woken, "api.servers changed", second).await;
    let seen = look(&adapter, &nginx, "api").await;
    assert_eq!(seen.file, Fact::Absent);
    assert_eq!(seen.included, Fact::Seen(true), "its absence is what breaks nginx: the cure is to write it");
    assert_eq!(adapter.perform(&step(&nginx, "api", &[blue.address])).await, Ok(Ensured::Changed));
    assert_eq!(get(nginx.url(0)).unwrap().1, "blue");

    // The folder, moved away and made again.
    let folder = nginx.dir.path().join("servers");
    fs::rename(&folder, nginx.dir.path().join("away")).unwrap();
    woken_by(&mut woken, "api.servers changed", second).await;
    fs::create_dir(&folder).unwrap();
    fs::write(nginx.file("other"), "server 127.0.0.1:1 down;\n").unwrap();
    while woken.try_recv().is_ok() {}
    assert_eq!(adapter.perform(&step(&nginx, "api", &[blue.address])).await, Ok(Ensured::Changed));
    woken_by(&mut woken, "api.servers changed", Duration::from_secs(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_file_is_still_seen_as_included_after_a_restart() {
    if !enabled("an_emptied_file") {
        return;
    }
    let (nginx, blue) = (TestNginx::started(&["api"]), Backend::start("blue"));
    fs::write(nginx.file("api"), "").unwrap();
    let adapter = adapter(&nginx);
    let seen = look(&adapter, &nginx, "api").await;
    assert_eq!(seen.included, Fact::Seen(true));
    assert_eq!(seen.file.seen().unwrap().servers, Vec::<String>::new());
    fs::write(nginx.file("api"), "server {").unwrap();
    assert_eq!(look(&adapter, &nginx, "api").await.included, Fact::Seen(true), "nginx blames this very file");
    assert_eq!(adapter.perform(&step(&nginx, "api", &[blue.address])).await, Ok(Ensured::Changed));
    assert_eq!(get(nginx.url(0)).unwrap().1, "blue");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_running_nginx_the_file_is_written_and_the_step_refused() {
    if !enabled("without_a_running_nginx") {
        return;
    }
    let (nginx, blue) = (TestNginx::started(&["api"]), Backend::start("blue"));
    let adapter = adapter(&nginx);
    assert!(look(&adapter, &nginx, "api").await.processes.seen().is_some());
    let mut woken = watch(&adapter);
    woken_by(&mut woken, "changed", SECONDS).await;
    nginx.stop();
    woken_by(&mut woken, "nginx: not running", Duration::from_secs(1)).await;
    assert_eq!(look(&adapter, &nginx, "api").await.processes, Fact::Absent);
    let error = adapter.perform(&step(&nginx, "api", &[blue.address])).await.unwrap_err();
    assert_eq!((error.why.as_str(), error.kind), ("nginx is not running", StepErrorKind::Refused));
    assert!(fs::read_to_string(nginx.file("api")).unwrap().contains(&blue.address.to_string()));
    assert_eq!(look(&adapter, &nginx, "api").await.processes, Fact::Absent, "an empty pid file is no nginx");
    // A worker of the same two ticks (of 10 ms of its start, of the coarse clock of the file) proves nothing by its age.
    let written = look(&adapter, &nginx, "api").await.file.seen().unwrap().changed_at;
    wait_until("the file to be older than any worker to come", SECONDS, || {
        WallClock.now().duration_since(written).as_millis() > 20
    });
    nginx.start();
    assert!(is_loaded(&look(&adapter, &nginx, "api").await));
    assert_eq!(adapter.perform(&step(&nginx, "api", &[blue.address])).await, Ok(Ensured::AlreadySo));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_nothing_includes_yet_is_written_without_a_reload() {
    if !enabled("a_file_nothing_includes") {
        return;
    }
    let nginx = TestNginx::started(&["api"]);
    let adapter = adapter(&nginx);
    let mut unread = step(&nginx, "new", &[]);
    unread.file = nginx.dir.path().join("deeper/new.servers");
    unread.reload = false;
    assert_eq!(adapter.look(&NginxTraffic { file: unread.file.clone() }).await.included, Fact::Seen(false));
    assert_eq!(adapter.perform(&unread).await, Ok(Ensured::Changed));
    assert_eq!(adapter.perform(&unread).await, Ok(Ensured::AlreadySo));
    assert_eq!(
        fs::read_to_string(&unread.file).unwrap(),
        "# new: written by holdfast; an edit here is put back\nserver 127.0.0.1:1 down;\n"
    );
    assert_eq!(nginx.reloads(), 0);
    unread.file = PathBuf::from("/proc/no/such.servers");
    assert!(adapter.perform(&unread).await.unwrap_err().why.starts_with("write /proc/no/such.servers: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_cannot_bind_keeps_its_workers_and_that_is_an_error() {
    if !enabled("a_master_that_cannot_bind") {
        return;
    }
    let (nginx, blue, green) = (TestNginx::started(&["api"]), Backend::start("blue"), Backend::start("green"));
    let adapter = adapter(&nginx);
    assert_eq!(adapter.perform(&step(&nginx, "api", &[blue.address])).await, Ok(Ensured::Changed));
    // `nginx -t` overlooks a port that is taken; the master does not.
    let taken = std::net::TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    nginx.configure(&["api"], &format!("server {{ listen {}; }}", taken.local_addr().unwrap()));
    let before = nginx.workers();
    let error = adapter.perform(&step(&nginx, "api", &[green.address])).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Transient);
    assert!(error.why.starts_with("nginx kept its old workers"), "{error}");
    assert_eq!(nginx.workers(), before, "no worker was stopped");
    assert_eq!(get(nginx.url(0)).unwrap().1, "blue");
    assert!(!is_loaded(&look(&adapter, &nginx, "api").await));
    // Workers that crash now are forked anew with the old configuration: young, and no proof of a switch to green.
    for pid in before {
        assert!(std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    }
    wait_until("two new workers", Duration::from_secs(10), || nginx.workers().len() == 2);
    let seen = look(&adapter, &nginx, "api").await;
    assert_eq!(seen.file.seen().unwrap().servers, [blue.address.to_string()], "the file says what nginx has");
    assert_eq!(get(nginx.url(0)).unwrap().1, "blue");
    drop(taken);
    assert_eq!(adapter.perform(&step(&nginx, "api", &[green.address])).await, Ok(Ensured::Changed));
    assert_eq!(get(nginx.url(0)).unwrap().1, "green");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_workers_are_seen_leaving_and_their_end_wakes() {
    if !enabled("old_workers_are_seen") {
        return;
    }
    use std::io::{Read, Write};
    let (nginx, blue) = (TestNginx::started(&["api"]), Backend::start("blue"));
    let slow = std::net::TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let adapter = adapter(&nginx);
    assert_eq!(adapter.perform(&step(&nginx, "api", &[slow.local_addr().unwrap()])).await, Ok(Ensured::Changed));
    // A request that is under way keeps its worker.
    let mut client = std::net::TcpStream::connect(nginx.url(0)).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").unwrap();
    slow.set_nonblocking(true).unwrap();
    let mut accepted = None;
    wait_until("the slow backend is asked", SECONDS, || {
        accepted = slow.accept().ok();
        accepted.is_some()
    });
    let (mut upstream, _) = accepted.unwrap();
    let mut woken = watch(&adapter);
    woken_by(&mut woken, "changed", SECONDS).await;
    assert_eq!(adapter.perform(&step(&nginx, "api", &[blue.address])).await, Ok(Ensured::Changed));
    assert_eq!(get(nginx.url(0)).unwrap().1, "blue");
    woken_by(&mut woken, "and 1 are leaving", Duration::from_secs(3)).await;
    assert_eq!(look(&adapter, &nginx, "api").await.processes.seen().unwrap().leaving.len(), 1);
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nslow").unwrap();
    let answered = Instant::now();
    woken_by(&mut woken, "and 0 are leaving", Duration::from_secs(1)).await;
    assert!(answered.elapsed() < Duration::from_secs(1));
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("slow"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_switches_under_load_fail_no_request() {
    if !enabled("twenty_switches") {
        return;
    }
    let (nginx, blue, green) = (TestNginx::started(&["api"]), Backend::start("blue"), Backend::start("green"));
    let adapter = adapter(&nginx);
    assert_eq!(adapter.perform(&step(&nginx, "api", &[blue.address])).await, Ok(Ensured::Changed));
    let load = Load::start(nginx.url(0), 4);
    for round in 0..20 {
        let backend = if round % 2 == 0 { &green } else { &blue };
        assert_eq!(adapter.perform(&step(&nginx, "api", &[backend.address])).await, Ok(Ensured::Changed));
        let good = load.good.load(std::sync::atomic::Ordering::Relaxed);
        wait_until("requests go on", SECONDS, || load.good.load(std::sync::atomic::Ordering::Relaxed) > good + 20);
    }
    let (good, failures) = load.stop();
    assert_eq!(failures, Vec::<String>::new());
    assert!(good >= 400, "{good}");
    wait_until("two workers are left, no more", SECONDS, || nginx.workers().len() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_is_probed() {
    if !enabled("the_program_is_probed") {
        return;
    }
    let nginx = TestNginx::prepared(&["api"]);
    let version = adapter(&nginx).probe_binary().await.unwrap();
    assert!(version.starts_with("nginx/"), "{version}");
    // Nothing runs: the configuration can be asked all the same, and the empty pid file this leaves is no nginx.
    let seen = look(&adapter(&nginx), &nginx, "api").await;
    assert_eq!((seen.included, seen.processes), (Fact::Seen(true), Fact::Absent));
}
