//! The desired state `plan` and `check` look at: a folder, a branch, or one commit.

use std::path::PathBuf;

use clap::Args;

use crate::git::names;
use crate::model::commit::Commit;
use crate::model::desired::DesiredState;
use crate::model::words::counted;
use crate::source::settings::Settings;
use crate::source::{CheckReport, error};

use super::edges;
use super::failure::Failure;
use super::git_args::GitArgs;

/// Where to look.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DesiredArgs {
    /// The folder of the desired state, or one file [default: `source` of holdfast.yaml].
    #[arg(env = "HOLDFAST_SOURCE", hide_env = true)]
    pub(crate) path: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) git: GitArgs,
    /// Look at this commit, of any branch, in place of the newest one; its id in full.
    #[arg(long, value_name = "ID", value_parser = commit, conflicts_with = "path", help_heading = "From git")]
    pub(crate) commit: Option<String>,
}

fn commit(text: &str) -> Result<String, String> {
    let id = text.to_ascii_lowercase();
    if names::is_object_id(&id) {
        return Ok(id);
    }
    let hex = !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit());
    Err(match hex {
        true => format!("expected the id in full, 40 digits; `git rev-parse {id}` prints it"),
        false => {
            "expected the id of a commit in full, 40 hex digits; `git rev-parse NAME` prints that of a name".into()
        }
    })
}

/// What stands there.
#[derive(Debug)]
pub(crate) struct Desired {
    /// Where it was read, for people.
    pub(crate) from: String,
    /// None when the report has errors.
    pub(crate) state: Option<DesiredState>,
    /// What is wrong with it.
    pub(crate) report: CheckReport,
    /// Which commit; none in a folder.
    pub(crate) commit: Option<Commit>,
    /// The commit in force here, if it is known.
    pub(crate) in_force: Option<Commit>,
    /// Whether it comes after that one (or is it); none: not known.
    pub(crate) comes_after: Option<bool>,
    /// What `run` would have against the commit itself.
    pub(crate) objection: Option<String>,
}

/// Reads what `args` name, else what `settings` name; flags are put into `settings`.
///
/// # Errors
/// When it cannot be read; what is wrong in it is in the report.
pub(crate) async fn look(args: &DesiredArgs, settings: &mut Settings) -> Result<Desired, Failure> {
    if let Some(path) = &args.path {
        settings.source.clone_from(path);
    }
    args.git.apply(settings, args.path.is_some())?;
    if settings.git.is_some() {
        return edges::commit(settings, args.commit.as_deref()).await;
    }
    if args.commit.is_some() {
        return Err(Failure::new("the commit of no repository is given")
            .try_this("add --git URL, or `git:` with a `url` to holdfast.yaml"));
    }
    let (state, report) = edges::look(&settings.source, settings);
    let from = settings.source.display().to_string();
    Ok(Desired { from, state, report, commit: None, in_force: None, comes_after: None, objection: None })
}

/// Does `work` until Ctrl-C: it is dropped then, with the temporary folder it may have.
///
/// # Errors
/// Those of `work`, and when it was interrupted.
pub(crate) async fn until_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        ended = work => ended,
        Ok(()) = tokio::signal::ctrl_c() => Err(Failure::new("interrupted")),
    }
}

impl Desired {
    /// As read from git.
    pub(crate) fn of(reading: crate::source::git::Reading) -> Self {
        let crate::source::git::Reading { from, commit, state, report, in_force, comes_after, objection } = reading;
        Self { from, state, report, commit: Some(commit), in_force, comes_after, objection }
    }

    /// The desired state, when all of it is right.
    ///
    /// # Errors
    /// With everything that is wrong in it.
    pub(crate) fn valid(&self) -> Result<&DesiredState, Failure> {
        self.state.as_ref().ok_or_else(|| {
            Failure::new(format!("the desired state {} is not valid", self.place()))
                .because(error::in_words(&self.report.errors))
        })
    }

    /// Where it was read, with the commit.
    pub(crate) fn place(&self) -> String {
        match &self.commit {
            Some(commit) => format!("{} at commit {}", self.from, commit.short()),
            None => self.from.clone(),
        }
    }

    /// What people should know about the commit beside what it says.
    pub(crate) fn notes(&self) -> Vec<String> {
        let (Some(commit), in_force) = (&self.commit, &self.in_force) else { return Vec::new() };
        let mut notes = Vec::new();
        match (in_force, self.comes_after) {
            (Some(good), Some(true)) if good.id == commit.id => notes.push("it is in force already".to_owned()),
            (Some(good), Some(true)) => {
                let between = self.state.as_ref().map_or(0, |state| state.includes.len());
                let between = match between {
                    0 => String::new(),
                    count => format!(", with {} in between", counted(count, "commit")),
                };
                notes.push(format!("it comes after {}, which is in force{between}", good.short()));
            }
            (Some(good), Some(false)) => notes.push(format!(
                "it does not come after {}, which is in force: what that changed is undone in this plan; look at the \
                 commit that merging makes",
                good.short()
            )),
            _ => {}
        }
        if let Some(objection) = &self.objection {
            notes.push(format!("`run` would not take it: {}", objection.replace("\n  hint:", "; hint:")));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_named_in_full() {
        let id = "3F2A1B9C".repeat(5);
        assert_eq!(commit(&id), Ok(id.to_ascii_lowercase()));
        assert_eq!(commit(&"a".repeat(64)).as_deref(), Ok("a".repeat(64).as_str()));
        assert!(commit("3f2a1b9").unwrap_err().contains("`git rev-parse 3f2a1b9`"));
        for bad in ["", "main", "refs/pull/3/merge", "-x", "HEAD~1", &"g".repeat(40)] {
            assert!(!commit(bad).unwrap_err().is_empty(), "{bad}");
        }
    }
}
