//! `holdfast set`: edits the desired state in place, comments and layout kept.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::model::names::ServiceName;
use crate::source::settings::Settings;

use super::edit::{self, Edited};
use super::failure::{Exit, Failure};
use super::{Surroundings, act, edges, git, out};

/// Arguments of `set`.
#[derive(Debug, Args)]
#[command(after_help = "Keys are written as in the YAML, dots between levels; `key=` removes the key.

Examples:
  holdfast set dangdang-api tag=3f2a1b9
  holdfast set dangdang-api replicas=3 docker.env.TZ=Asia/Seoul
  holdfast set dangdang-api tag=3f2a1b9 --path prod --commit --push")]
pub(crate) struct SetArgs {
    /// Which service.
    #[arg(value_parser = ServiceName::new)]
    service: ServiceName,
    /// What becomes what.
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = pair)]
    changes: Vec<(String, String)>,
    /// The folder of the desired state, or the file; with `git:`, in a checkout [default: `source` of holdfast.yaml].
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// Commit the file with git: only this file, on the branch that is checked out.
    #[arg(long)]
    commit: bool,
    /// Push that commit to the upstream of the branch; implies --commit. When somebody else pushed first, the edit is
    /// made again on theirs.
    #[arg(long)]
    push: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE, for example tag=3f2a1b9".to_owned()),
    }
}

/// Edits the file, and commits it where asked to.
///
/// # Errors
/// When the edit would make the file invalid (it is then left as it was), or git refuses.
pub(crate) async fn run(args: &SetArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let settings = edges::settings(around)?;
    let path = edit::place(args.path.as_deref(), &settings)?;
    let once = || edit(path, &args.service, &args.changes, &settings);
    if !args.commit && !args.push {
        return once().map(|_| Exit::Fine);
    }
    let body = format!("Set by {}.", act::user());
    let publish = git::Publish { body: &body, push: args.push };
    publish.run(|| Ok(edit::file_of(path, &args.service)?.0), once).await?;
    Ok(Exit::Fine)
}

/// Edits and says what that changed; with the subject of a commit.
///
/// # Errors
/// When the edit would make the file invalid: it is left as it was.
pub(crate) fn edit(
    path: &Path,
    service: &ServiceName,
    changes: &[(String, String)],
    settings: &Settings,
) -> Result<(Edited, String), Failure> {
    let edited = edit::set(path, service, changes, settings)?;
    let subject = subject(service, &edited);
    if edited.changes.is_empty() {
        out::line(format!("{service}: already so in {}", edited.file.display()))?;
    } else {
        out::line(format!("{subject} ({})", edited.file.display()))?;
    }
    Ok((edited, subject))
}

/// `SERVICE: tag OLD -> NEW, replicas 1 -> 2`.
fn subject(service: &ServiceName, edited: &Edited) -> String {
    let changes: Vec<String> = edited
        .changes
        .iter()
        .map(|(key, old, new)| match (old, new) {
            (Some(old), Some(new)) => format!("{key} {old} -> {new}"),
            (None, Some(new)) => format!("{key} = {new}"),
            (_, None) => format!("{key} removed"),
        })
        .collect();
    format!("{service}: {}", changes.join(", "))
}
