//! The one file that picks the adapters.

use std::path::{Path, PathBuf};

use crate::model::names::ServiceName;

use super::Surroundings;
use super::failure::Failure;

pub(crate) struct Settings {
    pub(crate) state_dir: PathBuf,
    pub(crate) source: PathBuf,
}

pub(crate) fn settings(_: &Surroundings) -> Result<Settings, Failure> {
    Ok(Settings { state_dir: "/var/lib/holdfast".into(), source: "/etc/holdfast/desired-state".into() })
}

pub(crate) fn json_schema() -> serde_json::Value {
    serde_json::json!({})
}

/// What an edit did.
pub(crate) struct Edited {
    /// The file that holds the service.
    pub(crate) file: PathBuf,
    /// Key, before, after; what was so already is left out.
    pub(crate) changes: Vec<(String, Option<String>, Option<String>)>,
}

pub(crate) fn set(path: &Path, _: &ServiceName, _: &[(String, String)], _: &Surroundings) -> Result<Edited, Failure> {
    Ok(Edited { file: path.to_owned(), changes: Vec::new() })
}
