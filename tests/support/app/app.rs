//! The app that is deployed by the demo, the tests and the benchmarks: one file, std only, a static binary.
//!
//! Built by `scripts/build-app.sh` with plain `rustc`. HTTP/1.1 with keep-alive, a thread with a small stack for each
//! connection. Every path answers the version, but:
//!
//! - `/healthz`: 200, or 503 once `POST /unhealthy` was called (until `POST /healthy`);
//! - `/slow?ms=N`: answers after N milliseconds, for drains;
//! - `/crash`: ends the process.
//!
//! Knobs: `VERSION`, `PORT` (8080), `FAIL_HEALTH=1` (503 everywhere), `START_DELAY_MS`, `CRASH_AFTER_MS`.
//! SIGTERM: connections in the middle of a request finish (5 s at most), then it exits 0; it works as PID 1.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

const SIGTERM: i32 = 15;
const SIGINT: i32 = 2;

// std links the C library anyway; these two need no crate.
unsafe extern "C" {
    fn signal(signum: i32, handler: extern "C" fn(i32)) -> usize;
    fn write(fd: i32, bytes: *const u8, count: usize) -> isize;
}

static WAKE: AtomicI32 = AtomicI32::new(-1);
static LEAVING: AtomicBool = AtomicBool::new(false);
static UNHEALTHY: AtomicBool = AtomicBool::new(false);
static IN_FLIGHT: AtomicUsize = AtomicUsize::new(0);

/// Only what is safe in a signal handler: a store and a write.
extern "C" fn leave(_signal: i32) {
    LEAVING.store(true, SeqCst);
    unsafe { write(WAKE.load(SeqCst), b"x".as_ptr(), 1) };
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn main() {
    let (mut wake, raise) = UnixStream::pair().expect("a socket pair");
    WAKE.store(raise.into_raw_fd(), SeqCst);
    unsafe {
        signal(SIGTERM, leave);
        signal(SIGINT, leave);
    }
    if let Some(ms) = number("START_DELAY_MS") {
        thread::sleep(Duration::from_millis(ms));
    }
    if let Some(ms) = number("CRASH_AFTER_MS") {
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(ms));
            eprintln!("crashing, as asked");
            std::process::exit(1);
        });
    }
    let version: &'static str = Box::leak(std::env::var("VERSION").unwrap_or_else(|_| "unknown".into()).into_boxed_str());
    let failing = std::env::var("FAIL_HEALTH").is_ok_and(|value| value == "1");
    let port = number("PORT").unwrap_or(8080);
    let listener = TcpListener::bind(("0.0.0.0", port as u16)).expect("bind");
    println!("{version} listens on {port}");
    thread::spawn(move || accept(&listener, version, failing));

    let _ = wake.read(&mut [0]);
    let give_up = Instant::now() + Duration::from_secs(5);
    while IN_FLIGHT.load(SeqCst) > 0 && Instant::now() < give_up {
        thread::sleep(Duration::from_millis(2));
    }
    println!("{version} leaves");
}

fn accept(listener: &TcpListener, version: &'static str, failing: bool) {
    for stream in listener.incoming() {
        // Out of descriptors or a client gone before it was accepted: the next one may do.
        let Ok(stream) = stream else { continue };
        let _ = thread::Builder::new().stack_size(64 * 1024).spawn(move || serve(stream, version, failing));
    }
}

/// One connection: requests one after the other, until either side closes.
fn serve(mut stream: TcpStream, version: &str, failing: bool) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(4096);
    while let Some(request) = read_request(&mut stream, &mut buffer) {
        IN_FLIGHT.fetch_add(1, SeqCst);
        let (status, body) = answer(&request, version, failing);
        let close = request.close || LEAVING.load(SeqCst);
        let text = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nX-Version: {version}\r\n{}\r\n{body}",
            body.len(),
            if close { "Connection: close\r\n" } else { "" }
        );
        let sent = stream.write_all(text.as_bytes());
        IN_FLIGHT.fetch_sub(1, SeqCst);
        if sent.is_err() || close {
            return;
        }
    }
}

fn answer(request: &Request, version: &str, failing: bool) -> (&'static str, String) {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    match path {
        "/crash" => std::process::exit(1),
        "/unhealthy" => UNHEALTHY.store(true, SeqCst),
        "/healthy" => UNHEALTHY.store(false, SeqCst),
        "/slow" => {
            let ms = query.strip_prefix("ms=").and_then(|ms| ms.parse().ok()).unwrap_or(100);
            thread::sleep(Duration::from_millis(ms));
        }
        _ => {}
    }
    if failing || (path == "/healthz" && UNHEALTHY.load(SeqCst)) {
        return ("503 Service Unavailable", format!("{version} is not healthy\n"));
    }
    ("200 OK", format!("{version}\n"))
}

struct Request {
    target: String,
    close: bool,
}

/// Reads one request with its body; what follows it stays in `buffer`.
fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let head = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if buffer.len() > 64 * 1024 || !fill(stream, buffer) {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (_method, target, protocol) = (words.next()?, words.next()?.to_owned(), words.next()?);
    let mut close = protocol == "HTTP/1.0";
    let mut length = 0_usize;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().ok()?;
        } else if name.eq_ignore_ascii_case("connection") {
            close = value.eq_ignore_ascii_case("close") || (close && !value.eq_ignore_ascii_case("keep-alive"));
        }
    }
    while buffer.len() < head + length {
        if !fill(stream, buffer) {
            return None;
        }
    }
    buffer.drain(..head + length);
    Some(Request { target, close })
}

fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(count) => {
                buffer.extend_from_slice(&chunk[..count]);
                return true;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}
