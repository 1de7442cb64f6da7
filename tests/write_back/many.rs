//! Many at once, and the whole way round: a controller that follows what is set and rolled back.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use crate::bed::{Bed, FILE};

#[test]
fn twenty_pushes_at_once_are_twenty_commits() {
    let bed = Bed::empty("sha1");
    let service = |n: usize, tag: &str| format!("  s{n}: {{image: app, tag: {tag}}}   # the service {n}\n");
    let text = |tag: &str| format!("services:\n{}", (0..20).map(|n| service(n, tag)).collect::<String>());
    bed.commit("ann", "prod/services.yaml", &text("v1"));
    for n in 0..20 {
        bed.clone(&format!("c{n}"));
    }
    let set = |n: usize| {
        let mut set = bed.holdfast(&format!("c{n}"), &["set", &format!("s{n}"), "tag=v2", "--path", "prod", "--push"]);
        set.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<Child> = (0..20).map(set).collect();
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut subjects = bed.log();
    assert_eq!(subjects.pop().as_deref(), Some("prod/services.yaml by ann"));
    subjects.sort();
    let mut wanted: Vec<String> = (0..20).map(|n| format!("s{n}: tag v1 -> v2")).collect();
    wanted.sort();
    assert_eq!(subjects, wanted);
    assert_eq!(bed.text("prod/services.yaml"), text("v2"));
    assert_eq!(bed.git("server.git", &["rev-list", "--merges", "main"]), "");
}

/// A controller, which ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_rollback_is_a_commit_the_controller_follows() {
    let bed = Bed::new();
    let url = bed.url();
    let git = ["--git", &url, "--git-allow", "file", "--path", "prod", "--listen", "none"];
    let mut run = bed.holdfast("home", &["run", "--sandbox", "--state-dir", "../state"]);
    let mut run = Running(run.args(git).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut log = BufReader::new(run.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(log.any(|line| line.contains("controller default started")), "it did not start");
    // Nobody else reads it, and it must not stop for that.
    std::thread::spawn(move || log.for_each(drop));
    let until_head_serves = || {
        bed.says("home", &["reconcile", "--state-dir", "../state"]);
        let wait = ["wait", "api", "--timeout", "60s", "--state-dir", "../state", "--source-revision"];
        let head = bed.head();
        bed.says("home", &wait.into_iter().chain([head.as_str()]).collect::<Vec<_>>());
        bed.says("home", &["status", "api", "-o", "json", "--state-dir", "../state"])
    };
    let serving = |status: &str| {
        let status: serde_json::Value = serde_json::from_str(status).unwrap();
        status["services"][0]["serving"]["tag"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(serving(&until_head_serves()), "v1");
    bed.says("ann", &["set", "api", "tag=v2", "--path", "prod", "--push"]);
    assert_eq!(serving(&until_head_serves()), "v2");
    // From a checkout that has not seen v2 yet, while somebody else pushed.
    bed.git("ann", &["reset", "--quiet", "--hard", "HEAD~1"]);
    bed.somebody_pushes();
    bed.says("ann", &["rollback", "api", "--path", "prod", "--push", "--state-dir", "../state"]);
    assert_eq!(serving(&until_head_serves()), "v1");
    assert_eq!(bed.log()[0], "api: tag v2 -> v1");
    assert_eq!(bed.git("server.git", &["log", "-1", "--format=%b", "main"]).trim(), "Rolled back by tester.");
    assert_eq!(bed.text("prod/services.yaml"), FILE);
}
