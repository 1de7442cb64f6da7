//! A canary in every slot a secret has: it is written nowhere, not even on a command line.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::bed::everything;
use crate::git_server::{GitServer, Mode};
use crate::program::{Program, pause};
use crate::reach::over_http;

const CANARY: &str = "canary-5up3r";

/// Every command line that is seen until `stop`.
fn command_lines(stop: &AtomicBool) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    while !stop.load(Ordering::SeqCst) {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            if entry.file_name().to_string_lossy().bytes().all(|it| it.is_ascii_digit()) {
                let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                seen.insert(String::from_utf8_lossy(&line).replace('\0', " "));
            }
        }
        pause(Duration::from_millis(1));
    }
    seen
}

#[test]
fn a_token_is_written_nowhere() {
    let (bed, server, id) = over_http();
    let evil = GitServer::new(&bed.path("srv"));
    let mut program = Program::new(&bed);
    let stop = Arc::new(AtomicBool::new(false));
    let watched = Arc::clone(&stop);
    let watching = std::thread::spawn(move || command_lines(&watched));
    let token = bed.path("token");
    fs::write(&token, CANARY).unwrap();
    server.login("x-access-token", CANARY);
    program.more = format!("  tokenFile: {}\n", token.display());
    program.start();
    program.until_in_force(&id);
    let mut said = String::new();
    let mut tell = |program: &Program| {
        assert!(program.ends(&["reconcile"]).status.success());
        let status = program.until("the trouble", |it| it["source"]["error"].is_string());
        said += &status.to_string();
        said += &String::from_utf8_lossy(&program.ends(&["status"]).stdout);
    };
    // The server repeats it: in its words, and in an address with a password.
    server.mode(Mode::Status(403, format!("{CANARY} may not\nsee https://x:{CANARY}@host/a\nhttp://y:{CANARY}@b/c")));
    tell(&program);
    server.mode(Mode::Redirect(evil.url("").replace("http://", &format!("http://x:{CANARY}@"))));
    tell(&program);
    server.mode(Mode::Serve);
    server.login("x-access-token", "another");
    tell(&program);
    let second = bed.publish("2");
    server.login("x-access-token", CANARY);
    program.ends(&["reconcile"]);
    program.until_in_force(&second);
    program.kill9();
    stop.store(true, Ordering::SeqCst);
    let lines = watching.join().unwrap();
    assert!(lines.iter().any(|it| it.contains("ls-remote") && it.contains(&server.url("server.git"))));
    let found: Vec<&String> = lines.iter().filter(|it| it.contains(CANARY)).collect();
    assert!(found.is_empty(), "{found:?}");
    for (name, text) in [("status", said), ("the log", program.log()), ("the state", everything(&bed.path("state")))] {
        let at = text.find(CANARY);
        assert_eq!(at, None, "{name}: {}", &text[at.unwrap_or(0).saturating_sub(200)..]);
    }
}

#[test]
fn a_password_in_an_address_is_refused_without_repeating_it() {
    let (bed, _server, _) = over_http();
    for url in [format!("https://ann:{CANARY}@host.example/x"), format!("http://{CANARY}:x@host.example/x")] {
        let mut program = Program::new(&bed);
        program.url(&url);
        for args in [vec!["run", "--sandbox", "--once"], vec!["check"], vec!["run", "--sandbox", "--git", &url]] {
            let ended = program.ends(&args);
            let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
            assert_eq!(ended.status.code(), Some(1), "{args:?}: {said}");
            assert!(said.contains("leave the password out of the address"), "{said}");
            assert!(!said.contains(CANARY), "{said}");
        }
    }
    assert!(!everything(&bed.path("state")).contains(CANARY));
}
