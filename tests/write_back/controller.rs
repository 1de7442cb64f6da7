//! The controller commits one changed tag: what the commit is, where it goes, and when it does not.

use std::time::Duration;

use holdfast::plan::step::Ensured;
use holdfast::ports::{Source as _, SourceUpdate, StepErrorKind};
use tokio::sync::mpsc;

use crate::bed::{Bed, FILE, step};

#[tokio::test]
async fn a_step_is_one_commit_that_changes_the_tag_and_nothing_else() {
    let bed = Bed::new();
    let before = bed.head();
    let mut step = step("api", "v1", "v2");
    step.why = format!(
        "{}\n\nIt was pushed by CI.",
        "v2 is the newest tag that fits `>=1`, and it is long enough. ".repeat(3)
    );
    let writer = bed.source("web-1", bed.settings()).writer();
    assert_eq!(writer.closed(), None);
    assert_eq!(writer.perform(&step).await, Ok(Ensured::Changed));

    assert_eq!(bed.text("prod/services.yaml"), FILE.replace("tag: v1 ", "tag: v2 "));
    assert_eq!(bed.git("server.git", &["rev-list", "--parents", "-1", "main"]), format!("{} {before}", bed.head()));
    assert_eq!(bed.git("server.git", &["diff", "--name-only", "main~1", "main"]), "prod/services.yaml");
    let people = bed.git("server.git", &["log", "-1", "--format=%an <%ae>%n%cn <%ce>", "main"]);
    assert_eq!(people, "Holdfast <holdfast@acme.example>\nHoldfast <holdfast@acme.example>");
    let message = bed.git("server.git", &["log", "-1", "--format=%B", "main"]);
    assert!(message.starts_with("api: tag v1 -> v2\n\nv2 is the newest"), "{message}");
    assert!(message.contains("\n\nIt was pushed by CI.\n\n"), "{message}");
    assert!(message.lines().all(|line| line.len() <= 72), "{message}");
    let trailers = bed.git("server.git", &["log", "-1", "--format=%(trailers)", "main"]);
    assert_eq!(trailers.trim(), "Holdfast-Controller: web-1\nHoldfast-Service: api");

    // Once more: it is there.
    assert_eq!(writer.perform(&step).await, Ok(Ensured::AlreadySo));
    assert_eq!(bed.log().len(), 2);
}

#[tokio::test]
async fn every_place_and_kind_of_file_keeps_what_it_is() {
    let windows = FILE.replace('\n', "\r\n");
    for (format, folder, file, text) in [
        ("sha256", "prod", "prod/services.yaml", FILE),
        ("sha1", "prod", "prod/services.yaml", windows.as_str()),
        ("sha1", "", "services.yml", FILE.trim_end()),
        ("sha1", "a/deep folder/prod", "a/deep folder/prod/it is é.yaml", FILE),
        ("sha1", "prod/services.yaml", "prod/services.yaml", FILE),
    ] {
        let bed = Bed::empty(format);
        bed.commit("ann", "zzz/last", "untouched");
        bed.commit("ann", "prod-more/before", "untouched");
        // A name the index of git would refuse on some file systems, and a file somebody may run.
        bed.commit("ann", "aux", "untouched");
        bed.commit("ann", file, text);
        bed.git("ann", &["update-index", "--chmod=+x", file]);
        bed.git("ann", &["commit", "--quiet", "-m", "runs"]);
        bed.git("ann", &["push", "--quiet"]);
        let listed = |what: &str| bed.git("server.git", &["ls-tree", "-r", "-t", "-z", what]).replace('\0', "\n");
        let before = listed("main");
        let mut settings = bed.settings();
        folder.clone_into(&mut settings.path);
        let writer = bed.source("web-1", settings).writer();
        assert_eq!(writer.perform(&step("web", "1.10", "1.20")).await, Ok(Ensured::Changed), "{file}");
        assert_eq!(bed.text(file), text.replace("1.10", "1.20"), "{file}");
        bed.git("server.git", &["fsck", "--strict"]);
        let (before, after) = (before.lines().collect::<Vec<_>>(), listed("main"));
        let changed: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
        assert_eq!(changed.len(), file.split('/').count(), "{changed:?}");
        assert!(changed.iter().any(|line| line.starts_with("100755 blob") && line.ends_with(file)), "{changed:?}");
    }
}

#[tokio::test]
async fn the_file_of_this_controller_is_edited_where_another_one_has_a_service_of_that_name() {
    let bed = Bed::empty("sha1");
    bed.commit("ann", "prod/a.yaml", &format!("controllers: [db-1]\n{FILE}"));
    bed.commit("ann", "prod/b.yaml", &format!("controllers: [web-1]\n{FILE}"));
    let writer = bed.source("web-1", bed.settings()).writer();
    assert_eq!(writer.perform(&step("api", "v1", "v2")).await, Ok(Ensured::Changed));
    assert!(bed.text("prod/a.yaml").contains("tag: v1 ") && bed.text("prod/b.yaml").contains("tag: v2 "));
}

#[tokio::test]
async fn another_value_than_the_expected_one_is_stale_and_stays() {
    let bed = Bed::new();
    bed.commit("ann", "prod/services.yaml", &FILE.replace("tag: v1 ", "tag: v9 "));
    let writer = bed.source("web-1", bed.settings()).writer();
    let head = bed.head();
    for (step, word) in [(step("api", "v1", "v2"), "has tag v9"), (step("gone", "v1", "v2"), "has no service gone")] {
        let error = writer.perform(&step).await.unwrap_err();
        assert_eq!(error.kind, StepErrorKind::Stale);
        assert!(error.why.contains(word), "{error}");
    }
    assert_eq!(bed.head(), head);
}

#[tokio::test]
async fn nothing_is_built_on_a_commit_that_would_not_be_taken() {
    let bed = Bed::new();
    let good = bed.somebody_pushes();
    let source = bed.source("web-1", bed.settings());
    let SourceUpdate::Accepted(_) = source.read().await else { panic!("the first commit is good") };
    let refused = async |word: &str| {
        let head = bed.head();
        let error = source.writer().perform(&step("api", "v1", "v2")).await.unwrap_err();
        assert_eq!(error.kind, StepErrorKind::Refused, "{error}");
        assert!(error.why.contains(word), "{error}");
        assert_eq!(bed.head(), head);
    };
    // Another file is broken; the service's own is fine.
    bed.git("ann", &["pull", "--quiet"]);
    bed.commit("ann", "prod/other.yaml", "services: {");
    refused("prod/other.yaml:").await;
    // The history went back.
    bed.git("ann", &["reset", "--quiet", "--hard", &format!("{good}~1")]);
    bed.git("ann", &["push", "--quiet", "--force"]);
    refused("does not come after the last good commit").await;
    // The folder is gone.
    bed.git("ann", &["reset", "--quiet", "--hard", &good]);
    bed.git("ann", &["rm", "-r", "--quiet", "prod"]);
    bed.git("ann", &["commit", "--quiet", "-m", "oops"]);
    bed.git("ann", &["push", "--quiet", "--force"]);
    refused("there is no such folder").await;
    // The branch is gone, and stays so.
    bed.git("server.git", &["update-ref", "-d", "refs/heads/main"]);
    let error = source.writer().perform(&step("api", "v1", "v2")).await.unwrap_err();
    assert!(error.kind == StepErrorKind::Refused && error.why.contains("no branch `main`"), "{error}");
    assert_eq!(bed.git("server.git", &["for-each-ref"]), "");
}

#[tokio::test]
async fn an_accepted_rewind_is_built_upon_once_it_is_in_force() {
    let bed = Bed::new();
    bed.somebody_pushes();
    let source = bed.source("web-1", bed.settings());
    source.read().await;
    bed.git("ann", &["push", "--quiet", "--force"]);
    let rewound = bed.head();
    let SourceUpdate::Rejected { .. } = source.read().await else { panic!("a rewind is refused") };
    source.accept_rewind(&rewound, "ann").await.unwrap();
    let error = source.writer().perform(&step("api", "v1", "v2")).await.unwrap_err();
    assert!(error.kind == StepErrorKind::Transient && error.why.contains("not in force yet"), "{error}");
    assert_eq!(bed.head(), rewound);
    let SourceUpdate::Accepted(_) = source.read().await else { panic!("it was accepted") };
    assert_eq!(source.writer().perform(&step("api", "v1", "v2")).await, Ok(Ensured::Changed));
    let SourceUpdate::Accepted(state) = source.read().await else { panic!("ours comes after it") };
    assert_eq!(state.revision.0, bed.head());
}

#[tokio::test]
async fn a_commit_of_the_controller_is_in_force_at_once() {
    let bed = Bed::new();
    let mut settings = bed.settings();
    settings.interval = Duration::from_secs(3600);
    let source = bed.source("web-1", settings);
    let (updates, mut seen) = mpsc::channel(8);
    let watching = tokio::spawn({
        let source = std::sync::Arc::clone(&source);
        async move { source.watch(updates).await }
    });
    let mut next = async || loop {
        match tokio::time::timeout(Duration::from_secs(20), seen.recv()).await.expect("an update").unwrap() {
            SourceUpdate::Accepted(state) => return state,
            SourceUpdate::Unchanged => {}
            other => panic!("{other:?}"),
        }
    };
    next().await;
    assert_eq!(source.writer().perform(&step("api", "v1", "v2")).await, Ok(Ensured::Changed));
    let state = next().await;
    assert_eq!(state.commit.as_ref().unwrap().subject, "api: tag v1 -> v2");
    assert_eq!(state.revision.0, bed.head());
    watching.abort();
}

#[tokio::test]
async fn it_commits_only_where_the_settings_say_who() {
    let bed = Bed::new();
    let mut settings = bed.settings();
    let skipping = settings.write.as_mut().unwrap();
    skipping.skip_ci = true;
    let write = settings.write.take();
    let writer = bed.source("reader", settings.clone()).writer();
    assert!(writer.closed().unwrap().contains("hint: say who commits as `git.write`"));
    assert_eq!(writer.perform(&step("api", "v1", "v2")).await.unwrap_err().kind, StepErrorKind::Refused);
    assert_eq!(bed.log().len(), 1);
    settings.write = write;
    bed.source("writer", settings).writer().perform(&step("api", "v1", "v2")).await.unwrap();
    assert_eq!(bed.log()[0], "api: tag v1 -> v2 [skip ci]");
}
