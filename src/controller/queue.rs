//! The queue: one slot a service, whatever woke it.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::model::names::ServiceName;

/// When a service is looked at, and what for.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Not before.
    pub due: Instant,
    /// An edit or a person asked: caches are not good enough.
    pub fresh: bool,
    /// For traces only, never for a decision.
    pub why: String,
}

/// Equal when they are due at the same time: what woke a service decides nothing.
impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Slot {}

impl Slot {
    /// Due now.
    pub fn now(why: impl Into<String>) -> Self {
        Self { due: Instant::now(), fresh: false, why: why.into() }
    }

    /// Due now, without caches.
    pub fn fresh(why: impl Into<String>) -> Self {
        Self { fresh: true, ..Self::now(why) }
    }

    fn merge(&mut self, other: Self) {
        self.fresh |= other.fresh;
        if other.due < self.due {
            self.due = other.due;
            self.why = other.why;
        }
    }
}

/// Services waiting for their turn, and those having it.
#[derive(Debug)]
pub struct Queue {
    waiting: BTreeMap<ServiceName, Slot>,
    running: BTreeMap<ServiceName, Option<Slot>>,
    limit: usize,
}

impl Queue {
    /// An empty queue that hands out at most `limit` services at a time.
    pub const fn new(limit: usize) -> Self {
        Self { waiting: BTreeMap::new(), running: BTreeMap::new(), limit }
    }

    /// Asks for a turn of `service`. The earliest due time is kept; while it has its turn, one more follows.
    pub fn add(&mut self, service: &ServiceName, slot: Slot) {
        if let Some(again) = self.running.get_mut(service) {
            match again {
                Some(known) => known.merge(slot),
                None => *again = Some(slot),
            }
            return;
        }
        match self.waiting.get_mut(service) {
            Some(known) => known.merge(slot),
            None => {
                self.waiting.insert(service.clone(), slot);
            }
        }
    }

    /// Drops what waits for `service`; a turn under way ends by itself.
    pub fn forget(&mut self, service: &ServiceName) {
        self.waiting.remove(service);
        if let Some(again) = self.running.get_mut(service) {
            *again = None;
        }
    }

    /// The turn of `service` is over.
    pub fn done(&mut self, service: &ServiceName) {
        if let Some(Some(again)) = self.running.remove(service) {
            self.waiting.insert(service.clone(), again);
        }
    }

    /// Waits for the next service that is due while a turn is free; its turn begins. Safe to cancel.
    pub async fn next(&mut self) -> (ServiceName, Slot) {
        let first = self.waiting.iter().min_by_key(|(_, slot)| slot.due).map(|(name, slot)| (name.clone(), slot.due));
        let Some((name, due)) = first.filter(|_| self.running.len() < self.limit) else {
            // Nothing can begin until `add` or `done` is called, and both need this future dropped first.
            return std::future::pending().await;
        };
        tokio::time::sleep_until(due).await;
        self.running.insert(name.clone(), None);
        let slot = self.waiting.remove(&name).unwrap_or_else(|| Slot::now("timer"));
        (name, slot)
    }

    /// Services due now that wait for a turn, and those having one.
    pub fn busy(&self) -> usize {
        let now = Instant::now();
        self.running.len() + self.waiting.values().filter(|slot| slot.due <= now).count()
    }

    /// Whether `service` has its turn or is due now.
    pub fn is_busy(&self, service: &ServiceName) -> bool {
        self.running.contains_key(service) || self.waiting.get(service).is_some_and(|slot| slot.due <= Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    fn in_ms(ms: u64, why: &str) -> Slot {
        Slot { due: Instant::now() + Duration::from_millis(ms), fresh: false, why: why.into() }
    }

    async fn nothing_for(queue: &mut Queue, ms: u64) {
        let waited = tokio::time::timeout(Duration::from_millis(ms), queue.next()).await;
        assert!(waited.is_err(), "nothing should be due: {waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_has_one_slot_and_keeps_the_earliest_due_time() {
        let mut queue = Queue::new(16);
        let start = Instant::now();
        queue.add(&name("a"), in_ms(500, "timer"));
        queue.add(&name("a"), in_ms(100, "docker: die"));
        queue.add(&name("a"), in_ms(900, "later"));
        let (service, slot) = queue.next().await;
        assert_eq!((service, slot.why.as_str()), (name("a"), "docker: die"));
        assert_eq!(start.elapsed(), Duration::from_millis(100));
        queue.done(&name("a"));
        nothing_for(&mut queue, 10_000).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_wish_for_fresh_answers_survives_coalescing() {
        let mut queue = Queue::new(16);
        queue.add(&name("a"), in_ms(1, "docker: die"));
        queue.add(&name("a"), Slot { fresh: true, ..in_ms(5, "edit") });
        assert!(queue.next().await.1.fresh);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_never_run_twice_at_once() {
        let mut queue = Queue::new(16);
        queue.add(&name("a"), Slot::now("edit"));
        queue.next().await;
        queue.add(&name("a"), Slot::now("docker: create"));
        nothing_for(&mut queue, 60_000).await;
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_while_running_mean_one_more_run() {
        let mut queue = Queue::new(16);
        queue.add(&name("a"), Slot::now("edit"));
        queue.next().await;
        for why in ["create", "start", "healthy"] {
            queue.add(&name("a"), Slot::now(why));
        }
        queue.done(&name("a"));
        assert_eq!(queue.next().await.1.why, "create");
        queue.done(&name("a"));
        nothing_for(&mut queue, 60_000).await;
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_limit_run_at_once() {
        let mut queue = Queue::new(2);
        for service in ["a", "b", "c"] {
            queue.add(&name(service), Slot::now("start"));
        }
        queue.next().await;
        let (second, _) = queue.next().await;
        nothing_for(&mut queue, 60_000).await;
        queue.done(&second);
        assert_eq!(queue.next().await.0, name("c"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_forgotten_service_does_not_come_back() {
        let mut queue = Queue::new(2);
        queue.add(&name("a"), Slot::now("start"));
        queue.next().await;
        queue.add(&name("a"), Slot::now("docker: die"));
        queue.forget(&name("a"));
        queue.done(&name("a"));
        nothing_for(&mut queue, 60_000).await;
    }

    #[test]
    fn what_woke_a_service_is_no_part_of_its_identity() {
        let slot = Slot::now("edit");
        assert_eq!(slot, Slot { why: "docker: die".into(), fresh: true, ..slot.clone() });
    }
}
