//! `holdfast completions`: what the shell's tab key knows.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::failure::{Exit, Failure};
use super::{Cli, out};

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast completions bash > /etc/bash_completion.d/holdfast")]
pub(crate) struct CompletionsArgs {
    /// For which shell.
    shell: Shell,
}

/// Prints the completion script.
///
/// # Errors
/// When the output is closed.
pub(crate) fn run(args: &CompletionsArgs) -> Result<Exit, Failure> {
    // Into memory first: clap_complete panics on a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "holdfast", &mut script);
    out::print(String::from_utf8_lossy(&script))?;
    Ok(Exit::Fine)
}
