//! `make demo`, as a visitor sees it: every chapter, no failed request, nothing left behind.

use std::process::Command;

use crate::support::engine::{enabled, run, text};

#[test]
fn the_tour_shows_every_chapter_and_fails_no_request() {
    if !enabled() {
        return;
    }
    // The folder's name is the controller's id; the tour itself makes it and takes it away.
    let id = format!("hf-tour-{}", std::process::id());
    let home = std::path::Path::new("/tmp").join(&id);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/demo.sh");
    let mut tour = Command::new(script);
    tour.env("HOLDFAST_BIN", env!("CARGO_BIN_EXE_holdfast")).env("HOLDFAST_DEMO_HOME", &home);
    let output = tour.stdin(std::process::Stdio::null()).output().expect("scripts/demo.sh starts");
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}{}", text(&output.stderr));
    for part in [
        "v1 serves",
        "v2 serves",
        "it was replaced",
        "put back",
        "never stopped serving",
        "the commit serves",
        "refused with its line",
        "the revert serves",
        " 0 failed",
    ] {
        assert!(told.lines().any(|line| line.contains('✓') && line.contains(part)), "{part} is missing:\n{told}");
    }
    let left = run("docker", &["ps", "-aq", "--filter", &format!("label=holdfast.controller={id}")]);
    assert_eq!(left, "", "containers are left");
    assert!(!home.exists(), "the folder is left");
}
