//! A bare mirror of one branch under the state folder: shallow at first, rebuilt when the disk has damaged it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::health::{Health, leftovers};
use super::program::{Git, Run};
use super::{GitError, Remote, Trouble, names};
use crate::model::commit::Commit;
use crate::model::hash::sha256_hex;

/// Asking which commit a branch has.
const ASK: Duration = Duration::from_secs(30);
/// Bringing commits over: of a large repository whose branch was rewritten that is all of its history, and what is cut off
/// begins anew. A server that sends nothing is given up on sooner.
const FETCH: Duration = Duration::from_secs(1800);
/// Where the branch's commit is kept.
const HEAD: &str = "refs/holdfast/head";
/// Where the last good commit is kept, so that no clean-up takes it.
const GOOD: &str = "refs/holdfast/good";
/// Ids listed between two commits at most.
const BETWEEN: &str = "--max-count=100";
/// Bytes of a commit at most: they are its headers, a signature and a message.
const MAX_COMMIT: u64 = 1 << 20;
/// How far back a plan looks for the commit in force.
const NEAR: &str = "--depth=100";

/// The mirror of one branch.
pub struct Mirror {
    git: Arc<Git>,
    remote: Remote,
    health: Health,
}

impl Mirror {
    /// The mirror of `remote` under `folder`; nothing is made before the first [`fetch`](Self::fetch).
    pub fn new(folder: &Path, remote: Remote) -> Self {
        // The branch too: what was good of another one is not good of this one.
        let name = format!("{}.git", &sha256_hex(format!("{}#{}", remote.url, remote.branch).as_bytes())[..16]);
        let git = Git::new(folder.join(name), remote.url.clone(), remote.access.clone());
        Self { git: Arc::new(git), remote, health: Health::default() }
    }

    /// The object database.
    pub fn git(&self) -> &Git {
        &self.git
    }

    /// What it mirrors.
    pub const fn remote(&self) -> &Remote {
        &self.remote
    }

    fn branch(&self) -> String {
        format!("refs/heads/{}", self.remote.branch)
    }

    /// Which commit the branch has over there now; none when there is no such branch.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn ask(&self) -> Result<Option<String>, GitError> {
        let branch = self.branch();
        let args = ["ls-remote", "--quiet", "--end-of-options", &self.remote.url, &branch];
        let out = self.git.run(Run { elsewhere: true, ..Run::remote(ASK, args) }).await?;
        let text = String::from_utf8_lossy(&out);
        // Every ref that ends so is listed: `refs/x/refs/heads/main` too.
        let line = text.lines().filter_map(|line| line.split_once('\t')).find(|(_, name)| *name == branch);
        Ok(line.map(|(id, _)| id.to_owned()).filter(|id| names::is_object_id(id)))
    }

    /// Brings the branch over and returns its commit. The first time only the newest commit comes, later ones with
    /// all between. What an interrupted one left is cleared away first; a damaged mirror is made anew.
    ///
    /// # Errors
    /// When that is not possible.
    pub async fn fetch(&self, asked: &str) -> Result<String, GitError> {
        let spec = format!("+{}:{HEAD}", self.branch());
        let is_first = self.ready(asked).await?;
        match self.bring(&spec, is_first).await {
            // The other side has just answered, so the fault may be here; its words alone tell nothing of that.
            Err(error) if may_be_here(&error) && self.is_damaged(false).await => {
                tracing::warn!("holdfast  the mirror {} is made anew: {error}", self.git.dir().display());
                self.rebuild(asked).await?;
                self.bring(&spec, true).await?;
            }
            ended => ended?,
        }
        self.resolve(HEAD).await?.ok_or_else(|| damaged("rev-parse", "the fetched commit is not there"))
    }

    /// Brings one commit over by its id: of a branch that is not followed, for a plan.
    ///
    /// # Errors
    /// When that is not possible, or the server gives out no commit by its id.
    pub async fn fetch_commit(&self, id: &str) -> Result<(), GitError> {
        self.ready(id).await?;
        self.bring_commit(id, "--depth=1").await
    }

    async fn bring_commit(&self, id: &str, depth: &str) -> Result<(), GitError> {
        let spec = format!("+{id}:{HEAD}");
        let args = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", depth];
        let args = args.into_iter().chain(["--end-of-options", self.remote.url.as_str(), spec.as_str()]);
        self.git.run(Run::remote(FETCH, args)).await.map(|_| ())
    }

    /// Whether `new`, which is here, comes after `old` (or is it), as far as the last commits tell; none: not known.
    pub async fn comes_after(&self, new: &str, old: &str) -> Option<bool> {
        if new == old {
            return Some(true);
        }
        self.bring_commit(new, NEAR).await.ok()?;
        match self.is_ancestor(old, new).await.ok()? {
            Some(true) => Some(true),
            // A no means nothing while history ends at a boundary.
            _ => (!self.git.dir().join("shallow").is_file()).then_some(false),
        }
    }

    async fn bring(&self, spec: &str, is_first: bool) -> Result<(), GitError> {
        let mut args = vec!["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"];
        if is_first {
            args.push("--depth=1");
        }
        args.extend(["--end-of-options", self.remote.url.as_str(), spec]);
        self.git.run(Run::remote(FETCH, args)).await.map(|_| ())
    }

    /// The commit a ref of ours has; none when there is no such ref.
    async fn resolve(&self, name: &str) -> Result<Option<String>, GitError> {
        let asked = format!("{name}^{{commit}}");
        match self.git.run(Run::local(["rev-parse", "--verify", "--quiet", "--end-of-options", &asked])).await {
            Ok(out) => Ok(Some(String::from_utf8_lossy(&out).trim().to_owned()).filter(|id| names::is_object_id(id))),
            Err(error) if error.code == Some(1) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes sure there is a repository, without locks of a process that was killed: this one is the only one here.
    /// Whether nothing was ever fetched.
    async fn ready(&self, like: &str) -> Result<bool, GitError> {
        if !self.git.dir().join("HEAD").is_file() {
            self.rebuild(like).await?;
            return Ok(true);
        }
        if !self.health.is_cleaning() {
            for left in leftovers(self.git.dir()) {
                let _ = std::fs::remove_file(left);
            }
        }
        match self.resolve(HEAD).await {
            Ok(known) => Ok(known.is_none()),
            Err(_) if self.is_damaged(false).await => self.rebuild(like).await.map(|()| true),
            Err(error) => Err(error),
        }
    }

    /// Whether the disk lost something of it, told by what is here alone; `thoroughly`: by every object, and not only
    /// once an hour.
    pub async fn is_damaged(&self, thoroughly: bool) -> bool {
        self.health.is_damaged(&self.git, thoroughly).await
    }

    /// Throws the mirror away and makes an empty one, for ids like `like` (SHA-1 or SHA-256).
    ///
    /// # Errors
    /// When the folder cannot be cleared or made.
    pub async fn rebuild(&self, like: &str) -> Result<(), GitError> {
        self.health.forget().await;
        let dir = self.git.dir();
        let failed = |error: std::io::Error| damaged("init", &format!("{}: {error}", dir.display()));
        let gone = if dir.is_dir() { std::fs::remove_dir_all(dir) } else { std::fs::remove_file(dir) };
        match gone {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        std::fs::create_dir_all(dir).map_err(failed)?;
        let format = if like.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
        self.git.run(Run::local(["init", "--bare", "--quiet", "--template=", format])).await.map(|_| ())
    }

    /// Who, when and what of a commit; the inner error says what is odd about it.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub async fn commit(&self, id: &str) -> Result<Result<Commit, String>, GitError> {
        let size = self.git.size(id).await?;
        if size > MAX_COMMIT {
            return Ok(Err(format!("its message and headers have {} MiB, and 1 MiB is allowed", size >> 20)));
        }
        let content = self.git.contents(&[id]).await?.pop().unwrap_or_default();
        Ok(parse_commit(id, &content).ok_or_else(|| "it does not say who made it: it has no author line".to_owned()))
    }

    /// Whether `new` comes after `old` (or is it). History that is missing is fetched before a no.
    ///
    /// # Errors
    /// When that cannot be decided now.
    pub async fn descends(&self, new: &str, old: &str) -> Result<bool, GitError> {
        if new == old || self.is_ancestor(old, new).await? == Some(true) {
            return Ok(true);
        }
        if self.git.dir().join("shallow").is_file() {
            // A no means nothing while history ends at a boundary.
            let spec = format!("+{}:{HEAD}", self.branch());
            let args = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--unshallow", "--end-of-options"];
            let args = args.into_iter().chain([self.remote.url.as_str(), spec.as_str()]);
            self.git.run(Run::remote(FETCH, args)).await?;
        }
        // With all of its history here, a commit that is not known is in none of it.
        Ok(self.is_ancestor(old, new).await? == Some(true))
    }

    /// None when `old` is not here.
    async fn is_ancestor(&self, old: &str, new: &str) -> Result<Option<bool>, GitError> {
        let run = Run::local(["merge-base", "--is-ancestor", "--end-of-options", old, new]);
        match self.git.run(run).await {
            Ok(_) => Ok(Some(true)),
            Err(error) if error.code == Some(1) => Ok(Some(false)),
            Err(error) if error.code == Some(128) => {
                // Which of the two is missing? Without `new` nothing can be said.
                self.git.run(Run::local(["cat-file", "-e", new])).await.map_err(|_| error)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Ids after `old` up to `new`, without `new` itself, newest first; empty when nobody knows.
    pub async fn between(&self, old: &str, new: &str) -> Vec<String> {
        let range = format!("{old}..{new}");
        let out = self.git.run(Run::local(["rev-list", BETWEEN, "--end-of-options", &range])).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&out);
        text.lines().filter(|id| *id != new && names::is_object_id(id)).map(str::to_owned).collect()
    }

    /// Keeps `commit` (and what it needs) from any clean-up, if it is here. A failure costs no more than a witness.
    pub async fn keep(&self, commit: &str) {
        if self.kept().await.is_ok_and(|kept| kept.as_deref() == Some(commit)) {
            return;
        }
        let keep = || self.git.run(Run::local(["update-ref", GOOD, commit]));
        let mut ended = keep().await;
        // git does not write over a ref it cannot read.
        if ended.is_err() && std::fs::remove_file(self.git.dir().join(GOOD)).is_ok() {
            ended = keep().await;
        }
        if let Err(error) = ended {
            tracing::debug!("holdfast  {}: {error}", self.git.dir().display());
        }
    }

    /// Cleans up when it is worth it, beside the work.
    pub async fn clean(&self) {
        self.health.clean(&self.git).await;
    }

    /// The commit [`keep`](Self::keep) was told last, if the mirror still knows.
    ///
    /// # Errors
    /// When git could not be asked.
    pub async fn kept(&self) -> Result<Option<String>, GitError> {
        if !self.git.dir().join("HEAD").is_file() {
            return Ok(None);
        }
        match self.resolve(GOOD).await {
            // What it cannot read is lost.
            Err(error) if error.code.is_some() => Ok(None),
            ended => ended,
        }
    }
}

const fn may_be_here(error: &GitError) -> bool {
    matches!(error.trouble, Trouble::Other | Trouble::Overtaken | Trouble::Denied)
}

fn damaged(verb: &str, said: &str) -> GitError {
    GitError { verb: verb.to_owned(), said: said.to_owned(), code: None, trouble: Trouble::Other, hint: None }
}

/// Of what strangers write into a commit so much is kept, on one line and without what steers a terminal.
const LONGEST: usize = 300;

fn plain(text: &str) -> String {
    // Marks that turn the direction of writing hide what a line says.
    let steers = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(|c| !steers(*c)).take(LONGEST).collect()
}

/// The raw commit object: headers, an empty line, the message.
fn parse_commit(id: &str, content: &[u8]) -> Option<Commit> {
    let text = String::from_utf8_lossy(content);
    let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let by = header("author ")?;
    let (name, mail) = by.split_once('<').unwrap_or((by, ""));
    let mail = mail.split('>').next().unwrap_or_default();
    let author = [name, mail].into_iter().map(|it| plain(it.trim())).find(|it| !it.is_empty());
    // `NAME <MAIL> SECONDS ZONE`. A date that is none of this age is no reason to refuse what the commit says.
    let seconds = header("committer ")?.rsplit(' ').nth(1).and_then(|it| it.parse().ok());
    let at = seconds.and_then(|it| Timestamp::from_second(it).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    let subject = plain(message.trim_start().lines().next().unwrap_or_default());
    Some(Commit { id: id.to_owned(), author: author.unwrap_or_else(|| "somebody".to_owned()), subject, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_read_from_its_object() {
        let raw = b"tree aa\nparent bb\nauthor Ann <x> Lee <ann@acme.example> 1700000000 +0900\ncommitter CI <> 1700000100 +0000\ngpgsig x\n y\n\napi: tag 1 -> 2\n\nbody\n";
        let commit = parse_commit("cc", raw).unwrap();
        assert_eq!((commit.author.as_str(), commit.subject.as_str()), ("Ann", "api: tag 1 -> 2"));
        assert_eq!(commit.at.as_second(), 1_700_000_100);
        assert!(parse_commit("cc", b"tree aa\n").is_none());
    }
}
