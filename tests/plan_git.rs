//! `plan` and `check` of one commit, on real git: by file, by HTTP (`git http-backend`) and by what ssh starts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A repository `origin.git` and a checkout of it, `work`.
struct Repository {
    dir: TempDir,
}

struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Repository {
    fn new() -> Self {
        let repository = Self { dir: tempfile::tempdir().unwrap() };
        repository.git(".", &["init", "--quiet", "--bare", "--initial-branch=main", "origin.git"]);
        repository.git(".", &["clone", "--quiet", "origin.git", "work"]);
        repository.git("work", &["symbolic-ref", "HEAD", "refs/heads/main"]);
        for folder in ["work/prod", "state", "tmp"] {
            std::fs::create_dir_all(repository.path(folder)).unwrap();
        }
        repository
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Nothing of whoever runs the tests reaches the program but the PATH.
    fn command(&self, program: &str, folder: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path(folder)).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", self.dir.path()).env("TMPDIR", self.path("tmp")).stdin(Stdio::null());
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Ann").env(format!("GIT_{who}_EMAIL"), "ann@example.org");
        }
        command
    }

    fn git(&self, folder: &str, args: &[&str]) -> String {
        let output = self.command("git", folder).args(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A commit on `branch`, pushed; returns its id.
    fn push(&self, branch: &str, file: &str, subject: &str) -> String {
        std::fs::write(self.path("work/prod/api.yaml"), file).unwrap();
        self.git("work", &["add", "."]);
        self.git("work", &["commit", "--quiet", "--allow-empty", "-m", subject]);
        self.git("work", &["push", "--quiet", "origin", &format!("HEAD:refs/heads/{branch}")]);
        self.git("work", &["rev-parse", "HEAD"])
    }

    fn file_url(&self) -> String {
        format!("file://{}", self.path("origin.git").display())
    }

    fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Ended {
        let mut command = self.command(env!("CARGO_BIN_EXE_holdfast"), ".");
        command.args(["--state-dir", "state"]).args(args).envs(env.iter().copied());
        let output = command.output().unwrap();
        assert_eq!(std::fs::read_dir(self.path("tmp")).unwrap().count(), 0, "a temporary folder stays");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// `plan` of a repository of this host.
    fn plan(&self, more: &[&str]) -> Ended {
        let url = self.file_url();
        self.run(&[&["plan", "--git", &url, "--git-allow", "file", "--path", "prod"], more].concat(), &[])
    }
}

/// One service whose image needs no registry: its digest is written.
fn api(tag: &str) -> String {
    let digest = "0".repeat(64);
    format!(
        "services:\n  api:\n    image: registry.invalid/api\n    tag: \"{tag}@sha256:{digest}\"\n    docker: {{port: 80}}\n"
    )
}

#[test]
fn a_commit_of_a_pull_request_is_planned_and_nothing_is_kept() {
    let repository = Repository::new();
    let main = repository.push("main", &api("1"), "one");
    let change = repository.push("change", &api("2"), "api: tag 1 -> 2");
    let of = |ended: &Ended| -> serde_json::Value { serde_json::from_str(&ended.out).expect(&ended.err) };
    let newest = of(&repository.plan(&["-o", "json"]));
    assert_eq!((&newest["revision"], &newest["commit"]["subject"]), (&main.as_str().into(), &"one".into()));
    let planned = of(&repository.plan(&["-o", "json", "--commit", &change.to_ascii_uppercase()]));
    assert_eq!(planned["commit"]["id"], change.as_str());
    assert_eq!(planned["commit"]["author"], "Ann");
    assert_eq!(planned["from"], format!("{}#main:prod", repository.file_url()));
    assert_eq!((&planned["inForce"], &planned["comesAfter"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_eq!(planned["services"][0]["name"], "api");
    let text = repository.plan(&["--commit", &change]);
    assert!(text.out.contains(&format!("at commit {} \"api: tag", &change[..12])), "{}", text.out);
    assert!(text.out.lines().take(2).all(|line| line.chars().count() <= 80 || !line.contains(' ')), "{}", text.out);
    let comment = repository.plan(&["--commit", &change, "-o", "markdown"]);
    assert!(comment.out.starts_with("<!-- holdfast plan default -->\n### Holdfast: "), "{}", comment.out);
    assert!(comment.out.contains(&format!("Commit `{}` “api: tag 1 → 2” by Ann", &change[..12])), "{}", comment.out);
    assert_eq!(std::fs::read_dir(repository.path("state")).unwrap().count(), 0, "a plan keeps nothing");
}

#[test]
fn a_plan_knows_what_is_in_force_and_leaves_the_controllers_mirror_alone() {
    let repository = Repository::new();
    repository.push("main", &api("1"), "zero");
    let good = repository.push("main", &api("1"), "one");
    let url = repository.file_url();
    let once =
        ["run", "--git", &url, "--git-allow", "file", "--path", "prod", "--sandbox", "--once", "--listen", "none"];
    let ended = repository.run(&once, &[]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    // What another engine's memory says is no business of this test.
    let git = repository.path("state/git");
    let before = listing(&git);
    assert!(!before.is_empty());
    let first = repository.push("change", &api("2"), "first");
    let second = repository.push("change", &api("3"), "second");
    let json = |id: &str| -> serde_json::Value {
        let ended = repository.plan(&["-o", "json", "--commit", id]);
        serde_json::from_str(&ended.out).expect(&ended.err)
    };
    let planned = json(&second);
    assert_eq!((&planned["comesAfter"], &planned["inForce"]["id"]), (&true.into(), &good.as_str().into()));
    assert_eq!(planned["includes"], serde_json::json!([first]));
    assert!(repository.plan(&["--commit", &second]).out.contains("with 1 commit in between"));
    assert!(repository.plan(&["--commit", &good]).out.contains("it is in force already"));
    // A branch that began before what is in force.
    repository.git("work", &["reset", "--quiet", "--hard", &format!("{good}~1")]);
    let behind = repository.push("behind", &api("4"), "behind");
    assert_eq!(json(&behind)["comesAfter"], false);
    assert!(repository.plan(&["--commit", &behind]).out.contains("it does not come after"));
    assert_eq!(listing(&git), before, "a plan writes nothing there");
}

/// Every file below `folder` with its content.
fn listing(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(listing(&entry.path()));
        } else {
            found.insert(entry.path(), std::fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn a_mistake_is_told_with_its_place_and_a_plan_of_it_is_a_comment_too() {
    let repository = Repository::new();
    repository.push("main", &api("1"), "one");
    let bad = repository.push("change", &api("2").replace("image:", "imagee:"), "oops");
    let place = "prod/api.yaml:3:5: unknown key `imagee`";
    let comment = repository.plan(&["--commit", &bad, "-o", "markdown"]);
    assert_eq!(comment.code, 1);
    assert!(comment.out.starts_with("<!-- holdfast plan default -->\n### Holdfast: no plan\n"), "{}", comment.out);
    assert!(comment.out.contains(&format!("\n```text\n{place}")), "{}", comment.out);
    assert!(comment.err.contains(place), "{}", comment.err);
    let url = repository.file_url();
    let check = |more: &[&str]| {
        let args = ["check", "--files-only", "--git", &url, "--git-allow", "file", "--path", "prod"];
        repository.run(&[&args, more].concat(), &[])
    };
    let checked = check(&["--commit", &bad]);
    assert!(checked.code == 1 && checked.err.contains(place) && checked.out.is_empty(), "{}", checked.err);
    let checked = check(&[]);
    assert!(checked.code == 0 && checked.out.contains(": 1 service:"), "{}{}", checked.out, checked.err);
}

#[test]
fn what_is_no_commit_of_the_repository_is_refused_with_a_hint() {
    let repository = Repository::new();
    let id = repository.push("main", &api("1"), "one");
    let short = repository.plan(&["--commit", &id[..7]]);
    assert!(short.code == 1 && short.err.contains(&format!("`git rev-parse {}`", &id[..7])), "{}", short.err);
    for bad in ["main", "refs/pull/1/merge", "--upload-pack=x", ""] {
        assert_eq!(repository.plan(&[&format!("--commit={bad}")]).code, 1, "{bad}");
    }
    let unknown = repository.plan(&["--commit", &"a".repeat(40)]);
    assert!(unknown.code == 1 && unknown.err.contains("hint: the server gives out no such commit"), "{}", unknown.err);
    let tree = repository.git("work", &["rev-parse", "HEAD^{tree}"]);
    assert_eq!(repository.plan(&["--commit", &tree]).code, 1);
    let nowhere = repository.run(&["plan", "--commit", &id], &[]);
    assert!(nowhere.code == 1 && nowhere.err.contains("hint: add --git URL"), "{}", nowhere.err);
    let both = repository.run(&["plan", "work/prod", "--commit", &id], &[]);
    assert!(both.code == 1 && both.err.contains("cannot be used with"), "{}", both.err);
    // `--commit` alone takes the repository of holdfast.yaml.
    let settings = format!("git: {{url: \"{}\", allow: [file], path: prod}}\n", repository.file_url());
    std::fs::write(repository.path("holdfast.yaml"), settings).unwrap();
    let alone = repository.run(&["check", "--files-only", "--commit", &id], &[]);
    assert!(alone.code == 0 && alone.out.contains(&id[..12]), "{}{}", alone.out, alone.err);
}

#[test]
fn a_commit_comes_over_http() {
    let repository = Repository::new();
    repository.push("main", &api("1"), "one");
    let inside = repository.push("change", &api("2"), "inside");
    repository.push("change", &api("3"), "tip");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/origin.git", listener.local_addr().unwrap());
    let root = repository.dir.path().to_owned();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| backend(&root, &stream)));
    let args = ["check", "--files-only", "--git", &url, "--git-allow", "http", "--path", "prod", "--commit", &inside];
    let ended = repository.run(&args, &[]);
    assert!(ended.code == 0 && ended.out.contains(&inside[..12]), "{}{}", ended.out, ended.err);
}

/// `git http-backend` for one request.
fn backend(root: &Path, stream: &TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    while head.last().is_none_or(|line: &String| !line.is_empty()) {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        head.push(line.trim_end().to_owned());
    }
    let mut words = head[0].split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |name: &str| {
        let found =
            head.iter().filter_map(|line| line.split_once(": ")).find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or(String::new(), |(_, value)| value.to_owned())
    };
    let mut body = vec![0; header("Content-Length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let mut child = Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("Content-Type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("Content-Encoding"))
        .env("GIT_PROTOCOL", header("Git-Protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&body).unwrap();
    let answer = child.wait_with_output().unwrap().stdout;
    let status = if answer.starts_with(b"Status: ") { &b"HTTP/1.1 500 No\r\n"[..] } else { b"HTTP/1.1 200 OK\r\n" };
    let mut stream = stream;
    stream.write_all(&[status, b"Connection: close\r\n", &answer].concat()).unwrap();
}

#[test]
fn by_ssh_a_server_of_the_old_protocol_gives_out_tips_and_says_so_of_others() {
    let repository = Repository::new();
    repository.push("main", &api("1"), "one");
    let inside = repository.push("change", &api("2"), "inside");
    let tip = repository.push("change", &api("3"), "tip");
    // sshd as it comes hands no GIT_PROTOCOL over: the program it starts speaks the old protocol.
    let ssh = repository.path("ssh");
    std::fs::write(&ssh, "#!/bin/sh\nunset GIT_PROTOCOL\nfor last; do :; done\nexec sh -c \"$last\"\n").unwrap();
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    let url = format!("ssh://git@host{}", repository.path("origin.git").display());
    let check = |id: &str| {
        let args = ["check", "--files-only", "--git", &url, "--path", "prod", "--commit", id];
        repository.run(&args, &[("GIT_SSH", ssh.to_str().unwrap())])
    };
    let ended = check(&tip);
    assert!(ended.code == 0 && ended.out.contains(&tip[..12]), "{}{}", ended.out, ended.err);
    let refused = check(&inside);
    assert!(refused.code == 1 && refused.err.contains("only the newest commit of a branch"), "{}", refused.err);
    // The host may allow it.
    repository.git("origin.git", &["config", "uploadpack.allowReachableSHA1InWant", "true"]);
    assert_eq!(check(&inside).code, 0);
}
