//! Killed in the middle: the program, its git, or somebody's push.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use holdfast::ports::Source as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::bed::{Bed, accepted, unreadable};
use crate::git_server::Mode;
use crate::outage::noise;
use crate::program::{Program, pause};
use crate::reach::over_http;

/// The processes that have `part` on their command line.
fn running(part: &str) -> Vec<i32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let ids = all.filter_map(|it| it.file_name().to_string_lossy().parse::<i32>().ok());
    let line = |id: &i32| fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    ids.filter(|id| String::from_utf8_lossy(&line(id)).replace('\0', " ").contains(part)).collect()
}

fn half_a_pack(bed: &Bed) -> bool {
    let pack = bed.mirror().join("objects/pack");
    let names = fs::read_dir(pack).unwrap().flatten().map(|it| it.file_name().to_string_lossy().into_owned());
    names.into_iter().any(|it| it.starts_with("tmp_pack"))
}

/// So much that it comes as a pack, and takes a while.
fn large(bed: &Bed) {
    bed.write("other/large.bin", noise(3 << 20));
    for number in 0..150 {
        bed.write(&format!("other/{number}"), format!("{number}\n"));
    }
}

fn until(what: &str, mut met: impl FnMut() -> bool) {
    let give_up = std::time::Instant::now() + Duration::from_secs(30);
    while !met() {
        assert!(std::time::Instant::now() < give_up, "waited in vain for {what}");
        pause(Duration::from_millis(20));
    }
}

#[test]
fn killed_in_the_middle_of_a_fetch_a_restart_goes_on_and_clears_up() {
    let (bed, server, id) = over_http();
    let mut program = Program::new(&bed);
    program.start();
    program.until_in_force(&id);
    large(&bed);
    server.mode(Mode::Hang(1 << 20));
    let second = bed.publish("2");
    until("half a pack", || half_a_pack(&bed));
    program.kill9();
    // What git leaves when it is killed at a worse moment.
    for lock in ["shallow.lock", "refs/holdfast/head.lock", "packed-refs.lock", "config.lock"] {
        fs::write(bed.mirror().join(lock), "").unwrap();
    }
    server.mode(Mode::Serve);
    program.start();
    program.until_in_force(&second);
    program.until("tag 2", |it| it["services"][0]["desired"]["tag"] == "2");
    assert!(!half_a_pack(&bed));
    let mirror = bed.mirror().display().to_string();
    drop(program);
    drop(server);
    until("git to end with its server", || running(&mirror).is_empty());
}

#[test]
fn a_git_that_is_killed_is_an_outage() {
    let (bed, server, id) = over_http();
    let mut program = Program::new(&bed);
    program.start();
    program.until_in_force(&id);
    large(&bed);
    server.mode(Mode::Hang(1 << 20));
    let second = bed.publish("2");
    until("half a pack", || half_a_pack(&bed));
    for git in running(&bed.mirror().display().to_string()) {
        if git != i32::try_from(program.id()).unwrap() {
            let _ = kill_process(Pid::from_raw(git).unwrap(), Signal::KILL);
        }
    }
    let status = program.until("the trouble", |it| it["source"]["error"].is_string());
    assert_eq!(status["source"]["revision"], id.as_str());
    server.mode(Mode::Serve);
    assert!(program.ends(&["reconcile"]).status.success());
    program.until_in_force(&second);
    assert!(!half_a_pack(&bed));
}

#[test]
fn when_the_program_ends_its_git_ends_with_it() {
    let (bed, server, id) = over_http();
    let mut program = Program::new(&bed);
    program.start();
    program.until_in_force(&id);
    large(&bed);
    server.mode(Mode::Hang(1 << 20));
    bed.publish("2");
    until("half a pack", || half_a_pack(&bed));
    let mirror = bed.mirror().display().to_string();
    assert!(!running(&mirror).is_empty());
    drop(program);
    assert!(running(&mirror).is_empty(), "{:?}", running(&mirror));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_push_is_none() {
    let (bed, id) = Bed::published();
    let source = bed.source();
    accepted(source.read().await);
    // The objects are there, the ref has not moved.
    let second = bed.commit_tag("2");
    bed.git(&["push", "--quiet", "origin", &format!("{second}:refs/holdfast-test/x")]);
    bed.at_server(&["update-ref", "-d", "refs/holdfast-test/x"]);
    fs::write(bed.server().join("refs/heads/main.lock"), format!("{second}\n")).unwrap();
    assert_eq!(accepted(source.read().await).revision.0, id);
    fs::remove_file(bed.server().join("refs/heads/main.lock")).unwrap();
    // The push itself dies in the middle.
    bed.write("other/large.bin", noise(8 << 20));
    bed.commit("large");
    let mut command = bed.command();
    command.args(["-C", &bed.checkout().display().to_string(), "push", "--quiet", "origin", "HEAD:main"]);
    let mut push = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let incoming = || {
        let all = fs::read_dir(bed.server().join("objects")).unwrap().flatten();
        all.into_iter().any(|it| it.file_name().to_string_lossy().starts_with("tmp_objdir"))
    };
    until("the push to arrive", || incoming() || matches!(push.try_wait(), Ok(Some(_))));
    push.kill().unwrap();
    push.wait().unwrap();
    // What it started on the other side ends by itself.
    let server = bed.server().display().to_string();
    until("the other side to end", || running(&server).is_empty());
    let at = bed.at_server(&["rev-parse", "refs/heads/main"]);
    assert_eq!(accepted(source.read().await).revision.0, at, "the ref decides");
    // A ref that names what is not there yet.
    fs::write(bed.server().join("refs/heads/main"), format!("{}\n", "1".repeat(40))).unwrap();
    let update = source.read().await;
    println!("{update:?}");
    bed.assert_in_force_alone(&at).await;
    fs::write(bed.server().join("refs/heads/main"), format!("{at}\n")).unwrap();
    bed.push();
    assert_eq!(accepted(source.read().await).revision.0, bed.head());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_while_it_is_asked_is_an_outage() {
    let (bed, mut server, id) = over_http();
    let source = bed.source();
    accepted(source.read().await);
    server.mode(Mode::Stall);
    let reading = tokio::spawn(async move { source.read().await });
    let asked = server.counts();
    tokio::task::spawn_blocking(move || {
        until("the question", || server.counts().hello > asked.hello);
        server.stop();
    })
    .await
    .unwrap();
    unreadable(reading.await.unwrap());
    bed.assert_in_force_alone(&id).await;
}
