//! Somebody else pushes at the same time, the server says no, or its answer is lost.

use std::path::Path;

use holdfast::git::commit::{Author, NewCommit};
use holdfast::git::{Access, Mirror, Protocol, Remote, Trouble};
use holdfast::plan::step::Ensured;
use holdfast::ports::StepErrorKind;

use crate::bed::{Bed, FILE, step};

/// A hook's script that moves the branch while a push is under way, once: the server then sees another commit than the
/// one the push was made from.
const OVERTAKES: &str = "\
[ -e overtaken ] && exit 0
touch overtaken
unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
export GIT_AUTHOR_NAME=eve GIT_AUTHOR_EMAIL=e GIT_COMMITTER_NAME=eve GIT_COMMITTER_EMAIL=e
git commit-tree -p main -m 'first by eve' 'main^{tree}' > new && cp new refs/heads/main";

#[tokio::test]
async fn an_overtaken_commit_is_made_again_on_the_fresh_head() {
    let bed = Bed::new();
    let writer = bed.source("web-1", bed.settings()).writer();
    bed.hook("server.git", "pre-receive", OVERTAKES);
    assert_eq!(writer.perform(&step("api", "v1", "v2")).await, Ok(Ensured::Changed));
    assert_eq!(bed.log()[..2], ["api: tag v1 -> v2", "first by eve"]);
    assert_eq!(bed.text("prod/services.yaml"), FILE.replace("tag: v1 ", "tag: v2 "));
}

#[tokio::test]
async fn a_server_that_is_always_ahead_is_given_up_on_after_six_tries() {
    let bed = Bed::new();
    let writer = bed.source("web-1", bed.settings()).writer();
    bed.hook("server.git", "pre-receive", &OVERTAKES.replace("[ -e overtaken ] && exit 0", "echo >> tries"));
    let error = writer.perform(&step("api", "v1", "v2")).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Transient);
    assert!(error.why.contains("somebody else pushed first, 6 times in a row"), "{error}");
    assert_eq!(bed.read("server.git/tries").lines().count(), 6);
    assert!(bed.log().iter().all(|subject| !subject.starts_with("api: ")));
}

#[tokio::test]
async fn a_hook_that_says_no_is_a_refusal_and_no_race() {
    let bed = Bed::new();
    let writer = bed.source("web-1", bed.settings()).writer();
    bed.hook("server.git", "pre-receive", "echo >> tries; echo 'only on Mondays, fetch first' >&2; exit 1");
    let head = bed.head();
    let error = writer.perform(&step("api", "v1", "v2")).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Refused);
    assert!(error.why.contains("only on Mondays") && error.why.contains("hint: "), "{error}");
    assert_eq!(bed.read("server.git/tries").lines().count(), 1);
    assert_eq!(bed.head(), head);
}

#[tokio::test]
async fn a_push_whose_answer_was_lost_is_found_and_not_repeated() {
    let bed = Bed::new();
    let writer = bed.source("web-1", bed.settings()).writer();
    // The branch has moved; then the connection ends without a word.
    bed.hook("server.git", "reference-transaction", "[ \"$1\" = committed ] && kill -9 $PPID; exit 0");
    let error = writer.perform(&step("api", "v1", "v2")).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Transient, "{error}");
    assert_eq!(bed.log()[0], "api: tag v1 -> v2");
    assert_eq!(writer.perform(&step("api", "v1", "v2")).await, Ok(Ensured::AlreadySo));
    assert_eq!(bed.log().len(), 2);
}

#[tokio::test]
async fn a_server_that_is_away_is_tried_again_later() {
    let bed = Bed::new();
    let writer = bed.source("web-1", bed.settings()).writer();
    std::fs::rename(bed.path("server.git"), bed.path("away.git")).unwrap();
    assert!(writer.perform(&step("api", "v1", "v2")).await.is_err());
    std::fs::rename(bed.path("away.git"), bed.path("server.git")).unwrap();
    assert_eq!(writer.perform(&step("api", "v1", "v2")).await, Ok(Ensured::Changed));
}

#[tokio::test]
async fn two_controllers_with_one_change_leave_one_commit_and_with_two_changes_two() {
    let bed = Bed::new();
    let (one, two) = (bed.source("a", bed.settings()).writer(), bed.source("b", bed.settings()).writer());
    let version = |n: usize| format!("v{n}");
    for round in 1..6 {
        let step = step("api", &version(round), &version(round + 1));
        let (left, right) = tokio::join!(one.perform(&step), two.perform(&step));
        let ended = [left.unwrap(), right.unwrap()];
        assert!(ended.contains(&Ensured::Changed) && ended.contains(&Ensured::AlreadySo), "{ended:?}");
        assert_eq!(bed.log().len(), 1 + round);
    }
    let (api, web) = (step("api", "v6", "v7"), step("web", "1.10", "1.11"));
    let (left, right) = tokio::join!(one.perform(&api), two.perform(&web));
    assert_eq!((left, right), (Ok(Ensured::Changed), Ok(Ensured::Changed)));
    assert_eq!(bed.log().len(), 8);
    assert_eq!(bed.text("prod/services.yaml"), FILE.replace("tag: v1 ", "tag: v7 ").replace("1.10", "1.11"));
    assert_eq!(bed.git("server.git", &["rev-list", "--merges", "main"]), "");
}

#[tokio::test]
async fn a_branch_that_was_taken_back_or_away_in_between_is_not_brought_back() {
    let bed = Bed::new();
    let old = bed.head();
    let access = Access { allow: vec![Protocol::File], ..Access::default() };
    let remote = Remote { url: bed.url(), branch: "main".to_owned(), access };
    let mirror = Mirror::new(Path::new(&bed.path("mirror")), remote);
    // Both are known here, so that nothing but the wanted place of the branch stands in the way.
    mirror.fetch(&old).await.unwrap();
    let head = bed.somebody_pushes();
    mirror.fetch(&head).await.unwrap();
    let author = Author { name: "H".into(), email: "h@x".into(), signing_key: None };
    let new = NewCommit { parent: &head, path: "README.md", content: "x", message: "m", author: &author };
    let id = mirror.make(&new).await.unwrap();
    // A plain push would be fast-forward from there, and take the rewind back.
    bed.git("server.git", &["update-ref", "refs/heads/main", &old]);
    assert_eq!(mirror.push(&id, &head).await.unwrap_err().trouble, Trouble::Overtaken);
    assert_eq!(bed.head(), old);
    bed.git("server.git", &["update-ref", "-d", "refs/heads/main"]);
    assert_eq!(mirror.push(&id, &head).await.unwrap_err().trouble, Trouble::Overtaken);
    assert_eq!(bed.git("server.git", &["for-each-ref"]), "");
}
