//! One edited file of a checkout, committed and pushed.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::failure::Failure;
use super::out;

/// Commits `file` and nothing else, on the branch that is checked out.
///
/// # Errors
/// When git refuses; the file stays edited.
pub(crate) async fn commit(file: &Path, subject: &str, body: Option<&str>) -> Result<(), Failure> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    git(file, &["add", "--", name]).await?;
    let mut args = vec!["commit", "--quiet", "-m", subject];
    if let Some(body) = body {
        args.extend(["-m", body]);
    }
    // `--only`: whatever else is staged stays out of this commit.
    args.extend(["--only", "--", name]);
    git(file, &args).await?;
    out::line("committed")
}

/// Pushes the branch that is checked out to where it comes from.
///
/// # Errors
/// When git refuses; the commit stays.
pub(crate) async fn push(file: &Path) -> Result<(), Failure> {
    git(file, &["push"]).await?;
    out::line("pushed")
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
