//! Floor 2: where desired state comes from. Text becomes a checked [`DesiredState`], or is rejected whole with reasons.

mod closed;
pub mod directory;
pub mod edit;
pub mod env_files;
pub mod error;
mod file;
pub mod git;
mod locate;
mod lower;
mod report;
mod scalar;
pub mod schema;
pub mod settings;
mod yaml;

use std::path::Path;

use jiff::Timestamp;

use crate::model::desired::{DesiredState, SourceRevision};
use crate::ports::{Clock as _, WallClock};
pub use closed::Closed;
pub use error::SourceError;
pub use lower::{CheckReport, FileText, HostRules};

/// Reads texts as one desired state, whole or not at all. `source` names the whole in messages.
///
/// # Errors
/// Everything that is wrong, each with its place.
pub fn parse(
    source: &Path,
    files: &[FileText],
    rules: &HostRules,
    revision: &SourceRevision,
    read_at: Timestamp,
) -> Result<DesiredState, Vec<SourceError>> {
    let (state, report) = lower::desired_state(source, files, rules, revision, read_at);
    state.ok_or(report.errors)
}

/// Validates what stands at `path` (a folder, or one file) without judging what only the host can tell.
pub fn check(path: &Path, rules: &HostRules) -> CheckReport {
    look(path, rules).1
}

/// What stands at `path`, and what is wrong with it: none of it when anything is.
pub fn look(path: &Path, rules: &HostRules) -> (Option<DesiredState>, CheckReport) {
    match directory::texts(path) {
        Ok(directory::Texts { files, revision }) => {
            lower::desired_state(path, &files, rules, &revision, WallClock.now())
        }
        Err(errors) => (None, CheckReport { errors, ..CheckReport::default() }),
    }
}

/// Reads what stands at `path` now.
///
/// # Errors
/// Everything that is wrong, each with its place.
pub fn read(path: &Path, rules: &HostRules) -> Result<DesiredState, Vec<SourceError>> {
    let directory::Texts { files, revision } = directory::texts(path)?;
    parse(path, &files, rules, &revision, WallClock.now())
}
