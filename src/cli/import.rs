//! `holdfast import`: the desired state of what already runs.

use clap::{Args, Subcommand};

use super::failure::{Exit, Failure};
use super::{Surroundings, edges, out};

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast import docker my-app > desired-state/prod/my-app.yaml\n  holdfast import ecs plog-cluster/plog-api > desired-state/prod/plog-api.yaml"
)]
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
    /// A service on ECS.
    Ecs {
        /// `CLUSTER/SERVICE`.
        service: String,
        /// Its region [default: of the AWS settings].
        #[arg(long)]
        region: Option<String>,
    },
}

/// Prints the YAML.
///
/// # Errors
/// When there is no such container or the engine does not answer.
pub(crate) async fn run(args: &ImportArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let settings = edges::settings(around)?;
    let yaml = match &args.from {
        From::Docker { name } => edges::docker(&settings)
            .import(name)
            .await
            .map_err(|why| Failure::from_words(format!("could not import {name}"), &why))?,
        From::Ecs { service, region } => {
            let (cluster, name) = service.rsplit_once('/').ok_or_else(|| {
                Failure::new(format!("`{service}` names no service of a cluster"))
                    .try_this("write it as CLUSTER/SERVICE")
            })?;
            let imported = edges::ecs(&settings).import(cluster, name, region.as_deref()).await;
            imported.map_err(|why| Failure::from_words(format!("could not import {service}"), &why))?
        }
    };
    out::print(yaml)?;
    Ok(Exit::Fine)
}
