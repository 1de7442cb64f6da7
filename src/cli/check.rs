//! `holdfast check`: is the desired state right?

use clap::Args;

use crate::model::desired::{DesiredState, Pull};
use crate::model::snapshot::Fact;
use crate::model::words::counted;
use crate::ports::{Platform, Traffic};
use crate::source::settings::Settings;

use super::desired::{self, DesiredArgs};
use super::failure::{Exit, Failure};
use super::out::{self, Paint};
use super::{Surroundings, edges, text};

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0 valid, 1 not. What only this host can tell (Docker, nginx, env files) is a warning.

Examples:
  holdfast check desired-state/prod
  holdfast check --git git@github.com:acme/deploy.git --path prod --files-only"
)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    desired: DesiredArgs,
    /// Only the files: nothing on this host is asked (for CI).
    #[arg(long)]
    files_only: bool,
}

/// Validates the files, then asks the host.
///
/// # Errors
/// When anything in the files is wrong: every message, each with its place.
pub(crate) async fn run(args: &CheckArgs, around: &Surroundings) -> Result<Exit, Failure> {
    desired::until_interrupted(check(args, around)).await
}

async fn check(args: &CheckArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let mut settings = edges::settings(around)?;
    let desired = desired::look(&args.desired, &mut settings).await?;
    let (place, report) = (desired.place(), &desired.report);
    for warning in &report.warnings {
        warn(&warning.to_string());
    }
    for note in desired.notes() {
        out::remark(format!("note: {note}"));
    }
    if !report.errors.is_empty() {
        for error in &report.errors {
            out::remark(format!("error: {error}"));
        }
        return Err(Failure::new(format!("{place}: {}", counted(report.errors.len(), "mistake"))));
    }
    if !args.files_only {
        host(&settings, desired.valid()?).await;
    }
    let names: Vec<&str> = report.services.iter().map(crate::model::names::ServiceName::as_str).collect();
    let first = format!("{place}: {}: ", counted(names.len(), "service"));
    out::line(text::wrap_at(&first, 2, &names.join(", ")).trim_end_matches([' ', ':']))?;
    Ok(Exit::Fine)
}

fn warn(words: &str) {
    let (words, hint) = match words.split_once("; hint: ") {
        Some((words, hint)) => (words, format!("\n  hint: {hint}")),
        None => (words, String::new()),
    };
    let warning = Paint::Yellow.on("warning", out::colour());
    out::remark(format!("{warning}: {words}{hint}"));
}

/// What only the host can tell: warnings here, holds in `run`.
async fn host(settings: &Settings, desired: &DesiredState) {
    let engine = edges::docker(settings);
    let uses_engine = desired.services.values().any(|service| service.ecs.is_none());
    let mut engine_answers = uses_engine;
    if uses_engine && let Fact::Unreadable(why) = engine.owned().await {
        engine_answers = false;
        warn(&format!("the container engine cannot be used: {why}"));
    }
    let env_root = edges::env_root(settings);
    let nginx = edges::nginx(settings);
    let uses_nginx = desired.services.values().any(|service| service.nginx.is_some());
    let nginx_works = match uses_nginx {
        true => nginx.probe_binary().await.inspect_err(|why| warn(&format!("nginx cannot be used: {why}"))).is_ok(),
        false => false,
    };
    for (name, service) in &desired.services {
        if let Some(path) = &service.docker.env_file {
            let shown = path.display();
            match env_root.version(path).await {
                Fact::Seen(_) => {}
                Fact::Absent => warn(&format!(
                    "{name}: env file {shown} is not there\n  hint: write it under {}",
                    settings.env_root.display()
                )),
                Fact::Unreadable(why) => warn(&format!("{name}: env file {shown} cannot be read: {why}")),
            }
        }
        if engine_answers && service.ecs.is_none() && service.docker.pull == Pull::Never {
            let image = format!("{}:{}", service.image, service.tag);
            match engine.local_image(&service.image, &service.tag).await {
                Fact::Seen(_) => {}
                Fact::Absent => {
                    warn(&format!("{name}: the engine has no image {image}\n  hint: build it, or say `pull: always`"));
                }
                Fact::Unreadable(why) => warn(&format!("{name}: image {image} cannot be read: {why}")),
            }
        }
        if let (Some(traffic), true) = (&service.nginx, nginx_works) {
            match nginx.look(traffic).await.included {
                Fact::Seen(true) => {}
                Fact::Seen(false) | Fact::Absent => {
                    let hint = crate::traffic::nginx::include_hint(name, &traffic.file);
                    warn(&format!("{name}: nginx does not include {}\n  hint: {hint}", traffic.file.display()));
                }
                Fact::Unreadable(why) => warn(&format!("{name}: nginx cannot be asked: {why}")),
            }
        }
    }
}
