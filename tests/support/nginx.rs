//! A real nginx of one's own, small backends and a small load, for tests. Everything ends when it is dropped.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a test harness"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Whether `HOLDFAST_TEST_NGINX=1`; says so when it is not.
pub fn enabled(test: &str) -> bool {
    let on = std::env::var("HOLDFAST_TEST_NGINX").is_ok_and(|value| value == "1");
    if !on {
        eprintln!("{test}: skipped, it needs a real nginx: set HOLDFAST_TEST_NGINX=1");
    }
    on
}

/// A port nobody listens on, below the kernel's ephemeral range; not given twice by this process.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 21_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = start + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Looks every 5 ms until `condition` holds; panics with `what` after `longest`. Returns how long it took.
pub fn wait_until(what: &str, longest: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < longest, "{what}: not within {longest:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    start.elapsed()
}

/// nginx under its own prefix, with `services` upstreams, each on its own port.
pub struct TestNginx {
    pub dir: tempfile::TempDir,
    pub ports: Vec<u16>,
}

impl TestNginx {
    /// Writes a configuration with one upstream for each name, and servers files that take no requests; starts nothing.
    pub fn prepared(names: &[&str]) -> Self {
        let nginx = Self { dir: tempfile::tempdir().unwrap(), ports: names.iter().map(|_| free_port()).collect() };
        fs::create_dir(nginx.dir.path().join("servers")).unwrap();
        for name in names {
            fs::write(nginx.file(name), "server 127.0.0.1:1 down;\n").unwrap();
        }
        nginx.configure(names, "");
        nginx
    }

    /// The same, running.
    pub fn started(names: &[&str]) -> Self {
        let nginx = Self::prepared(names);
        nginx.start();
        nginx
    }

    /// Writes the configuration anew, with `extra` in the http block.
    pub fn configure(&self, names: &[&str], extra: &str) {
        let root = self.dir.path().display();
        let mut http = String::new();
        for (name, port) in names.iter().zip(&self.ports) {
            http.push_str(&format!(
                "upstream {name} {{ include {file}; keepalive 8; }}\n\
                 server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{name}; \
                 proxy_http_version 1.1; proxy_set_header Connection ''; proxy_next_upstream off; }} }}\n",
                file = self.file(name).display()
            ));
        }
        let user = if fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0) {
            "user root;\n"
        } else {
            ""
        };
        let text = format!(
            "{user}daemon on; master_process on; worker_processes 2;\npid {root}/nginx.pid; error_log {root}/error.log notice;\n\
             events {{ worker_connections 512; }}\nhttp {{ access_log off;\nclient_body_temp_path {root}/t1; \
             proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;\n\
             {http}{extra}\n}}\n"
        );
        fs::write(self.config(), text).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("nginx.conf")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.dir.path().join("nginx.pid")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("servers/{name}.servers"))
    }

    pub fn url(&self, index: usize) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[index]).into()
    }

    pub fn start(&self) {
        self.nginx(&[]);
        wait_until("nginx runs", Duration::from_secs(10), || self.workers().len() == 2);
    }

    pub fn stop(&self) {
        self.nginx(&["-s", "stop"]);
        wait_until("nginx has stopped", Duration::from_secs(10), || !self.pid_file().exists());
    }

    pub fn reload(&self) {
        self.nginx(&["-s", "reload"]);
    }

    fn nginx(&self, flags: &[&str]) {
        let output = self.command(flags).output().expect("nginx is installed");
        assert!(output.status.success(), "nginx {flags:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("-p").arg(self.dir.path()).arg("-c").arg(self.config()).args(flags);
        command
    }

    pub fn master(&self) -> Option<u32> {
        fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()
    }

    /// The workers that accept.
    pub fn workers(&self) -> Vec<u32> {
        let Some(master) = self.master() else { return Vec::new() };
        let Ok(text) = fs::read_to_string(format!("/proc/{master}/task/{master}/children")) else { return Vec::new() };
        let pids = text.split_ascii_whitespace().map(|pid| pid.parse().unwrap());
        pids.filter(|pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|title| title.trim_end_matches(['\0', ' ']) == "nginx: worker process")
        })
        .collect()
    }

    /// How often the master loaded its configuration since it started.
    pub fn reloads(&self) -> usize {
        let log = fs::read_to_string(self.dir.path().join("error.log")).unwrap_or_default();
        log.lines().filter(|line| line.ends_with("reconfiguring")).count()
    }

    pub fn error_log(&self) -> String {
        fs::read_to_string(self.dir.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for TestNginx {
    fn drop(&mut self) {
        let Some(master) = self.master() else { return };
        // By signal: `nginx -s stop` reads the configuration, which a test may have broken.
        let _ = Command::new("kill").arg(master.to_string()).output();
        let start = Instant::now();
        while Path::new(&format!("/proc/{master}")).exists() && start.elapsed() < Duration::from_secs(5) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

pub fn binary() -> PathBuf {
    ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.is_file())
        .unwrap_or_else(|| "nginx".into())
}

/// A backend that answers every request with its name; a thread a connection.
pub struct Backend {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    pub fn start(name: &'static str) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let listener = TcpListener::bind(address).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(stream) = stream {
                    std::thread::spawn(move || serve(stream, name));
                }
            }
        });
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, name: &str) {
    let _ = stream.set_nodelay(true);
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..read]);
        while let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            request.drain(..end + 4);
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// One request on its own connection: status and body.
pub fn get(address: SocketAddr) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    match (status, body) {
        (Some(status), Some(body)) => Ok((status, body)),
        _ => Err(std::io::Error::other(format!("no whole answer: {text:?}"))),
    }
}

/// Requests from `clients` threads, one connection each, until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    pub good: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    pub fn start(address: SocketAddr, clients: usize) -> Self {
        let (stop, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..clients)
            .map(|_| {
                let (stop, good) = (Arc::clone(&stop), Arc::clone(&good));
                std::thread::spawn(move || {
                    let mut failures = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        match get(address) {
                            Ok((200, _)) => {
                                good.fetch_add(1, Ordering::Relaxed);
                            }
                            other => failures.push(format!("{other:?}")),
                        }
                    }
                    failures
                })
            })
            .collect();
        Self { stop, good, threads }
    }

    /// Good answers, and every failure.
    pub fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (self.good.load(Ordering::Relaxed), failures)
    }
}
