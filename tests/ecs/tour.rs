//! `make demo-ecs`, as a visitor sees it: every chapter, no failed request, nothing left behind.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::engine::{enabled, run, text};

#[test]
fn the_tour_on_ecs_shows_every_chapter_and_fails_no_request() {
    if !enabled() || std::env::var_os("HOLDFAST_TEST_AWS").is_none_or(|value| value != "1") {
        println!("skipped: HOLDFAST_TEST_AWS=1 is not set");
        return;
    }
    // The folder's name is the controller's id; the tour itself makes it and takes it away.
    let id = format!("hf-tour-ecs-{}", std::process::id());
    let home = Path::new("/tmp").join(&id);
    let mut tour = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/demo-ecs.sh"));
    tour.env("HOLDFAST_BIN", env!("CARGO_BIN_EXE_holdfast")).env("HOLDFAST_DEMO_HOME", &home);
    if let Some(emulator) = std::env::var_os("HOLDFAST_MINISTACK") {
        tour.env("HOLDFAST_DEMO_PYTHON", Path::new(&emulator).with_file_name("python3"));
    }
    let output = tour.stdin(Stdio::null()).output().expect("scripts/demo-ecs.sh starts");
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}{}", text(&output.stderr));
    let parts = [
        "none was restarted",
        "pinned by digest",
        "the tasks of v2 never stopped",
        "one task more",
        "put back to 3",
        "put back to plog-back-task-family:2",
        "all weight is on green",
        "all weight is on blue",
        " 0 failed",
    ];
    for part in parts {
        assert!(told.lines().any(|line| line.contains('✓') && line.contains(part)), "{part} is missing:\n{told}");
    }
    let instances = run("docker", &["ps", "-a", "--format", "{{.Label \"ministack.instance\"}}"]);
    assert!(!instances.lines().any(|it| it.starts_with(&format!("{id}:"))), "containers are left");
    assert!(!home.exists(), "the folder is left");
}
