//! The durable memory with a copy at hand: read on every look, written through.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::memory::{Memory, MemoryChange};
use crate::model::names::ServiceName;
use crate::model::snapshot::Why;
use crate::plan::step::Ensured;
use crate::ports::Store;

/// Every service's memory.
pub(super) struct Remembered {
    store: Arc<dyn Store>,
    known: Mutex<BTreeMap<ServiceName, Memory>>,
    /// Services whose memory is there and not understood.
    unreadable: Mutex<BTreeMap<String, Why>>,
    /// Held over a write and its copy, so that copies appear in the order of the writes.
    writing: tokio::sync::Mutex<()>,
}

impl Remembered {
    /// Nothing is known before [`load`](Self::load).
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, known: Mutex::default(), unreadable: Mutex::default(), writing: tokio::sync::Mutex::new(()) }
    }

    /// Reads everything.
    pub(super) async fn load(&self) -> Result<(), Why> {
        let _order = self.writing.lock().await;
        let (all, unreadable) = (self.store.load().await?, self.store.unreadable().await?);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = all;
        *self.unreadable.lock().unwrap_or_else(PoisonError::into_inner) = unreadable;
        Ok(())
    }

    /// Why the memory of `service` is not understood; asked again each time, for somebody may have mended it.
    pub(super) async fn unreadable(&self, service: &ServiceName) -> Option<Why> {
        let known = |this: &Self| {
            let unreadable = this.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
            unreadable.get(service.as_str()).cloned()
        };
        known(self)?;
        match self.load().await {
            Ok(()) => known(self),
            Err(why) => Some(why),
        }
    }

    /// The memory of `service`; empty for one never seen.
    pub(super) fn of(&self, service: &ServiceName) -> Memory {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(service).cloned().unwrap_or_default()
    }

    /// Services of which anything is remembered.
    pub(super) fn services(&self) -> BTreeSet<ServiceName> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing = Memory::default();
        known.iter().filter(|(_, memory)| **memory != nothing).map(|(name, _)| name.clone()).collect()
    }

    /// Applies `change` durably.
    pub(super) async fn remember(&self, service: &ServiceName, change: &MemoryChange) -> Result<Ensured, Why> {
        let _order = self.writing.lock().await;
        let after = self.store.remember(service, change).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.insert(service.clone(), after.clone()).unwrap_or_default();
        Ok(if before == after { Ensured::AlreadySo } else { Ensured::Changed })
    }
}
