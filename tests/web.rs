//! The routes on real listeners, in front of a controller on fake edges.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]

mod fakes;

use std::time::Duration;

use fakes::*;
use holdfast::model::event::{Event, EventKind};
use holdfast::model::secret::Secret;
use holdfast::model::status::Status;
use holdfast::web::{Access, bind_tcp, router, serve_listener, serve_unix};
use reqwest::{Client, StatusCode};
use tokio_util::sync::CancellationToken;

struct Site {
    it: Running,
    base: String,
    http: Client,
    stop: CancellationToken,
}

async fn site(access: Access) -> Site {
    let it = start(state("r1", [service("api", "one", 1)], &[]));
    it.settled("api").await;
    let listener = bind_tcp("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(serve_listener(listener, router(it.handle.clone(), access, None), stop.clone()));
    Site { it, base, http: Client::builder().no_proxy().build().unwrap(), stop }
}

impl Site {
    async fn get(&self, path: &str) -> (StatusCode, String) {
        let response = self.http.get(format!("{}{path}", self.base)).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }
    async fn post(&self, path: &str, token: Option<&str>, body: &'static str) -> (StatusCode, String) {
        let request = self.http.post(format!("{}{path}", self.base)).body(body);
        let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        let response = request.send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }
}

#[tokio::test]
async fn reading_needs_nothing_and_writing_is_off_without_a_token() {
    let site = site(Access::ReadOnly).await;
    assert_eq!(site.get("/healthz").await, (StatusCode::OK, "ok\n".into()));
    assert_eq!(site.get("/readyz").await.0, StatusCode::OK);
    assert!(site.get("/metrics").await.1.contains("holdfast_services{phase=\"Settled\"} 1"));
    let status: Status = serde_json::from_str(&site.get("/api/v1/services").await.1).unwrap();
    assert_eq!((status.schema_version, status.services.len()), (1, 1));
    assert_eq!(site.get("/api/v1/services/api").await.0, StatusCode::OK);
    assert_eq!(site.get("/api/v1/services/api/history").await.0, StatusCode::OK);
    for path in ["/nowhere", "/api/v1/services/nobody", "/api/v1/services/nobody/history"] {
        let (code, body) = site.get(path).await;
        assert_eq!(code, StatusCode::NOT_FOUND, "{path}");
        assert!(body.contains("\"error\"") && body.contains("\"hint\""), "{body}");
    }
    assert_eq!(site.get("/api/v1/events?limit=x").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(site.get("/api/v1/services/api/pause").await.0, StatusCode::METHOD_NOT_ALLOWED);
    let (code, body) = site.post("/api/v1/services/api/pause", None, "").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert!(body.contains("tokenFile"), "{body}");
}

#[tokio::test]
async fn the_right_token_and_no_other_may_write() {
    let site = site(Access::Token(Secret::new("s3cret\n".into()))).await;
    let path = "/api/v1/services/api/pause";
    for wrong in [None, Some(""), Some("s3cre"), Some("s3crets")] {
        assert_eq!(site.post(path, wrong, "").await.0, StatusCode::UNAUTHORIZED, "{wrong:?}");
    }
    let (code, body) = site.post(path, Some("s3cret"), "{\"by\":\"ann\\nevil\"}").await;
    assert_eq!(code, StatusCode::OK, "{body}");
    let memory = site.it.world.memory.lock().unwrap()[&name("api")].clone();
    assert_eq!(memory.paused.unwrap().by, "annevil", "a name stays in its line");
    assert_eq!(site.post("/api/v1/services/api/explode", Some("s3cret"), "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(site.post("/api/v1/services/api/rollback", Some("s3cret"), "").await.0, StatusCode::CONFLICT);
    assert_eq!(site.post(path, Some("s3cret"), "not json").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_big_body_and_a_foreign_host_name_are_refused() {
    let site = site(Access::Local).await;
    let big = site.http.post(format!("{}/api/v1/services/api/pause", site.base)).body(vec![b' '; 70_000]);
    assert_eq!(big.send().await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    let foreign = site.http.get(format!("{}/api/v1/services", site.base)).header("host", "evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), StatusCode::MISDIRECTED_REQUEST);
    assert!(bind_tcp("0.0.0.0:0".parse().unwrap(), false).await.is_err());
    assert!(bind_tcp("0.0.0.0:0".parse().unwrap(), true).await.is_ok());
}

#[tokio::test]
async fn the_dashboard_loads_nothing_from_elsewhere() {
    let site = site(Access::ReadOnly).await;
    let response = site.http.get(&site.base).send().await.unwrap();
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let page = response.text().await.unwrap();
    for foreign in ["http://", "https://", "innerHTML", " onclick", " style=", "/*SCRIPT*/", "/*STYLE*/"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[tokio::test]
async fn the_stream_goes_on_where_a_listener_left_off_and_ends_with_the_server() {
    let site = site(Access::ReadOnly).await;
    let events: Vec<Event> = serde_json::from_str(&site.get("/api/v1/events").await.1).unwrap();
    let last = events.last().unwrap().id;
    let request = site.http.get(format!("{}/api/v1/events/stream", site.base)).header("last-event-id", "1");
    let mut response = request.send().await.unwrap();
    site.it.handle.command("api", holdfast::controller::Verb::Pause, "ann", None).await.unwrap();
    let mut text = String::new();
    let wanted = |text: &str| text.contains("pause: paused") && text.contains(&format!("id: {last}"));
    while !wanted(&text) {
        let chunk = tokio::time::timeout(Duration::from_secs(10), response.chunk()).await;
        text.push_str(&String::from_utf8_lossy(&chunk.expect(&text).unwrap().unwrap()));
    }
    assert!(text.contains("id: 2") && !text.contains("id: 1\n"), "{text}");
    let ids: Vec<u64> = text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    site.stop.cancel();
    let end =
        tokio::time::timeout(Duration::from_secs(10), async { while let Ok(Some(_)) = response.chunk().await {} });
    assert!(end.await.is_ok(), "the stream outlived the server");
}

#[tokio::test]
async fn the_control_socket_is_ours_alone_replaces_a_stale_one_and_goes_at_the_end() {
    use std::os::unix::fs::PermissionsExt as _;
    let it = start(state("r1", [service("api", "one", 1)], &[]));
    it.settled("api").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let stop = CancellationToken::new();
    let (at, app, end) = (path.clone(), router(it.handle.clone(), Access::Local, None), stop.clone());
    let serving = tokio::spawn(async move { serve_unix(&at, app, end).await });
    let http = Client::builder().unix_socket(path.as_path()).no_proxy().build().unwrap();
    let post = || http.post("http://holdfast/api/v1/services/api/pause").body("{\"by\":\"ann\"}").send();
    let answered = async {
        loop {
            match post().await {
                Ok(answer) => break answer.text().await.unwrap(),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let said = tokio::time::timeout(Duration::from_secs(10), answered).await.unwrap();
    assert!(said.contains("\"message\":\"api: paused"), "{said}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let command = it.world.events.lock().unwrap().iter().any(|event| event.kind == EventKind::Command);
    stop.cancel();
    serving.await.unwrap().unwrap();
    assert!(command && !path.exists());
}
