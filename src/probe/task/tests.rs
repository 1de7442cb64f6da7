//! Probing, against small servers and a paused clock.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::ports::{Probe, Wake, WallClock};
use crate::probe::Prober;

/// A server that answers what `status` says and counts connections; it remembers the last request's head.
struct Stub {
    address: SocketAddr,
    status: Arc<AtomicU32>,
    asked: Arc<AtomicU32>,
    head: Arc<std::sync::Mutex<String>>,
}

async fn stub(status: u32) -> Stub {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stub = Stub {
        address: listener.local_addr().unwrap(),
        status: Arc::new(AtomicU32::new(status)),
        asked: Arc::default(),
        head: Arc::default(),
    };
    let (status, asked, head) = (stub.status.clone(), stub.asked.clone(), stub.head.clone());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            asked.fetch_add(1, Ordering::SeqCst);
            let mut bytes = vec![0; 4096];
            let read = socket.read(&mut bytes).await.unwrap_or_default();
            *head.lock().unwrap() = String::from_utf8_lossy(&bytes[..read]).into_owned();
            let status = status.load(Ordering::SeqCst);
            // A body that never comes: only the head may be waited for.
            let answer =
                format!("HTTP/1.1 {status} x\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 1000000\r\n\r\n");
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    stub
}

fn target(address: Option<SocketAddr>, check: Check) -> ProbeTarget {
    ProbeTarget {
        id: "c1".to_owned(),
        started_at: WallClock.now(),
        address,
        check,
        interval: Duration::from_millis(50),
        timeout: Duration::from_secs(2),
        successes: 2,
        failures: 2,
        settled: false,
    }
}

fn http(expect: (u16, u16)) -> Check {
    Check::Http {
        path: "/up".to_owned(),
        expect,
        port: None,
        host: Some("app.test".to_owned()),
        headers: BTreeMap::new(),
    }
}

fn prober() -> (Arc<Prober>, UnboundedReceiver<Wake>, ServiceName) {
    let (wakes, queue) = Wakes::channel();
    (Prober::new(wakes, Arc::new(WallClock)), queue, ServiceName::new("api").unwrap())
}

async fn next(queue: &mut UnboundedReceiver<Wake>) -> String {
    tokio::time::timeout(Duration::from_secs(10), queue.recv()).await.unwrap().unwrap().why
}

#[tokio::test]
async fn an_http_verdict_turns_with_the_answers_and_wakes() {
    let (prober, mut queue, service) = prober();
    let stub = stub(302).await;
    prober.watch(&service, vec![target(Some(stub.address), http((200, 399)))]);
    assert_eq!(next(&mut queue).await, "probe: healthy");
    assert!(matches!(prober.verdicts(&service)["c1"], Health::Healthy(_)));
    assert_eq!(stub.asked.load(Ordering::SeqCst), 2, "a redirect is an answer and is not followed");
    let head = stub.head.lock().unwrap().to_lowercase();
    assert!(head.starts_with("get /up http/1.1\r\n") && head.contains("host: app.test\r\n"), "{head}");
    stub.status.store(503, Ordering::SeqCst);
    assert_eq!(next(&mut queue).await, "probe: unhealthy");
    let Health::Unhealthy(_, why) = prober.verdicts(&service)["c1"].clone() else { panic!("not unhealthy") };
    assert_eq!(why, "answered 503, expected 200-399");
}

#[tokio::test]
async fn an_unchanged_target_keeps_its_verdict_and_another_start_loses_it() {
    let (prober, mut queue, service) = prober();
    let stub = stub(200).await;
    let first = target(Some(stub.address), http((200, 200)));
    prober.watch(&service, vec![first.clone()]);
    next(&mut queue).await;
    let before = prober.verdicts(&service);
    prober.watch(&service, vec![ProbeTarget { settled: true, ..first.clone() }]);
    assert_eq!(prober.verdicts(&service), before);
    let restarted = ProbeTarget { started_at: Timestamp::from_second(1).unwrap(), ..first };
    prober.watch(&service, vec![restarted]);
    assert!(matches!(prober.verdicts(&service)["c1"], Health::Unknown { last: None, .. }));
    next(&mut queue).await;
    prober.watch(&service, vec![]);
    assert_eq!(prober.verdicts(&service), BTreeMap::new());
}

#[tokio::test]
async fn a_target_that_left_is_asked_no_more() {
    let (prober, mut queue, service) = prober();
    let stub = stub(200).await;
    prober.watch(&service, vec![target(Some(stub.address), http((200, 200)))]);
    next(&mut queue).await;
    prober.watch(&service, vec![]);
    let asked = stub.asked.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(stub.asked.load(Ordering::SeqCst) <= asked + 1, "at most the one under way");
}

#[tokio::test]
async fn tcp_asks_the_checks_own_port_and_says_why_not() {
    let (prober, mut queue, service) = prober();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let elsewhere = SocketAddr::new(address.ip(), 0);
    let check = Check::Tcp { port: Some(address.port()) };
    prober.watch(&service, vec![target(Some(elsewhere), check)]);
    assert_eq!(next(&mut queue).await, "probe: healthy");
    drop(listener);
    assert_eq!(next(&mut queue).await, "probe: unhealthy");
    let Health::Unhealthy(_, why) = prober.verdicts(&service)["c1"].clone() else { panic!("not unhealthy") };
    assert!(why.contains("connection refused"), "{why}");
}

#[tokio::test]
async fn a_reason_is_told_while_nothing_answers() {
    let (prober, mut queue, service) = prober();
    prober.watch(&service, vec![target(None, Check::Tcp { port: None })]);
    assert_eq!(next(&mut queue).await, "probe: no good answer yet");
    let Health::Unknown { last, .. } = prober.verdicts(&service)["c1"].clone() else { panic!("a verdict") };
    assert_eq!(last.as_deref(), Some("the container has no address"));
}

#[tokio::test]
async fn running_long_enough_is_healthy_and_container_checks_are_not_ours() {
    let (prober, mut queue, service) = prober();
    let running = target(None, Check::Running(Duration::from_millis(100)));
    let container = ProbeTarget { id: "c2".to_owned(), ..target(None, Check::Container) };
    prober.watch(&service, vec![running.clone(), container]);
    assert_eq!(next(&mut queue).await, "probe: it ran long enough");
    let verdicts = prober.verdicts(&service);
    assert_eq!(verdicts.keys().collect::<Vec<_>>(), ["c1"]);
    let Health::Healthy(since) = verdicts["c1"] else { panic!("not healthy") };
    assert!(since.duration_since(running.started_at).as_millis() >= 100);
}
