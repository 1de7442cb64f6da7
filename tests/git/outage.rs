//! The server is away, slow, or ends in the middle: what was good stays in force, and the first answer ends the trouble.
//!
//! The outages are real, of seconds; the hour passes on a paused clock.

use std::time::{Duration, Instant};

use holdfast::ports::{Source as _, SourceUpdate};

use crate::bed::{Bed, Watching, accepted, unreadable};
use crate::git_server::Mode;
use crate::reach::over_http;

fn is_unreadable(update: &SourceUpdate) -> bool {
    matches!(update, SourceUpdate::Unreadable(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn down_at_the_first_start_nothing_is_in_force_until_it_answers() {
    let (bed, mut server, id) = over_http();
    server.stop();
    let source = bed.source();
    let mut watching = Watching::new(&source);
    let why = unreadable(watching.next().await);
    assert!(why.contains("ailed to connect") || why.contains("ould not connect"), "{why}");
    assert!(!bed.record().exists());
    server.start();
    source.look_again();
    assert_eq!(accepted(watching.next().await).revision.0, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn down_at_a_restart_the_last_good_commit_is_in_force_at_once() {
    let (bed, mut server, id) = over_http();
    accepted(bed.source().read().await);
    server.stop();
    let source = bed.source();
    let mut watching = Watching::new(&source);
    let began = Instant::now();
    let state = accepted(watching.next().await);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(state.revision.0, id);
    assert_eq!(state.commit.as_ref().map(|it| it.subject.as_str()), Some("api: tag 1"));
    unreadable(watching.next().await);
    // What came meanwhile is taken when it is back.
    let second = bed.publish("2");
    server.start();
    source.look_again();
    watching.until_accepted(&second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_ends_with_unchanged_when_nothing_came_meanwhile() {
    let (mut bed, mut server, id) = over_http();
    bed.settings.interval = Duration::from_millis(200);
    let source = bed.source();
    let mut watching = Watching::new(&source);
    watching.until_accepted(&id).await;
    server.stop();
    watching.until("the outage", is_unreadable).await;
    let before = server.counts();
    server.start();
    let began = Instant::now();
    source.look_again();
    let update = watching.next().await;
    assert!(matches!(update, SourceUpdate::Unchanged), "{update:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(server.counts().objects, before.objects, "nothing was fetched for it");
    bed.assert_in_force_alone(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_word_from_outside_the_poll_finds_the_server_again() {
    let (mut bed, mut server, id) = over_http();
    bed.settings.interval = Duration::from_millis(200);
    let mut watching = Watching::new(&bed.source());
    watching.until_accepted(&id).await;
    server.stop();
    watching.until("the outage", is_unreadable).await;
    let second = bed.publish("2");
    server.start();
    // The first failure is followed by some 5 s.
    let began = Instant::now();
    watching.until_accepted(&second).await;
    println!("found again by the poll after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(25));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_in_the_middle_is_an_outage_and_leaves_no_rubbish() {
    let (bed, server, id) = over_http();
    let source = bed.source();
    accepted(source.read().await);
    bed.write("other/large.bin", noise(3 << 20));
    for number in 0..150 {
        bed.write(&format!("other/{number}"), format!("{number}\n"));
    }
    let second = bed.publish("2");
    for most in [0, 40, 4000, 1 << 20] {
        server.mode(Mode::Cut(most));
        let why = unreadable(source.read().await);
        bed.assert_in_force_alone(&id).await;
        assert!(!why.contains("made anew"), "{why}");
    }
    server.mode(Mode::Serve);
    assert_eq!(accepted(source.read().await).revision.0, second);
    let left: Vec<_> = std::fs::read_dir(bed.mirror().join("objects/pack"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("tmp_"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_refs_without_end_takes_no_memory_without_end() {
    let (bed, server, id) = over_http();
    let source = bed.source();
    accepted(source.read().await);
    server.mode(Mode::Endless);
    let why = unreadable(source.read().await);
    // On a busy machine the limit of time comes first.
    assert!(why.contains("Out of memory") || why.contains("it took longer than 30 s"), "{why}");
    bed.assert_in_force_alone(&id).await;
    server.mode(Mode::Serve);
    assert_eq!(accepted(source.read().await).revision.0, id);
}

/// Bytes that cannot be packed.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u8::try_from(state >> 56).unwrap_or(0)
    };
    (0..length).map(|_| next()).collect()
}

/// While a git process is all that is waited for a paused clock jumps to its time limit: each look of this hour ends as one
/// that got no answer, whether git itself would have said so or not.
#[tokio::test]
async fn an_hour_without_an_answer_costs_few_looks_and_ends_with_the_first_one() {
    let (bed, id) = Bed::published();
    let source = bed.source();
    let (sender, mut updates) = tokio::sync::mpsc::channel(1);
    let watched = std::sync::Arc::clone(&source);
    let watching = tokio::spawn(async move { watched.watch(sender).await });
    assert_eq!(accepted(updates.recv().await.unwrap()).revision.0, id);
    let away = bed.server().with_extension("away");
    std::fs::rename(bed.server(), &away).unwrap();

    tokio::time::pause();
    let (began, mut looks) = (tokio::time::Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(3600) {
        let update = updates.recv().await.unwrap();
        assert!(is_unreadable(&update), "what was accepted stays so: {update:?}");
        looks += 1;
    }
    assert!((10..=40).contains(&looks), "{looks} looks in an hour");

    tokio::time::resume();
    std::fs::rename(away, bed.server()).unwrap();
    source.look_again();
    let mut update = updates.recv().await.unwrap();
    while is_unreadable(&update) {
        update = updates.recv().await.unwrap();
    }
    assert!(matches!(update, SourceUpdate::Unchanged), "{update:?}");
    watching.abort();
    bed.assert_in_force_alone(&id).await;
}
