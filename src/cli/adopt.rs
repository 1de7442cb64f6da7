//! `holdfast adopt`: takes over what another controller id created.

use clap::Args;

use crate::model::names::ControllerId;

use super::client::Client;
use super::failure::{Exit, Failure};
use super::{Surroundings, edges, out};

/// Arguments of `adopt`.
#[derive(Debug, Args)]
#[command(after_help = "For a host whose `controller:` in holdfast.yaml changed. The controller with
the old id must not run any more.

Example:
  holdfast adopt --from default")]
pub(crate) struct AdoptArgs {
    /// The id that created it.
    #[arg(long, value_name = "OLD", value_parser = ControllerId::new)]
    from: ControllerId,
}

/// Remembers the old id as taken over; the next start acts on it.
///
/// # Errors
/// When a controller with the old id still runs, or the state folder cannot be written.
pub(crate) async fn run(args: &AdoptArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let settings = edges::settings(around)?;
    let AdoptArgs { from } = args;
    if *from == settings.controller {
        return Err(Failure::new(format!("{from} is this controller's own id"))
            .try_this("`controller` in holdfast.yaml is the new id, --from the old one"));
    }
    edges::remember_former(&settings, from)?;
    out::line(format!("what {from} created counts as {}'s from its next start", settings.controller))?;
    if Client::connect(&settings.state_dir).await.is_ok() {
        out::line("a controller runs: restart it now")?;
    }
    Ok(Exit::Fine)
}
