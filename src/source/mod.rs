//! Floor 2: where desired state comes from. Text becomes a checked [`DesiredState`], or is rejected whole with reasons.

pub mod error;
mod file;
mod locate;
mod lower;
mod scalar;
mod yaml;

use std::path::Path;

use jiff::Timestamp;

use crate::model::desired::{DesiredState, SourceRevision};
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
