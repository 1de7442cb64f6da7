//! A registry that only fails, in the way it is told to.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::pause;
use std::time::Duration;

/// Listens until the test process ends.
pub(crate) struct RegistryStub {
    pub(crate) port: u16,
    asked: Arc<AtomicUsize>,
}

impl RegistryStub {
    /// Answers every request with `status`; 0 never answers.
    pub(crate) fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || answer(stream, status));
            }
        });
        Self { port, asked }
    }

    /// How many connections came.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn answer(mut stream: std::net::TcpStream, status: u16) {
    let mut buffer = [0; 4096];
    if !matches!(stream.read(&mut buffer), Ok(count) if count > 0) {
        return;
    }
    if status == 0 {
        // Held open and silent: the client has to give up by itself.
        pause(Duration::from_secs(120));
        return;
    }
    // In the words of the distribution specification: a bare 404 may as well be a proxy's, and proves nothing.
    let code = match status {
        401 => "UNAUTHORIZED",
        404 => "MANIFEST_UNKNOWN",
        429 => "TOOMANYREQUESTS",
        _ => "UNKNOWN",
    };
    let body = format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"as told\"}}]}}");
    let challenge = if status == 401 { "WWW-Authenticate: Basic realm=\"stub\"\r\n" } else { "" };
    let text = format!(
        "HTTP/1.1 {status} Stub\r\nDocker-Distribution-Api-Version: registry/2.0\r\n{challenge}Content-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes());
}
