//! `holdfast set`: edits the desired state in place, comments and layout kept.

use std::path::PathBuf;

use crate::model::names::ServiceName;
use clap::Args;

use super::edit::{self, Edited};
use super::failure::{Exit, Failure};
use super::{Surroundings, edges, git, out};

/// Arguments of `set`.
#[derive(Debug, Args)]
#[command(after_help = "Keys are written as in the YAML, dots between levels; `key=` removes the key.

Examples:
  holdfast set dangdang-api tag=3f2a1b9
  holdfast set dangdang-api replicas=3 docker.env.TZ=Asia/Seoul
  holdfast set dangdang-api tag=3f2a1b9 --path desired-state/prod --commit --push")]
pub(crate) struct SetArgs {
    /// Which service.
    #[arg(value_parser = ServiceName::new)]
    service: ServiceName,
    /// What becomes what.
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = pair)]
    changes: Vec<(String, String)>,
    /// The folder of the desired state, or the file [default: `source` of holdfast.yaml].
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// Commit the file with git: only this file, on the branch that is checked out.
    #[arg(long)]
    commit: bool,
    /// Push that commit; implies --commit.
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
    let path = args.path.as_ref().unwrap_or(&settings.source);
    let edited = edit::set(path, &args.service, &args.changes, &settings)?;
    let subject = subject(&args.service, &edited);
    if edited.changes.is_empty() {
        out::line(format!("{}: already so in {}", args.service, edited.file.display()))?;
    } else {
        out::line(format!("{subject} ({})", edited.file.display()))?;
    }
    if (args.commit || args.push) && !edited.changes.is_empty() {
        git::commit(&edited.file, &subject, None).await?;
    }
    if args.push {
        git::push(&edited.file).await?;
    }
    Ok(Exit::Fine)
}

/// `SERVICE: tag OLD -> NEW, replicas 1 -> 2`.
pub(crate) fn subject(service: &ServiceName, edited: &Edited) -> String {
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
