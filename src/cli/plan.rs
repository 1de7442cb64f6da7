//! Stub.
use super::{Surroundings, failure::{Exit, Failure}};
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {}
pub(crate) async fn run(_: &PlanArgs, _: &Surroundings) -> Result<Exit, Failure> { Ok(Exit::Fine) }
