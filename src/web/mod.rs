//! Floor 4: HTTP: health, metrics, the status API, commands and the dashboard.

mod access;
mod answer;
mod api;
mod hook;
mod page;
mod serve;
mod stream;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

pub use access::Access;
pub(crate) use api::commit_id;
pub use hook::Hook;
pub use serve::{ServeError, bind_tcp, serve_listener, serve_tcp, serve_unix};

use crate::controller::Handle;
use answer::Failure;

/// A command's body is a few words.
const BODY_LIMIT: usize = 64 * 1024;

/// Every answer but the stream comes from memory or one read of the store.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every route needs.
#[derive(Clone)]
struct App {
    handle: Handle,
    access: std::sync::Arc<Access>,
    hook: Option<std::sync::Arc<Hook>>,
}

/// Every route, for one kind of listener. Without a `hook` nobody there may say that the repository moved.
pub fn router(handle: Handle, access: Access, hook: Option<Hook>) -> Router {
    let app = App { handle, access: std::sync::Arc::new(access), hook: hook.map(std::sync::Arc::new) };
    let answers = Router::new()
        .route("/", get(page::page))
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .route("/metrics", get(api::metrics))
        .route("/api/v1/services", get(api::services))
        .route("/api/v1/services/{name}", get(api::service))
        .route("/api/v1/services/{name}/history", get(api::history))
        .route("/api/v1/services/{name}/{verb}", post(api::command))
        .route("/api/v1/source/reconcile", post(api::reconcile))
        .route("/api/v1/source/accept-rewind", post(api::accept_rewind))
        .route("/api/v1/events", get(api::events))
        .layer(middleware::from_fn(in_time));
    // These two have time limits of their own.
    let streams = Router::new().route("/api/v1/events/stream", get(stream::stream));
    let hooks = Router::new().route("/hooks/git", post(hook::git));
    answers
        .merge(streams)
        .merge(hooks)
        .fallback(api::no_such_page)
        .method_not_allowed_fallback(api::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::map_response(guarded))
        .with_state(app)
}

/// The same careful headers on every answer.
async fn guarded(mut response: Response) -> Response {
    page::harden(response.headers_mut());
    response
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::unavailable("no answer in time").into_response(),
    }
}
