//! The head of `status`: where the desired state is from, what of it is in force, what is wrong with the newest.

use jiff::Timestamp;

use crate::cli::out::Paint;
use crate::cli::text;
use crate::model::commit::Commit;
use crate::model::status::{SourceStatus, Status};

/// Who, from where, what of it is in force, and what is wrong with the newest.
pub(super) fn head(status: &Status, now: Timestamp, colour: bool) -> String {
    let source = &status.source;
    let mut lines = vec![format!("controller  {}", status.controller)];
    // A folder is read at every change, and between them there is nothing to tell.
    let checked = source.checked.filter(|_| source.commit.is_some());
    let checked = checked.map_or_else(String::new, |age| format!(", checked{GLUE}{}{GLUE}ago", text::span(age)));
    lines.push(text::wrap_at("source      ", HEAD, &format!("{}{checked}", source.from)).replace(GLUE, " "));
    lines.push(match (&source.commit, &source.revision) {
        (Some(commit), _) => {
            let shown = format!("{}, {} ago", cut_subject(commit), text::age(commit.at, now));
            text::wrap_at("commit      ", HEAD, &shown)
        }
        (None, Some(revision)) => {
            let age = source.age.map_or_else(String::new, |age| format!(", read {} ago", text::span(age)));
            format!("revision    {}{age}", short(revision))
        }
        (None, None) => "revision    no desired state yet".to_owned(),
    });
    let mut text: String = lines.iter().map(|line| format!("{}\n", Paint::Dim.on(line, colour))).collect();
    if let Some(error) = &source.error {
        let stays = if source.revision.is_some() { "; the last good one stays: " } else { ": " };
        let why = text::block(&format!("{}{stays}", trouble(source)), error);
        text.push_str(&Paint::Red.on(&why, colour));
        text.push('\n');
    }
    text.push('\n');
    text
}

/// Stands for a space where no line ends.
const GLUE: char = '\u{1f}';

/// Where the values of the head begin.
const HEAD: usize = 12;

/// A commit with as much of its subject as a line takes.
pub(crate) fn cut_subject(commit: &Commit) -> Commit {
    Commit { subject: text::cut(&commit.subject, 60), ..commit.clone() }
}

/// A revision as people quote it.
pub(crate) fn short(revision: &str) -> String {
    revision.trim_start_matches("sha256:").chars().take(12).collect()
}

/// What is wrong with the source: an edit that was read and is bad, or nobody knows.
pub(crate) fn trouble(source: &SourceStatus) -> String {
    match &source.rejected {
        Some(rejected) => format!("the newest edit ({}) is rejected", short(rejected)),
        None => "the source cannot be read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_told_with_its_subject_its_author_and_its_age() {
        let mut status = Status {
            schema_version: 1,
            controller: "web-1".into(),
            source: SourceStatus {
                revision: Some("3f2a1b9c0d12aaaabbbbcccc".into()),
                checked: Some(2),
                ..SourceStatus::default()
            },
            services: Vec::new(),
        };
        let source = &mut status.source;
        source.from = "https://github.com/acme/desired-state.git#main:prod".into();
        source.commit = Some(Commit {
            id: "3f2a1b9c0d12aaaabbbbcccc".into(),
            author: "Ann Kim".into(),
            subject: "api: tag 1 -> 2".into(),
            at: Timestamp::from_second(60).unwrap(),
        });
        source.error = Some("could not reach github.com: timed out".into());
        let at = Timestamp::from_second(780).unwrap();
        let text = head(&status, at, false);
        let wanted = "\
controller  web-1
source      https://github.com/acme/desired-state.git#main:prod, checked 2s ago
commit      3f2a1b9c0d12 \"api: tag 1 -> 2\" by Ann Kim, 12m ago
the source cannot be read; the last good one stays: could not reach github.com:
    timed out

";
        assert_eq!(text, wanted);
        // A number and its `ago` stay together.
        status.source.from.push_str("/shop");
        assert!(head(&status, at, false).contains("prod/shop,\n            checked 2s ago\n"), "{text}");
        let commit = status.source.commit.as_mut().unwrap();
        (commit.subject, commit.author) = ("x".repeat(200), "\u{1b}[31m name".repeat(20));
        let text = head(&status, at, false);
        assert!(text.lines().all(|line| line.chars().count() <= text::WIDTH), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }
}
