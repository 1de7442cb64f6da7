//! HTTPS, by an nginx of one's own in front of the server: whose certificate is believed, and no way back to HTTP.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::bed::{Bed, PATIENCE, enabled, fed, free_port};
use crate::git_server::{GitServer, Mode};
use crate::program::{Program, pause};
use crate::reach::over_http;

const TOKEN: &str = "canary-t0ken";

struct Tls {
    nginx: Child,
    port: u16,
}

impl Tls {
    /// In front of `behind`, with a certificate of its own in `tls/ca.pem`.
    fn new(bed: &Bed, behind: &str) -> Self {
        let dir = bed.path("tls");
        fs::create_dir_all(&dir).unwrap();
        let at = |name: &str| dir.join(name).display().to_string();
        let (key, certificate) = (at("key.pem"), at("ca.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]);
        openssl.args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]);
        openssl.args(["-keyout", &key, "-out", &certificate]);
        fed(openssl, b"");
        let port = free_port();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|it| format!("{it}_temp_path {};", at(&format!("temp-{it}"))))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid {}; error_log {} warn;\nevents {{}}\nhttp {{ {temporary} access_log off;\n\
             server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};\n\
             location / {{ proxy_pass {behind}; proxy_redirect off; proxy_set_header Git-Protocol $http_git_protocol; }} }} }}\n",
            at("pid"),
            at("error.log"),
        );
        fs::write(at("nginx.conf"), config).unwrap();
        let nginx = Command::new("nginx")
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()))
            .args(["-e", &at("error.log"), "-c", &at("nginx.conf")])
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx is installed");
        let it = Self { nginx, port };
        let give_up = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < give_up, "nginx: {}", fs::read_to_string(at("error.log")).unwrap_or_default());
            pause(std::time::Duration::from_millis(20));
        }
        it
    }

    fn url(&self, name: &str) -> String {
        format!("https://127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
    }
}

fn trouble(program: &Program) -> String {
    let status = program.until("the trouble", |it| it["source"]["error"].is_string());
    status["source"]["error"].as_str().unwrap().to_owned()
}

#[test]
fn over_https_a_token_opens_the_door_and_the_certificate_is_checked() {
    if !enabled() {
        return;
    }
    let (bed, server, id) = over_http();
    server.login("x-access-token", TOKEN);
    let tls = Tls::new(&bed, &server.url("").replace("/server.git", ""));
    let token = bed.path("token");
    fs::write(&token, TOKEN).unwrap();
    let mut program = Program::new(&bed);
    program.url(&tls.url("server.git"));
    program.more = format!("  tokenFile: {}\n", token.display());
    program.start();
    let why = trouble(&program);
    assert!(why.contains("hint: this host does not trust the certificate"), "{why}");
    assert_eq!(server.shown(), Vec::<String>::new(), "nothing was shown to a stranger");
    drop(program);
    let mut program = Program::new(&bed);
    program.url(&tls.url("server.git"));
    program.more = format!("  tokenFile: {}\n", token.display());
    program.env("GIT_SSL_CAINFO", bed.path("tls/ca.pem"));
    program.start();
    program.until_in_force(&id);
    let second = bed.publish("2");
    program.until_in_force(&second);
    assert!(!program.log().contains(TOKEN));
}

#[test]
fn from_https_no_redirect_leads_to_http() {
    if !enabled() {
        return;
    }
    let (bed, server, _) = over_http();
    let plain = GitServer::new(&bed.path("srv"));
    server.mode(Mode::Redirect(plain.url("")));
    let tls = Tls::new(&bed, &server.url("").replace("/server.git", ""));
    let mut program = Program::new(&bed);
    program.allow = "file".to_owned();
    program.url(&tls.url("server.git"));
    program.env("GIT_SSL_CAINFO", bed.path("tls/ca.pem"));
    program.start();
    let why = trouble(&program);
    assert_eq!(plain.counts().hello, 0, "{why}");
}
