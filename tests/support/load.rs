//! Requests without a pause, each on a connection of its own, counted.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::pause;

/// What the requests met.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) ok: u64,
    /// By body: which versions answered.
    pub(crate) versions: BTreeMap<String, u64>,
    /// The first few failures, in words.
    pub(crate) failures: Vec<String>,
    pub(crate) failed: u64,
}

impl Counts {
    /// Fails the test unless every request was answered, and there were enough to mean something.
    pub(crate) fn assert_none_failed(&self) {
        assert!(self.failed == 0, "{} of {} requests failed: {:#?}", self.failed, self.ok + self.failed, self.failures);
        assert!(self.ok >= 50, "only {} requests: too few to show anything", self.ok);
    }
}

/// Requests on their way until it is stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Counts>>,
}

impl Load {
    /// `connections` clients ask 127.0.0.1:`port` for `/`.
    pub(crate) fn start(port: u16, connections: usize) -> Self {
        Self::start_at(port, connections, "/")
    }

    /// The same for `path`.
    pub(crate) fn start_at(port: u16, connections: usize, path: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..connections)
            .map(|_| {
                let stop = Arc::clone(&stop);
                let path = path.to_owned();
                std::thread::spawn(move || client(port, &path, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    /// Ends it and adds up.
    pub(crate) fn stop(mut self) -> Counts {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Counts::default();
        for thread in self.threads.drain(..) {
            let Counts { ok, versions, failures, failed } = thread.join().expect("a load thread ends");
            sum.ok += ok;
            sum.failed += failed;
            sum.failures.extend(failures);
            for (version, count) in versions {
                *sum.versions.entry(version).or_default() += count;
            }
        }
        sum
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn client(port: u16, path: &str, stop: &AtomicBool) -> Counts {
    let mut counts = Counts::default();
    while !stop.load(Ordering::Relaxed) {
        match get(port, path) {
            Ok((200, body)) => {
                counts.ok += 1;
                *counts.versions.entry(body).or_default() += 1;
            }
            Ok((status, body)) => {
                fail(&mut counts, format!("status {status}: {}", body.chars().take(80).collect::<String>()))
            }
            Err(error) => fail(&mut counts, error.to_string()),
        }
        // Two cores carry the engine, nginx, the apps and these clients.
        pause(Duration::from_millis(2));
    }
    counts
}

fn fail(counts: &mut Counts, what: String) {
    counts.failed += 1;
    if counts.failures.len() < 5 {
        counts.failures.push(what);
    }
}

/// One request on a connection of its own: the status and the trimmed body.
pub(crate) fn get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    request(port, "GET", path)
}

/// As [`get`], with any method and no body.
pub(crate) fn request(port: u16, method: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("closed after {} bytes", answer.len())))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.trim().to_owned()))
}
