//! A history that goes back is refused until a person accepts exactly that commit.

use holdfast::ports::{Source as _, SourceUpdate};

use crate::bed::{Bed, accepted, rejected, tags, unreadable};
use crate::git_server::Mode;
use crate::reach::over_http;

fn rewritten(bed: &Bed) -> String {
    bed.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    bed.publish("rewritten")
}

fn unrelated(bed: &Bed) -> String {
    bed.git(&["checkout", "--quiet", "--orphan", "elsewhere"]);
    bed.publish("unrelated")
}

/// Good commits 1 to 3, read one by one.
async fn with_history() -> (Bed, Vec<String>) {
    let bed = Bed::new();
    let mut ids = Vec::new();
    for tag in ["1", "2", "3"] {
        ids.push(bed.publish(tag));
        accepted(bed.source().read().await);
    }
    (bed, ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn rewound_rewritten_and_unrelated_history_is_refused_and_the_old_state_stays() {
    type Change = fn(&Bed) -> String;
    let rewound: Change = |bed| {
        bed.git(&["reset", "--quiet", "--hard", "HEAD~2"]);
        bed.push();
        bed.head()
    };
    let mut said = String::new();
    for (name, change) in [("rewound", rewound), ("rewritten", rewritten), ("unrelated", unrelated)] {
        let (bed, ids) = with_history().await;
        let id = change(&bed);
        // By who has read all of it, and by who has just started.
        for source in [bed.source(), bed.source()] {
            let update = source.read().await;
            assert!(matches!(&update, SourceUpdate::Rejected { commit: Some(it), .. } if it.id == id), "{update:?}");
            let why = rejected(update);
            assert!(why.contains(&format!("--accept-rewind {}", &id[..12])), "{why}");
            said += &format!("{name}: {}\n", bed.plain(&why));
        }
        bed.assert_in_force_alone(&ids[2]).await;
    }
    insta::assert_snapshot!(said);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_refused_commit_can_be_accepted_and_then_it_is_in_force() {
    let (bed, ids) = with_history().await;
    let source = bed.source();
    // Nothing is refused yet.
    accepted(source.read().await);
    let why = source.accept_rewind(&ids[0], "ann").await.unwrap_err();
    assert!(why.contains("no commit is refused"), "{why}");
    let id = rewritten(&bed);
    rejected(source.read().await);
    for wrong in [&ids[2][..12], "", "zz", &id[..6], &format!("{id}0"), &ids[0]] {
        let why = source.accept_rewind(wrong, "ann").await.unwrap_err();
        assert!(why.contains(&id), "{wrong}: {why}");
        rejected(source.read().await);
    }
    let said = source.accept_rewind(&id[..12], "ann").await.unwrap();
    assert!(said.contains(&id[..12]) && said.contains("accepted by ann"), "{said}");
    let state = accepted(source.read().await);
    assert_eq!((state.revision.0.as_str(), tags(&state).as_str()), (id.as_str(), "api rewritten"));
    bed.assert_in_force_alone(&id).await;
    // And the one before is the one that went back now.
    bed.git(&["push", "--quiet", "--force", "origin", &format!("{}:refs/heads/main", ids[2])]);
    rejected(source.read().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acceptance_survives_a_restart_and_is_for_that_commit_alone() {
    let (bed, ids) = with_history().await;
    let source = bed.source();
    let id = rewritten(&bed);
    rejected(source.read().await);
    source.accept_rewind(&id, "ann").await.unwrap();
    // Before it is looked at: a restart, and another commit on top.
    drop(source);
    let another = bed.publish("another");
    assert_eq!(rejected(bed.source().read().await).matches(&another[..12]).count(), 2);
    bed.assert_in_force_alone(&ids[2]).await;
    bed.git(&["reset", "--quiet", "--hard", &id]);
    bed.push();
    assert_eq!(accepted(bed.source().read().await).revision.0, id);
    bed.publish("next");
    assert_eq!(tags(&accepted(bed.source().read().await)), "api next");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_commit_has_to_be_valid_all_the_same() {
    let (bed, ids) = with_history().await;
    let source = bed.source();
    bed.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    bed.write("prod/api.yaml", "services: {api: {imagee: x}}\n");
    let id = bed.publish_all("oops");
    rejected(source.read().await);
    source.accept_rewind(&id, "ann").await.unwrap();
    assert!(rejected(source.read().await).contains("imagee"));
    bed.assert_in_force_alone(&ids[2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_is_no_longer_refused_when_the_branch_came_back_meanwhile() {
    let (bed, ids) = with_history().await;
    let source = bed.source();
    accepted(source.read().await);
    let id = rewritten(&bed);
    rejected(source.read().await);
    bed.git(&["push", "--quiet", "--force", "origin", &format!("{}:refs/heads/main", ids[2])]);
    assert_eq!(accepted(source.read().await).revision.0, ids[2]);
    let why = source.accept_rewind(&id, "ann").await.unwrap_err();
    assert!(why.contains("no commit is refused"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_commit_may_be_pushed_away_for_one_after_the_last_good() {
    let (bed, ids) = with_history().await;
    let source = bed.source();
    bed.write("prod/api.yaml", "services: [\n");
    bed.publish_all("oops");
    rejected(source.read().await);
    bed.assert_in_force_alone(&ids[2]).await;
    bed.git(&["reset", "--quiet", "--hard", &ids[2]]);
    let fixed = bed.publish("fixed");
    let state = accepted(source.read().await);
    assert_eq!((state.revision.0.as_str(), state.includes.len()), (fixed.as_str(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_was_made_anew_tells_forward_from_back() {
    let (bed, _) = with_history().await;
    std::fs::remove_dir_all(bed.mirror()).unwrap();
    // Shallow, and without the last good commit: all of the history is asked for before an answer.
    for tag in ["4", "5"] {
        bed.commit_tag(tag);
    }
    let sixth = bed.publish("6");
    let state = accepted(bed.source().read().await);
    assert_eq!((state.revision.0.as_str(), state.includes.len()), (sixth.as_str(), 2));
    std::fs::remove_dir_all(bed.mirror()).unwrap();
    rewritten(&bed);
    rejected(bed.source().read().await);
    bed.assert_in_force_alone(&sixth).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_while_history_is_asked_for_is_no_rewind() {
    let (bed, server, _) = over_http();
    accepted(bed.source().read().await);
    let second = bed.publish("2");
    accepted(bed.source().read().await);
    std::fs::remove_dir_all(bed.mirror()).unwrap();
    bed.commit_tag("3");
    let fourth = bed.publish("4");
    // The newest commit comes, the history does not.
    let source = bed.source();
    server.mode(Mode::CutAfter(1));
    let why = unreadable(source.read().await);
    assert!(!why.contains("rewound"), "{why}");
    let why = source.accept_rewind(&fourth, "ann").await.unwrap_err();
    assert!(why.contains("no commit is refused"), "{why}");
    bed.assert_in_force_alone(&second).await;
    server.mode(Mode::Serve);
    assert_eq!(accepted(source.read().await).revision.0, fourth);
}
