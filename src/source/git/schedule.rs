//! When the branch is looked at next: a poll behind the webhooks, backing off while there is no answer.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::retry::Backoff;

/// Looks begin at least this far apart, however often somebody says that it moved.
pub(super) const APART: Duration = Duration::from_secs(1);
/// A host may tell of a push before every one of its servers shows it: one more look after this.
const ECHO: Duration = Duration::from_secs(3);

/// The poll of one branch.
pub(super) struct Schedule {
    interval: Duration,
    backoff: Backoff,
    /// Somebody said that it moved, and nothing has been seen of it yet.
    told: bool,
}

impl Schedule {
    /// Every `interval`, spread by `who` asks so that controllers started together do not ask together.
    pub(super) fn new(interval: Duration, who: &str) -> Self {
        let hash = Sha256::digest(format!("{who}/{}", std::process::id()));
        let seed = hash.iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte));
        Self { interval, backoff: Backoff::new(seed), told: false }
    }

    /// How long to wait after a look that `failed`, or that found a new commit (`moved`).
    pub(super) fn next(&mut self, failed: bool, moved: bool) -> Duration {
        let poll = self.backoff.spread(self.interval);
        if failed {
            return self.backoff.fail_refused().max(poll);
        }
        self.backoff.reset();
        if self.told && !moved { ECHO.min(poll) } else { poll }
    }

    /// Somebody said that it moved.
    pub(super) const fn told(&mut self) {
        self.told = true;
    }

    /// It was looked at because the time was over.
    pub(super) const fn polled(&mut self) {
        self.told = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[test]
    fn an_hour_without_an_answer_costs_few_looks_and_the_first_answer_ends_the_wait() {
        let mut schedule = Schedule::new(INTERVAL, "x");
        let (mut passed, mut looks) = (Duration::ZERO, 0);
        while passed < Duration::from_secs(3600) {
            passed += schedule.next(true, false);
            looks += 1;
        }
        assert!((12..=30).contains(&looks), "{looks}");
        let next = schedule.next(false, false);
        assert!(next <= INTERVAL.mul_f64(1.2), "{next:?}");
    }

    #[test]
    fn polls_are_spread_around_the_interval() {
        let mut schedule = Schedule::new(INTERVAL, "x");
        let delays: Vec<Duration> = (0..50).map(|_| schedule.next(false, false)).collect();
        assert!(delays.iter().all(|it| INTERVAL.mul_f64(0.79) < *it && *it < INTERVAL.mul_f64(1.21)), "{delays:?}");
        assert!(delays.iter().max() > delays.iter().min());
    }

    #[test]
    fn a_word_that_comes_before_the_commit_shows_is_followed_by_one_more_look() {
        let mut schedule = Schedule::new(INTERVAL, "x");
        schedule.told();
        assert_eq!(schedule.next(false, false), ECHO);
        schedule.polled();
        assert!(schedule.next(false, false) > ECHO);
        schedule.told();
        assert!(schedule.next(false, true) > ECHO, "it was seen: nothing more is due");
    }
}
