//! Answers remembered for a while, many askers sharing one question.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::model::snapshot::Fact;
use crate::ports::Clock;

/// The answers to one kind of question.
pub(super) struct Answers<K, T> {
    /// What nobody asks for any more is dropped beyond this many.
    kept: usize,
    /// Whether a failure is an answer too: else the next asker asks again.
    failures: bool,
    slots: Mutex<HashMap<K, Arc<Slot<T>>>>,
}

/// What is known of one thing.
struct Slot<T> {
    /// Held while it is asked for.
    asking: tokio::sync::Mutex<()>,
    /// The last answer, and since when it is known.
    answer: Mutex<Option<(Fact<T>, Timestamp)>>,
    /// How often it was asked for: who waited meanwhile takes that answer, whatever it is.
    asked: AtomicU64,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { asking: tokio::sync::Mutex::default(), answer: Mutex::new(None), asked: AtomicU64::new(0) }
    }
}

impl<T: Clone> Slot<T> {
    fn known(&self) -> Option<(Fact<T>, Timestamp)> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<K: Eq + Hash, T: Clone> Answers<K, T> {
    pub(super) fn new(kept: usize, failures: bool) -> Self {
        Self { kept, failures, slots: Mutex::default() }
    }

    fn slot(&self, key: K) -> Arc<Slot<T>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= self.kept {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(key).or_default())
    }

    /// The answer about `key`: one younger than `max_age`, or what `ask` comes to.
    pub(super) async fn get(
        &self,
        key: K,
        clock: &dyn Clock,
        max_age: Duration,
        ask: impl Future<Output = Fact<T>>,
    ) -> Fact<T> {
        let slot = self.slot(key);
        let before = slot.asked.load(Ordering::Acquire);
        let _asking = slot.asking.lock().await;
        if let Some((fact, at)) = slot.known() {
            let meanwhile = slot.asked.load(Ordering::Acquire) != before;
            let counts = self.failures || !matches!(fact, Fact::Unreadable(_));
            if meanwhile || (counts && young(at, clock.now(), max_age)) {
                return fact;
            }
        }
        let fact = ask.await;
        *slot.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some((fact.clone(), clock.now()));
        slot.asked.fetch_add(1, Ordering::AcqRel);
        fact
    }
}

impl<K, T> Answers<K, T>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    T: Clone + Send + 'static,
{
    /// The same, but whoever asks waits no longer than `patience` for an answer that takes up to `deadline`: then the
    /// one before counts, unless it is older than `stale`. The question goes on, and the next asker has its answer.
    pub(super) async fn soon(
        self: &Arc<Self>,
        key: K,
        clock: &Arc<dyn Clock>,
        ages: Ages,
        ask: impl Future<Output = Fact<T>> + Send + 'static,
    ) -> Fact<T> {
        let Ages { max_age, stale, patience, deadline } = ages;
        let slow = move || Fact::Unreadable(format!("no full answer within {} s", deadline.as_secs()));
        let ask = async move { tokio::time::timeout(deadline, ask).await.unwrap_or_else(|_| slow()) };
        let (all, clock_there, key_there) = (Arc::clone(self), Arc::clone(clock), key.clone());
        let asked = tokio::spawn(async move { all.get(key_there, &*clock_there, max_age, ask).await });
        match tokio::time::timeout(patience, asked).await {
            Ok(Ok(fact)) => fact,
            Ok(Err(_)) => Fact::Unreadable("the question was broken off".to_owned()),
            Err(_) => match self.slot(key).known() {
                Some((fact, at)) if young(at, clock.now(), stale) => fact,
                _ => {
                    Fact::Unreadable(format!("no answer within {} s; it is still being asked for", patience.as_secs()))
                }
            },
        }
    }
}

/// How old an answer may be, and how long it may take.
#[derive(Clone, Copy)]
pub(super) struct Ages {
    /// A younger one needs no question.
    pub(super) max_age: Duration,
    /// A younger one counts while the question is under way.
    pub(super) stale: Duration,
    /// Of whoever asks.
    pub(super) patience: Duration,
    /// Of the question: what has no answer by then is remembered as unreadable.
    pub(super) deadline: Duration,
}

fn young(at: Timestamp, now: Timestamp, max_age: Duration) -> bool {
    Duration::try_from(now.duration_since(at)).is_ok_and(|age| age < max_age)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct Ticks(tokio::time::Instant);
    impl Clock for Ticks {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH + jiff::SignedDuration::try_from(self.0.elapsed()).unwrap()
        }
    }

    const AGES: Ages = Ages {
        max_age: Duration::from_secs(60),
        stale: Duration::from_secs(600),
        patience: Duration::from_secs(3),
        deadline: Duration::from_secs(20),
    };

    struct Bed {
        answers: Arc<Answers<u8, usize>>,
        clock: Arc<dyn Clock>,
        asked: Arc<AtomicUsize>,
    }

    impl Bed {
        fn new() -> Self {
            let clock = Arc::new(Ticks(tokio::time::Instant::now()));
            Self { answers: Arc::new(Answers::new(8, true)), clock, asked: Arc::default() }
        }

        /// Asks a registry that takes so long, and says how long the asker waited.
        async fn ask(&self, takes: u64) -> (Fact<usize>, u64) {
            let (before, asked) = (tokio::time::Instant::now(), Arc::clone(&self.asked));
            let ask = async move {
                let number = asked.fetch_add(1, Ordering::AcqRel) + 1;
                tokio::time::sleep(Duration::from_secs(takes)).await;
                Fact::Seen(number)
            };
            let fact = self.answers.soon(0, &self.clock, AGES, ask).await;
            (fact, before.elapsed().as_secs())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_waits_a_few_seconds_and_the_question_goes_on() {
        let bed = Bed::new();
        let still = Fact::Unreadable("no answer within 3 s; it is still being asked for".to_owned());
        assert_eq!(bed.ask(8).await, (still.clone(), 3));
        assert_eq!(bed.ask(8).await, (still, 3));
        // All waited for one question, and have its answer from then on.
        assert_eq!(bed.ask(8).await, (Fact::Seen(1), 2));
        assert_eq!(bed.ask(10).await, (Fact::Seen(1), 0));
        // While the next one is under way the last list counts.
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(bed.ask(10).await, (Fact::Seen(1), 3));
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert_eq!(bed.ask(10).await, (Fact::Seen(2), 0));
        // A very old one does not.
        tokio::time::advance(Duration::from_secs(600)).await;
        assert!(matches!(bed.ask(10).await, (Fact::Unreadable(_), 3)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_without_end_is_a_failure_that_is_remembered() {
        let bed = Bed::new();
        bed.ask(3600).await;
        tokio::time::sleep(Duration::from_secs(18)).await;
        let failed = Fact::Unreadable("no full answer within 20 s".to_owned());
        assert_eq!(bed.ask(3600).await, (failed.clone(), 0));
        tokio::time::sleep(Duration::from_secs(50)).await;
        assert_eq!((bed.ask(3600).await, bed.asked.load(Ordering::Acquire)), ((failed, 0), 1));
    }
}
