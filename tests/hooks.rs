//! Who may make the source look again: webhooks of every host, and people with `reconcile`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]

mod fakes;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fakes::*;
use futures_util::{StreamExt as _, stream};
use hmac::{Hmac, KeyInit as _, Mac as _};
use holdfast::controller::{Controller, Handle};
use holdfast::model::secret::Secret;
use holdfast::model::snapshot::Why;
use holdfast::ports::{Source, SourceUpdate, Wakes};
use holdfast::web::{Access, Hook, bind_tcp, router, serve_listener};
use reqwest::{Client, StatusCode};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// In every secret slot; it must come out nowhere.
const CANARY: &str = "canary-5up3r-s3cret";
const TOKEN: &str = "canary-t0ken";
/// A signing token as GitLab makes them, and the key it stands for.
const SIGNING: &str = "whsec_Y2FuYXJ5LTV1cDNyLXMzY3JldC1vZi0zMi1ieXRlcyE=";
const SIGNING_KEY: &[u8] = b"canary-5up3r-s3cret-of-32-bytes!";
const MIB: usize = 1024 * 1024;
const CAP: usize = 25 * MIB;

/// A source that remembers what it was told.
struct Told {
    inner: Arc<TestSource>,
    looks: Mutex<u32>,
    rewinds: Mutex<Vec<(String, String)>>,
}

#[async_trait]
impl Source for Told {
    async fn read(&self) -> SourceUpdate {
        self.inner.read().await
    }
    async fn watch(&self, updates: mpsc::Sender<SourceUpdate>) {
        self.inner.watch(updates).await;
    }
    fn place(&self) -> String {
        self.inner.place()
    }
    fn look_again(&self) {
        *self.looks.lock().unwrap() += 1;
    }
    async fn accept_rewind(&self, commit: &str, by: &str) -> Result<String, Why> {
        self.rewinds.lock().unwrap().push((commit.to_owned(), by.to_owned()));
        if commit.starts_with("abc") { Ok(format!("{commit} is accepted")) } else { Err("no such commit".into()) }
    }
}

struct Site {
    told: Arc<Told>,
    world: Arc<World>,
    handle: Handle,
    at: std::net::SocketAddr,
    http: Client,
    _stop: (tokio_util::sync::DropGuard, tokio::sync::watch::Sender<Vec<SourceUpdate>>),
}

async fn site(secret: Option<&str>) -> Site {
    logged();
    let world = Arc::new(World::default());
    let (edits, inner) = source(vec![state("r1", [service("api", "one", 1)], &[])]);
    let told = Arc::new(Told { inner, looks: Mutex::default(), rewinds: Mutex::default() });
    let controller = Controller::new(edges(&world), told.clone(), options(false));
    let (handle, stop) = (controller.handle(), CancellationToken::new());
    let ended = stop.clone();
    tokio::spawn(async move { controller.run(Wakes::channel(), ended).await.unwrap() });
    let listener = bind_tcp("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
    let at = listener.local_addr().unwrap();
    let hook = secret.map(|secret| Hook::new(&Secret::new(format!("{secret}\n"))).unwrap());
    let app = router(handle.clone(), Access::Token(Secret::new(TOKEN.into())), hook);
    tokio::spawn(serve_listener(listener, app, stop.clone()));
    let http = Client::builder().no_proxy().build().unwrap();
    Site { told, world, handle, at, http, _stop: (stop.drop_guard(), edits) }
}

impl Site {
    fn looks(&self) -> u32 {
        *self.told.looks.lock().unwrap()
    }

    async fn post(
        &self,
        path: &str,
        headers: &[(&str, String)],
        body: impl Into<reqwest::Body>,
    ) -> (StatusCode, String) {
        let request = self.http.post(format!("http://{}{path}", self.at)).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let answer = request.send().await.unwrap();
        let later = answer.headers().contains_key("retry-after");
        let busy = matches!(answer.status().as_u16(), 429 | 503);
        assert_eq!(later, busy, "{}", answer.status());
        (answer.status(), answer.text().await.unwrap())
    }

    async fn hook(&self, headers: &[(&str, String)], body: &'static str) -> (StatusCode, String) {
        self.post("/hooks/git", headers, body).await
    }

    /// The beginning of a delivery by hand.
    async fn begin(&self, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        let head = format!("POST /hooks/git HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

type Headers = Vec<(&'static str, String)>;
/// The headers one host sends with a body when the secret there is the given one.
type Host = (&'static str, fn(&str, &str) -> Headers);

const HOSTS: [Host; 6] = [
    ("GitHub", |secret, body| {
        let tag = hex(&mac(secret.as_bytes(), &[body.as_bytes()]));
        // The old one comes along.
        vec![("X-Hub-Signature", format!("sha1={}", &tag[..40])), ("X-Hub-Signature-256", format!("sha256={tag}"))]
    }),
    ("Gitea", |secret, body| vec![("X-Gitea-Signature", hex(&mac(secret.as_bytes(), &[body.as_bytes()])))]),
    ("Forgejo", |secret, body| vec![("X-Forgejo-Signature", hex(&mac(secret.as_bytes(), &[body.as_bytes()])))]),
    ("Gogs", |secret, body| vec![("X-Gogs-Signature", hex(&mac(secret.as_bytes(), &[body.as_bytes()])))]),
    ("Bitbucket", |secret, body| {
        vec![("X-Hub-Signature", format!("sha256={}", hex(&mac(secret.as_bytes(), &[body.as_bytes()]))))]
    }),
    ("GitLab", |secret, _| vec![("X-Gitlab-Token", secret.to_owned())]),
];

fn gitlab_signed(key: &[u8], body: &str) -> Headers {
    let tag = STANDARD.encode(mac(key, &[b"f1a2.1760000000.", body.as_bytes()]));
    vec![
        ("webhook-id", "f1a2".into()),
        ("webhook-timestamp", "1760000000".into()),
        ("webhook-signature", format!("v1,{tag}")),
    ]
}

#[tokio::test]
async fn a_delivery_of_every_host_is_taken_with_the_right_secret_and_no_other() {
    let body = "{\"ref\":\"refs/heads/main\"}";
    for (host, sign) in HOSTS {
        let site = site(Some(CANARY)).await;
        let (code, said) = site.hook(&sign(CANARY, body), body).await;
        assert_eq!((code, site.looks()), (StatusCode::ACCEPTED, 1), "{host}: {said}");
        let wrong = ["", "another", "canary-5up3r-s3cre", "canary-5up3r-s3crett", "CANARY-5UP3R-S3CRET"];
        for wrong in wrong {
            let (code, said) = site.hook(&sign(wrong, body), body).await;
            assert_eq!(code, StatusCode::UNAUTHORIZED, "{host}: {wrong}: {said}");
            assert!(said.contains("webhookSecretFile"), "{said}");
        }
        if host != "GitLab" {
            assert_eq!(site.hook(&sign(CANARY, body), "{}").await.0, StatusCode::UNAUTHORIZED, "{host}: another body");
            assert_eq!(site.hook(&sign(CANARY, body), "").await.0, StatusCode::UNAUTHORIZED, "{host}: no body");
        }
        assert_eq!(site.looks(), 1, "{host}");
    }
}

#[tokio::test]
async fn gitlabs_signing_token_signs_the_body_the_id_and_the_time() {
    let (site, body) = (site(Some(SIGNING)).await, "{\"object_kind\":\"push\"}");
    let good = gitlab_signed(SIGNING_KEY, body);
    assert_eq!(site.hook(&good, body).await.0, StatusCode::ACCEPTED);
    for key in [&SIGNING_KEY[1..], SIGNING.as_bytes()] {
        assert_eq!(site.hook(&gitlab_signed(key, body), body).await.0, StatusCode::UNAUTHORIZED);
    }
    for changed in 0..3 {
        let mut bad = good.clone();
        bad[changed].1.push('1');
        assert_eq!(site.hook(&bad, body).await.0, StatusCode::UNAUTHORIZED, "{:?}", bad[changed]);
        bad.remove(changed);
        assert_eq!(site.hook(&bad, body).await.0, StatusCode::UNAUTHORIZED, "without {:?}", good[changed].0);
    }
    assert_eq!(site.hook(&good, "{}").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(site.looks(), 1);
}

#[tokio::test]
async fn what_is_no_signature_is_refused_and_says_what_was_expected() {
    let (site, body) = (site(Some(CANARY)).await, "{}");
    let tag = hex(&mac(CANARY.as_bytes(), &[b"{}"]));
    for (name, value, told) in [
        ("X-Other", "x".to_owned(), "not signed"),
        ("X-Hub-Signature-256", String::new(), "64 hex digits"),
        ("X-Hub-Signature-256", tag.clone(), "64 hex digits"),
        ("X-Hub-Signature-256", format!("sha256={}", &tag[..62]), "64 hex digits"),
        ("X-Hub-Signature-256", format!("sha256={tag}00"), "64 hex digits"),
        ("X-Hub-Signature-256", format!("sha256={}", "zz".repeat(32)), "64 hex digits"),
        ("X-Hub-Signature-256", format!("sha512={tag}"), "64 hex digits"),
        ("X-Gitea-Signature", format!("sha256={tag}"), "64 hex digits"),
        ("X-Hub-Signature", format!("sha1={}", &tag[..40]), "SHA-1"),
        ("X-Gitlab-Token", String::new(), "does not fit"),
        ("X-Hub-Signature-256", "sha256=ü".repeat(8), "plain text"),
    ] {
        let (code, said) = site.hook(&[(name, value.clone())], body).await;
        assert_eq!(code, StatusCode::UNAUTHORIZED, "{name}: {value}");
        assert!(said.contains(told) && said.contains("\"hint\""), "{name}: {value}: {said}");
    }
    let twice = [("X-Gitea-Signature", tag.clone()), ("X-Gitea-Signature", "0".repeat(64))];
    assert_eq!(site.hook(&twice, body).await.0, StatusCode::UNAUTHORIZED, "which of the two?");
    assert_eq!(site.hook(&[("X-Gitea-Signature", tag)], body).await.0, StatusCode::ACCEPTED);
    assert_eq!(site.looks(), 1);
}

#[tokio::test]
async fn without_a_secret_there_is_no_such_page_and_other_host_names_are_refused() {
    let shown = [("X-Gitlab-Token", CANARY.to_owned())];
    let closed = site(None).await;
    let (code, said) = closed.hook(&shown, "{}").await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    assert!(said.contains("git.webhookSecretFile"), "{said}");
    let open = site(Some(CANARY)).await;
    let read = open.http.get(format!("http://{}/hooks/git", open.at)).send().await.unwrap();
    assert_eq!(read.status(), StatusCode::METHOD_NOT_ALLOWED);
    let foreign = [shown[0].clone(), ("Host", "holdfast.example".to_owned())];
    assert_eq!(open.hook(&foreign, "{}").await.0, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!((closed.looks(), open.looks()), (0, 0));
}

/// Sends what `next` gives until the other side has had enough; returns how much it took and what it said.
async fn pour(mut stream: TcpStream, piece: &[u8]) -> (usize, String) {
    let (mut reader, mut writer) = stream.split();
    let answered = async {
        let mut answer = vec![0; 4096];
        let mut length = 0;
        while !answer[..length].windows(4).any(|end| end == b"\r\n\r\n") {
            match reader.read(&mut answer[length..]).await {
                Ok(read) if read > 0 => length += read,
                _ => break,
            }
        }
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    let mut sent = 0;
    let pouring = async {
        while sent < 2048 * MIB {
            if writer.write_all(piece).await.is_err() {
                break;
            }
            sent += piece.len();
        }
        std::future::pending::<()>().await;
    };
    let answer = tokio::select! { answer = answered => answer, () = pouring => unreachable!() };
    (sent, answer)
}

#[tokio::test]
async fn two_gigabytes_are_refused_at_sight_or_at_the_cap() {
    let site = site(Some(CANARY)).await;
    let tag = "0".repeat(64);
    // What the kernel takes in on the way, unread by anybody.
    let sockets = 12 * MIB;
    let announced = site.begin(&format!("X-Gitea-Signature: {tag}\r\nContent-Length: {}", 2048 * MIB)).await;
    let (sent, answer) = tokio::time::timeout(Duration::from_secs(60), pour(announced, &[b' '; 65536])).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(sent < sockets, "{sent} bytes were taken of a body that was refused");
    let endless = site.begin(&format!("X-Gitea-Signature: {tag}\r\nTransfer-Encoding: chunked")).await;
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 65536], b"\r\n"].concat();
    let (sent, answer) = tokio::time::timeout(Duration::from_secs(60), pour(endless, &chunk)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!((CAP..CAP + sockets).contains(&sent), "{sent} bytes were taken");
    assert_eq!(site.looks(), 0);
}

/// Bytes of memory this process holds.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn eight_long_bodies_are_read_at_once_in_constant_memory_and_a_ninth_is_not() {
    let site = site(Some(CANARY)).await;
    let (length, piece) = (24 * MIB, [b' '; 65536]);
    let before = resident();
    let mut open = Vec::new();
    for _ in 0..8 {
        let head = format!("X-Gitlab-Token: {CANARY}\r\nContent-Length: {length}");
        let mut stream = site.begin(&head).await;
        for _ in 0..length / piece.len() - 1 {
            stream.write_all(&piece).await.unwrap();
        }
        open.push(stream);
    }
    let (code, said) = site.hook(&[("X-Gitlab-Token", CANARY.to_owned())], "{}").await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE, "{said}");
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB more for 8 bodies of 24 MiB", grown / MIB);
    for mut stream in open {
        stream.write_all(&piece).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 202");
    }
    assert_eq!(site.looks(), 8);
    assert_eq!(site.hook(&[("X-Gitlab-Token", CANARY.to_owned())], "{}").await.0, StatusCode::ACCEPTED);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_is_answered_and_the_connection_ends() {
    let site = site(Some(CANARY)).await;
    let mut stream = site.begin(&format!("X-Gitlab-Token: {CANARY}\r\nContent-Length: 100\r\n\r\nhalf of it")).await;
    let began = tokio::time::Instant::now();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!((9..=11).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(site.looks(), 0);
}

#[tokio::test]
async fn a_thousand_deliveries_at_once_are_each_answered_and_the_rest_goes_on() {
    let (site, body) = (site(Some(CANARY)).await, "{\"ref\":\"refs/heads/main\"}");
    let headers = HOSTS[0].1(CANARY, body);
    let began = std::time::Instant::now();
    let codes: Vec<u16> = stream::iter(0..1000)
        .map(|_| async { site.hook(&headers, body).await.0.as_u16() })
        .buffer_unordered(64)
        .collect()
        .await;
    let took = began.elapsed();
    let count = |code| u32::try_from(codes.iter().filter(|it| **it == code).count()).unwrap();
    assert_eq!(count(202) + count(429) + count(503), 1000, "{codes:?}");
    // The burst, and twenty a second after it.
    let most = 51 + u32::try_from(took.as_millis()).unwrap() / 50;
    assert!(count(202) > 0 && count(202) + count(503) <= most, "{} passed in {took:?}", count(202));
    assert_eq!(site.looks(), count(202));
    let seen = site.http.get(format!("http://{}/api/v1/services", site.at)).send().await.unwrap();
    assert_eq!(seen.status(), StatusCode::OK, "people are answered meanwhile");
    println!("{} taken, {} refused, in {took:?}", count(202), count(429) + count(503));
}

#[tokio::test]
async fn people_may_make_it_look_again_and_accept_a_rewind() {
    let site = site(None).await;
    let bearer = [("Authorization", format!("Bearer {TOKEN}"))];
    for path in ["/api/v1/source/reconcile", "/api/v1/source/accept-rewind"] {
        assert_eq!(site.post(path, &[], "{\"commit\":\"abcdef0\"}").await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(site.looks(), 0);
    let (code, said) = site.post("/api/v1/source/reconcile", &bearer, "{\"by\":\"ann\"}").await;
    assert_eq!((code, site.looks()), (StatusCode::OK, 1), "{said}");
    assert!(said.contains("a test is read now"), "{said}");
    let mut changes = site.handle.changes();
    while site.handle.status().services.is_empty() {
        changes.changed().await.unwrap();
    }
    assert_eq!(site.post("/api/v1/services/api/reconcile", &bearer, "").await.0, StatusCode::OK);
    assert_eq!(site.looks(), 2, "who asks about one service expects the newest edit of it");
    assert_eq!(site.post("/api/v1/services/api/pause", &bearer, "").await.0, StatusCode::OK);
    assert_eq!(site.looks(), 2);
    let accept = |body: String| site.post("/api/v1/source/accept-rewind", &bearer, body);
    for bad in ["", "abcdef", "abcdefg", "--upload-pack", &"a".repeat(65)] {
        let (code, said) = accept(format!("{{\"commit\":\"{bad}\"}}")).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{bad}: {said}");
        assert!(said.contains("7 to 64 hex digits"), "{said}");
    }
    for bad in [String::new(), "no json".into()] {
        assert_eq!(accept(bad).await.0, StatusCode::BAD_REQUEST);
    }
    assert_eq!(accept("{\"commit\":\"0123456\"}".into()).await.0, StatusCode::CONFLICT);
    let (code, said) = accept("{\"commit\":\"ABCDEF0\",\"by\":\"ann\"}".into()).await;
    assert_eq!(code, StatusCode::OK, "{said}");
    assert!(said.contains("abcdef0 is accepted"), "{said}");
    let rewinds = site.told.rewinds.lock().unwrap().clone();
    assert_eq!(rewinds[1], ("abcdef0".to_owned(), "ann".to_owned()));
    assert_eq!((rewinds.len(), rewinds[0].1.as_str()), (2, "a holder of the token"));
}

/// Everything logged by this process: a subscriber of one thread misses what another one registered first.
fn logged() -> Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    let start = || {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
        subscriber.with_writer(move || writer.clone()).init();
        log
    };
    LOG.get_or_init(start).clone()
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_secret_comes_out_nowhere() {
    let log = logged();
    let mut answers = String::new();
    for secret in [CANARY, SIGNING] {
        let (site, body) = (site(Some(secret)).await, "{}");
        let mut deliveries: Vec<Headers> = HOSTS.iter().map(|(_, sign)| sign(secret, body)).collect();
        deliveries.extend(HOSTS.iter().map(|(_, sign)| sign(&secret[1..], body)));
        deliveries.push(gitlab_signed(SIGNING_KEY, body));
        deliveries.push(vec![("X-Hub-Signature-256", secret.to_owned())]);
        deliveries.push(vec![("Authorization", format!("Bearer {secret}"))]);
        for headers in deliveries {
            answers.push_str(&site.hook(&headers, body).await.1);
        }
        for page in ["", "metrics", "api/v1/services", "api/v1/events", "hooks/git"] {
            let answer = site.http.get(format!("http://{}/{page}", site.at)).send().await.unwrap();
            answers.push_str(&answer.text().await.unwrap());
        }
        answers.push_str(&format!("{:?}", site.world.events.lock().unwrap()));
        answers.push_str(&format!("{:?}", Hook::new(&Secret::new(secret.to_owned()))));
    }
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("a webhook says that the repository moved"), "{logged}");
    for part in [&CANARY[1..CANARY.len() - 1], &SIGNING[10..30]] {
        assert!(!answers.contains(part) && !logged.contains(part), "{answers}\n{logged}");
    }
}

/// The program in `dir`, without the settings of whoever runs the tests.
fn holdfast(dir: &std::path::Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap()).args(args);
    let ended = command.timeout(Duration::from_secs(60)).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}

#[test]
fn a_secret_file_that_is_missing_empty_or_damaged_is_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let git = "git: {url: 'https://git.invalid/acme/state.git', webhookSecretFile: secret}\n";
    std::fs::write(dir.path().join("holdfast.yaml"), format!("{git}stateDir: state\n")).unwrap();
    let start = || holdfast(dir.path(), &["run", "--sandbox", "--once", "--listen=127.0.0.1:0"]);
    for (secret, why) in [
        (None, "No such file"),
        (Some(""), "it is empty"),
        (Some(" \n"), "it is empty"),
        (Some("whsec_canary not base64"), "it begins with `whsec_`, and what follows is not base64"),
    ] {
        if let Some(secret) = secret {
            std::fs::write(dir.path().join("secret"), secret).unwrap();
        }
        let (code, out, err) = start();
        assert_eq!(code, Some(1), "{out}{err}");
        assert!(err.starts_with("error: could not read the webhook secret "), "{err}");
        assert!(err.contains(why) && err.contains("\nhint: write one (`openssl rand -hex 32`)"), "{err}");
        assert!(!format!("{out}{err}").contains("canary"), "{out}{err}");
    }
}

#[test]
fn reconcile_reads_the_source_of_a_running_controller_and_knows_a_commit_id() {
    let dir = tempfile::tempdir().unwrap();
    for bad in ["abcdef", "main", "abcdefg", "--force", &"a".repeat(65)] {
        let (code, _, err) = holdfast(dir.path(), &["reconcile", &format!("--accept-rewind={bad}")]);
        assert_eq!(code, Some(1), "{bad}");
        assert!(err.contains("7 to 64 hex digits"), "{err}");
    }
    assert_eq!(holdfast(dir.path(), &["reconcile", "api", "--accept-rewind=abcdef0"]).0, Some(1), "one of the two");
    std::fs::create_dir(dir.path().join("desired")).unwrap();
    let file = "services:\n  api:\n    image: registry.example/api\n    tag: one\n    docker: {port: 8080}\n";
    std::fs::write(dir.path().join("desired/api.yaml"), file).unwrap();
    let mut running = std::process::Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(["run", "desired", "--sandbox", "--listen=none", "--state-dir=state"])
        .current_dir(dir.path())
        .env_clear()
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(30);
    let said = loop {
        // Refused until the socket is there.
        let (code, out, err) = holdfast(dir.path(), &["--state-dir=state", "reconcile"]);
        if code == Some(0) || std::time::Instant::now() > until {
            break format!("{out}{err}");
        }
    };
    let about = |args: &[&str]| holdfast(dir.path(), &[&["--state-dir=state"], args].concat());
    let rewind = about(&["reconcile", "--accept-rewind=ABCDEF0"]);
    let status = about(&["status"]);
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(said, "desired is read now\n");
    assert_eq!(rewind.0, Some(1));
    assert!(rewind.2.contains("abcdef0 cannot be accepted: the desired state is not read from git"), "{rewind:?}");
    assert!(status.1.contains("source      desired\nrevision    "), "{status:?}");
}
