//! `holdfast history`: the releases of a service.

use clap::Args;

use crate::model::event::HistoryEntry;
use crate::model::names::ServiceName;

use super::client::Client;
use super::failure::{Exit, Failure};
use super::out::{self, Format};
use super::{Surroundings, status, text};

/// Arguments of `history`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast history dangdang-api")]
pub(crate) struct HistoryArgs {
    /// Which service.
    #[arg(value_parser = ServiceName::new)]
    service: ServiceName,
    /// How it is written.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// Shows the releases of one service, newest first.
///
/// # Errors
/// When no controller answers, or it has no such service.
pub(crate) async fn run(args: &HistoryArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let client = Client::connect(&around.state_dir()?).await?;
    let service = &args.service;
    let entries: Vec<HistoryEntry> = client.get(&format!("/api/v1/services/{service}/history"), &[]).await?;
    if entries.is_empty() {
        // Nothing yet, or a typing error?
        status::fetch(&client, Some(service)).await?;
    }
    match args.output {
        Format::Json => out::json(&entries)?,
        Format::Text => out::print(render(&entries))?,
    }
    Ok(Exit::Fine)
}

fn render(entries: &[HistoryEntry]) -> String {
    if entries.is_empty() {
        return "no release yet\n".to_owned();
    }
    let mut text = format!("{:19}  {:18}  {:12}  OUTCOME\n", "STARTED", "TAG", "SOURCE");
    for entry in entries {
        let HistoryEntry { started_at, ended_at, tag, release, digest: _, revision, commit, why, outcome } = entry;
        let first = format!(
            "{:19}  {:18}  {:12}  ",
            text::moment(*started_at),
            text::cut(tag, 18),
            revision.chars().take(12).collect::<String>()
        );
        let took = match ended_at {
            Some(ended) => format!(", after {}", text::age(*started_at, *ended)),
            None => String::new(),
        };
        text.push_str(&text::wrap(&first, outcome));
        text.push('\n');
        if let Some(commit) = commit {
            text.push_str(&text::wrap_at("    ", 4, &format!("commit {}", status::cut_subject(commit))));
            text.push('\n');
        }
        text.push_str(&text::wrap_at("    ", 4, &format!("{why}{took} ({release})")));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_fits_80_columns() {
        let entry = HistoryEntry {
            started_at: jiff::Timestamp::UNIX_EPOCH,
            ended_at: Some(jiff::Timestamp::from_second(300).unwrap()),
            tag: "a-rather-long-tag-of-a-branch".into(),
            release: "v1:0123456789abcdef".into(),
            digest: "sha256:00".into(),
            revision: "0123456789abcdef0123".into(),
            commit: None,
            why: "the file asks for tag a-rather-long-tag-of-a-branch".into(),
            outcome: "failed: green does not come up: HTTP status 503 since the start".into(),
        };
        let commit = crate::model::commit::Commit {
            id: entry.revision.clone(),
            author: "Ann Kim".into(),
            subject: "api: a tag of a branch that is rather long, as they are; and some words more".into(),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let text = render(std::slice::from_ref(&entry));
        assert!(!text.contains("commit"), "{text}");
        let text = render(&[HistoryEntry { commit: Some(commit), ..entry }]);
        assert!(text.contains("    commit 0123456789ab \"api: a tag of"), "{text}");
        assert!(text.contains("by Ann Kim"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= text::WIDTH), "{text}");
        assert!(text.contains("failed:"), "{text}");
    }
}
