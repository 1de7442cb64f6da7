//! `holdfast import docker`: the desired state of what already runs.

use clap::{Args, Subcommand};

use super::failure::{Exit, Failure};
use super::{Surroundings, edges, out};

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast import docker my-app > desired-state/prod/my-app.yaml")]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    from: From,
}

/// What is imported.
#[derive(Debug, Subcommand)]
enum From {
    /// A container of the engine on this host.
    Docker {
        /// Its name.
        name: String,
    },
}

/// Prints the YAML.
///
/// # Errors
/// When there is no such container or the engine does not answer.
pub(crate) async fn run(args: &ImportArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let From::Docker { name } = &args.from;
    let settings = edges::settings(around)?;
    let yaml = edges::docker(&settings)
        .import(name)
        .await
        .map_err(|why| Failure::from_words(format!("could not import {name}"), &why))?;
    out::print(yaml)?;
    Ok(Exit::Fine)
}
