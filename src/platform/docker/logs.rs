//! The last words of a container, fit for a sentence.

use std::time::Duration;

use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;

use super::engine::Engine;

/// Last words are decoration: a log driver that is slow to read is not waited for.
const LIMIT: Duration = Duration::from_secs(2);
/// As many characters as a person reads in an alert.
const LONGEST: usize = 500;

/// The last lines `id` wrote; empty when there are none or the driver keeps none.
pub(super) async fn last_words(engine: &Engine, id: &str) -> String {
    let Ok(client) = engine.client().await else { return String::new() };
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("5").build();
    let mut lines = Vec::new();
    let read = async {
        let mut stream = std::pin::pin!(client.logs(id, Some(options)));
        while let Some(Ok(output)) = stream.next().await {
            lines.push(String::from_utf8_lossy(output.as_ref()).into_owned());
        }
    };
    // What came before the limit is still worth showing.
    let _ = tokio::time::timeout(LIMIT, read).await;
    last_of(&lines.concat())
}

/// The end of `text`: trimmed lines joined by ` | `, without control characters, at most [`LONGEST`] characters.
fn last_of(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| one_line(line, LONGEST)).filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(5);
    let joined = lines[from..].join(" | ");
    let count = joined.chars().count();
    if count <= LONGEST {
        return joined;
    }
    let tail: String = joined.chars().skip(count - LONGEST + 1).collect();
    format!("…{tail}")
}

/// `text` as one line of at most `longest` characters: no control characters, no terminal escapes, no runs of blanks.
pub(super) fn one_line(text: &str, longest: usize) -> String {
    let mut clean = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next_if_eq(&'[').is_some() {
                // A control sequence ends with its first byte from `@` to `~`.
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
        } else if c.is_control() || c == '\u{fffd}' {
            clean.push(' ');
        } else {
            clean.push(c);
        }
    }
    let words: Vec<&str> = clean.split_whitespace().collect();
    words.join(" ").chars().take(longest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_control_characters_are_gone() {
        assert_eq!(one_line("\u{1b}[31mred\u{1b}[0m\t\u{7}bell\r\n", 80), "red bell");
        assert_eq!(one_line("\u{1b}]0;title", 80), "]0;title");
        assert_eq!(one_line("\u{1b}[", 80), "");
    }

    #[test]
    fn only_the_last_five_lines_and_the_last_500_characters_stay() {
        assert_eq!(last_of("1\n2\n\n3\n4\n5\n6\n"), "2 | 3 | 4 | 5 | 6");
        let long = last_of(&format!("{}end", "x".repeat(900)));
        assert_eq!(long.chars().count(), LONGEST);
        let two = last_of(&format!("first\n{}\nend", "x".repeat(499)));
        assert!(two.chars().count() == LONGEST && two.starts_with('…') && two.ends_with("x | end"), "{two}");
    }
}
