//! One commit, read into a folder that is thrown away: for `plan` and `check`. The controller's mirror and its record
//! are never written.

use std::path::Path;

use super::last_good::Record;
use super::{files, judge, place};
use crate::git::{Mirror, Remote};
use crate::model::commit::Commit;
use crate::model::desired::{DesiredState, SourceRevision};
use crate::model::snapshot::Why;
use crate::ports::{Clock as _, WallClock};
use crate::source::lower::{self, CheckReport, HostRules};
use crate::source::settings::GitSettings;

/// What one commit says.
#[derive(Debug, Clone)]
pub struct Reading {
    /// `URL#BRANCH:PATH`.
    pub from: String,
    /// Which commit.
    pub commit: Commit,
    /// What it asks for; none when the report has errors.
    pub state: Option<DesiredState>,
    /// What is wrong with it.
    pub report: CheckReport,
    /// The commit in force here; none when no controller of this host follows this branch.
    pub in_force: Option<Commit>,
    /// Whether it comes after the one in force (or is it); none: not known.
    pub comes_after: Option<bool>,
    /// What `run` would have against the commit itself.
    pub objection: Option<Why>,
}

/// Reads `commit`, or the commit the branch has now. `record` is the controller's folder, to learn what is in force.
///
/// # Errors
/// When the commit cannot be had.
pub async fn read_once(
    settings: &GitSettings,
    commit: Option<&str>,
    rules: &HostRules,
    record: &Path,
) -> Result<Reading, Why> {
    let scratch = tempfile::Builder::new().prefix("holdfast-").tempdir().map_err(|error| {
        format!("no temporary folder could be made: {error}\n  hint: set TMPDIR to a folder that can be written")
    })?;
    let remote = Remote { url: settings.url.clone(), branch: settings.branch.clone(), access: settings.access.clone() };
    let mirror = Mirror::new(scratch.path(), remote);
    let words = |error: crate::git::GitError| error.to_string();
    let id = match commit {
        Some(id) => {
            mirror.fetch_commit(id).await.map_err(words)?;
            id.to_owned()
        }
        None => {
            let asked = mirror.ask().await.map_err(words)?.ok_or_else(|| judge::no_branch(&settings.branch))?;
            mirror.fetch(&asked).await.map_err(words)?
        }
    };
    let commit = mirror.commit(&id).await.map_err(words)?;
    let commit = commit.map_err(|odd| format!("commit {id} cannot be taken: {odd}"))?;
    let whole = Path::new(if settings.path.is_empty() { "." } else { &settings.path });
    let (state, report) = match files::at(mirror.git(), &id, &settings.path).await.map_err(words)? {
        Ok(files) => lower::desired_state(whole, &files, rules, &SourceRevision(id.clone()), WallClock.now()),
        Err(errors) => (None, CheckReport { errors, ..CheckReport::default() }),
    };
    let objection = match &settings.signers {
        Some(signers) => mirror.git().verify_signature(&id, signers).await.err().map(|error| judge::unsigned(&error)),
        None => None,
    };
    // Somebody who may not read the record plans without it.
    let good = Record::new(record.join("last-good.json"), place(settings)).load().ok().flatten();
    let in_force = good.map(|good| good.commit);
    let comes_after = match &in_force {
        Some(good) => mirror.comes_after(&id, &good.id).await,
        None => None,
    };
    let includes = match (&in_force, comes_after) {
        (Some(good), Some(true)) => mirror.between(&good.id, &id).await,
        _ => Vec::new(),
    };
    let state = state.map(|state| DesiredState { commit: Some(commit.clone()), includes, ..state });
    Ok(Reading { from: place(settings), commit, state, report, in_force, comes_after, objection })
}
