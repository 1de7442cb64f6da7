//! A bare mirror of one branch under the state folder: shallow at first, rebuilt when the disk has damaged it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::program::{Git, Run};
use super::{GitError, Remote, Trouble, names};
use crate::model::commit::Commit;
use crate::model::hash::sha256_hex;

/// Asking which commit a branch has.
const ASK: Duration = Duration::from_secs(30);
/// Bringing commits over; a server that sends nothing is given up on sooner.
const FETCH: Duration = Duration::from_secs(300);
/// Where the branch's commit is kept.
const HEAD: &str = "refs/holdfast/head";
/// Where the last good commit is kept, so that no clean-up takes it.
const GOOD: &str = "refs/holdfast/good";
/// Ids listed between two commits at most.
const BETWEEN: &str = "--max-count=100";
/// How far back a plan looks for the commit in force.
const NEAR: &str = "--depth=100";

/// The mirror of one branch.
pub struct Mirror {
    git: Git,
    remote: Remote,
}

impl Mirror {
    /// The mirror of `remote` under `folder`; nothing is made before the first [`fetch`](Self::fetch).
    pub fn new(folder: &Path, remote: Remote) -> Self {
        // The branch too: what was good of another one is not good of this one.
        let name = format!("{}.git", &sha256_hex(format!("{}#{}", remote.url, remote.branch).as_bytes())[..16]);
        Self { git: Git::new(folder.join(name), remote.url.clone(), remote.access.clone()), remote }
    }

    /// The object database.
    pub const fn git(&self) -> &Git {
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
            // The other side has just answered, so the fault may be here.
            Err(error) if matches!(error.trouble, Trouble::Other | Trouble::Overtaken) => {
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
        let known = if self.git.dir().join("HEAD").is_file() { self.resolve(HEAD).await.ok() } else { None };
        let Some(known) = known else {
            self.rebuild(like).await?;
            return Ok(true);
        };
        for left in leftovers(self.git.dir()) {
            let _ = std::fs::remove_file(left);
        }
        Ok(known.is_none())
    }

    /// Throws the mirror away and makes an empty one, for ids like `like` (SHA-1 or SHA-256).
    ///
    /// # Errors
    /// When the folder cannot be cleared or made.
    pub async fn rebuild(&self, like: &str) -> Result<(), GitError> {
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

    /// Who, when and what of a commit.
    ///
    /// # Errors
    /// When it is not there or not understood.
    pub async fn commit(&self, id: &str) -> Result<Commit, GitError> {
        let content = self.git.contents(&[id]).await?.pop().unwrap_or_default();
        parse_commit(id, &content).ok_or_else(|| damaged("cat-file", "the commit is not understood"))
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

    /// Keeps `commit` (and what it needs) from any clean-up, and cleans up when it is worth it. A failure costs space.
    pub async fn keep(&self, commit: &str) {
        let keep = self.git.run(Run::local(["update-ref", GOOD, commit])).await;
        let mut clean = Run::local(["gc", "--auto", "--quiet"]);
        // The last word counts: automatic cleaning is off elsewhere so that it happens here, and not behind our back.
        clean.settings = vec!["gc.auto=2000".into(), "gc.autoPackLimit=50".into(), "gc.autoDetach=false".into()];
        for ended in [keep, self.git.run(clean).await] {
            if let Err(error) = ended {
                tracing::debug!("holdfast  {}: {error}", self.git.dir().display());
            }
        }
    }

    /// The commit [`keep`](Self::keep) was told last, if the mirror still knows.
    pub async fn kept(&self) -> Option<String> {
        if self.git.dir().join("HEAD").is_file() { self.resolve(GOOD).await.ok().flatten() } else { None }
    }
}

fn damaged(verb: &str, said: &str) -> GitError {
    GitError { verb: verb.to_owned(), said: said.to_owned(), code: None, trouble: Trouble::Other, hint: None }
}

/// What git leaves behind when it is killed: locks, and packs that came halfway.
fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let is_left = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".lock") || name.starts_with("tmp_") || name == "gc.pid"
    };
    let inside = |folder: &str| {
        let entries = std::fs::read_dir(dir.join(folder)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(is_left)
    };
    ["", "refs/holdfast", "objects/pack", "objects/info", "objects/info/commit-graphs"]
        .into_iter()
        .flat_map(inside)
        .collect()
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
