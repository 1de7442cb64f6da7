//! `holdfast.db`: one JSON document a service, the newest events, and history.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};

use super::{failure, schema};
use crate::model::event::{Event, HistoryEntry};
use crate::model::memory::{Memory, MemoryChange};
use crate::model::names::ServiceName;
use crate::model::snapshot::Why;
use crate::ports::Store;

/// How many events are kept; a busy host writes a few hundred a day.
const EVENTS_KEPT: i64 = 10_000;
/// How many lines of history a service keeps.
const HISTORY_KEPT: i64 = 500;

/// The durable store of one controller.
#[derive(Debug)]
pub struct Sqlite {
    file: Arc<File>,
}

/// Shared with the threads that block on it.
#[derive(Debug)]
struct File {
    path: PathBuf,
    /// None: opened to read, and there is nothing to read.
    connection: Option<Mutex<Connection>>,
}

impl Sqlite {
    /// Opens `holdfast.db` in `dir` for writing; makes the folder and the file (0600) where they are missing.
    ///
    /// # Errors
    /// When the folder cannot be written, or the file is damaged or from a newer version.
    pub fn open(dir: &Path) -> Result<Arc<Self>, Why> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failure::folder(dir, &error))?;
        let path = dir.join("holdfast.db");
        // SQLite gives its log and index the mode of the database, so the file is made before SQLite sees it.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .and_then(|file| file.set_permissions(Permissions::from_mode(0o600)))
            .map_err(|error| failure::folder(dir, &error))?;
        let mut connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(|error| failure::why(&path, &error))?;
        schema::prepare(&mut connection, &path)?;
        Ok(Self::of(path, Some(connection)))
    }

    /// Opens the same file to read beside a running controller. No file: an empty memory.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read_only(dir: &Path) -> Result<Arc<Self>, Why> {
        let path = dir.join("holdfast.db");
        match std::fs::metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::of(path, None));
            }
            Err(error) => return Err(failure::folder(dir, &error)),
        }
        // While a controller has it open there is a log beside it. Without one the file alone is whole, and SQLite is told
        // that nobody writes: it would leave a log of its own behind.
        let in_use = dir.join("holdfast.db-wal").exists();
        let escaped = path.display().to_string().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let scheme = if escaped.starts_with('/') { "file://" } else { "file:" };
        let uri = format!("{scheme}{escaped}{}", if in_use { "" } else { "?immutable=1" });
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(uri, flags).map_err(|error| failure::why(&path, &error))?;
        let connection = schema::inspect(&connection, &path)?.then_some(connection);
        Ok(Self::of(path, connection))
    }

    fn of(path: PathBuf, connection: Option<Connection>) -> Arc<Self> {
        Arc::new(Self { file: Arc::new(File { path, connection: connection.map(Mutex::new) }) })
    }

    /// Runs `work` on a thread where blocking is allowed. Once begun it ends, also when nobody waits for it any more.
    async fn read<T, F>(&self, nothing: T, work: F) -> Result<T, Why>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection, &Path) -> Result<T, Why> + Send + 'static,
    {
        let file = Arc::clone(&self.file);
        let done = tokio::task::spawn_blocking(move || match &file.connection {
            Some(connection) => {
                // A panic in a transaction rolled it back; the connection is good.
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                work(&mut connection, &file.path)
            }
            None => Ok(nothing),
        });
        done.await.unwrap_or_else(|_| Err("the memory stopped while the program ends".to_owned()))
    }

    async fn write<T, F>(&self, survives: Survives, work: F) -> Result<T, Why>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Transaction<'_>, &Path) -> Result<T, Why> + Send + 'static,
    {
        let done = self.read(None, move |connection, path| {
            let words = |error: rusqlite::Error| failure::why(path, &error);
            let synchronous = match survives {
                Survives::Crash => "NORMAL",
                Survives::PowerCut => "FULL",
            };
            connection.pragma_update(None, "synchronous", synchronous).map_err(words)?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(words)?;
            let done = work(&transaction, path)?;
            transaction.commit().map_err(words)?;
            Ok(Some(done))
        });
        done.await?.ok_or_else(|| format!("{} was opened to read only", self.file.path.display()))
    }
}

/// What a write is safe from once it returned. Waiting for the disk costs 1 to 3 ms when it is idle and 200 ms and more
/// when something else writes; a write that only survives a crash of this process costs a tenth of a millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Survives {
    /// Of this process, kill -9 included. A power cut may lose it; the file stays whole.
    Crash,
    /// Of the whole host.
    PowerCut,
}

/// What the next look finds out again by itself after a power cut (which also ends every container, nginx and its
/// workers) need not wait for the disk; what was decided, by a person or once and for all, does.
const fn needed(change: &MemoryChange) -> Survives {
    match change {
        MemoryChange::Attempt(_)
        | MemoryChange::EndAttempt
        | MemoryChange::OpenSwitch(_)
        | MemoryChange::ConfirmSwitch(_)
        | MemoryChange::ApplyLive(_)
        | MemoryChange::Repair(_, _)
        | MemoryChange::Loss(_)
        | MemoryChange::ApplyEcsLive(_)
        | MemoryChange::Deployment(_)
        | MemoryChange::Cleaned(_) => Survives::Crash,
        MemoryChange::Commit(_)
        | MemoryChange::Quarantine(_, _)
        | MemoryChange::Release(_)
        | MemoryChange::Pin(_)
        | MemoryChange::Unpin
        | MemoryChange::Promote(_)
        | MemoryChange::Pause(_)
        | MemoryChange::Resume
        | MemoryChange::ApproveRemoval
        | MemoryChange::WithdrawRemoval
        | MemoryChange::Registered(_, _)
        | MemoryChange::AdoptBase(_)
        | MemoryChange::Canary(_)
        | MemoryChange::Revert(_)
        | MemoryChange::Unrevert(_)
        | MemoryChange::Forget => Survives::PowerCut,
    }
}

/// Every readable memory, and why the others are not.
#[derive(Debug, Default)]
struct Loaded {
    readable: BTreeMap<ServiceName, Memory>,
    unreadable: BTreeMap<String, Why>,
}

fn load(connection: &Connection, path: &Path) -> Result<Loaded, Why> {
    let words = |error: rusqlite::Error| failure::why(path, &error);
    let mut statement = connection.prepare_cached("SELECT service, document FROM memory").map_err(words)?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get_ref(1)?.as_bytes()?.to_vec())))
        .map_err(words)?;
    let mut loaded = Loaded::default();
    for row in rows {
        let (service, document) = row.map_err(words)?;
        let memory = serde_json::from_slice::<Memory>(&document).map_err(|error| error.to_string());
        let name = ServiceName::new(&service).map_err(|error| format!("it is no name of a service: {error}"));
        match name.and_then(|name| Ok((name, memory?))) {
            Ok((name, memory)) => drop(loaded.readable.insert(name, memory)),
            Err(error) => {
                loaded.unreadable.insert(service.clone(), failure::document(path, &service, &error));
            }
        }
    }
    Ok(loaded)
}

fn remember(
    transaction: &rusqlite::Transaction<'_>,
    path: &Path,
    service: &ServiceName,
    change: &MemoryChange,
) -> Result<Memory, Why> {
    let words = |error: rusqlite::Error| failure::why(path, &error);
    if *change == MemoryChange::Forget {
        transaction.execute("DELETE FROM memory WHERE service = ?1", [service.as_str()]).map_err(words)?;
        return Ok(Memory::default());
    }
    let document: Option<Vec<u8>> = transaction
        .prepare_cached("SELECT document FROM memory WHERE service = ?1")
        .and_then(|mut statement| {
            statement.query_row([service.as_str()], |row| Ok(row.get_ref(0)?.as_bytes()?.to_vec())).optional()
        })
        .map_err(words)?;
    // What cannot be read is never overwritten: it may hold a pause or a pin.
    let mut memory = match document {
        Some(document) => serde_json::from_slice::<Memory>(&document)
            .map_err(|error| failure::document(path, service.as_str(), &error))?,
        None => Memory::default(),
    };
    memory.apply(change);
    let document = serde_json::to_string(&memory).map_err(|error| error.to_string())?;
    transaction
        .prepare_cached("INSERT OR REPLACE INTO memory (service, document) VALUES (?1, ?2)")
        .and_then(|mut statement| statement.execute(params![service.as_str(), document]))
        .map_err(words)?;
    Ok(memory)
}

fn record(transaction: &rusqlite::Transaction<'_>, path: &Path, mut event: Event) -> Result<Event, Why> {
    let words = |error: rusqlite::Error| failure::why(path, &error);
    event.id = 0;
    let document = serde_json::to_string(&event).map_err(|error| error.to_string())?;
    transaction
        .prepare_cached("INSERT INTO events (service, document) VALUES (?1, ?2)")
        .and_then(|mut statement| statement.execute(params![event.service.as_ref().map(ServiceName::as_str), document]))
        .map_err(words)?;
    let id = transaction.last_insert_rowid();
    transaction
        .prepare_cached("DELETE FROM events WHERE id <= ?1")
        .and_then(|mut statement| statement.execute([id - EVENTS_KEPT]))
        .map_err(words)?;
    event.id = u64::try_from(id).unwrap_or(0);
    Ok(event)
}

fn events(
    connection: &Connection,
    path: &Path,
    service: Option<&ServiceName>,
    after: u64,
    limit: u32,
) -> Result<Vec<Event>, Why> {
    let words = |error: rusqlite::Error| failure::why(path, &error);
    let mut statement = connection
        .prepare_cached(
            "SELECT id, document FROM events WHERE id > ?1 AND (?2 IS NULL OR service = ?2) ORDER BY id DESC LIMIT ?3",
        )
        .map_err(words)?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let rows = statement
        .query_map(params![after, service.map(ServiceName::as_str), limit], |row| {
            Ok((row.get::<_, i64>(0)?, row.get_ref(1)?.as_bytes()?.to_vec()))
        })
        .map_err(words)?;
    let mut events = Vec::new();
    for row in rows {
        let (id, document) = row.map_err(words)?;
        // No decision is made from an event: one that cannot be read hides no other.
        match serde_json::from_slice::<Event>(&document) {
            Ok(event) => events.push(Event { id: u64::try_from(id).unwrap_or(0), ..event }),
            Err(error) => tracing::warn!(id, %error, "an event cannot be read"),
        }
    }
    events.reverse();
    Ok(events)
}

fn nanoseconds(at: jiff::Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

fn history_put(
    transaction: &rusqlite::Transaction<'_>,
    path: &Path,
    service: &ServiceName,
    entry: &HistoryEntry,
) -> Result<(), Why> {
    let words = |error: rusqlite::Error| failure::why(path, &error);
    let document = serde_json::to_string(entry).map_err(|error| error.to_string())?;
    transaction
        .execute(
            "INSERT OR REPLACE INTO history (service, started_at, release, document) VALUES (?1, ?2, ?3, ?4)",
            params![service.as_str(), nanoseconds(entry.started_at), entry.release, document],
        )
        .map_err(words)?;
    transaction
        .execute(
            "DELETE FROM history WHERE service = ?1 AND started_at <= (SELECT started_at FROM history \
             WHERE service = ?1 ORDER BY started_at DESC LIMIT 1 OFFSET ?2)",
            params![service.as_str(), HISTORY_KEPT],
        )
        .map_err(words)?;
    Ok(())
}

fn history(connection: &Connection, path: &Path, service: &ServiceName, limit: u32) -> Result<Vec<HistoryEntry>, Why> {
    let words = |error: rusqlite::Error| failure::why(path, &error);
    let mut statement = connection
        .prepare_cached("SELECT document FROM history WHERE service = ?1 ORDER BY started_at DESC LIMIT ?2")
        .map_err(words)?;
    let rows = statement
        .query_map(params![service.as_str(), limit], |row| Ok(row.get_ref(0)?.as_bytes()?.to_vec()))
        .map_err(words)?;
    let mut entries = Vec::new();
    for row in rows {
        match serde_json::from_slice(&row.map_err(words)?) {
            Ok(entry) => entries.push(entry),
            Err(error) => tracing::warn!(%service, %error, "a line of history cannot be read"),
        }
    }
    Ok(entries)
}

#[async_trait]
impl Store for Sqlite {
    async fn load(&self) -> Result<BTreeMap<ServiceName, Memory>, Why> {
        Ok(self.read(Loaded::default(), |connection, path| load(connection, path)).await?.readable)
    }

    async fn unreadable(&self) -> Result<BTreeMap<String, Why>, Why> {
        Ok(self.read(Loaded::default(), |connection, path| load(connection, path)).await?.unreadable)
    }

    async fn remember(&self, service: &ServiceName, change: &MemoryChange) -> Result<Memory, Why> {
        let (service, change) = (service.clone(), change.clone());
        self.write(needed(&change), move |transaction, path| remember(transaction, path, &service, &change)).await
    }

    async fn record(&self, event: Event) -> Result<Event, Why> {
        self.write(Survives::Crash, move |transaction, path| record(transaction, path, event)).await
    }

    async fn events(&self, service: Option<&ServiceName>, after: u64, limit: u32) -> Result<Vec<Event>, Why> {
        let service = service.cloned();
        self.read(Vec::new(), move |connection, path| events(connection, path, service.as_ref(), after, limit)).await
    }

    async fn history_put(&self, service: &ServiceName, entry: HistoryEntry) -> Result<(), Why> {
        let service = service.clone();
        self.write(Survives::Crash, move |transaction, path| history_put(transaction, path, &service, &entry)).await
    }

    async fn history(&self, service: &ServiceName, limit: u32) -> Result<Vec<HistoryEntry>, Why> {
        let service = service.clone();
        self.read(Vec::new(), move |connection, path| history(connection, path, &service, limit)).await
    }
}

#[cfg(test)]
#[path = "sqlite_tests.rs"]
mod tests;
