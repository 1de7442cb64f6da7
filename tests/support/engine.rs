//! Programs: the docker client, holdfast, nginx, and whether these tests may run at all.

use std::process::{Command, Output};
use std::sync::OnceLock;

/// Whether `HOLDFAST_TEST_DOCKER=1` is set; says so once when it is not.
pub(crate) fn enabled() -> bool {
    static SAID: OnceLock<bool> = OnceLock::new();
    *SAID.get_or_init(|| {
        let enabled = std::env::var("HOLDFAST_TEST_DOCKER").is_ok_and(|value| value == "1");
        if !enabled {
            eprintln!("skipped: set HOLDFAST_TEST_DOCKER=1 to run the end-to-end tests (or `make test`)");
        }
        enabled
    })
}

/// Builds the app images once a test run.
pub(crate) fn build_images() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/build-app.sh");
        let output =
            Command::new(script).args(["--repository", "holdfast-test", "v1", "v2", "v3", "bad", "crash"]).output();
        let output = output.expect("scripts/build-app.sh starts");
        assert!(output.status.success(), "could not build the app images: {}", text(&output.stderr));
    });
}

/// What a program printed.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Runs `program`, failing the test when it fails.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = try_run(program, args);
    assert!(output.status.success(), "`{program} {}` failed: {}", args.join(" "), text(&output.stderr));
    text(&output.stdout)
}

/// Runs `program` and hands back what it said.
pub(crate) fn try_run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap_or_else(|error| panic!("could not start {program}: {error}"))
}
