//! Floor 1: failures to delays. The only file that knows the `backoff` crate, so that replacing it is one commit.
//!
//! The crate gives the doubling series. Two of its habits are turned off: giving up after 15 minutes, and jitter from a
//! global generator (ours comes from a seed, so that a simulation can be replayed).

use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

/// After the first failure that may go better by itself.
const TRANSIENT_FIRST: Duration = Duration::from_millis(200);
/// No delay after such a failure is longer.
const TRANSIENT_CAP: Duration = Duration::from_secs(60);
/// After the first failure that needs somebody to change something.
const REFUSED_FIRST: Duration = Duration::from_secs(5);
/// No delay after such a failure is longer.
const REFUSED_CAP: Duration = Duration::from_secs(300);
/// Delays differ from the series by at most this share, so that services that failed together do not return together.
const JITTER: f64 = 0.2;

/// The delays of one service. The same seed gives the same delays.
#[derive(Debug)]
pub struct Backoff {
    transient: ExponentialBackoff,
    refused: ExponentialBackoff,
    jitter: u64,
}

impl Backoff {
    /// A series that has not failed yet.
    pub fn new(seed: u64) -> Self {
        Self {
            transient: series(TRANSIENT_FIRST, TRANSIENT_CAP),
            refused: series(REFUSED_FIRST, REFUSED_CAP),
            jitter: seed,
        }
    }

    /// How long to wait after a failure that may go better later: about 200 ms, doubling up to 60 s.
    pub fn fail_transient(&mut self) -> Duration {
        let base = self.transient.next_backoff().unwrap_or(TRANSIENT_CAP);
        self.jittered(base).min(TRANSIENT_CAP)
    }

    /// How long to wait after a failure that will stay until somebody changes something: about 5 s, doubling up to 5 min.
    pub fn fail_refused(&mut self) -> Duration {
        let base = self.refused.next_backoff().unwrap_or(REFUSED_CAP);
        self.jittered(base).min(REFUSED_CAP)
    }

    /// It went well: the next failure is the first one again.
    pub fn reset(&mut self) {
        self.transient.reset();
        self.refused.reset();
    }

    /// About `base`: for what is done again and again, so that many do not do it together.
    pub fn spread(&mut self, base: Duration) -> Duration {
        self.jittered(base)
    }

    fn jittered(&mut self, base: Duration) -> Duration {
        // SplitMix64 (Steele, Lea and Flood, 2014): one addition a draw, every seed gives another well-mixed series.
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.jitter;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let share = f64::from(u32::try_from(mixed >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        // The crate adds up to a nanosecond of chance even with a randomisation of 0: whole milliseconds leave it out.
        let base = Duration::from_millis(u64::try_from(base.as_millis()).unwrap_or(u64::MAX));
        base.mul_f64(1.0 - JITTER + 2.0 * JITTER * share)
    }
}

fn series(first: Duration, cap: Duration) -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(first)
        .with_multiplier(2.0)
        .with_randomization_factor(0.0)
        // The series stops short of the cap, so that jitter still spreads the longest delays.
        .with_max_interval(cap.div_f64(1.0 + JITTER))
        .with_max_elapsed_time(None)
        .build()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn within(delay: Duration, base: Duration) -> bool {
        base.mul_f64(0.799) <= delay && delay <= base.mul_f64(1.201)
    }

    #[test]
    fn delays_double_from_the_first_to_the_cap() {
        let mut backoff = Backoff::new(7);
        for base in [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 50_000, 50_000] {
            let delay = backoff.fail_transient();
            assert!(within(delay, Duration::from_millis(base)), "{delay:?} is not about {base} ms");
        }
        for base in [5, 10, 20, 40, 80, 160, 250, 250] {
            let delay = backoff.fail_refused();
            assert!(within(delay, Duration::from_secs(base)), "{delay:?} is not about {base} s");
        }
    }

    #[test]
    fn two_seeds_do_not_come_back_together() {
        let (mut one, mut two) = (Backoff::new(1), Backoff::new(2));
        for _ in 0..50 {
            assert_ne!(one.fail_transient(), two.fail_transient());
        }
    }

    #[test]
    fn the_longest_delays_are_spread_too() {
        let mut backoff = Backoff::new(3);
        let last: std::collections::BTreeSet<_> = (0..60).map(|_| backoff.fail_transient()).skip(10).collect();
        assert!(last.len() > 45, "{last:?}");
    }

    proptest! {
        #[test]
        fn a_seed_decides_the_delays(seed: u64, refused: Vec<bool>) {
            let (mut one, mut two) = (Backoff::new(seed), Backoff::new(seed));
            for refused in refused {
                let step = |backoff: &mut Backoff| if refused { backoff.fail_refused() } else { backoff.fail_transient() };
                prop_assert_eq!(step(&mut one), step(&mut two));
            }
        }

        #[test]
        fn no_delay_is_too_short_or_too_long_and_none_is_the_last(seed: u64, failures in 0..200_usize) {
            let mut backoff = Backoff::new(seed);
            for _ in 0..failures {
                let delay = backoff.fail_transient();
                prop_assert!(delay >= Duration::from_millis(160) && delay <= TRANSIENT_CAP);
                let delay = backoff.fail_refused();
                prop_assert!(delay >= Duration::from_secs(4) && delay <= REFUSED_CAP);
            }
        }

        #[test]
        fn success_begins_anew(seed: u64, failures in 0..20_usize) {
            let mut backoff = Backoff::new(seed);
            for _ in 0..failures {
                backoff.fail_transient();
                backoff.fail_refused();
            }
            backoff.reset();
            prop_assert!(within(backoff.fail_transient(), TRANSIENT_FIRST));
            prop_assert!(within(backoff.fail_refused(), REFUSED_FIRST));
        }
    }
}
