//! `/api/v1/events/stream`: events as they happen, and a word whenever the status changed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Extension, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use futures_util::stream;
use futures_util::{Stream, StreamExt as _};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::App;
use crate::controller::Handle;
use crate::model::event::Event;

/// Proxies close a silent connection after a minute; a comment this often keeps it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events read from the store at once after a gap.
const CATCH_UP: u32 = 1000;

/// Where to go on, for clients that cannot set `Last-Event-ID`.
#[derive(Debug, Deserialize)]
pub(super) struct StreamQuery {
    after: Option<u64>,
}

/// One listener.
struct Listener {
    handle: Handle,
    events: broadcast::Receiver<Event>,
    changes: watch::Receiver<u64>,
    /// Read from the store, not sent yet.
    backlog: VecDeque<Event>,
    /// The newest id sent.
    last: u64,
}

pub(super) async fn stream(
    State(app): State<App>,
    Query(query): Query<StreamQuery>,
    ending: Option<Extension<CancellationToken>>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Message, Infallible>>> {
    let sent = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    // Listening begins before the past is read: nothing falls between the two.
    let mut listener = Listener {
        events: app.handle.events(),
        changes: app.handle.changes(),
        handle: app.handle,
        backlog: VecDeque::new(),
        last: 0,
    };
    if let Some(after) = sent.or(query.after) {
        listener.last = after;
        listener.catch_up().await;
    }
    let messages = stream::unfold(listener, |mut listener| async move {
        let message = listener.next().await?;
        Some((Ok(message), listener))
    });
    // A stream never ends by itself, and the server waits for none.
    let ending = ending.map(|Extension(ending)| ending).unwrap_or_default();
    Sse::new(messages.take_until(ending.cancelled_owned()))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive"))
}

impl Listener {
    async fn catch_up(&mut self) {
        if let Ok(events) = self.handle.store().events(None, self.last, CATCH_UP).await {
            self.backlog.extend(events);
        }
    }

    /// The next message; none when the controller is gone.
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(event) = self.backlog.pop_front() {
                if event.id > self.last {
                    self.last = event.id;
                    return Some(message(&event));
                }
                continue;
            }
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Ok(event) => self.backlog.push_back(event),
                    Err(RecvError::Lagged(_)) => self.catch_up().await,
                    Err(RecvError::Closed) => return None,
                },
                changed = self.changes.changed() => {
                    changed.ok()?;
                    return Some(Message::default().event("status").data("{}"));
                }
            }
        }
    }
}

fn message(event: &Event) -> Message {
    let data = serde_json::to_string(event).unwrap_or_else(|_| "{}".into());
    Message::default().id(event.id.to_string()).data(data)
}
