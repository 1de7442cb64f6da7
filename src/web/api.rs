//! The status API and the commands.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::App;
use super::answer::{Done, Failure};
use crate::controller::Verb;
use crate::model::event::{Event, HistoryEntry};
use crate::model::names::ServiceName;
use crate::model::status::{ServiceStatus, Status};

/// Events in one answer: without a wish, and at most.
const EVENTS: (u32, u32) = (100, 1000);
/// Lines of history in one answer.
const HISTORY: (u32, u32) = (50, 500);
/// A longer name of a person is cut: it ends up in log lines.
const NAME_LENGTH: usize = 64;

/// The process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The desired state was read and every service looked at.
pub(super) async fn readyz(State(app): State<App>) -> Result<&'static str, Failure> {
    app.handle.ready().map(|()| "ready\n").map_err(Failure::unavailable)
}

pub(super) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], app.handle.metrics())
}

pub(super) async fn services(State(app): State<App>) -> Json<Status> {
    Json(app.handle.status())
}

pub(super) async fn service(State(app): State<App>, Path(name): Path<String>) -> Result<Json<ServiceStatus>, Failure> {
    let services = app.handle.status().services;
    let found = services.into_iter().find(|service| service.name.as_str() == name);
    found.map(Json).ok_or_else(|| no_such_service(&name))
}

fn no_such_service(name: &str) -> Failure {
    Failure::not_found(format!("there is no service `{name}`"), "GET /api/v1/services lists them all")
}

/// What may be asked of the event list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventQuery {
    service: Option<String>,
    #[serde(default)]
    after: u64,
    limit: Option<u32>,
}

pub(super) async fn events(
    State(app): State<App>,
    query: Result<Query<EventQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Vec<Event>>, Failure> {
    let Query(query) = query.map_err(|error| {
        Failure::new(StatusCode::BAD_REQUEST, error.body_text(), "known are `service`, `after` and `limit`")
    })?;
    let service = match &query.service {
        Some(name) => Some(ServiceName::new(name).map_err(|_| no_such_service(name))?),
        None => None,
    };
    let limit = query.limit.unwrap_or(EVENTS.0).clamp(1, EVENTS.1);
    let events = app.handle.store().events(service.as_ref(), query.after, limit).await;
    events.map(Json).map_err(|why| Failure::unavailable(format!("could not read the events: {why}")))
}

/// What may be asked of a history.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    limit: Option<u32>,
}

pub(super) async fn history(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Result<Query<HistoryQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Vec<HistoryEntry>>, Failure> {
    let Query(query) =
        query.map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error.body_text(), "known is `limit`"))?;
    let service = ServiceName::new(&name).map_err(|_| no_such_service(&name))?;
    let limit = query.limit.unwrap_or(HISTORY.0).clamp(1, HISTORY.1);
    let entries = app.handle.store().history(&service, limit).await;
    let entries = entries.map_err(|why| Failure::unavailable(format!("could not read the history: {why}")))?;
    let known = || app.handle.status().services.iter().any(|status| status.name == service);
    // A service that is gone keeps its history; one that never was has none.
    if entries.is_empty() && !known() { Err(no_such_service(&name)) } else { Ok(Json(entries)) }
}

/// What may be said along with a verb.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Order {
    /// Who says so; believed on the local socket, shown behind the token otherwise.
    by: Option<String>,
    /// For `promote`: exactly this tag or release.
    only: Option<String>,
}

pub(super) async fn command(
    State(app): State<App>,
    Path((name, verb)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<Done>, Failure> {
    let who = app.access.check(&headers)?;
    let body =
        body.map_err(|error| Failure::new(error.status(), error.body_text(), "a command needs a few words at most"))?;
    let verb: Verb = verb.parse().map_err(|()| {
        let known = Verb::ALL.map(|verb| verb.to_string()).join(", ");
        Failure::not_found(format!("there is no verb `{verb}`"), format!("known are {known}"))
    })?;
    let order: Order = understood(&body, "send nothing, or JSON like {\"by\": \"alice\"}")?;
    let by = by(order.by.as_deref(), who);
    let message = app.handle.command(&name, verb, &by, order.only.as_deref()).await?;
    if verb == Verb::Reconcile {
        // Who asks for a look expects that of the newest edit.
        app.handle.look_again();
    }
    Ok(Json(Done::new(message)))
}

/// Reads the source now, whoever it is about.
pub(super) async fn reconcile(State(app): State<App>, headers: HeaderMap) -> Result<Json<Done>, Failure> {
    app.access.check(&headers)?;
    app.handle.look_again();
    let from = app.handle.status().source.from;
    Ok(Json(Done::new(format!("{from} is read now"))))
}

/// What is said along with `accept-rewind`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rewind {
    by: Option<String>,
    commit: String,
}

/// Lets a commit that does not come after the last good one take its place.
pub(super) async fn accept_rewind(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<Done>, Failure> {
    let who = app.access.check(&headers)?;
    let hint = "send JSON like {\"commit\": \"3f2a1b9\", \"by\": \"alice\"}";
    let body = body.map_err(|error| Failure::new(error.status(), error.body_text(), hint))?;
    let rewind: Rewind = understood(&body, hint)?;
    let commit = commit_id(&rewind.commit)
        .map_err(|why| Failure::new(StatusCode::BAD_REQUEST, format!("`commit` is no commit id: {why}"), hint))?;
    let message = app.handle.accept_rewind(&commit, &by(rewind.by.as_deref(), who)).await?;
    Ok(Json(Done::new(message)))
}

/// A commit id as people quote it, in lower case.
///
/// # Errors
/// With what was expected.
pub(crate) fn commit_id(text: &str) -> Result<String, &'static str> {
    let good = (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if good { Ok(text.to_ascii_lowercase()) } else { Err("it has 7 to 64 hex digits") }
}

/// The body of an order; none is an order without words.
fn understood<T: Default + DeserializeOwned>(body: &[u8], hint: &str) -> Result<T, Failure> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, format!("the body is not understood: {error}"), hint))
}

/// Who says so: the name sent along, else what the access tells.
fn by(sent: Option<&str>, who: &str) -> String {
    let sent = sent.map(plain).filter(|by| !by.is_empty());
    sent.unwrap_or_else(|| who.to_owned())
}

/// A name as it may stand in one line of a log.
fn plain(name: &str) -> String {
    name.trim().chars().filter(|c| !c.is_control()).take(NAME_LENGTH).collect()
}

pub(super) async fn no_such_page(uri: Uri) -> Failure {
    Failure::not_found(format!("there is nothing at {}", uri.path()), "the API is under /api/v1, the dashboard at /")
}

pub(super) async fn no_such_method() -> Failure {
    let hint = "reading is GET; commands are POST /api/v1/services/NAME/VERB";
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "that method is not answered here", hint)
}
