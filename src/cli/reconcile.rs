//! `holdfast reconcile`: looks now, at one service or at the source of all.

use clap::Args;
use serde::Serialize;

use crate::model::names::ServiceName;

use super::act::{self, ActArgs};
use super::client::{Client, Order};
use super::failure::{Exit, Failure};
use super::{Surroundings, out};

/// Arguments of `reconcile`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast reconcile                    read the desired state now
  holdfast reconcile dangdang-api       and look at this service too
  holdfast reconcile --accept-rewind 3f2a1b9c0d12")]
pub(crate) struct ReconcileArgs {
    /// Look at this one; without it, the desired state is read.
    #[arg(value_parser = ServiceName::new)]
    service: Option<ServiceName>,
    /// Let this commit take the place of the last good one, though it does not come after it (a force-push).
    #[arg(long, value_name = "COMMIT", value_parser = crate::web::commit_id, conflicts_with = "service")]
    accept_rewind: Option<String>,
}

/// What `accept-rewind` sends along.
#[derive(Debug, Serialize)]
struct Rewind<'a> {
    commit: &'a str,
    by: &'a str,
}

/// Reads the source, and looks at the service where there is one.
///
/// # Errors
/// When no controller answers, or it refuses.
pub(crate) async fn run(args: &ReconcileArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let ReconcileArgs { service, accept_rewind } = args;
    if let Some(service) = service {
        return act::run("reconcile", &ActArgs { service: service.clone() }, around).await;
    }
    let client = Client::connect(&around.state_dir()?).await?;
    let by = act::user();
    let answer = match accept_rewind {
        Some(commit) => client.order("/api/v1/source/accept-rewind", &Rewind { commit, by: &by }).await?,
        None => client.order("/api/v1/source/reconcile", &Order { by: &by }).await?,
    };
    out::line(answer.message.unwrap_or_else(|| "the desired state is read now".to_owned()))?;
    Ok(Exit::Fine)
}
