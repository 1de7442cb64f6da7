//! One edited file of a checkout, committed and pushed with the user's own git: their hooks, identity and credentials.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::git::child::{self, With};
use crate::git::commit::pause;
use crate::git::{GitError, Trouble};

use super::edit::{self, Edited};
use super::failure::Failure;
use super::out;

/// A push that was overtaken is made again on the fresh head this often, the first one counted: enough for twenty at
/// once. (The controller gives up sooner, and comes back by itself.)
const TRIES: u32 = 12;
/// A push or a fetch that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// What git may write at most: the hooks of a user may be talkative.
const MOST: usize = 16 << 20;

/// Variables that would lead git elsewhere than to the checkout of the file: a hook of another repository has them.
const ELSEWHERE: [&str; 9] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
];

/// What is committed, and how far it goes.
pub(crate) struct Publish<'a> {
    /// The body of the message.
    pub(crate) body: &'a str,
    /// Whether it is pushed.
    pub(crate) push: bool,
}

impl Publish<'_> {
    /// Edits and commits; with `push` until the upstream has it. `find` names the file as it is now, `edit` edits it
    /// and returns what it did and the subject of the commit.
    ///
    /// # Errors
    /// When git refuses; nothing of anybody is lost then.
    pub(crate) async fn run(
        &self,
        find: impl Fn() -> Result<PathBuf, Failure>,
        edit: impl Fn() -> Result<(Edited, String), Failure>,
    ) -> Result<(), Failure> {
        let mut checkout = Checkout::open(&find()?).await?;
        if !self.push {
            let (edited, subject) = edit()?;
            if !edited.changes.is_empty() {
                checkout.commit(&edited, &subject, self.body).await?;
            }
            return Ok(());
        }
        let upstream = checkout.upstream().await?;
        // First: a commit of something else must not go along.
        let theirs = checkout.catch_up(&upstream).await?;
        checkout = checkout.again(&find()?, theirs).await?;
        for tried in 1..=TRIES {
            let (edited, subject) = edit()?;
            if edited.changes.is_empty() {
                return Ok(());
            }
            let made = checkout.commit(&edited, &subject, self.body).await?;
            match checkout.push(&made, &upstream).await? {
                Ok(()) => return Ok(()),
                Err(error) if error.trouble == Trouble::Overtaken => {
                    tokio::time::sleep(pause(tried)).await;
                    let theirs = checkout.take_back(&made, &upstream).await?;
                    checkout = checkout.again(&find()?, theirs).await?;
                }
                Err(error) => return Err(not_pushed(&error)),
            }
        }
        Err(Failure::new(format!("somebody else pushed first, {TRIES} times in a row"))
            .because("nothing of this edit is left in the checkout")
            .try_this("run it again"))
    }
}

/// Where the branch is pushed to.
struct Upstream {
    remote: String,
    /// `refs/heads/main`.
    branch: String,
}

/// The checkout that has the file.
struct Checkout {
    /// The file's folder.
    folder: PathBuf,
    /// Its name in it.
    name: PathBuf,
    file: PathBuf,
    /// The branch that is checked out.
    branch: String,
    /// Its commit, in full.
    head: String,
    /// What the file says in it.
    text: String,
    /// How long the other side may take.
    patience: Duration,
}

impl Checkout {
    /// Makes sure that an edit of `file` can be one commit.
    async fn open(file: &Path) -> Result<Self, Failure> {
        let wrong = |why: &str, hint: String| {
            Failure::new(format!("{} cannot be committed", file.display())).because(why.to_owned()).try_this(hint)
        };
        let real = file.canonicalize().map_err(|error| wrong(&error.to_string(), "does it exist?".to_owned()))?;
        let folder = real.parent().unwrap_or_else(|| Path::new("/")).to_owned();
        let name = PathBuf::from(real.file_name().unwrap_or_default());
        let (branch, head, text) = (String::new(), String::new(), String::new());
        let mut it = Self { folder, name, file: real, branch, head, text, patience: PATIENCE };
        match it.git(&["rev-parse", "--is-inside-work-tree"]).await {
            Ok(said) if said == "true" => {}
            Err(error) if error.trouble == Trouble::NotInstalled => return Err(failure(file, &error)),
            Err(error) if error.said.contains("dubious ownership") => return Err(failure(file, &error)),
            _ => return Err(wrong("it is in no git checkout", "name a checkout with --path".to_owned())),
        }
        it.branch = it
            .git(&["symbolic-ref", "--quiet", "--short", "HEAD"])
            .await
            .map_err(|_| wrong("no branch is checked out (detached HEAD)", "`git switch BRANCH` first".to_owned()))?;
        it.head = it
            .git(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])
            .await
            .map_err(|_| wrong("there is no commit yet", "commit the file as it is first".to_owned()))?;
        let is_unmerged = !it.git(&["ls-files", "--unmerged"]).await.map_err(|error| failure(file, &error))?.is_empty();
        if is_unmerged || it.git(&["rev-parse", "--verify", "--quiet", "MERGE_HEAD"]).await.is_ok() {
            return Err(wrong("a merge is under way", "finish it, or `git merge --abort`".to_owned()));
        }
        let args = ["ls-files", "--error-unmatch", "--"].map(OsStr::new);
        if it.run(args.into_iter().chain([it.name.as_os_str()])).await.is_err() {
            let hint = format!("`git add {}` and commit it as it is first", file.display());
            return Err(wrong("git does not track it", hint));
        }
        // Another edit of the same file would slip into the commit.
        let args = ["diff", "--quiet", "--no-ext-diff", "HEAD", "--"].map(OsStr::new);
        if it.run(args.into_iter().chain([it.name.as_os_str()])).await.is_err() {
            let hint = format!("commit them, or `git restore --staged --worktree {}`", file.display());
            return Err(wrong("it has changes that are not committed", hint));
        }
        for who in ["GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"] {
            it.git(&["var", who]).await.map_err(|_| {
                let hint = "`git config user.name NAME` and `git config user.email ADDRESS`".to_owned();
                wrong("git does not know who commits", hint)
            })?;
        }
        it.text = std::fs::read_to_string(&it.file)
            .map_err(|error| wrong(&error.to_string(), "can you read it?".to_owned()))?;
        Ok(it)
    }

    /// The same after it moved on to the commit `head`. Little is asked again: the longer it takes, the more often
    /// somebody else is first.
    async fn again(self, file: &Path, head: String) -> Result<Self, Failure> {
        if file.canonicalize().ok().as_ref() != Some(&self.file) {
            return Self::open(file).await;
        }
        let text = std::fs::read_to_string(&self.file)
            .map_err(|error| Failure::new(format!("could not read {}", file.display())).because(error))?;
        Ok(Self { head, text, ..self })
    }

    /// Commits the file and nothing else; the commit's id. When git refuses, the file is as it was.
    async fn commit(&self, edited: &Edited, subject: &str, body: &str) -> Result<String, Failure> {
        let args = ["commit", "--quiet", "-m", subject, "-m", body, "--only", "--"].map(OsStr::new);
        // `--only`: whatever else is staged stays out of this commit.
        if let Err(error) = self.run(args.into_iter().chain([self.name.as_os_str()])).await {
            let back = edit::replace(&self.file, &self.text);
            let what = match back {
                Ok(()) => format!("could not commit; {} is as it was", edited.file.display()),
                Err(_) => format!("could not commit; {} stays edited", edited.file.display()),
            };
            return Err(Failure::from_words(what, &error.to_string()));
        }
        out::line("committed")?;
        self.git(&["rev-parse", "--verify", "HEAD"]).await.map_err(|error| failure(&edited.file, &error))
    }

    async fn upstream(&self) -> Result<Upstream, Failure> {
        let key = |what: &str| format!("branch.{}.{what}", self.branch);
        let remote = self.git(&["config", "--get", &key("remote")]).await;
        let branch = self.git(&["config", "--get", &key("merge")]).await;
        match (remote, branch) {
            (Ok(remote), Ok(branch)) => Ok(Upstream { remote, branch }),
            _ => Err(Failure::new(format!("the branch {} cannot be pushed", self.branch))
                .because("it has no upstream")
                .try_this(format!("`git push --set-upstream origin {}` once", self.branch))),
        }
    }

    /// Pushes our commit `made` and nothing else: the upstream has to be where it was made.
    async fn push(&self, made: &str, upstream: &Upstream) -> Result<Result<(), GitError>, Failure> {
        let parent = self.git(&["rev-parse", "--verify", &format!("{made}^")]).await;
        if parent.map_err(|error| failure(&self.file, &error))? != self.head {
            return Err(self.others_ahead("it came onto another commit meanwhile; it stays in this checkout"));
        }
        let lease = format!("--force-with-lease={}:{}", upstream.branch, self.head);
        let spec = format!("{made}:{}", upstream.branch);
        let pushed = self.talk(&["push", "--quiet", &lease, &upstream.remote, &spec]).await;
        if pushed.is_ok() {
            // Where our words cannot be written, the next ones cannot either.
            let _ = out::line("pushed");
        }
        Ok(pushed.map(drop))
    }

    /// Fetches; the upstream's commit.
    async fn fetch(&self, upstream: &Upstream) -> Result<String, GitError> {
        self.talk(&["fetch", "--quiet", &upstream.remote, &upstream.branch]).await?;
        self.git(&["rev-parse", "--verify", "FETCH_HEAD^{commit}"]).await
    }

    async fn is_ancestor(&self, old: &str, new: &str) -> bool {
        old == new || self.git(&["merge-base", "--is-ancestor", old, new]).await.is_ok()
    }

    /// Moves on to the upstream before anything is edited; its commit. Not from a commit that is nowhere but here.
    async fn catch_up(&self, upstream: &Upstream) -> Result<String, Failure> {
        let theirs = self.fetch(upstream).await.map_err(|error| {
            let what = format!("could not fetch the upstream of {}; nothing is edited", self.branch);
            Failure::from_words(what, &error.to_string())
        })?;
        if !self.is_ancestor(&self.head, &theirs).await {
            return Err(self.others_ahead("one commit is pushed and no other; nothing is edited"));
        }
        if theirs != self.head {
            self.move_to(&theirs, &self.head, "could not move on to what others pushed; nothing is edited").await?;
        }
        Ok(theirs)
    }

    /// Takes our commit `made` back and moves on to the upstream, if nothing else is lost by that; its commit.
    async fn take_back(&self, made: &str, upstream: &Upstream) -> Result<String, Failure> {
        let theirs = self.fetch(upstream).await.map_err(|error| not_pushed(&error))?;
        if !self.is_ancestor(&self.head, &theirs).await {
            return Err(self.others_ahead("its upstream went back meanwhile; the commit stays in this checkout"));
        }
        let what = "the push came too late, and what others pushed could not be taken in";
        self.move_to(&theirs, made, what).await?;
        Ok(theirs)
    }

    fn others_ahead(&self, why: &'static str) -> Failure {
        Failure::new(format!("the branch {} has other commits that are not pushed", self.branch))
            .because(why)
            .try_this("`git pull --rebase`, then `git push`, if they may go out; then run it again")
    }

    /// Like a switch to `theirs`, but the branch comes along: what is edited or staged stays so, and where it is in the
    /// way nothing happens.
    async fn move_to(&self, theirs: &str, ours: &str, what: &str) -> Result<(), Failure> {
        let failed = |error: GitError| {
            Failure::from_words(what, &error.to_string())
                .try_this("commit or stash what is edited here; `git pull --rebase`, then run it again")
        };
        // Files that were only touched are in nobody's way; its exit code speaks of edited ones.
        let _ = self.git(&["update-index", "-q", "--refresh"]).await;
        self.git(&["read-tree", "-m", "-u", ours, theirs]).await.map_err(failed)?;
        let reason = "holdfast: on to what others pushed";
        self.git(&["update-ref", "-m", reason, "HEAD", theirs, ours]).await.map_err(failed).map(|_| ())
    }

    async fn git(&self, args: &[&str]) -> Result<String, GitError> {
        self.run(args.iter().map(OsStr::new)).await
    }

    /// Like [`Self::git`], with the other side, which may never answer.
    async fn talk(&self, args: &[&str]) -> Result<String, GitError> {
        match timeout(self.patience, self.git(args)).await {
            Ok(ended) => ended,
            Err(_) => Err(GitError {
                verb: args.first().copied().unwrap_or_default().to_owned(),
                said: format!("it took longer than {} s", self.patience.as_secs()),
                code: None,
                trouble: Trouble::TimedOut,
                hint: None,
            }),
        }
    }

    /// Runs git in the file's folder; what it wrote, trimmed. Dropped, it ends git and what that started.
    async fn run<'a>(&self, args: impl IntoIterator<Item = &'a OsStr>) -> Result<String, GitError> {
        let args: Vec<&OsStr> = args.into_iter().collect();
        let verb = args.first().map(|verb| verb.to_string_lossy().into_owned()).unwrap_or_default();
        let mut command = Command::new("git");
        for name in ELSEWHERE {
            command.env_remove(name);
        }
        command.arg("-C").arg(&self.folder).arg("--literal-pathspecs").args(args).stdin(Stdio::null());
        // What git says is read by us; nobody is there to answer a prompt of git. ssh and gpg may ask at the terminal:
        // so it stays in our process group.
        command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => GitError {
                verb: verb.clone(),
                said: error.to_string(),
                code: None,
                trouble: Trouble::NotInstalled,
                hint: Some("install git (`apt-get install git`)"),
            },
            _ => GitError::of(&verb, &error.to_string(), None),
        })?;
        let ended = child::ended(child, b"", MOST, MOST, With::Children).await;
        let ended = ended.map_err(|error| GitError::of(&verb, &error.to_string(), None))?;
        let out = String::from_utf8_lossy(&ended.out).trim().to_owned();
        if ended.status.success() {
            return Ok(out);
        }
        let said = String::from_utf8_lossy(&ended.err);
        Err(GitError::of(&verb, if said.trim().is_empty() { &out } else { &said }, ended.status.code()))
    }
}

fn not_pushed(error: &GitError) -> Failure {
    let what = "could not push the commit; it stays in this checkout";
    let failure = Failure::from_words(what, &error.to_string());
    match error.hint {
        // A checkout has none of the settings of `holdfast.yaml`.
        Some(hint) if !hint.contains("`git.") => failure,
        _ => failure.try_this("`git push` when the cause is gone, or `git reset --keep HEAD~1` to take it back"),
    }
}

fn failure(file: &Path, error: &GitError) -> Failure {
    Failure::from_words(format!("{} cannot be committed", file.display()), &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_other_side_that_never_answers_is_given_up_on_with_all_that_was_started() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, pid) = (dir.path().to_owned(), dir.path().join("pid"));
        let (name, file, text) = (PathBuf::new(), PathBuf::new(), String::new());
        let patience = Duration::from_millis(1500);
        let it = Checkout { folder, name, file, branch: String::new(), head: String::new(), text, patience };
        // What ssh does with a host that says nothing.
        let alias = format!("alias.hang=!echo $$ > {}; sleep 300; :", pid.display());
        let error = it.talk(&["-c", &alias, "hang"]).await.unwrap_err();
        assert_eq!(error.trouble, Trouble::TimedOut);
        let shell = std::fs::read_to_string(pid).unwrap();
        let stat = format!("/proc/{}/stat", shell.trim());
        let ended = timeout(Duration::from_secs(10), async {
            while std::fs::read_to_string(&stat).is_ok_and(|it| !it.contains(") Z ")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(ended.await.is_ok(), "{stat} is still there");
        let failure = not_pushed(&error);
        assert!(failure.to_string().contains("it stays in this checkout"), "{failure}");
    }
}
