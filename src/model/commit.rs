//! One commit of the repository the desired state comes from, as people know it.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Which commit, whose, and what it says it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Commit {
    /// The object id in full, hex.
    pub id: String,
    /// The author's name.
    pub author: String,
    /// The first line of the message.
    pub subject: String,
    /// When it was committed.
    pub at: Timestamp,
}

impl Commit {
    /// The first 12 digits of the id, as people quote them.
    pub fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// `3f2a1b9c0d12 "api: tag 1 -> 2" by Ann`, on one line whatever is written in it.
impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\" by {}", self.short(), plain(&self.subject, 72), plain(&self.author, 40))
    }
}

/// Text of strangers as it may stand in one line of a log: no control characters, and not endless.
fn plain(text: &str, longest: usize) -> String {
    let mut plain: String = text.chars().filter(|c| !c.is_control()).take(longest).collect();
    if text.chars().nth(longest).is_some() {
        plain.push('…');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_one_short_line() {
        let commit = Commit {
            id: "3f2a1b9c0d12aaaa".into(),
            author: "Ann\u{1b}[31m".into(),
            subject: format!("api: {}\nx", "y".repeat(100)),
            at: Timestamp::UNIX_EPOCH,
        };
        let text = commit.to_string();
        assert!(text.starts_with("3f2a1b9c0d12 \"api: yyy") && text.ends_with("…\" by Ann[31m"), "{text}");
        assert!(!text.contains(char::is_control));
    }
}
