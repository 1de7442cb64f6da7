//! The verbs a person gives the running controller about one service: `promote`, `rollback`, `retry`, `pause`,
//! `resume`, `remove` (and `reconcile`). They differ in a word only, so they share a file.

use clap::Args;

use crate::model::names::ServiceName;

use super::client::{Client, Order};
use super::failure::{Exit, Failure};
use super::{Surroundings, out, status};

/// Arguments of a verb about one service.
#[derive(Debug, Args)]
pub(crate) struct ActArgs {
    /// Which service.
    #[arg(value_parser = ServiceName::new)]
    pub(crate) service: ServiceName,
}

/// Sends `verb` about `service`.
///
/// # Errors
/// When no controller answers, or it refuses.
pub(crate) async fn run(verb: &str, args: &ActArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let client = Client::connect(&around.state_dir()?).await?;
    let service = &args.service;
    if verb != "remove" {
        // A typing error gets the nearest name instead of a bare 404. What is removed may have left the file.
        status::fetch(&client, Some(service)).await?;
    }
    let by = user();
    let order = Order { by: &by };
    let answer = client.order(&format!("/api/v1/services/{service}/{verb}"), &order).await?;
    out::line(answer.message.unwrap_or_else(|| format!("{service}: {verb} taken")))?;
    Ok(Exit::Fine)
}

/// The unix user, as the log names people: behind sudo the one who called it.
pub(crate) fn user() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}
