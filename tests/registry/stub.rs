//! A registry that answers as it is told, and remembers what it was asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, header};
use holdfast::model::image::{Digest, Repository, Tag, TagSpec};
use holdfast::ports::Clock;
use holdfast::registry::{Auth, Images, ImagesOptions, RegistryRule};
use jiff::Timestamp;

pub(crate) const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(crate) const USER: &str = "ann";
/// No message may ever contain this.
pub(crate) const PASSWORD: &str = "s3cret-canary";

/// One question, as the registry saw it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) accept: String,
    pub(crate) authorization: Option<String>,
}

/// One answer.
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    after: Duration,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), after: Duration::ZERO }
    }
    pub(crate) fn digest(digest: &str) -> Self {
        Self::status(200).header("docker-content-digest", digest)
    }
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
    pub(crate) fn after(mut self, after: Duration) -> Self {
        self.after = after;
        self
    }
}

type Behaviour = dyn Fn(&Asked) -> Reply + Send + Sync;

struct Inner {
    behaviour: Box<Behaviour>,
    asked: Mutex<Vec<Asked>>,
}

/// The registry, gone with the test's runtime.
pub(crate) struct Stub {
    pub(crate) host: String,
    inner: Arc<Inner>,
}

impl Stub {
    pub(crate) async fn start(behaviour: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let inner = Arc::new(Inner { behaviour: Box::new(behaviour), asked: Mutex::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let app = Router::new().fallback(serve).with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { host, inner }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.inner.asked.lock().unwrap().clone()
    }

    /// `HEAD /v2/team/app/manifests/1`, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }

    pub(crate) fn repository(&self) -> Repository {
        Repository::new(&format!("{}/team/app", self.host)).unwrap()
    }
}

async fn serve(State(inner): State<Arc<Inner>>, request: Request) -> Response<Body> {
    let (parts, _body) = request.into_parts();
    let text =
        |name: header::HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    let asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        accept: text(header::ACCEPT).unwrap_or_default(),
        authorization: text(header::AUTHORIZATION),
    };
    inner.asked.lock().unwrap().push(asked.clone());
    let reply = (inner.behaviour)(&asked);
    tokio::time::sleep(reply.after).await;
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(reply.body)).unwrap()
}

/// A clock that moves when it is told to.
pub(crate) struct Hand(Mutex<Timestamp>);

impl Hand {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Timestamp::from_second(1_700_000_000).unwrap())))
    }
    pub(crate) fn forward(&self, seconds: u64) {
        let mut now = self.0.lock().unwrap();
        *now += Duration::from_secs(seconds);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

pub(crate) fn anonymous(clock: &Arc<Hand>) -> Arc<Images> {
    Images::new(ImagesOptions {
        registries: Vec::new(),
        clock: Arc::<Hand>::clone(clock),
        aws: holdfast::aws::Shared::new(100),
    })
}

/// Images that know `USER` at `host` with `password`, and the folder their config.json lives in.
pub(crate) fn with_password(host: &str, password: &str, clock: &Arc<Hand>) -> (Arc<Images>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let entry = serde_json::json!({"auths": {host: {"username": USER, "password": password}}});
    std::fs::write(&path, entry.to_string()).unwrap();
    let rule = RegistryRule { host: host.to_owned(), kind: None, region: None, auth: Some(Auth::DockerConfig(path)) };
    (
        Images::new(ImagesOptions {
            registries: vec![rule],
            clock: Arc::<Hand>::clone(clock),
            aws: holdfast::aws::Shared::new(100),
        }),
        dir,
    )
}

pub(crate) fn tag(text: &str) -> TagSpec {
    TagSpec { tag: Tag::new(text).unwrap(), digest: None }
}

pub(crate) fn digest(text: &str) -> Digest {
    Digest::new(text).unwrap()
}

/// Said by everything that is not positively known.
pub(crate) fn why(fact: &holdfast::model::snapshot::Fact<Digest>) -> &str {
    match fact {
        holdfast::model::snapshot::Fact::Unreadable(why) => {
            assert!(!why.contains("canary"), "{why}");
            why
        }
        other => panic!("{other:?} is not unreadable"),
    }
}
