//! When this machine booted, in wall-clock time: start times in `/proc` count from there.

use std::sync::atomic::{AtomicI64, Ordering};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Milliseconds in one tick of `/proc`: the kernel's ABI fixes 100 ticks a second (`USER_HZ`).
const TICK_MS: i64 = 10;

/// Two readings closer than this are the same boot; further apart, somebody set the clock.
const SAME_MS: i64 = 2;

/// The moment of boot. `btime` of `/proc/stat` has whole seconds only, too coarse to say whether a worker is younger
/// than a file, so it is measured; the value is kept until the clock is set, so that a process always has one start.
#[derive(Debug, Default)]
pub(super) struct Boot(AtomicI64);

impl Boot {
    /// `ticks` after boot as milliseconds since the epoch, rounded down: never later than the process really started.
    pub(super) fn moment_ms(&self, ticks: i64) -> i64 {
        self.ms() + ticks * TICK_MS
    }

    /// The first moment a process can start at and be certainly younger, by its rounded start, than `ms`.
    pub(super) fn younger_than_ms(&self, ms: i64) -> i64 {
        let since_boot = ms - self.ms();
        // One tick on, and one millisecond for the rounding of the boot itself.
        self.ms() + (since_boot.div_euclid(TICK_MS) + 1) * TICK_MS + 1
    }

    fn ms(&self) -> i64 {
        let measured = measure_ms();
        let kept = self.0.load(Ordering::Relaxed);
        if measured.abs_diff(kept) <= SAME_MS.unsigned_abs() {
            return kept;
        }
        self.0.store(measured, Ordering::Relaxed);
        measured
    }
}

/// Wall clock minus time since boot. Both run at the same speed (NTP slews both), so the difference stands still until
/// the clock is set. The tightest of some readings counts: being descheduled between two clocks would shift it.
fn measure_ms() -> i64 {
    let reading = |_| {
        let before = nanos(clock_gettime(ClockId::Boottime));
        let wall = nanos(clock_gettime(ClockId::Realtime));
        let after = nanos(clock_gettime(ClockId::Boottime));
        (after - before, wall - i64::midpoint(before, after))
    };
    let (_, boot) = (0..5).map(reading).min().unwrap_or_default();
    boot.div_euclid(1_000_000)
}

fn nanos(time: Timespec) -> i64 {
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_of_boot_agrees_with_the_kernels_own_whole_seconds() {
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        let btime: i64 = stat.lines().find_map(|line| line.strip_prefix("btime ")).unwrap().trim().parse().unwrap();
        let measured = Boot::default().moment_ms(0);
        assert!((btime * 1000 - 1..=btime * 1000 + 1001).contains(&measured), "{measured} is not in second {btime}");
    }

    #[test]
    fn a_process_started_from_the_named_moment_on_is_younger() {
        let boot = Boot::default();
        let start = boot.moment_ms(1000);
        for ms in start..start + 40 {
            let moment = boot.younger_than_ms(ms);
            assert!(moment > ms && moment <= ms + 11, "{ms}: {moment}");
            // The kernel rounds the start down to a tick of the real boot, up to 1 ms later than the rounded one.
            let ticks = (moment - 1 - boot.moment_ms(0)) / TICK_MS;
            assert!(boot.moment_ms(ticks) > ms, "{ms}");
        }
    }
}
