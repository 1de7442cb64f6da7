//! The journal: events to the log at once, to the store and to listeners in order, off the path of a rollout.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{broadcast, mpsc, oneshot};

use crate::model::event::{Event, EventKind};
use crate::model::names::ServiceName;
use crate::ports::{Clock, Store};

/// How many events a slow listener may lag behind before it has to read them from the store.
const LISTENER_LAG: usize = 1024;

enum Entry {
    Event(Event),
    Flush(oneshot::Sender<()>),
}

/// Where events go.
pub(super) struct Journal {
    clock: Arc<dyn Clock>,
    queue: mpsc::UnboundedSender<Entry>,
    listeners: broadcast::Sender<Event>,
}

/// The end that stores and hands out; run once.
pub(super) struct Writer {
    store: Arc<dyn Store>,
    queue: mpsc::UnboundedReceiver<Entry>,
    listeners: broadcast::Sender<Event>,
    last: AtomicU64,
}

impl Journal {
    /// A journal and its writer.
    pub(super) fn new(clock: Arc<dyn Clock>, store: Arc<dyn Store>) -> (Self, Writer) {
        let (queue, entries) = mpsc::unbounded_channel();
        let (listeners, _) = broadcast::channel(LISTENER_LAG);
        let writer = Writer { store, queue: entries, listeners: listeners.clone(), last: AtomicU64::new(0) };
        (Self { clock, queue, listeners }, writer)
    }

    /// Events from now on.
    pub(super) fn listen(&self) -> broadcast::Receiver<Event> {
        self.listeners.subscribe()
    }

    /// Logs and stores one event.
    pub(super) fn note(
        &self,
        service: Option<&ServiceName>,
        kind: EventKind,
        message: String,
        because: Option<String>,
    ) {
        let event = Event { id: 0, at: self.clock.now(), service: service.cloned(), kind, message, because };
        log(&event);
        // The writer is gone only after the last event of a stopping controller.
        let _ = self.queue.send(Entry::Event(event));
    }

    /// Waits until everything noted so far is stored.
    pub(super) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.queue.send(Entry::Flush(done)).is_ok() {
            let _ = wait.await;
        }
    }
}

impl Writer {
    /// Stores and hands out events until the journal is dropped.
    pub(super) async fn run(mut self) {
        while let Some(entry) = self.queue.recv().await {
            match entry {
                Entry::Event(event) => self.write(event).await,
                Entry::Flush(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    async fn write(&self, event: Event) {
        let event = match self.store.record(event.clone()).await {
            Ok(stored) => stored,
            Err(why) => {
                tracing::warn!("holdfast  could not store an event: {why}");
                // Listeners still get it, under an id that keeps their order.
                Event { id: self.last.load(Ordering::Relaxed) + 1, ..event }
            }
        };
        self.last.store(event.id, Ordering::Relaxed);
        // Nobody listening is fine.
        let _ = self.listeners.send(event);
    }
}

/// One line an event, in fields: the text log puts the service first and because last, the JSON log keeps them apart.
fn log(event: &Event) {
    let Event { id: _, at: _, service, kind, message, because } = event;
    let service = service.as_ref().map_or("holdfast", ServiceName::as_str);
    let (because, kind_text) = (because.as_deref(), kind.to_string());
    let kind_text = kind_text.as_str();
    match kind {
        EventKind::Rejected | EventKind::StepFailed => {
            tracing::warn!(target: "holdfast", service, kind = kind_text, because, "{message}");
        }
        _ => tracing::info!(target: "holdfast", service, kind = kind_text, because, "{message}"),
    }
}
