//! Floor 1: failures -> delay.

use std::time::Duration;

/// The delays of one key; each failure in a row waits longer, with jitter from a seed.
#[derive(Debug, Clone)]
pub struct Backoff {
    state: u64,
    failures: u32,
}

impl Backoff {
    /// No failure yet; the same `seed` gives the same delays.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed | 1, failures: 0 }
    }

    /// After a failure that may pass: from half a second to a minute.
    pub fn fail_transient(&mut self) -> Duration {
        self.next(Duration::from_millis(500), Duration::from_secs(60))
    }

    /// After a failure that stays until somebody changes something: from 10 seconds to 5 minutes.
    pub fn fail_refused(&mut self) -> Duration {
        self.next(Duration::from_secs(10), Duration::from_secs(300))
    }

    /// It went well.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    fn next(&mut self, first: Duration, most: Duration) -> Duration {
        let delay = first.saturating_mul(1 << self.failures.min(16)).min(most);
        self.failures = self.failures.saturating_add(1);
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let share = u32::try_from(self.state >> 40).unwrap_or(0) % 500;
        delay / 2 + delay * share / 1000
    }
}
