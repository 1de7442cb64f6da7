//! The tables, their version, and how a connection is set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};

use super::failure;
use crate::model::snapshot::Why;

/// The version of the tables this program writes.
pub(super) const VERSION: i64 = 1;

/// Longer than any transaction of a reader beside us, shorter than a person's patience.
const BUSY: Duration = Duration::from_secs(5);

const TABLES: &str = "
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE memory (service TEXT PRIMARY KEY NOT NULL, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT, document TEXT NOT NULL);
CREATE INDEX events_of_service ON events (service, id);
CREATE TABLE history (
  service TEXT NOT NULL, started_at INTEGER NOT NULL, release TEXT NOT NULL, document TEXT NOT NULL,
  PRIMARY KEY (service, started_at, release)
) WITHOUT ROWID;
INSERT INTO schema_version VALUES (1);
";

/// Settings of a connection that writes, then the tables. How long a write waits for the disk is set by each write.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), Why> {
    let words = |error: rusqlite::Error| failure::why(path, &error);
    connection.busy_timeout(BUSY).map_err(words)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(words)?;
    // A log that once grew is cut back to this many bytes.
    connection.pragma_update(None, "journal_size_limit", 4 << 20).map_err(words)?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(words)?;
    if has_table(&transaction).map_err(words)? {
        check_version(&transaction, path)?;
    } else {
        transaction.execute_batch(TABLES).map_err(words)?;
    }
    transaction.commit().map_err(words)?;
    check_pages(connection, path)
}

/// Settings of a connection that only reads; `false` when nothing was ever written.
pub(super) fn inspect(connection: &Connection, path: &Path) -> Result<bool, Why> {
    let words = |error: rusqlite::Error| failure::why(path, &error);
    connection.busy_timeout(BUSY).map_err(words)?;
    if !has_table(connection).map_err(words)? {
        return Ok(false);
    }
    check_version(connection, path)?;
    Ok(true)
}

fn has_table(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .query_row("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'", [], |_| Ok(()))
        .optional()
        .map(|found| found.is_some())
}

fn check_version(connection: &Connection, path: &Path) -> Result<(), Why> {
    let version: i64 = connection
        .query_row("SELECT max(version) FROM schema_version", [], |row| row.get(0))
        .map_err(|error| failure::why(path, &error))?;
    if version > VERSION {
        return Err(format!(
            "{} was written by a newer holdfast (tables of version {version}, this one knows {VERSION}); \
             hint: run that version, or move the file away",
            path.display()
        ));
    }
    Ok(())
}

/// Only the table decisions are made from: the events may be large, and a damaged log harms nobody.
fn check_pages(connection: &Connection, path: &Path) -> Result<(), Why> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(memory)", [], |row| row.get(0))
        .map_err(|error| failure::why(path, &error))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(format!(
        "{} is damaged ({verdict}); hint: stop holdfast, move the file away and start again: what serves is read back \
         from the platform, pins, pauses and quarantines are lost",
        path.display()
    ))
}
