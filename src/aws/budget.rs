//! The budget of calls: a share of each rate bucket of an account and region, for all services together.
//!
//! The buckets are shared with the console and with CI, so only a share of each is used. Who is told to slow down waits
//! here, longer each time, and everybody who needs the same bucket waits behind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A rate bucket. Burst and rate are AWS's, per account and region (API reference, "request throttling").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// RegisterTaskDefinition, DeregisterTaskDefinition.
    Register,
    /// DescribeTaskDefinition, ListTaskDefinitions.
    Definitions,
    /// CreateService, UpdateService, DeleteService.
    ServiceWrites,
    /// DescribeServices, ListServices.
    ServiceReads,
    /// DescribeTasks, ListTasks.
    TaskReads,
    /// TagResource.
    TagWrites,
    /// Rules, weights and targets of a load balancer.
    Balancer,
    /// DescribeAlarms.
    Alarms,
    /// BatchGetImage, DescribeImages, BatchDeleteImage: far below what ECR allows.
    Images,
}

impl Bucket {
    /// Calls at once, and calls a second.
    const fn limits(self) -> (f64, f64) {
        match self {
            Self::Register => (20.0, 1.0),
            Self::Definitions => (50.0, 20.0),
            Self::ServiceWrites => (50.0, 5.0),
            Self::ServiceReads | Self::TaskReads => (100.0, 20.0),
            Self::TagWrites => (20.0, 10.0),
            Self::Balancer => (40.0, 10.0),
            Self::Alarms => (20.0, 9.0),
            Self::Images => (200.0, 200.0),
        }
    }
}

/// After the first "slow down".
const PENALTY_FIRST: Duration = Duration::from_secs(1);
/// No wait after one is longer.
const PENALTY_CAP: Duration = Duration::from_secs(30);

/// What of one bucket is left.
#[derive(Debug)]
struct Level {
    tokens: f64,
    at: Instant,
    penalty: Duration,
    not_before: Instant,
}

/// Held by whoever waits for its next call.
type SharedLevel = Arc<tokio::sync::Mutex<Level>>;

/// The budget of one controller.
#[derive(Debug)]
pub struct Budget {
    share: f64,
    buckets: Mutex<HashMap<(Option<String>, Bucket), SharedLevel>>,
}

impl Budget {
    /// `percent` of every bucket.
    pub fn new(percent: u8) -> Self {
        Self { share: f64::from(percent) / 100.0, buckets: Mutex::default() }
    }

    fn level(&self, region: Option<&str>, bucket: Bucket) -> SharedLevel {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full = || {
            let now = Instant::now();
            Level { tokens: self.burst(bucket), at: now, penalty: Duration::ZERO, not_before: now }
        };
        let key = (region.map(str::to_owned), bucket);
        Arc::clone(buckets.entry(key).or_insert_with(|| Arc::new(tokio::sync::Mutex::new(full()))))
    }

    fn burst(&self, bucket: Bucket) -> f64 {
        (bucket.limits().0 * self.share).max(1.0)
    }

    fn rate(&self, bucket: Bucket) -> f64 {
        bucket.limits().1 * self.share
    }

    /// Waits until one call may be made. In the order of asking: the lock is held while waiting.
    pub async fn take(&self, region: Option<&str>, bucket: Bucket) {
        let level = self.level(region, bucket);
        let mut level = level.lock().await;
        if level.not_before > Instant::now() {
            tokio::time::sleep_until(level.not_before).await;
        }
        self.refill(&mut level, bucket);
        if level.tokens < 1.0 {
            let missing = (1.0 - level.tokens) / self.rate(bucket);
            tokio::time::sleep(Duration::from_secs_f64(missing)).await;
            self.refill(&mut level, bucket);
        }
        level.tokens -= 1.0;
    }

    fn refill(&self, level: &mut Level, bucket: Bucket) {
        let now = Instant::now();
        let gained = now.duration_since(level.at).as_secs_f64() * self.rate(bucket);
        level.tokens = (level.tokens + gained).min(self.burst(bucket));
        level.at = now;
    }

    /// AWS asked for fewer calls: nobody asks this bucket for a while, twice as long each time.
    pub async fn slow_down(&self, region: Option<&str>, bucket: Bucket) -> Duration {
        let level = self.level(region, bucket);
        let mut level = level.lock().await;
        let doubled = level.penalty.saturating_mul(2).clamp(PENALTY_FIRST, PENALTY_CAP);
        level.penalty = doubled;
        level.not_before = Instant::now() + doubled;
        level.tokens = 0.0;
        doubled
    }

    /// A call was answered.
    pub async fn answered(&self, region: Option<&str>, bucket: Bucket) {
        self.level(region, bucket).lock().await.penalty = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_quarter_of_the_bucket_is_used_and_no_more() {
        let budget = Budget::new(25);
        let begin = Instant::now();
        // 25 % of burst 50 at 5/s: 12 at once, then 1.25 a second.
        for _ in 0..12 {
            budget.take(None, Bucket::ServiceWrites).await;
        }
        assert!(begin.elapsed() < Duration::from_millis(1));
        for _ in 0..10 {
            budget.take(None, Bucket::ServiceWrites).await;
        }
        let spent = begin.elapsed().as_secs_f64();
        assert!((7.0..=8.1).contains(&spent), "{spent}");
    }

    #[tokio::test(start_paused = true)]
    async fn regions_and_buckets_do_not_wait_for_each_other() {
        let budget = Budget::new(1);
        let begin = Instant::now();
        budget.take(Some("a"), Bucket::Register).await;
        budget.take(Some("b"), Bucket::Register).await;
        budget.take(Some("a"), Bucket::TagWrites).await;
        assert!(begin.elapsed() < Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_to_slow_down_waits_longer_each_time_until_an_answer_comes() {
        let budget = Budget::new(100);
        let wait = |round: u32| PENALTY_FIRST.saturating_mul(1 << round).min(PENALTY_CAP);
        for round in 0..7 {
            assert_eq!(budget.slow_down(None, Bucket::ServiceReads).await, wait(round));
            let begin = Instant::now();
            budget.take(None, Bucket::ServiceReads).await;
            assert!(begin.elapsed() >= wait(round));
        }
        budget.answered(None, Bucket::ServiceReads).await;
        assert_eq!(budget.slow_down(None, Bucket::ServiceReads).await, PENALTY_FIRST);
    }
}
