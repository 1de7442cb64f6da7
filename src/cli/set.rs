//! `holdfast set`: edits the desired state in place, comments and layout kept.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::Args;
use tokio::process::Command;

use crate::model::names::ServiceName;

use super::edit::{self, Edited};
use super::failure::{Exit, Failure};
use super::{Surroundings, edges, out};

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
        commit(&edited.file, &subject).await?;
        out::line("committed")?;
    }
    if args.push {
        git(&edited.file, &["push"]).await?;
        out::line("pushed")?;
    }
    Ok(Exit::Fine)
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

async fn commit(file: &Path, subject: &str) -> Result<(), Failure> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    git(file, &["add", "--", name]).await?;
    // `--only`: whatever else is staged stays out of this commit.
    git(file, &["commit", "--quiet", "--only", "-m", subject, "--", name]).await
}

async fn git(file: &Path, args: &[&str]) -> Result<(), Failure> {
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let what = format!("could not run `git {}`", args.first().unwrap_or(&""));
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(args)
        .stdin(Stdio::null())
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .await
        .map_err(|error| Failure::new(what.clone()).because(error).try_this("is git installed?"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let said = if said.is_empty() { String::from_utf8_lossy(&output.stdout).trim().to_owned() } else { said };
    Err(Failure::new(what).because(said).try_this(format!("{} itself is edited and stays so", file.display())))
}
