//! Whether a mirror is damaged, and cleaning it up beside the work.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::program::{Git, Run};
use super::{GitError, Trouble};

/// Every object is read again at most so often: of a large mirror that takes minutes.
const THOROUGHLY: Duration = Duration::from_secs(3600);
/// Reading every object.
const CHECK: Duration = Duration::from_secs(300);
/// Packing anew takes long once, and nobody waits for it.
const CLEAN: Duration = Duration::from_secs(1800);
/// After a clean-up that failed the next one would fail as well.
const REST: Duration = Duration::from_secs(24 * 3600);

/// What a mirror knows of its own state.
#[derive(Default)]
pub(super) struct Health(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// When every object was read last.
    checked: Option<Instant>,
    /// The clean-up that runs, or how it ended.
    cleaning: Option<JoinHandle<bool>>,
    /// When the last one failed.
    failed: Option<Instant>,
}

impl Health {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the disk lost something of the repository `git`, told by what is here alone: what a run that talked to
    /// the other side said about it may be the network's doing. A check that does not come to its end says no.
    /// `thoroughly`: every object is read, and not only once an hour.
    pub(super) async fn is_damaged(&self, git: &Git, thoroughly: bool) -> bool {
        if !git.dir().join("HEAD").is_file() {
            return true;
        }
        let quick = ["fsck", "--connectivity-only", "--no-dangling", "--no-progress"];
        if git.run(Run::local(quick)).await.is_err_and(|error| tells_damage(&error)) {
            return true;
        }
        let due = self.known().checked.is_none_or(|at| at.elapsed() >= THOROUGHLY);
        if !(thoroughly || due) {
            return false;
        }
        let all = Run { limit: CHECK, ..Run::local(["fsck", "--no-dangling", "--no-progress"]) };
        let is_damaged = git.run(all).await.is_err_and(|error| tells_damage(&error));
        self.known().checked = Some(Instant::now());
        is_damaged
    }

    /// Cleans up when it is worth it, beside the work. A failure costs space.
    pub(super) async fn clean(&self, git: &Arc<Git>) {
        if self.is_cleaning() {
            return;
        }
        let ended = self.known().cleaning.take();
        if let Some(ended) = ended
            && !ended.await.unwrap_or(false)
        {
            self.known().failed = Some(Instant::now());
        }
        let mut known = self.known();
        if known.failed.is_some_and(|at| at.elapsed() < REST) {
            return;
        }
        let git = Arc::clone(git);
        known.cleaning = Some(tokio::spawn(async move {
            let mut clean = Run { limit: CLEAN, ..Run::local(["gc", "--auto", "--quiet"]) };
            // The last word counts: automatic cleaning is off elsewhere so that it happens here, and not behind our
            // back.
            clean.settings = vec!["gc.auto=2000".into(), "gc.autoPackLimit=50".into(), "gc.autoDetach=false".into()];
            let ended = git.run(clean).await;
            if let Err(error) = &ended {
                tracing::debug!("holdfast  {}: {error}", git.dir().display());
            }
            ended.is_ok()
        }));
    }

    pub(super) fn is_cleaning(&self) -> bool {
        self.known().cleaning.as_ref().is_some_and(|it| !it.is_finished())
    }

    /// Ends a clean-up that runs, for the repository goes away; what was known of it counts no more.
    pub(super) async fn forget(&self) {
        let Known { cleaning, .. } = std::mem::take(&mut *self.known());
        if let Some(cleaning) = cleaning {
            cleaning.abort();
            // That it was ended is what was wanted.
            let _ = cleaning.await;
        }
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        if let Some(cleaning) = &self.known().cleaning {
            cleaning.abort();
        }
    }
}

/// Whether `git fsck` found something that is gone or broken. That it was killed, took too long or got no memory tells
/// nothing, and what is odd by itself (a date before 1970) came so from the other side.
fn tells_damage(error: &GitError) -> bool {
    let lacks = ["Too many open files", "ut of memory", "Cannot allocate", "Resource temporarily unavailable"];
    let is_odd = |line: &str| line.starts_with("error in ") || line.starts_with("warning in ");
    match error.code {
        None => false,
        _ if error.trouble == Trouble::NotInstalled || lacks.iter().any(|it| error.said.contains(it)) => false,
        // Objects, and nothing else.
        Some(1) => !error.said.split("; ").all(is_odd),
        Some(_) => true,
    }
}

/// What git leaves behind when it is killed: locks, and packs that came or were made halfway.
pub(super) fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let is_left = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".lock") || name.starts_with("tmp_") || name.starts_with(".tmp-") || name == "gc.pid"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_odd_or_was_not_looked_at_is_no_damage() {
        let said = |code, said: &str| tells_damage(&GitError::of("fsck", said, code));
        assert!(said(Some(2), "error: refs/holdfast/head: invalid sha1 pointer 00"));
        assert!(said(Some(128), "fatal: bad config line 1 in file config"));
        assert!(said(Some(1), "error: inflate: data stream error\nerror: aa: object corrupt or missing: objects/aa"));
        for (code, words) in [
            (None, "it was killed"),
            (Some(1), "error in commit aa: missingAuthor: invalid format - expected 'author' line"),
            (Some(128), "fatal: Out of memory, malloc failed (tried to allocate 9 bytes)"),
            (Some(128), "fatal: unable to open x: Too many open files"),
        ] {
            assert!(!said(code, words), "{words}");
        }
    }
}
