//! What is told of a commit, and of those it takes the place of.

use holdfast::ports::Source as _;

use crate::bed::{Bed, Watching, accepted, service, tags};

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_with_sha256_ids_is_read() {
    let bed = Bed::of_format("sha256");
    let id = bed.publish("1");
    assert_eq!(id.len(), 64);
    let source = bed.source();
    assert_eq!(accepted(source.read().await).revision.0, id);
    bed.commit_tag("2");
    let third = bed.publish("3");
    assert_eq!(accepted(source.read().await).includes.len(), 1);
    bed.assert_in_force_alone(&third).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_with_a_slash_is_followed_and_no_other_one_of_its_name() {
    let mut bed = Bed::new();
    bed.settings.branch = "env/prod".to_owned();
    let id = bed.publish("1");
    // Refs that end the same way, before and after it in the list.
    let other = bed.commit_tag("2");
    for name in
        ["refs/a/refs/heads/env/prod", "refs/x/refs/heads/env/prod", "refs/tags/env/prod", "refs/heads/x/env/prod"]
    {
        bed.git(&["push", "--quiet", "origin", &format!("{other}:{name}")]);
    }
    let source = bed.source();
    assert_eq!(accepted(source.read().await).revision.0, id);
    bed.at_server(&["update-ref", "-d", "refs/heads/env/prod"]);
    crate::bed::rejected(source.read().await);
    bed.assert_in_force_alone(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_pushed_together_are_one_state_and_the_older_ones_are_listed() {
    let (bed, first) = Bed::published();
    let mut watching = Watching::new(&bed.source());
    assert!(watching.until_accepted(&first).await.includes.is_empty(), "nothing was in force before");
    drop(watching);
    let older = [bed.commit_tag("2"), bed.commit_tag("3")];
    // A merge brings its side along.
    bed.git(&["checkout", "--quiet", "-b", "side", &first]);
    bed.write("README.md", "x");
    let side = bed.commit("docs");
    bed.git(&["checkout", "--quiet", "main"]);
    bed.git(&["merge", "--quiet", "--no-ff", "-m", "merge side", "side"]);
    bed.push();
    let source = bed.source();
    let state = accepted(source.read().await);
    assert_eq!((state.revision.0.clone(), tags(&state)), (bed.head(), "api 3".to_owned()));
    let mut listed = state.includes.clone();
    listed.sort();
    let mut wanted = vec![older[0].clone(), older[1].clone(), side];
    wanted.sort();
    assert_eq!(listed, wanted);
    // The same files in another commit are another revision.
    let again = bed.publish_all("nothing changed");
    let next = accepted(source.read().await);
    assert_eq!((next.revision.0.as_str(), next.includes.len()), (again.as_str(), 0));
    assert_eq!(next.services, state.services);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_commits_at_once_are_listed_up_to_a_hundred() {
    let (bed, _) = Bed::published();
    let source = bed.source();
    accepted(source.read().await);
    let tree = bed.git(&["rev-parse", "HEAD^{tree}"]);
    let mut id = bed.head();
    for number in 0..150 {
        id = bed.git(&["commit-tree", &tree, "-p", &id, "-m", &number.to_string()]);
    }
    bed.git(&["push", "--quiet", "origin", &format!("{id}:refs/heads/main")]);
    let state = accepted(source.read().await);
    assert_eq!(state.revision.0, id);
    assert!((99..=100).contains(&state.includes.len()), "{}", state.includes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_write_into_a_commit_is_kept_short_and_plain() {
    let bed = Bed::new();
    let tree = {
        bed.write("prod/api.yaml", service("api", "1"));
        bed.git(&["add", "--all"]);
        bed.git(&["write-tree"])
    };
    let long = "x".repeat(10_000);
    let source = bed.source();
    let mut parent = String::new();
    for (author, date, subject) in [
        (format!("An\u{1b}[31mn{long} <a@b>"), "1700000000 +0000", format!("tag \u{1b}]0;evil\u{7}\u{202e}{long}")),
        (" <a@b>".to_owned(), "1700000000 +0000", String::new()),
        ("<>".to_owned(), "1700000000 +0000", "\u{9b}31m".to_owned()),
        ("Ann".to_owned(), "1700000000 +0000", "no mail".to_owned()),
        ("Ann <a@b>".to_owned(), "99999999999999999 +0000", "far away".to_owned()),
        ("Ann <a@b>".to_owned(), "-1 +0000", "before time".to_owned()),
        ("Ann <a@b>".to_owned(), "yesterday", "no date".to_owned()),
    ] {
        let raw = format!("tree {tree}\n{parent}author {author} {date}\ncommitter {author} {date}\n\n{subject}\n");
        let id = bed.git_reading(&["hash-object", "-w", "-t", "commit", "--literally", "--stdin"], raw.as_bytes());
        bed.git(&["push", "--quiet", "origin", &format!("{id}:refs/heads/main")]);
        let state = accepted(source.read().await);
        let commit = state.commit.clone().unwrap();
        assert_eq!(commit.id, id);
        for text in [&commit.author, &commit.subject] {
            assert!(text.chars().count() <= 300 && !text.contains(char::is_control), "{text:?}");
        }
        assert!(commit.to_string().chars().count() < 200);
        bed.assert_in_force_alone(&id).await;
        parent = format!("parent {id}\n");
    }
    assert!(std::fs::metadata(bed.record()).unwrap().len() < 4000);
}
