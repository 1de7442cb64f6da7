//! Running `git`: a clean environment, no prompt, no hook, a time limit, and failures in words people can use.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::child::{self, With};
use super::failure::{GitError, Trouble, judge, last_lines, scrubbed};
use super::{Access, Token, names, token};
use crate::model::secret::Secret;

/// What git may write at most: the list of a tree of 100,000 files has 10 MB.
const MOST: usize = 64 << 20;
/// What is kept of its complaints.
const MOST_SAID: usize = 64 << 10;
/// Memory git may have of its own (packs are mapped and do not count): a server without end fills no host.
const MOST_MEMORY: u64 = 2 << 30;
/// The longest file git may write.
const MOST_DISK: u64 = 8 << 30;
/// git knows its own settings by then.
const ASKING: Duration = Duration::from_secs(10);
/// How long a printed token is used: a GitHub App's lives an hour.
const TOKEN_AGE: Duration = Duration::from_secs(5 * 60);

/// Of the caller's `GIT_*` variables these reach git: how TLS is checked, which configuration is read (its credential
/// helpers and proxies are the host's own business), and what such helpers ask for. Others could redirect it.
const KEPT: [&str; 11] = [
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_CERT",
    "GIT_SSL_KEY",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_USERNAME",
    "GIT_PASSWORD",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
];

/// Settings that win over every configuration file.
const SETTINGS: [&str; 10] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.recurseSubmodules=false",
    "transfer.bundleURI=false",
    "credential.interactive=false",
    // Larger files are never wanted here: they go past memory.
    "core.bigFileThreshold=16m",
    // A server that stops in the middle is given up on after 30 s; one that packs a large history gives a sign of life
    // every 5 s.
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=30",
];

/// One run of git.
#[derive(Debug, Default)]
pub struct Run {
    /// The verb, then its arguments.
    pub args: Vec<OsString>,
    /// What it reads.
    pub stdin: Vec<u8>,
    /// Further variables.
    pub env: Vec<(&'static str, OsString)>,
    /// Further settings, `key=value`.
    pub settings: Vec<String>,
    /// How long it may take.
    pub limit: Duration,
    /// Whether it talks to the other side: then it gets what opens the door.
    pub remote: bool,
    /// Whether it needs nothing of the repository here, which may be damaged.
    pub elsewhere: bool,
}

impl Run {
    /// A run on this host alone.
    pub fn local<I: Into<OsString>>(args: impl IntoIterator<Item = I>) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self { args, limit: Duration::from_secs(60), ..Self::default() }
    }

    /// A run that talks to the other side.
    pub fn remote<I: Into<OsString>>(limit: Duration, args: impl IntoIterator<Item = I>) -> Self {
        Self { limit, remote: true, ..Self::local(args) }
    }

    /// With this to read.
    #[must_use]
    pub fn reads(mut self, stdin: impl Into<Vec<u8>>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// With this variable.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.env.push((name, value.into()));
        self
    }
}

/// `git` on one bare repository.
pub struct Git {
    dir: PathBuf,
    url: String,
    access: Access,
    /// The last token a program printed, and when.
    token: Mutex<Option<(Secret<String>, Instant)>>,
}

impl Git {
    /// For the repository at `dir` and what is at `url` (checked by [`names::url`]).
    pub fn new(dir: PathBuf, url: String, access: Access) -> Self {
        Self { dir, url, access, token: Mutex::default() }
    }

    /// The bare repository.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs git to its end; returns what it wrote. A printed token that is refused is asked for once more.
    ///
    /// # Errors
    /// When it ends with another code than 0, with its words.
    pub async fn run(&self, run: Run) -> Result<Vec<u8>, GitError> {
        let printed = run.remote && matches!(self.access.token, Some(Token::Command(_)));
        let old = printed && self.token.lock().await.is_some();
        match self.once(&run).await {
            Err(error) if error.trouble == Trouble::Denied && old => {
                *self.token.lock().await = None;
                self.once(&run).await
            }
            ended => ended,
        }
    }

    async fn once(&self, run: &Run) -> Result<Vec<u8>, GitError> {
        let verb = run.args.first().map(|verb| verb.to_string_lossy().into_owned()).unwrap_or_default();
        let failed = |said: String, trouble, hint| GitError { verb: verb.clone(), said, code: None, trouble, hint };
        let token =
            if run.remote { self.token().await.map_err(|why| failed(why, Trouble::Denied, None))? } else { None };
        let mut command = self.command(run);
        if run.remote {
            self.open_door(&mut command, token.as_ref());
            if !self.is_ssh_the_hosts_own(run).await {
                self.choose_ssh(&mut command);
            }
        }
        command.args(&run.args).envs(run.env.iter().map(|(name, value)| (name, value)));
        let child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                failed(error.to_string(), Trouble::NotInstalled, Some("install git (`apt-get install git`)"))
            }
            _ => failed(error.to_string(), Trouble::Other, None),
        })?;
        confine(&child);
        let ended = timeout(run.limit, child::ended(child, &run.stdin, MOST, MOST_SAID, With::Group)).await;
        let ended = match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => return Err(failed(error.to_string(), Trouble::Other, None)),
            Err(_) => {
                let said = format!("it took longer than {} s", run.limit.as_secs());
                return Err(failed(said, Trouble::TimedOut, None));
            }
        };
        let code = ended.status.code();
        if code == Some(0) {
            return Ok(ended.out);
        }
        let token = token.as_ref().map(|token| token.reveal().as_str());
        let said = scrubbed(&String::from_utf8_lossy(&ended.err), &self.url, token);
        let (trouble, hint) = judge(&said);
        Err(GitError { verb, said: last_lines(&said), code, trouble, hint })
    }

    /// git with its settings, and no verb yet.
    fn command(&self, run: &Run) -> Command {
        let mut command = Command::new("git");
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("GIT_") && !KEPT.contains(&text.as_ref()) {
                command.env_remove(name);
            }
        }
        let mut protocols = vec!["https", "ssh"];
        protocols.extend(self.access.allow.iter().map(|it| it.name()));
        command
            .env("GIT_ALLOW_PROTOCOL", protocols.join(":"))
            .env("GIT_TERMINAL_PROMPT", "0")
            // Empty: nobody is asked, not by `SSH_ASKPASS` either.
            .env("GIT_ASKPASS", "")
            // Nor by an ssh of the host's own choice, at a terminal: it asks this program in its place, which says no.
            .env("SSH_ASKPASS", "false")
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            // What git says is read by us, not by people of another language.
            .env("LC_ALL", "C");
        let dir = if run.elsewhere { self.dir.join("none") } else { self.dir.clone() };
        command.arg("--git-dir").arg(dir).arg("--literal-pathspecs");
        for setting in SETTINGS.iter().copied().chain(run.settings.iter().map(String::as_str)) {
            command.arg("-c").arg(setting);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: a Ctrl-C for us is not one for git, and what git starts ends with it.
        command.process_group(0).kill_on_drop(true);
        command
    }

    fn open_door(&self, command: &mut Command, token: Option<&Secret<String>>) {
        if let Some(token) = token {
            // In place of every other helper, and for this host alone: where a redirect leads it is not shown. The token is
            // in the environment of git alone.
            let user = if self.url.contains('@') { "" } else { "username=x-access-token\\n" };
            let host = names::host(&self.url);
            command.args(["-c", "credential.helper=", "-c", &format!("credential.{host}.helper="), "-c"]);
            let print = format!("!printf '{user}password=%s\\n' \"$HOLDFAST_GIT_TOKEN\"; :");
            command.arg(format!("credential.{host}.helper={print}"));
            command.env("HOLDFAST_GIT_TOKEN", token.reveal());
        }
    }

    /// Whether the host's own configuration of git, or the environment, says how ssh is started, and nothing here does.
    async fn is_ssh_the_hosts_own(&self, run: &Run) -> bool {
        if self.access.deploy_key.is_some() || self.access.known_hosts.is_some() {
            return false;
        }
        if std::env::var_os("GIT_SSH_COMMAND").is_some() || std::env::var_os("GIT_SSH").is_some() {
            return true;
        }
        if ["http://", "https://", "file://", "/"].iter().any(|it| self.url.starts_with(it)) {
            return false;
        }
        let mut ask = self.command(run);
        ask.args(["config", "--get", "core.sshCommand"]);
        let Ok(child) = ask.spawn() else { return false };
        let ended = timeout(ASKING, child::ended(child, b"", MOST_SAID, MOST_SAID, With::Group)).await;
        matches!(ended, Ok(Ok(ended)) if ended.status.success() && !ended.out.trim_ascii().is_empty())
    }

    fn choose_ssh(&self, command: &mut Command) {
        let mut ssh = "ssh -o BatchMode=yes -o ConnectTimeout=15".to_owned();
        if let Some(key) = &self.access.deploy_key {
            ssh += &format!(" -i {} -o IdentitiesOnly=yes", quoted(key));
        }
        if let Some(hosts) = &self.access.known_hosts {
            // ssh splits at blanks outside of its own quotes.
            let hosts = quoted(Path::new(&format!("\"{}\"", hosts.display())));
            ssh += " -o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=/dev/null";
            ssh += &format!(" -o UserKnownHostsFile={hosts}");
        }
        command.env("GIT_SSH_COMMAND", ssh).env("GIT_SSH_VARIANT", "ssh");
    }

    async fn token(&self) -> Result<Option<Secret<String>>, String> {
        match &self.access.token {
            None => Ok(None),
            Some(Token::File(path)) => token::of_file(path).map(Some),
            Some(Token::Command(command)) => {
                let mut known = self.token.lock().await;
                if let Some((token, at)) = known.as_ref()
                    && at.elapsed() < TOKEN_AGE
                {
                    return Ok(Some(token.clone()));
                }
                let token = token::printed(command).await?;
                *known = Some((token.clone(), Instant::now()));
                Ok(Some(token))
            }
        }
    }
}

/// Limits what git takes of this host. One that cannot be set leaves the limit of time.
fn confine(child: &Child) {
    let Some(pid) = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) else { return };
    for (resource, most) in [(Resource::Data, MOST_MEMORY), (Resource::Fsize, MOST_DISK)] {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        if let Err(error) = prlimit(Some(pid), resource, limit) {
            tracing::debug!("holdfast  git runs without a limit of {resource:?}: {error}");
        }
    }
}

/// Quoted for the shell git starts ssh with.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(dir: &Path) -> Git {
        Git::new(dir.to_owned(), "https://u:secret@host/x".to_owned(), Access::default())
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_is_ended_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let git = git(dir.path());
        git.run(Run::local(["init", "--bare", "--quiet"])).await.unwrap();
        let mark = dir.path().join("alive");
        let alias = format!("alias.wait=!sleep 3; touch {}", mark.display());
        let mut run = Run::local(["wait"]);
        (run.settings, run.limit) = (vec![alias], Duration::from_millis(300));
        let error = git.run(run).await.unwrap_err();
        assert_eq!(error.trouble, Trouble::TimedOut);
        assert!(!mark.exists());
    }

    #[tokio::test]
    async fn git_and_what_it_starts_have_their_limits() {
        let dir = tempfile::tempdir().unwrap();
        let git = git(dir.path());
        git.run(Run::local(["init", "--bare", "--quiet"])).await.unwrap();
        let mut run = Run::local(["limits"]);
        run.settings = vec!["alias.limits=!cat /proc/self/limits".to_owned()];
        let limits = String::from_utf8(git.run(run).await.unwrap()).unwrap();
        for (name, most) in [("Max data size", MOST_MEMORY), ("Max file size", MOST_DISK)] {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            assert!(line.contains(&most.to_string()), "{line}");
        }
    }

    #[tokio::test]
    async fn a_token_program_is_asked_once_and_its_failure_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let script = format!("echo x >> {}; echo tok3n", count.display());
        let with = |script: String| {
            let token = Some(Token::Command(vec!["sh".into(), "-c".into(), script]));
            Git::new(dir.path().to_owned(), String::new(), Access { token, ..Access::default() })
        };
        let git = with(script);
        assert_eq!(git.token().await, Ok(Some(Secret::new("tok3n".to_owned()))));
        assert_eq!(git.token().await, Ok(Some(Secret::new("tok3n".to_owned()))));
        assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n");
        let why = with("echo s3cret; exit 3".to_owned()).token().await.unwrap_err();
        assert!(why.contains("exit 3") && !why.contains("s3cret"), "{why}");
    }
}
