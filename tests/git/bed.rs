//! A repository of one's own with a checkout that pushes to it, a state folder, and the source that follows it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use holdfast::git::{Access, Protocol};
use holdfast::model::desired::DesiredState;
use holdfast::model::names::ControllerId;
use holdfast::model::snapshot::Why;
use holdfast::ports::{Source as _, SourceUpdate, WallClock};
use holdfast::source::HostRules;
use holdfast::source::git::{GitOptions, GitSource};
use holdfast::source::settings::GitSettings;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Far beyond what anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Bed {
    dir: TempDir,
    pub(crate) settings: GitSettings,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::of_format("sha1")
    }

    pub(crate) fn of_format(format: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = dir.path().join("srv/server.git");
        let url = format!("file://{}", server.display());
        let mut settings = GitSettings::of(url, "main".to_owned(), "prod".to_owned());
        settings.access = Access { allow: vec![Protocol::File, Protocol::Http], ..Access::default() };
        let bed = Self { dir, settings };
        fs::create_dir_all(bed.path("home")).unwrap();
        let format = format!("--object-format={format}");
        bed.run(&["init", "--quiet", "--bare", "--initial-branch=main", &format, &server.display().to_string()], b"");
        let checkout = bed.checkout().display().to_string();
        bed.run(&["init", "--quiet", "--initial-branch=main", &format, &checkout], b"");
        bed.git(&["remote", "add", "origin", &server.display().to_string()]);
        bed
    }

    /// One with a good commit.
    pub(crate) fn published() -> (Self, String) {
        let bed = Self::new();
        let id = bed.publish("1");
        (bed, id)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    pub(crate) fn server(&self) -> PathBuf {
        self.path("srv/server.git")
    }
    pub(crate) fn checkout(&self) -> PathBuf {
        self.path("checkout")
    }
    pub(crate) fn state(&self) -> PathBuf {
        self.path("state/git")
    }
    pub(crate) fn record(&self) -> PathBuf {
        self.state().join("last-good.json")
    }

    /// The mirror; there is one.
    pub(crate) fn mirror(&self) -> PathBuf {
        let entries = fs::read_dir(self.state()).unwrap().flatten().map(|entry| entry.path());
        let mirrors: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|it| it == "git")).collect();
        assert_eq!(mirrors.len(), 1, "{mirrors:?}");
        mirrors[0].clone()
    }

    /// git without the settings of whoever runs the tests.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.path("home"));
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Ann").env(format!("GIT_{who}_EMAIL"), "ann@acme.example");
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str], stdin: &[u8]) -> String {
        let mut command = self.command();
        command.args(args);
        fed(command, stdin)
    }

    /// git in the checkout.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        self.git_reading(args, b"")
    }
    pub(crate) fn git_reading(&self, args: &[&str], stdin: &[u8]) -> String {
        let checkout = self.checkout().display().to_string();
        self.run(&[&["-C", checkout.as_str()], args].concat(), stdin)
    }

    /// git in the repository that is followed.
    pub(crate) fn at_server(&self, args: &[&str]) -> String {
        let server = self.server().display().to_string();
        self.run(&[&["-C", server.as_str()], args].concat(), b"")
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.checkout().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn commit(&self, subject: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--allow-empty-message", "-m", subject]);
        self.head()
    }
    pub(crate) fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }
    pub(crate) fn push(&self) {
        self.git(&["push", "--quiet", "--force", "origin", &format!("HEAD:refs/heads/{}", self.settings.branch)]);
    }
    pub(crate) fn commit_tag(&self, tag: &str) -> String {
        self.write("prod/api.yaml", service("api", tag));
        self.commit(&format!("api: tag {tag}"))
    }
    pub(crate) fn publish(&self, tag: &str) -> String {
        let id = self.commit_tag(tag);
        self.push();
        id
    }
    /// Whatever was written, committed and pushed.
    pub(crate) fn publish_all(&self, subject: &str) -> String {
        let id = self.commit(subject);
        self.push();
        id
    }

    /// As it is after a start.
    pub(crate) fn source(&self) -> Arc<GitSource> {
        let controller = ControllerId::new("c1").unwrap();
        Arc::new(GitSource::new(GitOptions {
            settings: self.settings.clone(),
            folder: self.state(),
            rules: HostRules { controller, named: true, mounts: Vec::new() },
            clock: Arc::new(WallClock),
        }))
    }

    /// What a new process enforces when nobody answers.
    pub(crate) async fn in_force_alone(&self) -> Option<Arc<DesiredState>> {
        let (server, away) = (self.path("srv"), self.path("srv-away"));
        fs::rename(&server, &away).unwrap();
        let mut watching = Watching::new(&self.source());
        let state = match watching.next().await {
            SourceUpdate::Accepted(state) => Some(state),
            SourceUpdate::Unreadable(_) => None,
            other => panic!("{other:?}"),
        };
        drop(watching);
        fs::rename(&away, &server).unwrap();
        state
    }
    pub(crate) async fn assert_in_force_alone(&self, id: &str) {
        let state = self.in_force_alone().await.expect("something is in force");
        assert_eq!(state.revision.0, id);
    }

    /// Without what differs from run to run.
    pub(crate) fn plain(&self, text: &str) -> String {
        let text = text.replace(&self.dir.path().display().to_string(), "DIR");
        let hex = regex::Regex::new(r"(?-u:\b)[0-9a-f]{12,64}(?-u:\b)").unwrap();
        let text = hex.replace_all(&text, "ID");
        regex::Regex::new(r"\[?127\.0\.0\.1\]?( port |:)[0-9]+").unwrap().replace_all(&text, "HOST").into_owned()
    }
}

/// Runs it with `stdin`; it must succeed.
pub(crate) fn fed(mut command: Command, stdin: &[u8]) -> String {
    use std::io::Write as _;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut into = child.stdin.take().expect("piped");
    let stdin = stdin.to_owned();
    let feeding = std::thread::spawn(move || into.write_all(&stdin));
    let output = child.wait_with_output().expect("it ends");
    let _ = feeding.join();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(crate) fn service(name: &str, tag: &str) -> String {
    format!(
        "services:\n  {name}:\n    image: registry.example/{name}\n    tag: \"{tag}\"\n    docker: {{port: 8080}}\n"
    )
}

pub(crate) fn accepted(update: SourceUpdate) -> Arc<DesiredState> {
    match update {
        SourceUpdate::Accepted(state) => state,
        other => panic!("not accepted: {other:?}"),
    }
}
pub(crate) fn rejected(update: SourceUpdate) -> Why {
    match update {
        SourceUpdate::Rejected { why, .. } => why,
        other => panic!("not rejected: {other:?}"),
    }
}
pub(crate) fn unreadable(update: SourceUpdate) -> Why {
    match update {
        SourceUpdate::Unreadable(why) => why,
        other => panic!("not unreadable: {other:?}"),
    }
}

/// Every service with its tag: `api 1, web 2`.
pub(crate) fn tags(state: &DesiredState) -> String {
    let all: Vec<String> = state.services.iter().map(|(name, it)| format!("{name} {}", it.tag)).collect();
    all.join(", ")
}

/// A source that is watched, as the controller does.
pub(crate) struct Watching {
    updates: mpsc::Receiver<SourceUpdate>,
    task: JoinHandle<()>,
}

impl Watching {
    pub(crate) fn new(source: &Arc<GitSource>) -> Self {
        let (into, updates) = mpsc::channel(64);
        let source = Arc::clone(source);
        Self { updates, task: tokio::spawn(async move { source.watch(into).await }) }
    }

    pub(crate) async fn next(&mut self) -> SourceUpdate {
        tokio::time::timeout(PATIENCE, self.updates.recv()).await.expect("an update in time").expect("it goes on")
    }

    /// What comes until one fits.
    pub(crate) async fn until(&mut self, what: &str, fits: impl Fn(&SourceUpdate) -> bool) -> Vec<SourceUpdate> {
        let mut seen = Vec::new();
        loop {
            let Ok(Some(update)) = tokio::time::timeout(PATIENCE, self.updates.recv()).await else {
                panic!("waited in vain for {what}; came: {seen:?}")
            };
            let is_last = fits(&update);
            seen.push(update);
            if is_last {
                return seen;
            }
        }
    }

    pub(crate) async fn until_accepted(&mut self, id: &str) -> Arc<DesiredState> {
        let fits = |it: &SourceUpdate| matches!(it, SourceUpdate::Accepted(state) if state.revision.0 == id);
        accepted(self.until(&format!("commit {id}"), fits).await.pop().expect("the last one"))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A port for a server that cannot choose one itself: below those the kernel gives to others in the meantime.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = std::process::id().wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst));
        let port = u16::try_from(10_240 + next % 9_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Whether what needs more than git runs.
pub(crate) fn enabled() -> bool {
    let on = std::env::var_os("HOLDFAST_TEST_GIT").is_some_and(|it| it == "1");
    if !on {
        println!("skipped: HOLDFAST_TEST_GIT=1 is not set");
    }
    on
}

/// Everything written below `folder`, as one text.
pub(crate) fn everything(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all += &everything(&path);
        } else {
            all += &String::from_utf8_lossy(&fs::read(&path).unwrap_or_default());
        }
    }
    all
}
