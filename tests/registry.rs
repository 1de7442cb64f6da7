//! Images at their registries: a stub that misbehaves, a real `docker-registry`, and an ECR.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "registry/push.rs"]
mod push;
#[path = "registry/real.rs"]
mod real;
#[path = "registry/stub.rs"]
mod stub;
#[path = "registry/tags.rs"]
mod tags;

use std::sync::Arc;
use std::time::Duration;

use holdfast::model::image::Repository;
use holdfast::model::snapshot::Fact;
use holdfast::ports::Registry as _;
use stub::{DIGEST, Hand, PASSWORD, Reply, Stub, USER, anonymous, digest, tag, why, with_password};

const NEVER_OLD: Duration = Duration::ZERO;
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_tag_is_resolved_by_one_head_without_a_name() {
    let stub = Stub::start(|_| Reply::digest(DIGEST)).await;
    let fact = anonymous(&Hand::new()).resolve(&stub.repository(), &tag("1.10"), NEVER_OLD).await;
    assert_eq!(fact, Fact::Seen(digest(DIGEST)));
    assert_eq!(stub.lines(), ["HEAD /v2/team/app/manifests/1.10"]);
    let asked = &stub.asked()[0];
    assert!(asked.authorization.is_none());
    for kind in ["oci.image.index.v1", "oci.image.manifest.v1", "manifest.list.v2", "distribution.manifest.v2"] {
        assert!(asked.accept.contains(kind), "{}", asked.accept);
    }
}

#[tokio::test]
async fn a_pinned_digest_asks_nobody() {
    let stub = Stub::start(|_| Reply::status(500)).await;
    let pinned = holdfast::model::image::TagSpec { digest: Some(digest(DIGEST)), ..tag("1") };
    let fact = anonymous(&Hand::new()).resolve(&stub.repository(), &pinned, NEVER_OLD).await;
    assert_eq!(fact, Fact::Seen(digest(DIGEST)));
    assert!(stub.lines().is_empty());
}

#[tokio::test]
async fn without_the_header_the_manifest_itself_is_hashed() {
    let stub = Stub::start(|_| Reply::status(200).body(r#"{"schemaVersion":2}"#)).await;
    let fact = anonymous(&Hand::new()).resolve(&stub.repository(), &tag("1"), NEVER_OLD).await;
    let expected = push::sha256(br#"{"schemaVersion":2}"#);
    assert_eq!(fact, Fact::Seen(digest(&expected)));
    assert_eq!(stub.lines(), ["HEAD /v2/team/app/manifests/1", "GET /v2/team/app/manifests/1"]);
}

#[tokio::test]
async fn what_is_no_manifest_is_no_answer() {
    let lie = |body: Vec<u8>, named: bool| async move {
        let stub = Stub::start(move |asked| {
            let reply = Reply::status(200).body(body.clone());
            if named && asked.method == "GET" { reply.header("docker-content-digest", DIGEST) } else { reply }
        })
        .await;
        let fact = anonymous(&Hand::new()).resolve(&stub.repository(), &tag("1"), NEVER_OLD).await;
        why(&fact).to_owned()
    };
    assert!(lie(b"<html>Please sign in</html>".to_vec(), false).await.contains("something that is no manifest"));
    assert!(lie(vec![b' '; (4 << 20) + 1], false).await.contains("more than 4096 KiB"));
    assert!(lie(br#"{"schemaVersion":2}"#.to_vec(), true).await.contains("another manifest"));
}

#[tokio::test]
async fn absent_is_only_what_the_registry_says_is_unknown() {
    for code in ["MANIFEST_UNKNOWN", "NAME_UNKNOWN"] {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"canary"}}]}}"#);
        let stub = Stub::start(move |_| Reply::status(404).body(body.clone())).await;
        let fact = anonymous(&Hand::new()).resolve(&stub.repository(), &tag("1"), NEVER_OLD).await;
        assert_eq!(fact, Fact::Absent, "{code}");
    }
    let stub = Stub::start(|_| Reply::status(404).body("404 page not found, canary")).await;
    let fact = anonymous(&Hand::new()).resolve(&stub.repository(), &tag("1"), NEVER_OLD).await;
    assert!(why(&fact).contains("without saying that the tag is unknown"), "{fact:?}");
    // The same to somebody it let in.
    let stub = Stub::start(|asked| match asked.authorization {
        Some(_) => Reply::status(404),
        None => Reply::status(401).header("www-authenticate", "Basic realm=x"),
    })
    .await;
    let (images, _dir) = with_password(&stub.host, PASSWORD, &Hand::new());
    assert_eq!(images.resolve(&stub.repository(), &tag("1"), NEVER_OLD).await, Fact::Absent);
}

#[tokio::test]
async fn every_other_answer_is_unreadable_and_says_why() {
    for (status, words) in [
        (401, "does not show `team/app` to everybody (401)"),
        (403, "does not show `team/app` to everybody (403)"),
        (400, "answered 400 (bad request)"),
        (429, "answered 429 (too many requests)"),
        (500, "answered 500 (internal server error)"),
        (503, "answered 503 (service unavailable)"),
        (301, "answered 301"),
    ] {
        let stub = Stub::start(move |_| {
            Reply::status(status).header("location", "ftp://canary/").body(r#"{"errors":[{"code":"canary"}]}"#)
        })
        .await;
        let fact = anonymous(&Hand::new()).resolve(&stub.repository(), &tag("1"), NEVER_OLD).await;
        assert!(why(&fact).contains(&stub.host) && why(&fact).contains(words), "{status}: {fact:?}");
    }
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let stub = Stub::start(|_| Reply::status(429).header("retry-after", "120")).await;
    let clock = Hand::new();
    let images = anonymous(&clock);
    let ask = async || images.resolve(&stub.repository(), &tag("1"), NEVER_OLD).await;
    assert!(why(&ask().await).contains("answered 429"));
    clock.forward(119);
    assert!(why(&ask().await).contains("asked to be left alone until 22:15:20 UTC"));
    assert!(why(&images.resolve(&stub.repository(), &tag("2"), NEVER_OLD).await).contains("left alone"));
    assert_eq!(stub.lines().len(), 1);
    clock.forward(1);
    assert!(why(&ask().await).contains("answered 429"));
    assert_eq!(stub.lines().len(), 2);
}

#[tokio::test]
async fn slow_silent_and_untrusted_registries_are_unreadable() {
    let slow = Stub::start(|_| Reply::digest(DIGEST).after(Duration::from_secs(60))).await;
    let images = anonymous(&Hand::new());
    let at = |host: &str| Repository::new(&format!("{host}/team/app")).unwrap();
    let closed = push::free_port();
    // Not a loopback name, so HTTPS is spoken to a server that answers in plain text.
    let port = slow.host.rsplit(':').next().unwrap();
    let (slow_repository, closed, plain) =
        (slow.repository(), at(&format!("127.0.0.1:{closed}")), at(&format!("0.0.0.0:{port}")));
    let one = tag("1");
    let (slow, closed, plain) = tokio::join!(
        images.resolve(&slow_repository, &one, NEVER_OLD),
        images.resolve(&closed, &one, NEVER_OLD),
        images.resolve(&plain, &one, NEVER_OLD),
    );
    assert!(why(&slow).ends_with("did not answer within 5 s"), "{slow:?}");
    assert!(why(&closed).contains("could not be asked") && why(&closed).contains("refused"), "{closed:?}");
    assert!(why(&plain).contains("could not be asked"), "{plain:?}");
}

fn bearer(host: &str) -> Reply {
    let challenge =
        format!(r#"Bearer realm="http://{host}/token?canary=1",service="reg",scope="repository:team/app:pull""#);
    Reply::status(401).header("www-authenticate", challenge)
}

/// A registry with a token service of its own; each token is good for 100 s.
async fn token_registry() -> Stub {
    let host = Arc::new(std::sync::OnceLock::<String>::new());
    let named = Arc::clone(&host);
    let stub = Stub::start(move |asked| match (asked.path.as_str(), asked.authorization.as_deref()) {
        ("/token", None) => Reply::status(200).body(r#"{"token":"tok-canary-anon","expires_in":100}"#),
        // ann:s3cret-canary
        ("/token", Some("Basic YW5uOnMzY3JldC1jYW5hcnk=")) => {
            Reply::status(200).body(r#"{"access_token":"tok-canary-ann","expires_in":100}"#)
        }
        ("/token", Some(_)) => Reply::status(401).body("canary"),
        ("/v2/private/app/manifests/1", Some("Bearer tok-canary-ann")) => Reply::digest(DIGEST),
        ("/v2/team/app/manifests/1", Some("Bearer tok-canary-ann" | "Bearer tok-canary-anon")) => Reply::digest(DIGEST),
        _ => bearer(named.get().unwrap()),
    })
    .await;
    host.set(stub.host.clone()).unwrap();
    stub
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_again_when_it_ends() {
    let stub = token_registry().await;
    let clock = Hand::new();
    let images = anonymous(&clock);
    for _ in 0..3 {
        let fact = images.resolve(&stub.repository(), &tag("1"), NEVER_OLD).await;
        assert_eq!(fact, Fact::Seen(digest(DIGEST)));
    }
    let manifest = "HEAD /v2/team/app/manifests/1";
    assert_eq!(stub.lines(), [manifest, "GET /token", manifest, manifest, manifest]);
    assert_eq!(stub.asked()[1].query, "canary=1&service=reg&scope=repository%3Ateam%2Fapp%3Apull");
    clock.forward(90);
    assert_eq!(images.resolve(&stub.repository(), &tag("1"), NEVER_OLD).await, Fact::Seen(digest(DIGEST)));
    assert_eq!(stub.lines()[5..], ["GET /token", manifest]);
}

#[tokio::test]
async fn a_token_needs_the_right_password_where_the_image_is_private() {
    let stub = token_registry().await;
    let private = Repository::new(&format!("{}/private/app", stub.host)).unwrap();
    let clock = Hand::new();
    let fact = anonymous(&clock).resolve(&private, &tag("1"), NEVER_OLD).await;
    assert!(why(&fact).contains("does not show `private/app` to everybody"), "{fact:?}");
    let (images, _dir) = with_password(&stub.host, "wrong-canary", &clock);
    let fact = images.resolve(&private, &tag("1"), NEVER_OLD).await;
    assert!(why(&fact).contains("refused the credentials for `private/app` (401)"), "{fact:?}");
    let (images, _dir) = with_password(&stub.host, PASSWORD, &clock);
    assert_eq!(images.resolve(&private, &tag("1"), NEVER_OLD).await, Fact::Seen(digest(DIGEST)));
    let credentials = images.credentials(&private).await.unwrap().unwrap();
    assert_eq!((credentials.username.as_str(), credentials.password.reveal().as_str()), (USER, PASSWORD));
    assert!(!format!("{credentials:?}").contains("canary"));
    assert!(anonymous(&clock).credentials(&private).await.unwrap().is_none());
}

#[tokio::test]
async fn a_password_that_is_configured_and_missing_is_an_error() {
    let stub = Stub::start(|_| Reply::status(401).header("www-authenticate", "Basic realm=canary")).await;
    let (images, dir) = with_password(&stub.host, PASSWORD, &Hand::new());
    std::fs::remove_file(dir.path().join("config.json")).unwrap();
    let fact = images.resolve(&stub.repository(), &tag("1"), NEVER_OLD).await;
    assert!(why(&fact).contains("config.json cannot be read"), "{fact:?}");
    assert!(images.credentials(&stub.repository()).await.unwrap_err().contains("config.json cannot be read"));
}

#[tokio::test]
async fn an_answer_is_good_for_as_long_as_the_asker_says() {
    let stub = Stub::start(|asked| match asked.path.ends_with("/gone") {
        true => Reply::status(404).body(r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
        false => Reply::digest(DIGEST),
    })
    .await;
    let clock = Hand::new();
    let images = anonymous(&clock);
    for (name, fact, a_look) in [("1", Fact::Seen(digest(DIGEST)), 1), ("gone", Fact::Absent, 2)] {
        let before = stub.lines().len();
        let ask = async |max_age| assert_eq!(images.resolve(&stub.repository(), &tag(name), max_age).await, fact);
        ask(MINUTE).await;
        clock.forward(59);
        ask(MINUTE).await;
        assert_eq!(stub.lines().len() - before, a_look);
        ask(Duration::from_secs(30)).await;
        assert_eq!(stub.lines().len() - before, 2 * a_look);
        clock.forward(60);
        ask(MINUTE).await;
        assert_eq!(stub.lines().len() - before, 3 * a_look);
    }
}

#[tokio::test]
async fn a_failure_is_not_remembered() {
    let stub = Stub::start(|_| Reply::status(500)).await;
    let images = anonymous(&Hand::new());
    for _ in 0..2 {
        why(&images.resolve(&stub.repository(), &tag("1"), MINUTE).await);
    }
    assert_eq!(stub.lines().len(), 2);
}

#[tokio::test]
async fn many_askers_share_one_question() {
    for status in [200, 500] {
        let stub = Stub::start(move |_| {
            Reply::status(status).header("docker-content-digest", DIGEST).after(Duration::from_millis(200))
        })
        .await;
        let images = anonymous(&Hand::new());
        let repository = stub.repository();
        let one = tag("1");
        let facts = futures_util::future::join_all((0..20).map(|_| images.resolve(&repository, &one, NEVER_OLD))).await;
        assert_eq!(facts.len(), 20);
        assert!(facts.iter().all(|fact| *fact == facts[0]));
        assert_eq!(stub.lines().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn https_to_a_registry_and_to_aws_live_in_one_process() {
    // Two rustls users that disagree about the crypto provider panic at the first handshake.
    let stub = Stub::start(|_| Reply::status(200)).await;
    let port = stub.host.rsplit(':').next().unwrap();
    let plain = Repository::new(&format!("0.0.0.0:{port}/team/app")).unwrap();
    why(&anonymous(&Hand::new()).resolve(&plain, &tag("1"), NEVER_OLD).await);
    let config = aws_sdk_ecr::Config::builder()
        .behavior_version(aws_sdk_ecr::config::BehaviorVersion::latest())
        .region(aws_sdk_ecr::config::Region::new("ap-northeast-2"))
        .credentials_provider(aws_sdk_ecr::config::Credentials::new("id", "key", None, None, "test"))
        .retry_config(aws_sdk_ecr::config::retry::RetryConfig::disabled())
        .endpoint_url(format!("https://0.0.0.0:{port}"))
        .build();
    let error = aws_sdk_ecr::Client::from_conf(config).get_authorization_token().send().await.unwrap_err();
    assert!(matches!(error, aws_sdk_ecr::error::SdkError::DispatchFailure(_)), "{error:?}");
}
