//! How soon a push is read, and how seldom the server is asked however often somebody says that it moved.

use std::time::{Duration, Instant};

use holdfast::ports::Source as _;

use crate::bed::{Bed, Watching};
use crate::program::pause;
use crate::reach::over_http;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_words_in_a_second_are_two_questions_and_the_last_push_is_in_force() {
    let (mut bed, server, id) = over_http();
    bed.settings.interval = Duration::from_secs(600);
    let source = bed.source();
    let mut watching = Watching::new(&source);
    watching.until_accepted(&id).await;
    let before = server.counts();
    let began = Instant::now();
    let mut last = id;
    for number in 0..1000 {
        source.look_again();
        if number % 250 == 249 {
            last = bed.publish(&format!("a{number}"));
        }
        while began.elapsed() < Duration::from_millis(number) {
            pause(Duration::from_micros(200));
        }
    }
    let after = server.counts();
    // One a second: two in the second and a bit this takes.
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!(began.elapsed() >= Duration::from_millis(990));
    assert!(after.refs - before.refs <= seconds, "{after:?} in {:?}", began.elapsed());
    assert!(after.objects - before.objects <= seconds, "{after:?} in {:?}", began.elapsed());
    source.look_again();
    watching.until_accepted(&last).await;
    println!("{} questions in {:?}", after.refs - before.refs, began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_in_force_soon_by_word_and_by_poll() {
    let (mut bed, id) = Bed::published();
    for (how, interval, by_word) in [("a word", 600, true), ("the poll", 1, false)] {
        bed.settings.interval = Duration::from_secs(interval);
        let source = bed.source();
        let mut watching = Watching::new(&source);
        watching.until_accepted(&bed.head()).await;
        let mut took = Vec::new();
        for number in 0..3 {
            let next = bed.publish(&format!("{interval}-{number}"));
            let began = Instant::now();
            if by_word {
                source.look_again();
            }
            watching.until_accepted(&next).await;
            took.push(began.elapsed());
        }
        println!("push to accepted by {how}: {took:?}");
        assert!(took.iter().all(|it| *it < Duration::from_secs(20)), "{took:?}");
    }
    assert_ne!(bed.head(), id);
}
