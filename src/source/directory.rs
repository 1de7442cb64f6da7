//! Desired state from a folder (or one file) on this host: watched, and polled behind the watch.

mod read;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::error::{SourceError, in_words};
use super::lower::HostRules;
use crate::model::desired::SourceRevision;
use crate::ports::{Clock, Source, SourceUpdate};
pub(super) use read::{Texts, texts};
pub(super) use watch::Watch;

/// After the last change, so long without another one is quiet.
pub(super) const QUIET: Duration = Duration::from_millis(20);
/// A writer that never pauses is read all the same after this.
pub(super) const LONGEST_NOISE: Duration = Duration::from_secs(1);
/// The poll behind the watch: it finds what no event tells (a link's target elsewhere, a lost event).
const POLL: Duration = Duration::from_secs(2);
/// The poll without a watch.
const POLL_ALONE: Duration = Duration::from_millis(500);

/// A folder of desired-state files, or one such file.
#[derive(Clone)]
pub struct Folder {
    path: PathBuf,
    rules: HostRules,
    clock: Arc<dyn Clock>,
    watching: bool,
    poll: Duration,
}

impl Folder {
    /// The files at `path`, for the controller and host of `rules`.
    pub fn new(path: PathBuf, rules: HostRules, clock: Arc<dyn Clock>) -> Self {
        Self { path, rules, clock, watching: true, poll: POLL }
    }

    /// Without inotify: polls alone.
    #[must_use]
    pub fn polling_only(mut self) -> Self {
        self.watching = false;
        self
    }

    /// Reads the bytes now.
    async fn texts(&self) -> Result<Texts, Vec<SourceError>> {
        let path = self.path.clone();
        match tokio::task::spawn_blocking(move || read::texts(&path)).await {
            Ok(texts) => texts,
            Err(error) => Err(vec![SourceError::of_file(&self.path, format!("reading was interrupted: {error}"))]),
        }
    }

    /// What these bytes mean.
    fn update(&self, texts: Result<Texts, Vec<SourceError>>) -> SourceUpdate {
        let (revision, parsed) = match texts {
            Ok(Texts { files, revision }) => {
                let parsed = super::parse(&self.path, &files, &self.rules, &revision, self.clock.now());
                (Some(revision), parsed)
            }
            Err(errors) => (None, Err(errors)),
        };
        match parsed {
            Ok(state) => SourceUpdate::Accepted(Arc::new(state)),
            Err(errors) => SourceUpdate::Rejected { revision, commit: None, why: in_words(&errors) },
        }
    }
}

/// What was reported last: the same is not reported twice in a row.
#[derive(PartialEq, Eq)]
enum Reported {
    Revision(SourceRevision),
    Unreadable(String),
}

impl Reported {
    fn of(texts: &Result<Texts, Vec<SourceError>>) -> Self {
        match texts {
            Ok(texts) => Self::Revision(texts.revision.clone()),
            Err(errors) => Self::Unreadable(in_words(errors)),
        }
    }
}

#[async_trait]
impl Source for Folder {
    async fn read(&self) -> SourceUpdate {
        let texts = self.texts().await;
        self.update(texts)
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    async fn watch(&self, updates: mpsc::Sender<SourceUpdate>) {
        let mut last = None;
        let mut watch = if self.watching { Watch::start(&self.path) } else { Watch::none() };
        loop {
            // Watch first, then read: a change in between is an event, never lost.
            watch.renew(&self.path);
            let texts = self.texts().await;
            let reported = Reported::of(&texts);
            if last.as_ref() != Some(&reported) {
                last = Some(reported);
                if updates.send(self.update(texts)).await.is_err() {
                    return;
                }
            }
            let poll = if watch.is_live() { self.poll } else { POLL_ALONE };
            tokio::select! {
                () = watch.changed() => watch.quiet(QUIET, LONGEST_NOISE).await,
                () = tokio::time::sleep(poll) => {}
                () = updates.closed() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
