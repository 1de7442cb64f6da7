//! Text for terminals: wrapping, cutting, ages, clock times.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What text output is laid out for.
pub(crate) const WIDTH: usize = 80;

/// `text` cut to `width` characters, with `…` where something is missing.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// `text` in lines of at most `WIDTH` characters: the first after `first`, the others under it.
pub(crate) fn wrap(first: &str, text: &str) -> String {
    wrap_at(first, first.chars().count(), text)
}

/// `text` in lines of at most `WIDTH` characters: the first after `first`, the others after `indent` spaces.
///
/// A word longer than a line stays whole: people copy paths and image names.
pub(crate) fn wrap_at(first: &str, indent: usize, text: &str) -> String {
    let mut lines = String::from(first);
    let mut used = first.chars().count();
    let mut fresh = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        let gap = usize::from(!fresh);
        if used + gap + length > WIDTH && used > indent {
            while lines.ends_with(' ') {
                lines.pop();
            }
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            used = indent;
        } else if !fresh {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += length;
        fresh = false;
    }
    lines
}

/// `text` whose own lines stay: one line goes after `first`, several go below it, indented.
pub(crate) fn block(first: &str, text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    match lines.as_slice() {
        [one] => wrap_at(first, 4, one),
        lines => {
            let mut block = first.trim_end().to_owned();
            for line in lines {
                block.push('\n');
                block.push_str(&wrap_at("  ", 4, line));
            }
            block
        }
    }
}

/// How long ago, in the largest unit that says enough: `4s`, `12m`, `3h`, `9d`.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    span(now.as_second().saturating_sub(since.as_second()))
}

/// A number of seconds in the largest unit that says enough.
pub(crate) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `HH:MM:SS`, local.
pub(crate) fn clock(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string()
}

/// `2024-11-22 17:04:05`, local.
pub(crate) fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_text_fits_and_keeps_its_indent() {
        let text = wrap("    because ", &"word ".repeat(40));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("            word")), "{text}");
    }

    #[test]
    fn a_word_longer_than_a_line_stays_whole() {
        let path = "/x".repeat(60);
        assert!(wrap("  ", &format!("see {path} there")).contains(&path));
    }

    #[test]
    fn ages_grow_their_unit() -> Result<(), jiff::Error> {
        let now = Timestamp::from_second(1_000_000)?;
        let ago = |s: i64| Timestamp::from_second(1_000_000 - s).map(|then| age(then, now));
        assert_eq!((ago(0)?, ago(119)?, ago(120)?), ("0s".into(), "119s".into(), "2m".into()));
        assert_eq!((ago(7199)?, ago(7200)?, ago(172_800)?), ("119m".into(), "2h".into(), "2d".into()));
        assert_eq!(ago(-5)?, "0s");
        Ok(())
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!((cut("abc", 3).as_str(), cut("abcd", 3).as_str()), ("abc", "ab…"));
    }
}
