//! `holdfast rollback`: back to what served before, by the controller or in the file.

use std::path::PathBuf;

use clap::Args;

use crate::model::names::ServiceName;
use crate::model::status::ServiceStatus;

use super::client::Client;
use super::failure::{Exit, Failure};
use super::{Surroundings, act, edges, edit, git, set, status};

/// Arguments of `rollback`.
#[derive(Debug, Args)]
#[command(after_help = "The controller goes back at once and stays there until the file asks for
another release; the file is not touched. With --commit the file is edited
instead, and the controller follows it as it follows every edit.

Examples:
  holdfast rollback dangdang-api
  holdfast rollback dangdang-api --commit --push --path desired-state/prod")]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    act: act::ActArgs,
    /// Write the previous tag into the file and commit it, in place of a pin.
    #[arg(long)]
    commit: bool,
    /// Push that commit to the upstream of the branch; implies --commit. When somebody else pushed first, the edit is
    /// made again on theirs.
    #[arg(long)]
    push: bool,
    /// The folder of the desired state, or the file; with `git:`, in a checkout [default: `source` of holdfast.yaml].
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
}

/// Goes back.
///
/// # Errors
/// When no controller answers, there is no previous release, or the file cannot be edited or committed.
pub(crate) async fn run(args: &RollbackArgs, around: &Surroundings) -> Result<Exit, Failure> {
    if !args.commit && !args.push {
        return act::run("rollback", &args.act, around).await;
    }
    let settings = edges::settings(around)?;
    let path = edit::place(args.path.as_deref(), &settings)?;
    let name = &args.act.service;
    let client = Client::connect(&around.state_dir()?).await?;
    let found = status::fetch(&client, Some(name)).await?.services.into_iter().next();
    let tag = previous_tag(name, found.as_ref())?;
    let changes = [("tag".to_owned(), tag)];
    let body = format!("Rolled back by {}.", act::user());
    let publish = git::Publish { body: &body, push: args.push };
    publish.run(|| Ok(edit::file_of(path, name)?.0), || set::edit(path, name, &changes, &settings)).await?;
    Ok(Exit::Fine)
}

/// What to write: the previous tag, with its digest where the tag alone would mean what serves now.
fn previous_tag(name: &ServiceName, found: Option<&ServiceStatus>) -> Result<String, Failure> {
    let previous = found.and_then(|found| found.previous.as_ref());
    let previous = previous.ok_or_else(|| {
        Failure::new(format!("{name} has no previous release to go back to"))
            .try_this(format!("write the wanted tag with `holdfast set {name} tag=…`"))
    })?;
    let serving = found.and_then(|found| found.serving.as_ref());
    match &previous.digest {
        Some(digest) if serving.is_some_and(|serving| serving.tag == previous.tag) => {
            Ok(format!("{}@{digest}", previous.tag))
        }
        _ => Ok(previous.tag.clone()),
    }
}
