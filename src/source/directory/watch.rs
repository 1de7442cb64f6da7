//! inotify on the folder and its parent.
//!
//! The parent tells when the folder itself is removed, made again or swapped as a link. A watch on a *file* would go
//! dead with the first rename-over, so only folders are watched.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A running watch, or none where inotify is missing.
pub(in crate::source) struct Watch {
    watcher: Option<RecommendedWatcher>,
    events: mpsc::UnboundedReceiver<()>,
    /// The watched folder, by device and inode.
    watched: Option<(PathBuf, u64, u64)>,
}

impl Watch {
    /// No events ever come.
    pub(super) fn none() -> Self {
        let (_, events) = mpsc::unbounded_channel();
        Self { watcher: None, events, watched: None }
    }

    /// Watches the folder of `path` (itself, or the one that holds it) and that folder's parent.
    pub(in crate::source) fn start(path: &Path) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let around = parent_of(path).filter(|_| path.is_dir() || !path.exists());
        let name = path.file_name().map(OsStr::to_owned);
        let handler = move |event: notify::Result<notify::Event>| {
            // The parent speaks of every neighbour; only the folder itself is of interest there.
            let neighbour = |file: &PathBuf| {
                around.is_some() && file.parent() == around.as_deref() && file.file_name() != name.as_deref()
            };
            let about_us = |event: &notify::Event| event.paths.is_empty() || !event.paths.iter().all(neighbour);
            if event.as_ref().map_or(true, |event| means_change(event.kind) && about_us(event)) {
                // The receiver is gone only while the source ends.
                let _ = sender.send(());
            }
        };
        let watcher = match notify::recommended_watcher(handler) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "no file events here, polling instead");
                None
            }
        };
        let mut watch = Self { watcher, events, watched: None };
        if let (Some(watcher), Some(parent)) = (&mut watch.watcher, parent_of(path)) {
            // Without a parent to watch, the poll finds a folder that was made again.
            let _ = watcher.watch(&parent, RecursiveMode::NonRecursive);
        }
        watch
    }

    /// Whether events come from the folder as it is now.
    pub(super) const fn is_live(&self) -> bool {
        self.watched.is_some()
    }

    /// Watches the folder anew where it is not the one watched before (made again, or a swapped link).
    pub(in crate::source) fn renew(&mut self, path: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        let folder = if path.is_dir() { Some(path.to_owned()) } else { parent_of(path) };
        let now = folder.and_then(|folder| {
            let real = folder.canonicalize().ok()?;
            let meta = std::fs::metadata(&real).ok()?;
            Some((real, meta.dev(), meta.ino()))
        });
        if now == self.watched {
            return;
        }
        if let Some((old, _, _)) = self.watched.take() {
            // It may be gone already, and its watch with it.
            let _ = watcher.unwatch(&old);
        }
        if let Some((real, dev, ino)) = now {
            match watcher.watch(&real, RecursiveMode::NonRecursive) {
                Ok(()) => self.watched = Some((real, dev, ino)),
                Err(error) => tracing::warn!(path = %real.display(), %error, "no file events here, polling instead"),
            }
        }
    }

    /// Returns at the next event; never without a watch.
    pub(in crate::source) async fn changed(&mut self) {
        if self.events.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns once no event came for `quiet`, after `longest` in any case.
    pub(in crate::source) async fn quiet(&mut self, quiet: Duration, longest: Duration) {
        let end = Instant::now() + longest;
        loop {
            let until = (Instant::now() + quiet).min(end);
            match tokio::time::timeout_at(until, self.events.recv()).await {
                Ok(Some(())) if Instant::now() < end => {}
                _ => return,
            }
        }
    }
}

/// Our own reads are events too; they must not wake us for ever.
fn means_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// The folder that holds `path`, by name and not by what links make of it.
fn parent_of(path: &Path) -> Option<PathBuf> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        Some(parent) => Some(parent.to_owned()),
        None => None,
    }
}
