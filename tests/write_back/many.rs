//! Many at once, and the whole way round: a controller that follows what is set and rolled back.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

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
struct Running {
    child: Child,
    log: Receiver<String>,
}

impl Running {
    /// In the sandbox, as `holdfast.yaml` of the bed says.
    fn new(bed: &Bed) -> Self {
        let git = format!("{{url: \"{}\", path: prod, interval: 1s, allow: [file], write: {{name: Bot}}}}", bed.url());
        std::fs::write(bed.path("holdfast.yaml"), format!("listen: none\nresync: 1s\ncontroller: web-1\ngit: {git}\n"))
            .unwrap();
        let args = ["run", "--sandbox", "--config", "../holdfast.yaml", "--state-dir", "../state"];
        let mut run = bed.holdfast("home", &args);
        let mut child = run.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (into, log) = mpsc::channel();
        // To its end: it must not stop because nobody reads.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(into.send(line))));
        let it = Self { child, log };
        it.until("controller web-1 started");
        it
    }

    /// Until a line of its log has these words.
    fn until(&self, words: &str) {
        let mut seen = String::new();
        while !seen.lines().last().is_some_and(|line| line.contains(words)) {
            let line = self.log.recv_timeout(Duration::from_secs(60));
            let line = line.unwrap_or_else(|_| panic!("waited in vain for `{words}`:\n{seen}"));
            seen += &format!("{line}\n");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_rollback_is_a_commit_the_controller_follows() {
    let bed = Bed::new();
    let running = Running::new(&bed);
    running.until("api  settled: v1");
    bed.says("ann", &["set", "api", "tag=v2", "--path", "prod", "--push"]);
    running.until("api  settled: v2");
    // From a checkout that has not seen v2 yet, while somebody else pushed.
    bed.git("ann", &["reset", "--quiet", "--hard", "HEAD~1"]);
    bed.somebody_pushes();
    bed.says("ann", &["rollback", "api", "--path", "prod", "--push", "--state-dir", "../state"]);
    running.until("api  settled: v1");
    assert_eq!(bed.log()[0], "api: tag v2 -> v1");
    assert_eq!(bed.git("server.git", &["log", "-1", "--format=%b", "main"]).trim(), "Rolled back by tester.");
    assert_eq!(bed.text("prod/services.yaml"), FILE);
}

/// Regression: a sandbox saw an imaginary tag and pushed it to the branch production follows.
#[test]
fn a_sandbox_commits_nothing() {
    let bed = Bed::empty("sha1");
    let service = |name: &str, more: &str| {
        format!(
            "  {name}:\n    image: reg.example/app\n    tag: 1.0.0   # the line\n    health: {{running: 1s}}\n{more}"
        )
    };
    let follow = "    follow: {semver: \">=1 <2\"}   # by itself\n";
    let text = format!("services:\n{}{}", service("api", follow), service("tester", ""));
    bed.commit("ann", "prod/services.yaml", &text);
    let running = Running::new(&bed);
    running.until("api  settled: 1.0.0");
    // The registry of the sandbox has what was asked for once: a newer tag that would be followed.
    bed.says("ann", &["set", "tester", "tag=1.1.0", "--path", "prod", "--push"]);
    running.until("tag 1.1.0 cannot be committed: a sandbox commits nothing");
    assert_eq!(bed.log()[0], "tester: tag 1.0.0 -> 1.1.0");
}
