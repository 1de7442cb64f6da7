//! What is wrong with the source, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a file, both counted from 1; columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Position {
    /// The beginning of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// One thing that is wrong: `file:line:column: what; expected …` and a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceError {
    /// The file as named to us.
    pub file: PathBuf,
    /// Where in it; none when the file as a whole is meant.
    pub at: Option<Position>,
    /// What is wrong, without a value that may be secret.
    pub what: String,
    /// What would be right.
    pub expected: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl SourceError {
    /// Something wrong with `file` as a whole.
    pub fn of_file(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), at: None, what: what.into(), expected: None, hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, at, what, expected, hint } = self;
        write!(f, "{}", file.display())?;
        if let Some(Position { line, column }) = at {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {what}")?;
        if let Some(expected) = expected {
            write!(f, "; expected {expected}")?;
        }
        match hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SourceError {}

/// Every message, one under the other.
pub fn in_words(errors: &[SourceError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A value for a message: on one line, and no longer than a line.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// The known name nearest to `wrong`, when it is near enough to be meant.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // What is longer than every key is none of them.
    let lower: String = wrong.chars().take(64).flat_map(char::to_lowercase).collect();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        // A third of the letters may be wrong, at least one: more is another word.
        .filter(|(distance, name)| *distance <= (name.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_short() {
        assert_eq!(shown("a\nb"), "a\\nb");
        assert!(shown(&"x".repeat(1_000_000)).len() < 90);
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("replica", ["image", "replicas"]), Some("replicas"));
        assert_eq!(nearest("Replicas", ["image", "replicas"]), Some("replicas"));
        assert_eq!(nearest("banana", ["image", "replicas"]), None);
    }
}
