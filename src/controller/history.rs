//! A service's releases, kept from the changes of its memory.

use jiff::Timestamp;

use super::core::Core;
use crate::model::desired::SourceRevision;
use crate::model::event::HistoryEntry;
use crate::model::memory::{Memory, MemoryChange};
use crate::model::names::ServiceName;
use crate::model::release::{Release, ReleaseHash};

/// How far back an open line is looked for.
const RECENT: u32 = 20;

const SERVING: &str = "serving";
const UNDER_WAY: &str = "under way";

/// Writes what `change` means for the history; `before` is the memory before it. A failure costs a line, not a step.
pub(super) async fn follow(
    core: &Core,
    name: &ServiceName,
    before: &Memory,
    change: &MemoryChange,
    because: &str,
    revision: &SourceRevision,
) {
    let known = match core.edges.store.history(name, RECENT).await {
        Ok(known) => known,
        Err(why) => return tracing::warn!("{name}  could not read its history: {why}"),
    };
    let commit = core.state().desired.as_ref().filter(|it| it.revision == *revision).and_then(|it| it.commit.clone());
    for entry in entries(&known, before, change, because, revision, core.now()) {
        // A line keeps the commit it began with.
        let commit = entry.commit.clone().or_else(|| commit.clone().filter(|it| it.id == entry.revision));
        let entry = HistoryEntry { commit, ..entry };
        if let Err(why) = core.edges.store.history_put(name, entry).await {
            tracing::warn!("{name}  could not write its history: {why}");
        }
    }
}

/// The lines to add or to update. `known` is newest first.
fn entries(
    known: &[HistoryEntry],
    before: &Memory,
    change: &MemoryChange,
    because: &str,
    revision: &SourceRevision,
    now: Timestamp,
) -> Vec<HistoryEntry> {
    let end = |entry: &HistoryEntry, at, outcome: String| HistoryEntry { ended_at: Some(at), outcome, ..entry.clone() };
    let open = |release: &ReleaseHash| {
        let is_open = |entry: &&HistoryEntry| {
            entry.release == release.as_str() && (entry.outcome == UNDER_WAY || entry.outcome == SERVING)
        };
        known.iter().find(is_open)
    };
    let superseded = |except: Option<&ReleaseHash>| {
        let under_way = known.iter().filter(|entry| entry.outcome == UNDER_WAY);
        let others = under_way.filter(move |entry| except.is_none_or(|hash| entry.release != hash.as_str()));
        others.map(move |entry| end(entry, now, "superseded".into())).collect::<Vec<_>>()
    };
    match change {
        MemoryChange::Attempt(attempt) => {
            let mut lines = superseded(Some(&attempt.release.hash()));
            if before.attempt.as_ref().is_none_or(|known| known.started_at != attempt.started_at) {
                lines.push(line(&attempt.release, attempt.started_at, revision, because, UNDER_WAY));
            }
            lines
        }
        MemoryChange::EndAttempt => superseded(None),
        MemoryChange::Commit(committed) => {
            let hash = committed.release.hash();
            let replaced = known.iter().filter(|entry| entry.outcome == SERVING && entry.release != hash.as_str());
            let mut lines: Vec<_> = replaced.map(|entry| end(entry, committed.at, "replaced".into())).collect();
            match open(&hash) {
                Some(entry) if entry.outcome == UNDER_WAY => lines.push(end(entry, committed.at, SERVING.into())),
                // A change of colour, or a commit repeated: the line stands.
                Some(_) => {}
                None => lines.push(HistoryEntry {
                    ended_at: Some(committed.at),
                    ..line(&committed.release, committed.at, &committed.revision, because, SERVING)
                }),
            }
            lines
        }
        MemoryChange::Quarantine(release, why) => {
            open(release).map(|entry| end(entry, why.at, format!("failed: {}", why.why))).into_iter().collect()
        }
        MemoryChange::Forget => {
            let serving = known.iter().filter(|entry| entry.outcome == SERVING);
            serving.map(|entry| end(entry, now, "removed".into())).collect()
        }
        _ => Vec::new(),
    }
}

fn line(release: &Release, at: Timestamp, revision: &SourceRevision, why: &str, outcome: &str) -> HistoryEntry {
    HistoryEntry {
        started_at: at,
        ended_at: None,
        tag: release.tag.to_string(),
        release: release.hash().to_string(),
        digest: release.digest.to_string(),
        revision: revision.to_string(),
        commit: None,
        why: why.to_owned(),
        outcome: outcome.to_owned(),
    }
}
