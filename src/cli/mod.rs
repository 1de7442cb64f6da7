//! Floor 4: the command line. One file per verb; `edges` alone picks the adapters.

mod act;
mod adopt;
mod check;
mod client;
mod completions;
mod desired;
mod difference;
mod edges;
mod edit;
mod failure;
mod git;
mod git_args;
mod history;
mod import;
mod logging;
mod logs;
mod out;
mod plan;
mod reconcile;
mod rollback;
mod run;
mod schema;
mod set;
mod status;
mod stream;
mod text;
mod wait;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::model::names::ControllerId;

pub use failure::{Exit, Failure};

/// Keeps watching a desired-state file and makes reality match it.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    max_term_width = 80,
    disable_help_subcommand = true,
    after_help = "\
Start with:
  holdfast check desired-state/prod      is the file right?
  holdfast plan desired-state/prod       what would be done, and why?
  holdfast run desired-state/prod        do it, and keep it so

Settings come from flags, then HOLDFAST_* variables, then holdfast.yaml."
)]
struct Cli {
    #[command(flatten)]
    around: Surroundings,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Clone, Args)]
struct Surroundings {
    /// This machine's settings [default: ./holdfast.yaml, then /etc/holdfast/holdfast.yaml].
    #[arg(
        long,
        global = true,
        env = "HOLDFAST_CONFIG",
        value_name = "FILE",
        hide_env = true,
        help_heading = "Everywhere"
    )]
    config: Option<PathBuf>,
    /// Where the controller keeps its memory and control.sock.
    #[arg(
        long,
        global = true,
        env = "HOLDFAST_STATE_DIR",
        value_name = "DIR",
        hide_env = true,
        help_heading = "Everywhere"
    )]
    state_dir: Option<PathBuf>,
    /// The id on everything created [default: `controller` of holdfast.yaml].
    #[arg(
        long,
        global = true,
        env = "HOLDFAST_CONTROLLER",
        value_name = "ID",
        hide_env = true,
        value_parser = ControllerId::new,
        help_heading = "Everywhere"
    )]
    controller: Option<ControllerId>,
}

impl Surroundings {
    /// Where `control.sock` is.
    fn state_dir(&self) -> Result<PathBuf, Failure> {
        match &self.state_dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(edges::settings(self)?.state_dir),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the controller: make reality match the desired state, and keep it so.
    Run(run::RunArgs),
    /// Show what `run` would do now, and why, without doing it.
    Plan(plan::PlanArgs),
    /// Validate the desired state; nothing is changed.
    Check(check::CheckArgs),
    /// Show what runs, and why the rest waits.
    Status(status::StatusArgs),
    /// Wait until a source revision serves (for CI).
    Wait(wait::WaitArgs),
    /// Show the reconcile log: what was done, and because of what.
    Logs(logs::LogsArgs),
    /// Show the releases of a service, newest first.
    History(history::HistoryArgs),
    /// Change the desired state in place: `set api tag=3f2a1b9 replicas=2`.
    Set(set::SetArgs),
    /// Let a release that waits for promotion go live.
    Promote(act::ActArgs),
    /// Go back to the previous release until the file asks for another.
    Rollback(rollback::RollbackArgs),
    /// Try a quarantined release once more.
    Retry(act::ActArgs),
    /// Change nothing about a service until `resume`; survives a restart.
    Pause(act::ActArgs),
    /// End a pause.
    Resume(act::ActArgs),
    /// Read the desired state now, or look at a service now.
    Reconcile(reconcile::ReconcileArgs),
    /// Approve the removal of a service that left the file.
    Remove(act::ActArgs),
    /// Take over what another controller id created.
    Adopt(adopt::AdoptArgs),
    /// Print the desired state of a container that already runs.
    Import(import::ImportArgs),
    /// Print the JSON Schema of the desired state.
    Schema,
    /// Print the completion script of a shell.
    Completions(completions::CompletionsArgs),
}

/// Runs the program with the arguments `args`.
///
/// # Errors
/// With what could not be done, its causes and a hint; `main` prints them.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Result<Exit, Failure> {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new("could not start").because(error))?;
    let exit = runtime.block_on(dispatch(cli));
    // A blocking read that never ends (a FIFO in the source folder) must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

/// Help and version go to standard output and end well; the rest is clap's message with our exit code for errors
/// (clap's own, 2, would read as "has changes").
fn usage(error: &clap::Error) -> Result<Exit, Failure> {
    error.print().map_err(Failure::output)?;
    Ok(if error.use_stderr() { Exit::Error } else { Exit::Fine })
}

async fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let around = &cli.around;
    match &cli.verb {
        Verb::Run(args) => Box::pin(run::run(args, around)).await,
        Verb::Plan(args) => Box::pin(plan::run(args, around)).await,
        Verb::Check(args) => check::run(args, around).await,
        Verb::Status(args) => status::run(args, around).await,
        Verb::Wait(args) => wait::run(args, around).await,
        Verb::Logs(args) => logs::run(args, around).await,
        Verb::History(args) => history::run(args, around).await,
        Verb::Set(args) => set::run(args, around).await,
        Verb::Promote(args) => act::run("promote", args, around).await,
        Verb::Rollback(args) => rollback::run(args, around).await,
        Verb::Retry(args) => act::run("retry", args, around).await,
        Verb::Pause(args) => act::run("pause", args, around).await,
        Verb::Resume(args) => act::run("resume", args, around).await,
        Verb::Reconcile(args) => reconcile::run(args, around).await,
        Verb::Remove(args) => act::run("remove", args, around).await,
        Verb::Adopt(args) => adopt::run(args, around).await,
        Verb::Import(args) => import::run(args, around).await,
        Verb::Schema => schema::run(),
        Verb::Completions(args) => completions::run(args),
    }
}

/// `90s`, `10m`, `1h`, `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write it as 30s, 10m or 1h");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let seconds = match &rest[digits..unit] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(seconds).filter(|s| *s < 86_400 * 365).ok_or_else(wrong)?;
        total += Duration::from_secs(part);
        rest = &rest[unit..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_written_with_units() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        for bad in ["", "10", "m", "-1s", "1d", "99999999999999999999s", "1 m"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
