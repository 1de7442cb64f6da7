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
    answer: tokio::sync::Mutex<Option<(Fact<T>, Timestamp)>>,
    /// How often it was asked for: who waited meanwhile takes that answer, whatever it is.
    asked: AtomicU64,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { answer: tokio::sync::Mutex::new(None), asked: AtomicU64::new(0) }
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
        let mut answer = slot.answer.lock().await;
        if let Some((fact, at)) = answer.as_ref() {
            let meanwhile = slot.asked.load(Ordering::Acquire) != before;
            let counts = self.failures || !matches!(fact, Fact::Unreadable(_));
            if meanwhile || (counts && young(*at, clock.now(), max_age)) {
                return fact.clone();
            }
        }
        let fact = ask.await;
        *answer = Some((fact.clone(), clock.now()));
        slot.asked.fetch_add(1, Ordering::AcqRel);
        fact
    }
}

fn young(at: Timestamp, now: Timestamp, max_age: Duration) -> bool {
    Duration::try_from(now.duration_since(at)).is_ok_and(|age| age < max_age)
}
