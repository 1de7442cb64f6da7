//! The tags of a repository, listed by a registry that may misbehave.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use holdfast::model::snapshot::{Fact, TagSeen};
use holdfast::ports::Registry as _;

use super::stub::{Hand, PASSWORD, Reply, Stub, anonymous, with_password};
use super::{MINUTE, NEVER_OLD};

/// The tags of a list, in its order.
pub(crate) fn names(fact: &Fact<Vec<TagSeen>>) -> Vec<String> {
    match fact {
        Fact::Seen(seen) => seen.iter().map(|it| it.tag.to_string()).collect(),
        other => panic!("{other:?} is no list"),
    }
}

fn why(fact: &Fact<Vec<TagSeen>>) -> &str {
    match fact {
        Fact::Unreadable(why) => {
            assert!(!why.contains("canary"), "{why}");
            why
        }
        other => panic!("{other:?} is not unreadable"),
    }
}

fn page(tags: &[&str]) -> Reply {
    Reply::status(200).body(serde_json::json!({"name": "team/app", "tags": tags}).to_string())
}

#[tokio::test]
async fn every_page_is_read_and_what_is_no_tag_is_left_out() {
    let stub = Stub::start(|asked| match asked.query.as_str() {
        "n=1000" => page(&["2.0.0", "1.0.0"]).header("link", r#"</v2/team/app/tags/list?last=2.0.0&n=2>; rel="next""#),
        "last=2.0.0&n=2" => page(&["v3", "not a tag", "1.0.0"]).header("link", r#"<?last=v3>; rel="next""#),
        "last=v3" => Reply::status(200).body(r#"{"name":"team/app","tags":null}"#),
        _ => Reply::status(500),
    })
    .await;
    let fact = anonymous(&Hand::new()).tags(&stub.repository(), NEVER_OLD).await;
    assert_eq!(names(&fact), ["1.0.0", "2.0.0", "v3"]);
    assert_eq!(stub.lines(), ["GET /v2/team/app/tags/list"; 3]);
    assert!(stub.asked().iter().all(|asked| asked.accept == "application/json"));
}

#[tokio::test]
async fn a_next_page_elsewhere_gets_no_question() {
    let elsewhere = Stub::start(|_| page(&["9.9.9"])).await;
    let link = format!(r#"<http://{}/v2/team/app/tags/list?last=canary>; rel="next""#, elsewhere.host);
    let stub = Stub::start(move |_| page(&["1.0.0"]).header("link", link.clone())).await;
    let fact = anonymous(&Hand::new()).tags(&stub.repository(), NEVER_OLD).await;
    assert!(why(&fact).contains("a next page of tags that is not its own"), "{fact:?}");
    assert!(elsewhere.lines().is_empty());
}

#[tokio::test]
async fn a_list_without_an_end_is_not_read_for_ever() {
    let stub = Stub::start(|_| page(&["1.0.0"]).header("link", r#"<?last=1.0.0>; rel="next""#)).await;
    let fact = anonymous(&Hand::new()).tags(&stub.repository(), NEVER_OLD).await;
    assert!(why(&fact).contains("more than 100 pages of tags"), "{fact:?}");
    assert_eq!(stub.lines().len(), 100);
    let many: Vec<String> = (0..20_001).map(|n| format!("1.0.{n}")).collect();
    let stub = Stub::start(move |_| page(&many.iter().map(String::as_str).collect::<Vec<_>>())).await;
    let fact = anonymous(&Hand::new()).tags(&stub.repository(), NEVER_OLD).await;
    assert!(why(&fact).contains("more than 20000 tags; hint:"), "{fact:?}");
    let stub = Stub::start(|_| Reply::status(200).body(vec![b' '; (4 << 20) + 1])).await;
    let fact = anonymous(&Hand::new()).tags(&stub.repository(), NEVER_OLD).await;
    assert!(why(&fact).contains("more than 4096 KiB"), "{fact:?}");
}

#[tokio::test]
async fn a_page_that_is_missing_makes_the_list_unreadable() {
    for (status, words) in [
        (401, "does not show `team/app` to everybody (401)"),
        (404, "answered 404 (not found)"),
        (429, "answered 429 (too many requests)"),
        (500, "answered 500 (internal server error)"),
    ] {
        let stub = Stub::start(move |asked| match asked.query.as_str() {
            "n=1000" => page(&["1.0.0"]).header("link", r#"<?last=1.0.0>; rel="next""#),
            _ => Reply::status(status).body("canary"),
        })
        .await;
        let fact = anonymous(&Hand::new()).tags(&stub.repository(), NEVER_OLD).await;
        assert!(why(&fact).contains(words), "{status}: {fact:?}");
    }
    let stub = Stub::start(|_| Reply::status(200).body("<html>canary</html>")).await;
    let fact = anonymous(&Hand::new()).tags(&stub.repository(), NEVER_OLD).await;
    assert!(why(&fact).contains("something that is no list of tags"), "{fact:?}");
    let unknown = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"canary"}]}"#;
    let stub = Stub::start(move |_| Reply::status(404).body(unknown)).await;
    assert_eq!(anonymous(&Hand::new()).tags(&stub.repository(), NEVER_OLD).await, Fact::Absent);
}

/// A registry that shows its tags to who has a token, which it gives to ann.
async fn locked() -> Stub {
    let host = Arc::new(OnceLock::<String>::new());
    let named = Arc::clone(&host);
    let stub = Stub::start(move |asked| match (asked.path.as_str(), asked.authorization.as_deref()) {
        // ann:s3cret-canary
        ("/token", Some("Basic YW5uOnMzY3JldC1jYW5hcnk=")) => Reply::status(200).body(r#"{"token":"tok-canary"}"#),
        ("/v2/team/app/tags/list", Some("Bearer tok-canary")) => page(&["1.0.0"]),
        ("/token", _) => Reply::status(401),
        _ => {
            let realm =
                format!(r#"Bearer realm="http://{}/token",scope="repository:team/app:pull""#, named.get().unwrap());
            Reply::status(401).header("www-authenticate", realm)
        }
    })
    .await;
    host.set(stub.host.clone()).unwrap();
    stub
}

#[tokio::test]
async fn the_list_is_asked_for_as_a_tag_is() {
    let stub = locked().await;
    let (images, _dir) = with_password(&stub.host, PASSWORD, &Hand::new());
    assert_eq!(names(&images.tags(&stub.repository(), NEVER_OLD).await), ["1.0.0"]);
    assert_eq!(stub.lines(), ["GET /v2/team/app/tags/list", "GET /token", "GET /v2/team/app/tags/list"]);
    let (images, _dir) = with_password(&stub.host, "wrong-canary", &Hand::new());
    let fact = images.tags(&stub.repository(), NEVER_OLD).await;
    assert!(why(&fact).contains("refused the credentials for `team/app` (401)"), "{fact:?}");
}

#[tokio::test]
async fn many_services_share_one_list_and_a_failure_is_not_asked_for_again_at_once() {
    for status in [200, 500] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let stub = Stub::start(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Reply::status(status).body(r#"{"tags":["1.0.0"]}"#).after(Duration::from_millis(100))
        })
        .await;
        let clock = Hand::new();
        let images = anonymous(&clock);
        let repository = stub.repository();
        let facts = futures_util::future::join_all((0..20).map(|_| images.tags(&repository, NEVER_OLD))).await;
        assert!(facts.iter().all(|fact| *fact == facts[0]));
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{status}");
        clock.forward(59);
        images.tags(&repository, MINUTE).await;
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{status}");
        images.tags(&repository, NEVER_OLD).await;
        clock.forward(60);
        images.tags(&repository, MINUTE).await;
        assert_eq!(asked.load(Ordering::SeqCst), 3, "{status}");
    }
}
