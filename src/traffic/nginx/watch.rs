//! Notices what others do to nginx: edits of the servers files, reloads, workers and the master ending.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::Shared;
use super::process::{self, Running};
use crate::model::snapshot::Fact;
use crate::ports::Wakes;
use crate::process::end_of;

/// Forks raise no event, and a folder may come back under its old name: look this often for those.
const SAFETY_POLL: Duration = Duration::from_secs(2);

type Exits = FuturesUnordered<Pin<Box<dyn Future<Output = u32> + Send>>>;

/// Reports for ever.
pub(super) async fn watch(shared: &Shared, wakes: &Wakes) {
    let (paths, mut changed_paths) = mpsc::unbounded_channel();
    let mut folders = Folders::new(paths);
    let mut processes = Processes { last: None, watched: BTreeSet::new(), exits: Exits::new() };
    let mut poll = tokio::time::interval(SAFETY_POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(path) = changed_paths.recv() => {
                let mut paths = BTreeSet::from([path]);
                while let Ok(path) = changed_paths.try_recv() {
                    paths.insert(path);
                }
                folders.forget(&paths);
                wake_owners(shared, wakes, &paths);
            }
            Some(pid) = processes.exits.next() => {
                processes.watched.remove(&pid);
            }
            () = shared.changed.notified() => {}
            _ = poll.tick() => {}
        }
        let replaced = folders.follow(shared);
        wake_owners(shared, wakes, &replaced);
        processes.look(shared, wakes);
    }
}

/// Wakes the owners of the servers files at or in `paths`.
fn wake_owners(shared: &Shared, wakes: &Wakes, paths: &BTreeSet<PathBuf>) {
    if paths.is_empty() {
        return;
    }
    let config = paths.contains(&shared.options.config);
    for (file, owner) in shared.known() {
        if config || paths.contains(&file) || file.parent().is_some_and(|folder| paths.contains(folder)) {
            wakes.wake(owner.as_ref(), format!("nginx: {} changed", file.display()));
        }
    }
}

/// The inotify watches: on the folders of the servers files and on the folders above, because a watch on a file goes
/// dead when it is replaced, and one on a folder when that is made again.
struct Folders {
    watcher: Option<RecommendedWatcher>,
    /// Inode of each watched folder.
    watched: BTreeMap<PathBuf, u64>,
    /// Said once.
    complained: bool,
}

impl Folders {
    fn new(paths: mpsc::UnboundedSender<PathBuf>) -> Self {
        let handler = move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if is_change(event.kind) {
                // The other end is gone only while the process ends.
                event.paths.into_iter().for_each(|path| drop(paths.send(path)));
            }
        };
        let watcher = notify::recommended_watcher(handler);
        if let Err(error) = &watcher {
            tracing::warn!(%error, "edits of servers files are found by looking, not at once");
        }
        Self { watcher: watcher.ok(), watched: BTreeMap::new(), complained: false }
    }

    /// A folder that an event names may have been replaced: it is watched afresh.
    fn forget(&mut self, paths: &BTreeSet<PathBuf>) {
        for path in paths {
            if self.watched.remove(path).is_some() {
                self.unwatch(path);
            }
        }
    }

    fn unwatch(&mut self, folder: &Path) {
        if let Some(watcher) = &mut self.watcher {
            // The watch of a removed folder is gone already.
            let _ = watcher.unwatch(folder);
        }
    }

    /// Watches the folders of all known files; returns those that appeared or were made again since the last time.
    fn follow(&mut self, shared: &Shared) -> BTreeSet<PathBuf> {
        let mut wanted = BTreeSet::new();
        // The main configuration too: what a switch waits for may be put right there.
        for file in shared.known().into_keys().chain([shared.options.config.clone()]) {
            wanted
                .extend(file.ancestors().skip(1).take(2).filter(|dir| !dir.as_os_str().is_empty()).map(Path::to_owned));
        }
        let mut replaced = BTreeSet::new();
        for folder in wanted {
            let inode = fs::metadata(&folder).ok().filter(fs::Metadata::is_dir).map(|meta| meta.ino());
            if inode == self.watched.get(&folder).copied() {
                continue;
            }
            if self.watched.remove(&folder).is_some() {
                self.unwatch(&folder);
            }
            let (Some(inode), Some(watcher)) = (inode, &mut self.watcher) else { continue };
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(folder.clone(), inode);
                    replaced.insert(folder);
                }
                Err(error) if !self.complained => {
                    self.complained = true;
                    tracing::warn!(folder = %folder.display(), %error, "edits there are found by looking, not at once");
                }
                Err(_) => {}
            }
        }
        replaced
    }
}

/// Our own reads raise events too; only what changes the file counts.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// The processes of nginx and their ends.
struct Processes {
    /// None before the first look.
    last: Option<Fact<Running>>,
    /// Process ids with a future in `exits`.
    watched: BTreeSet<u32>,
    exits: Exits,
}

impl Processes {
    /// Looks, wakes everybody with a servers file when something differs, and waits for the ends of new ones.
    fn look(&mut self, shared: &Shared, wakes: &Wakes) {
        let now = process::running(&shared.options.pid, &shared.boot);
        if let Fact::Seen(Running { master, processes }) = &now {
            self.await_end(*master);
            for worker in processes.workers.iter().chain(&processes.leaving) {
                self.await_end(worker.pid);
            }
        }
        let differs = self.last.as_ref().is_some_and(|last| *last != now);
        if differs {
            let why = describe(&now);
            let owners: BTreeSet<_> = shared.known().into_values().collect();
            owners.iter().for_each(|owner| wakes.wake(owner.as_ref(), why.clone()));
        }
        self.last = Some(now);
    }

    fn await_end(&mut self, pid: u32) {
        if self.watched.contains(&pid) {
            return;
        }
        // Where nobody can tell (it has just ended, or Linux before 5.3) the poll notices.
        let Some(end) = end_of(pid) else { return };
        self.watched.insert(pid);
        self.exits.push(Box::pin(async move {
            end.await;
            pid
        }));
    }
}

fn describe(now: &Fact<Running>) -> String {
    match now {
        Fact::Seen(Running { master: _, processes }) => {
            format!("nginx: now {} workers accept and {} are leaving", processes.workers.len(), processes.leaving.len())
        }
        Fact::Absent => "nginx: not running".to_owned(),
        Fact::Unreadable(why) => format!("nginx: {why}"),
    }
}
