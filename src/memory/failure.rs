//! SQLite's errors in words, each with what to do about it.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::model::snapshot::Why;

/// Why opening or using the database at `path` failed.
pub(super) fn why(path: &Path, error: &rusqlite::Error) -> Why {
    let place = path.display();
    let folder = path.parent().unwrap_or(path).display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            format!("the disk under {folder} is full; hint: free some space, holdfast goes on by itself")
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => format!(
            "{place} is damaged ({error}); hint: stop holdfast, move the file away and start again: \
             what serves is read back from the platform, pins, pauses and quarantines are lost"
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => format!(
            "{place} cannot be written ({error}); hint: `stateDir` must be a folder this user may write, on a \
             file system that is not read-only"
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("{place} is locked by another process; hint: is it open in another program?")
        }
        Some(ErrorCode::SystemIoFailure) => {
            format!("{place} cannot be read or written ({error}); hint: is the disk under {folder} full or failing?")
        }
        _ => format!("{place}: {error}"),
    }
}

/// Why the folder for the database cannot be used.
pub(super) fn folder(dir: &Path, error: &std::io::Error) -> Why {
    format!(
        "the state folder {} cannot be used: {error}; hint: `stateDir` must be a folder this user may write",
        dir.display()
    )
}

/// Why the document of `service` cannot be understood.
pub(super) fn document(path: &Path, service: &str, error: &dyn std::fmt::Display) -> Why {
    format!(
        "the memory of `{service}` in {} is damaged ({error}); hint: nothing is done for `{service}` until its row in \
         table `memory` is mended or deleted",
        path.display()
    )
}
