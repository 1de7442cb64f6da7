//! Stub.
use super::{Surroundings, failure::{Exit, Failure}};
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {}
pub(crate) async fn run(_: &ImportArgs, _: &Surroundings) -> Result<Exit, Failure> { Ok(Exit::Fine) }
