//! A load generator that tells what wrk cannot: whether a failed request was a reused connection closed before a byte
//! (which HTTP clients retry by themselves), and whether the retry was answered.
//!
//!     load ADDRESS:PORT CONNECTIONS keepalive|close AT_LEAST [PATH]
//!
//! Runs until its standard input ends and at least AT_LEAST requests were made, then prints one line of JSON.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Counts {
    ok: AtomicU64,
    non_2xx: AtomicU64,
    closed_reused: AtomicU64,
    retried_ok: AtomicU64,
    errors: AtomicU64,
}

enum Outcome {
    Ok { reusable: bool },
    Status { reusable: bool },
    /// Closed or reset before the first byte of the answer.
    ClosedBeforeAByte,
    Broken,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (address, connections, mode, at_least, path) = match arguments.as_slice() {
        [address, connections, mode, at_least] => (address, connections, mode, at_least, "/".to_owned()),
        [address, connections, mode, at_least, path] => (address, connections, mode, at_least, path.clone()),
        _ => {
            eprintln!("usage: load ADDRESS:PORT CONNECTIONS keepalive|close AT_LEAST [PATH]");
            std::process::exit(64);
        }
    };
    let connections: usize = connections.parse().expect("a number of connections");
    let at_least: u64 = at_least.parse().expect("a number of requests");
    let close = mode == "close";
    let counts = Arc::new(Counts::default());
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let threads: Vec<_> = (0..connections)
        .map(|_| {
            let (counts, stop, address, path) = (Arc::clone(&counts), Arc::clone(&stop), address.clone(), path.clone());
            std::thread::spawn(move || client(&address, &path, close, &counts, &stop))
        })
        .collect();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    while total(&counts) < at_least {
        std::thread::sleep(Duration::from_millis(20));
    }
    stop.store(true, Relaxed);
    for thread in threads {
        thread.join().expect("a client");
    }
    println!(
        "{{\"requests\":{},\"ok\":{},\"non2xx\":{},\"closedReused\":{},\"retriedOk\":{},\"errors\":{},\"seconds\":{:.1}}}",
        total(&counts),
        counts.ok.load(Relaxed),
        counts.non_2xx.load(Relaxed),
        counts.closed_reused.load(Relaxed),
        counts.retried_ok.load(Relaxed),
        counts.errors.load(Relaxed),
        began.elapsed().as_secs_f64()
    );
}

/// Requests, a retry not counted as one of its own.
fn total(counts: &Counts) -> u64 {
    counts.ok.load(Relaxed) + counts.non_2xx.load(Relaxed) + counts.errors.load(Relaxed)
}

fn client(address: &str, path: &str, close: bool, counts: &Counts, stop: &AtomicBool) {
    let header = if close { "Connection: close\r\n" } else { "" };
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{header}\r\n");
    let mut connection: Option<TcpStream> = None;
    let mut buffer = Vec::with_capacity(1024);
    while !stop.load(Relaxed) {
        let reused = connection.is_some();
        let mut outcome = once(&mut connection, address, request.as_bytes(), &mut buffer);
        let mut retried = false;
        if reused && matches!(outcome, Outcome::ClosedBeforeAByte) {
            counts.closed_reused.fetch_add(1, Relaxed);
            connection = None;
            retried = true;
            outcome = once(&mut connection, address, request.as_bytes(), &mut buffer);
        }
        let reusable = match outcome {
            Outcome::Ok { reusable } => {
                counts.ok.fetch_add(1, Relaxed);
                if retried {
                    counts.retried_ok.fetch_add(1, Relaxed);
                }
                reusable
            }
            Outcome::Status { reusable } => {
                counts.non_2xx.fetch_add(1, Relaxed);
                reusable
            }
            Outcome::ClosedBeforeAByte | Outcome::Broken => {
                counts.errors.fetch_add(1, Relaxed);
                false
            }
        };
        if !reusable || close {
            connection = None;
        }
    }
}

fn once(connection: &mut Option<TcpStream>, address: &str, request: &[u8], buffer: &mut Vec<u8>) -> Outcome {
    if connection.is_none() {
        let Ok(stream) = TcpStream::connect(address) else { return Outcome::Broken };
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
        *connection = Some(stream);
    }
    let Some(stream) = connection.as_mut() else { return Outcome::Broken };
    buffer.clear();
    if stream.write_all(request).is_err() {
        return Outcome::ClosedBeforeAByte;
    }
    let mut chunk = [0; 2048];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) if buffer.is_empty() => return Outcome::ClosedBeforeAByte,
            Ok(0) => return Outcome::Broken,
            Ok(count) => buffer.extend_from_slice(&chunk[..count]),
            Err(error) if buffer.is_empty() && error.kind() == std::io::ErrorKind::ConnectionReset => {
                return Outcome::ClosedBeforeAByte;
            }
            Err(_) => return Outcome::Broken,
        }
        let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
        let length: usize = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or(0);
        if buffer.len() < head + 4 + length {
            continue;
        }
        let reusable = !text.contains("connection: close");
        let good = text.get(9..10) == Some("2");
        return if good { Outcome::Ok { reusable } } else { Outcome::Status { reusable } };
    }
}
