//! A checkout that cannot take a commit says why and what to do, and nothing is changed.

use std::fs;

use crate::bed::{Bed, FILE};

/// Fails with these words; the file and the server stay.
fn refused(bed: &Bed, push: bool, words: &[&str]) -> String {
    let (text, head) = (bed.read("ann/prod/services.yaml"), bed.head());
    let flag = if push { "--push" } else { "--commit" };
    let error = bed.fails("ann", &["set", "api", "tag=v2", "--path", "prod", flag]);
    for word in words {
        assert!(error.contains(word), "{word} is missing in\n{error}");
    }
    assert_eq!(bed.read("ann/prod/services.yaml"), text);
    assert_eq!(bed.head(), head);
    error
}

#[test]
fn a_checkout_without_a_branch_or_an_upstream() {
    let bed = Bed::new();
    bed.git("ann", &["branch", "--unset-upstream"]);
    refused(&bed, true, &["has no upstream", "git push --set-upstream origin main"]);
    bed.git("ann", &["switch", "--quiet", "--detach"]);
    refused(&bed, false, &["no branch is checked out", "git switch BRANCH"]);
}

#[test]
fn no_checkout_at_all() {
    let bed = Bed::new();
    fs::remove_dir_all(bed.path("ann/.git")).unwrap();
    refused(&bed, false, &["in no git checkout"]);
}

#[test]
fn a_file_that_git_does_not_track() {
    let bed = Bed::new();
    bed.git("ann", &["rm", "--quiet", "--cached", "prod/services.yaml"]);
    bed.git("ann", &["commit", "--quiet", "-m", "untracked"]);
    refused(&bed, false, &["git does not track it", "git add"]);
    fs::write(bed.path("ann/.gitignore"), "prod\n").unwrap();
    refused(&bed, false, &["git does not track it"]);
}

#[test]
fn a_file_with_another_edit_in_it() {
    let bed = Bed::new();
    fs::write(bed.path("ann/prod/services.yaml"), FILE.replace("1.10", "1.11")).unwrap();
    refused(&bed, false, &["changes that are not committed"]);
    bed.git("ann", &["add", "prod"]);
    refused(&bed, false, &["changes that are not committed"]);
}

#[test]
fn a_merge_under_way() {
    let bed = Bed::new();
    bed.git("ann", &["switch", "--quiet", "-c", "side"]);
    fs::write(bed.path("ann/x"), "1").unwrap();
    bed.git("ann", &["add", "x"]);
    bed.git("ann", &["commit", "--quiet", "-m", "x"]);
    bed.git("ann", &["switch", "--quiet", "main"]);
    fs::write(bed.path("ann/x"), "2").unwrap();
    bed.git("ann", &["add", "x"]);
    bed.git("ann", &["commit", "--quiet", "-m", "y"]);
    assert!(!bed.try_git("ann", &["merge", "side"]).status.success());
    refused(&bed, false, &["a merge is under way", "git merge --abort"]);
    // Its conflicts are solved, and it is not committed yet.
    bed.git("ann", &["add", "x"]);
    refused(&bed, false, &["a merge is under way"]);
}

#[test]
fn nobody_who_commits() {
    let bed = Bed::new();
    bed.git("ann", &["config", "--unset", "user.name"]);
    bed.git("ann", &["config", "--unset", "user.email"]);
    bed.git("ann", &["config", "user.useConfigOnly", "true"]);
    refused(&bed, false, &["git does not know who commits", "git config user.name"]);
}

#[test]
fn a_hook_of_the_user_that_says_no() {
    let bed = Bed::new();
    bed.hook("ann/.git", "pre-commit", "echo 'run the linter first' >&2; exit 1");
    let output = bed.holdfast("ann", &["set", "api", "tag=v2", "--path", "prod", "--push"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("run the linter first"), "{error}");
    assert!(error.contains("is as it was"), "{error}");
    assert_eq!(bed.git("ann", &["status", "--short"]), "");
    assert_eq!(bed.read("ann/prod/services.yaml"), FILE);
}

#[test]
fn a_server_that_says_no_leaves_the_commit() {
    let bed = Bed::new();
    bed.hook("server.git", "pre-receive", "echo >> tries; echo 'only on Mondays' >&2; exit 1");
    let error = bed.fails("ann", &["set", "api", "tag=v2", "--path", "prod", "--push"]);
    assert!(error.contains("it stays in this checkout") && error.contains("only on Mondays"), "{error}");
    assert_eq!(bed.read("server.git/tries").lines().count(), 1);
    assert_eq!(bed.git("ann", &["log", "-1", "--format=%s"]), "api: tag v1 -> v2");
    fs::remove_file(bed.path("server.git/hooks/pre-receive")).unwrap();
    bed.git("ann", &["push", "--quiet"]);
    assert_eq!(bed.log()[0], "api: tag v1 -> v2");
}

#[test]
fn an_edit_that_would_be_wrong_is_not_committed() {
    let bed = Bed::new();
    let error = bed.fails("ann", &["set", "api", "replica=2", "--path", "prod", "--push"]);
    assert!(error.contains("did you mean `replicas`?"), "{error}");
    assert_eq!(bed.git("ann", &["status", "--short", "--branch"]), "## main...origin/main");
}
