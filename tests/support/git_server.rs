//! `git http-backend` behind a small HTTP server on a port of its own, which counts what it is asked and misbehaves
//! when told to. It ends with the test.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What it does with a request that may come in.
#[derive(Debug, Clone)]
pub(crate) enum Mode {
    /// What git says.
    Serve,
    /// This status with these words, to everything.
    Status(u16, String),
    /// No answer.
    Stall,
    /// After so many bytes of objects the connection ends.
    Cut(u64),
    /// Objects come so often; after that the connection ends at once.
    CutAfter(usize),
    /// After so many bytes of objects nothing more comes.
    Hang(u64),
    /// `302` to this address with the path behind it.
    Redirect(String),
    /// The list of refs has no end.
    Endless,
}

/// How often it was asked for what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// What can be spoken (`info/refs`).
    pub(crate) hello: usize,
    /// Which commit a ref has.
    pub(crate) refs: usize,
    /// Objects.
    pub(crate) objects: usize,
    /// Without or with the wrong password.
    pub(crate) denied: usize,
}

struct Shared {
    root: PathBuf,
    mode: Mutex<Mode>,
    login: Mutex<Option<(String, String)>>,
    counts: Mutex<Counts>,
    /// Every `Authorization` that came.
    logins: Mutex<Vec<String>>,
    open: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
}

/// Every repository under one folder.
pub(crate) struct GitServer {
    port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
    fn is_for_objects(&self) -> bool {
        self.method == "POST" && self.body.windows(13).any(|it| it == b"command=fetch")
    }
}

impl GitServer {
    pub(crate) fn new(root: &Path) -> Self {
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            mode: Mutex::new(Mode::Serve),
            login: Mutex::default(),
            counts: Mutex::default(),
            logins: Mutex::default(),
            open: Mutex::default(),
            stopped: AtomicBool::new(true),
        });
        let mut server = Self { port: 0, shared, accepting: None };
        server.start();
        server
    }

    /// `http://127.0.0.1:PORT/NAME`.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    pub(crate) fn mode(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
    }

    /// From now on only who knows `password` comes in.
    pub(crate) fn login(&self, user: &str, password: &str) {
        *self.shared.login.lock().unwrap() = Some((user.to_owned(), password.to_owned()));
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.shared.counts.lock().unwrap()
    }

    /// The passwords it was shown.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.shared.logins.lock().unwrap().clone()
    }

    /// Nobody listens any more; who is connected is cut off.
    pub(crate) fn stop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // The accepting thread waits for one more.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Listens, on the same port as before.
    pub(crate) fn start(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("a port");
        self.port = listener.local_addr().expect("an address").port();
        self.shared.stopped.store(false, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        self.accepting = Some(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                shared.open.lock().unwrap().extend(stream.try_clone());
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    // A client that goes away is no failure of the server.
                    let _ = answer(&shared, stream);
                });
            }
        }));
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn request(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut from = BufReader::new(stream);
    let mut line = String::new();
    from.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        match line.trim().split_once(':') {
            Some((name, value)) => request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    if let Some(length) = request.header("content-length").and_then(|it| it.parse().ok()) {
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        request.body = body;
    } else if request.header("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            from.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(std::io::Error::other)?;
            let mut chunk = vec![0; size + 2];
            from.read_exact(&mut chunk)?;
            request.body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    }
    Ok(Some(request))
}

fn answer(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    let Some(request) = request(&stream)? else { return Ok(()) };
    let mode = shared.mode.lock().unwrap().clone();
    if let Mode::Redirect(to) = &mode {
        let to = format!("{to}{}?{}", request.path, request.query);
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    if let Some(shown) = request.header("authorization") {
        let text = shown.strip_prefix("Basic ").and_then(|it| STANDARD.decode(it).ok()).unwrap_or_default();
        shared.logins.lock().unwrap().push(String::from_utf8_lossy(&text).into_owned());
    }
    let login = shared.login.lock().unwrap().clone();
    if let Some((user, password)) = login {
        let wanted = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        if request.header("authorization") != Some(wanted.as_str()) {
            shared.counts.lock().unwrap().denied += 1;
            return write!(
                stream,
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\nContent-Length: 0\r\nConnection: \
                 close\r\n\r\n"
            );
        }
    }
    {
        let mut counts = shared.counts.lock().unwrap();
        match (request.method.as_str(), request.is_for_objects()) {
            ("GET", _) => counts.hello += 1,
            (_, false) => counts.refs += 1,
            (_, true) => counts.objects += 1,
        }
    }
    if let Mode::CutAfter(left) = &mode
        && request.is_for_objects()
    {
        if *left == 0 {
            return stream.shutdown(Shutdown::Both);
        }
        *shared.mode.lock().unwrap() = Mode::CutAfter(left - 1);
    }
    match mode {
        Mode::Status(status, words) => write!(
            stream,
            "HTTP/1.1 {status} So\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{words}",
            words.len()
        ),
        Mode::Stall => forever(&mut stream),
        Mode::Endless => {
            let service = "application/x-git-upload-pack-advertisement";
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: {service}\r\nConnection: close\r\n\r\n")?;
            stream.write_all(b"001e# service=git-upload-pack\n0000000eversion 2\n")?;
            let line = [b"fff0".as_slice(), &[b'x'; 0xffec]].concat();
            loop {
                stream.write_all(&line)?;
            }
        }
        _ => serve(shared, &request, stream, &mode),
    }
}

/// Until the client has had enough, or the server stops.
fn forever(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read_to_end(&mut Vec::new()).map(|_| ())
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(shared: &Shared, request: &Request, mut stream: TcpStream, mode: &Mode) -> std::io::Result<()> {
    let mut backend = Command::new("git");
    backend.arg("http-backend").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    backend.env("GIT_PROJECT_ROOT", &shared.root).env("GIT_HTTP_EXPORT_ALL", "1");
    backend.env("PATH_INFO", &request.path).env("QUERY_STRING", &request.query);
    backend.env("REQUEST_METHOD", &request.method).env("CONTENT_LENGTH", request.body.len().to_string());
    backend.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for (header, name) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ] {
        if let Some(value) = request.header(header) {
            backend.env(name, value);
        }
    }
    let mut backend = Ended(backend.spawn()?);
    let mut into = backend.0.stdin.take().expect("piped");
    let body = request.body.clone();
    // Beside the reading: neither side may wait for the other.
    let feeding = std::thread::spawn(move || into.write_all(&body));
    let mut out = BufReader::new(backend.0.stdout.take().expect("piped"));
    let (mut status, mut head) = ("200 OK".to_owned(), String::new());
    loop {
        let mut line = String::new();
        if out.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        match line.strip_prefix("Status: ") {
            Some(text) => text.trim().clone_into(&mut status),
            None => head += &line,
        }
    }
    write!(stream, "HTTP/1.1 {status}\r\n{head}Connection: close\r\n\r\n")?;
    match mode {
        Mode::Cut(most) if request.is_for_objects() => drop(std::io::copy(&mut out.take(*most), &mut stream)?),
        Mode::Hang(most) if request.is_for_objects() => {
            std::io::copy(&mut out.take(*most), &mut stream)?;
            forever(&mut stream)?;
        }
        _ => drop(std::io::copy(&mut out, &mut stream)?),
    }
    let _ = feeding.join();
    stream.shutdown(Shutdown::Both)
}
