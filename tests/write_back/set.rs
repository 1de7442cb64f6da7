//! `set` and `rollback` from a checkout: one commit, on the upstream even when somebody else was faster.

use std::fs;

use crate::bed::{Bed, FILE};

const PUSH: [&str; 6] = ["set", "api", "tag=v2", "--path", "prod", "--push"];

#[test]
fn a_change_is_one_commit_of_the_user_with_who_in_its_body() {
    let bed = Bed::new();
    let said = bed.says("ann", &PUSH);
    assert!(said.contains("api: tag v1 -> v2") && said.ends_with("committed\npushed\n"), "{said}");
    assert_eq!(bed.text("prod/services.yaml"), FILE.replace("tag: v1 ", "tag: v2 "));
    let message = bed.git("server.git", &["log", "-1", "--format=%an|%B", "main"]);
    assert_eq!(message.trim(), "ann|api: tag v1 -> v2\n\nSet by tester.");
    assert_eq!(bed.git("ann", &["status", "--short", "--branch"]), "## main...origin/main");
    // Once more: there is nothing to do.
    assert!(bed.says("ann", &PUSH).contains("already so"));
    assert_eq!(bed.log().len(), 2);
}

#[test]
fn an_old_checkout_sets_the_value_on_what_the_others_pushed() {
    let bed = Bed::new();
    bed.clone("late");
    // What is edited, staged, or staged and edited on stays so.
    fs::write(bed.path("late/notes"), "staged\n").unwrap();
    bed.git("late", &["add", "notes"]);
    fs::write(bed.path("late/notes"), "edited on\n").unwrap();
    let theirs = FILE.replace("1.10", "1.11").replace("# what runs", "# new words, what runs");
    bed.commit("ann", "prod/services.yaml", &theirs);
    bed.commit("ann", "prod/more.yaml", "services: {}\n");
    let head = bed.head();
    bed.says("late", &PUSH);
    assert_eq!(bed.text("prod/services.yaml"), theirs.replace("tag: v1 ", "tag: v2 "));
    assert_eq!(bed.git("server.git", &["rev-parse", "main~1"]), head);
    assert_eq!(bed.read("late/notes"), "edited on\n");
    assert_eq!(bed.git("late", &["show", ":notes"]), "staged");
    assert_eq!(bed.git("late", &["status", "--short", "--branch"]), "## main...origin/main\nAM notes");
    assert_eq!(bed.read("late/prod/more.yaml"), "services: {}\n");
}

#[test]
fn the_value_somebody_else_pushed_meanwhile_is_enough() {
    let bed = Bed::new();
    bed.clone("late");
    bed.says("ann", &PUSH);
    let said = bed.says("late", &PUSH);
    assert!(said.contains("already so"), "{said}");
    assert_eq!(bed.log().len(), 2);
    assert_eq!(bed.git("late", &["rev-parse", "HEAD"]), bed.head());
}

#[test]
fn what_is_so_in_an_old_checkout_only_is_set_on_the_upstream() {
    let bed = Bed::new();
    bed.clone("late");
    bed.commit("ann", "prod/services.yaml", &FILE.replace("tag: v1 ", "tag: v9 "));
    bed.says("late", &["set", "api", "tag=v1", "--path", "prod", "--push"]);
    assert_eq!(bed.log()[0], "api: tag v9 -> v1");
    assert_eq!(bed.text("prod/services.yaml"), FILE);
}

#[test]
fn a_commit_of_an_earlier_run_is_pushed() {
    let bed = Bed::new();
    bed.says("ann", &["set", "api", "tag=v2", "--path", "prod", "--commit"]);
    assert_eq!(bed.log().len(), 1);
    bed.says("ann", &PUSH);
    assert_eq!(bed.log()[0], "api: tag v1 -> v2");
}

#[test]
fn other_commits_that_are_not_pushed_are_never_moved() {
    let bed = Bed::new();
    bed.clone("late");
    fs::write(bed.path("late/mine"), "mine\n").unwrap();
    bed.git("late", &["add", "mine"]);
    bed.git("late", &["commit", "--quiet", "-m", "mine"]);
    bed.somebody_pushes();
    let error = bed.fails("late", &PUSH);
    assert!(error.contains("other commits that are not pushed") && error.contains("git pull --rebase"), "{error}");
    assert_eq!(bed.git("late", &["log", "--format=%s", "-2"]), "api: tag v1 -> v2\nmine");
    // The hint leads there.
    bed.git("late", &["pull", "--quiet", "--rebase"]);
    bed.git("late", &["push", "--quiet"]);
    assert_eq!(bed.log()[..2], ["api: tag v1 -> v2", "mine"]);
}

#[test]
fn edits_in_the_way_of_the_others_are_not_overwritten() {
    let bed = Bed::new();
    bed.somebody_pushes();
    bed.clone("late");
    bed.somebody_pushes();
    fs::write(bed.path("late/README.md"), "my own words\n").unwrap();
    let error = bed.fails("late", &PUSH);
    assert!(error.contains("could not be taken in") && error.contains("README.md"), "{error}");
    assert_eq!(bed.read("late/README.md"), "my own words\n");
    assert_eq!(bed.git("late", &["log", "-1", "--format=%s"]), "api: tag v1 -> v2");
    assert_eq!(bed.git("late", &["status", "--short"]), " M README.md");
}

#[test]
fn variables_of_another_repository_lead_nowhere() {
    let bed = Bed::new();
    bed.git(".", &["init", "--quiet", "other"]);
    let mut set = bed.holdfast("ann", &PUSH);
    set.env("GIT_DIR", bed.path("other/.git"))
        .env("GIT_INDEX_FILE", bed.path("other/.git/odd"))
        .env("GIT_WORK_TREE", "/");
    assert!(set.output().unwrap().status.success());
    assert_eq!(bed.log()[0], "api: tag v1 -> v2");
    assert!(!bed.path("other/.git/odd").exists());
}
