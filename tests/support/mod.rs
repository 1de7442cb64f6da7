//! What the end-to-end tests share: a world of one's own on the real engine, and small tools to look at it.

pub(crate) mod engine;
pub(crate) mod load;
pub(crate) mod registry_stub;
pub(crate) mod repository;
pub(crate) mod spec;
pub(crate) mod world;

use std::time::{Duration, Instant};

/// Waits until `met`, or fails the test with `what` after `seconds`.
pub(crate) fn until(what: &str, seconds: u64, mut met: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(seconds);
    while !met() {
        assert!(Instant::now() < give_up, "waited {seconds} s in vain for {what}");
        pause(Duration::from_millis(30));
    }
}

/// Between two looks at something that announces nothing, and for the random moments of the kill test.
#[expect(clippy::disallowed_methods, reason = "the gap between two polls of a condition")]
pub(crate) fn pause(gap: Duration) {
    std::thread::sleep(gap);
}
