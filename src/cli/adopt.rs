//! `holdfast adopt`: takes over what another controller id created.

use clap::Args;

use crate::model::names::ControllerId;

use super::act;
use super::client::{Client, Order};
use super::failure::{Exit, Failure};
use super::{Surroundings, out};

/// Arguments of `adopt`.
#[derive(Debug, Args)]
#[command(after_help = "For a host whose `controller:` in holdfast.yaml changed. The controller with the old id must not
run any more.

Example:
  holdfast adopt --from default")]
pub(crate) struct AdoptArgs {
    /// The id that created it.
    #[arg(long, value_name = "OLD", value_parser = ControllerId::new)]
    from: ControllerId,
}

/// Tells the running controller to take over.
///
/// # Errors
/// When no controller answers, or it refuses.
pub(crate) async fn run(args: &AdoptArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let client = Client::connect(&around.state_dir()?).await?;
    let by = act::user();
    let order = Order { by: &by, from: Some(args.from.as_str()) };
    let answer = client.order("/api/v1/adopt", &order).await?;
    out::line(answer.message.unwrap_or_else(|| format!("what {} created is ours now", args.from)))?;
    Ok(Exit::Fine)
}
