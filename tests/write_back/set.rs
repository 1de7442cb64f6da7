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

/// A commit of one's own that nobody has seen.
fn work_in_progress(bed: &Bed, clone: &str) {
    let file = bed.path(clone).join("prod/services.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, text.replace("1.10", "9.9-wip")).unwrap();
    bed.git(clone, &["commit", "--quiet", "--all", "-m", "mine"]);
}

#[test]
fn other_commits_that_are_not_pushed_do_not_go_out() {
    let bed = Bed::new();
    work_in_progress(&bed, "ann");
    let (head, mine) = (bed.head(), bed.git("ann", &["rev-parse", "HEAD"]));
    // With an edit, and without one.
    for tag in ["tag=v2", "tag=v1"] {
        let error = bed.fails("ann", &["set", "api", tag, "--path", "prod", "--push"]);
        assert!(error.contains("other commits that are not pushed") && error.contains("git pull --rebase"), "{error}");
        assert_eq!(bed.head(), head, "{tag}");
        assert_eq!(bed.git("ann", &["rev-parse", "HEAD"]), mine, "{tag}");
        assert_eq!(bed.git("ann", &["status", "--short"]), "", "{tag}");
    }
    let state = bed.path("state").display().to_string();
    bed.holdfast("ann", &["rollback", "api", "--path", "prod", "--push", "--state-dir", &state]).output().unwrap();
    assert_eq!(bed.head(), head);
    // The hint leads there.
    bed.git("ann", &["push", "--quiet"]);
    bed.says("ann", &PUSH);
    assert_eq!(bed.log()[..2], ["api: tag v1 -> v2", "mine"]);
}

#[test]
fn a_commit_made_by_set_earlier_is_pushed_by_hand() {
    let bed = Bed::new();
    bed.says("ann", &["set", "api", "tag=v2", "--path", "prod", "--commit"]);
    assert!(bed.fails("ann", &PUSH).contains("`git push`"));
    assert_eq!(bed.log().len(), 1);
    bed.git("ann", &["push", "--quiet"]);
    assert!(bed.says("ann", &PUSH).contains("already so"));
    assert_eq!(bed.log()[0], "api: tag v1 -> v2");
}

#[test]
fn other_commits_that_are_not_pushed_are_never_moved() {
    let bed = Bed::new();
    bed.clone("late");
    work_in_progress(&bed, "late");
    let mine = bed.git("late", &["rev-parse", "HEAD"]);
    bed.somebody_pushes();
    let error = bed.fails("late", &PUSH);
    assert!(error.contains("other commits that are not pushed") && error.contains("nothing is edited"), "{error}");
    assert_eq!(bed.git("late", &["rev-parse", "HEAD"]), mine);
    assert_eq!(bed.git("late", &["status", "--short"]), "");
}

#[test]
fn an_upstream_that_went_back_in_between_is_not_brought_back() {
    let bed = Bed::new();
    let old = bed.somebody_pushes();
    bed.somebody_pushes();
    bed.git("ann", &["pull", "--quiet"]);
    // After the fetch and before the push; a plain push would take the rewind back.
    let rewind = format!("git --git-dir='{}' update-ref refs/heads/main {old}", bed.path("server.git").display());
    bed.hook("ann/.git", "post-commit", &rewind);
    let error = bed.fails("ann", &PUSH);
    assert!(error.contains("the commit stays in this checkout"), "{error}");
    assert_eq!(bed.head(), old);
}

#[test]
fn edits_in_the_way_of_the_others_are_not_overwritten() {
    let bed = Bed::new();
    bed.somebody_pushes();
    bed.clone("late");
    bed.somebody_pushes();
    fs::write(bed.path("late/README.md"), "my own words\n").unwrap();
    let error = bed.fails("late", &PUSH);
    assert!(error.contains("could not move on") && error.contains("README.md"), "{error}");
    assert_eq!(bed.read("late/README.md"), "my own words\n");
    assert_eq!(bed.git("late", &["log", "-1", "--format=%s"]), "README.md by bob");
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
