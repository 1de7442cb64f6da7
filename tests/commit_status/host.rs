//! A GitHub or GitLab on a real socket that answers as it is told and remembers what it was told.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What came in, and what was answered.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) answered: u16,
    pub(crate) at: Instant,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A status, headers and a body; none: no answer at all.
pub(crate) type Reply = Option<(u16, Vec<(&'static str, &'static str)>, Value)>;
type Rule = Box<dyn Fn(&Asked) -> Option<Reply> + Send>;

struct Inner {
    asked: watch::Sender<Vec<Asked>>,
    /// Asked first; what it does not decide goes well.
    rule: Mutex<Rule>,
    deployments: Mutex<Vec<Value>>,
}

pub(crate) struct Host {
    pub(crate) address: String,
    inner: Arc<Inner>,
    server: JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(crate) fn reply(status: u16, body: Value) -> Option<Reply> {
    Some(Some((status, Vec::new(), body)))
}

impl Host {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            asked: watch::Sender::new(Vec::new()),
            rule: Mutex::new(Box::new(|_| None)),
            deployments: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&inner));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, inner, server }
    }

    pub(crate) fn rule(&self, rule: impl Fn(&Asked) -> Option<Reply> + Send + 'static) {
        *self.inner.rule.lock().unwrap() = Box::new(rule);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.inner.asked.borrow().clone()
    }

    /// `COMMIT state` of every status that was accepted, the commit by its first letter.
    pub(crate) fn told(&self) -> Vec<String> {
        let asked = self.asked();
        let accepted = asked.iter().filter(|it| it.answered < 300 && it.path.contains("/statuses/"));
        accepted
            .filter_map(|it| {
                let commit = it.path.rsplit_once("/statuses/")?.1;
                Some(format!("{} {}", &commit[..1], it.body["state"].as_str()?))
            })
            .collect()
    }

    /// Every write to deployments: `POST`, `PUT` and what state it said.
    pub(crate) fn deployed(&self) -> Vec<String> {
        let asked = self.asked();
        let writes = asked.iter().filter(|it| it.method != Method::GET && it.path.contains("/deployments"));
        writes
            .map(|it| {
                let state = it.body["state"].as_str().or(it.body["status"].as_str()).unwrap_or("new");
                format!("{} {} {state}", it.method, it.path.rsplit_once("/deployments").unwrap().1)
            })
            .collect()
    }

    /// Waits for a condition on what came in, at most 20 s.
    pub(crate) async fn until(&self, what: &str, test: impl Fn(&Self) -> bool) {
        let mut changes = self.inner.asked.subscribe();
        let waiting = async {
            while !test(self) {
                changes.changed().await.unwrap();
            }
        };
        let over = within(20, waiting).await;
        let asked: Vec<_> =
            self.asked().iter().map(|it| format!("{} {} {} {}", it.method, it.path, it.body, it.answered)).collect();
        assert!(over.is_some(), "never: {what}; came in: {asked:#?}");
    }

    pub(crate) async fn until_told(&self, told: &[&str]) {
        self.until(&format!("{told:?}"), |it| it.told() == told).await;
    }
}

pub(crate) async fn within<T>(seconds: u64, what: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(seconds), what).await.ok()
}

async fn answer(State(host): State<Arc<Inner>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path_and_query().unwrap().to_string();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let mut asked = Asked { method, path, headers, body, answered: 0, at: Instant::now() };
    let decided = (host.rule.lock().unwrap())(&asked);
    let reply = decided.unwrap_or_else(|| Some(well(&host, &asked)));
    asked.answered = reply.as_ref().map_or(599, |(status, ..)| *status);
    host.asked.send_modify(|all| all.push(asked));
    let Some((status, headers, body)) = reply else { return std::future::pending().await };
    let mut response = (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// Both hosts when all is well: deployments are kept and found again.
fn well(host: &Inner, asked: &Asked) -> (u16, Vec<(&'static str, &'static str)>, Value) {
    let path = asked.path.split('?').next().unwrap();
    let mut deployments = host.deployments.lock().unwrap();
    match (asked.method.as_str(), path.ends_with("/deployments")) {
        ("POST", true) => {
            let id = deployments.len() + 1;
            let sha = if asked.body["sha"].is_null() { &asked.body["ref"] } else { &asked.body["sha"] };
            let made = json!({"id": id, "sha": sha, "description": asked.body["description"],
                "environment": asked.body["environment"]});
            deployments.push(made.clone());
            (201, Vec::new(), made)
        }
        ("GET", true) => {
            let (_, query) = asked.path.split_once('?').unwrap();
            // GitLab does not filter by commit.
            let fits = |it: &&Value| {
                query.split('&').all(|pair| match pair.split_once('=').unwrap() {
                    (key @ ("sha" | "environment"), value) => it[key] == value,
                    _ => true,
                })
            };
            (200, Vec::new(), deployments.iter().filter(fits).cloned().collect())
        }
        _ => (201, Vec::new(), json!({})),
    }
}
