//! Text of strangers in a comment: it stays text, on one line, and calls nobody.

use crate::model::words::shortened;

/// `text` so that nothing in it is markup, ends a cell, an element or a line, mentions somebody or links an issue. At
/// most `longest` characters of it.
pub(super) fn inline(text: &str, longest: usize) -> String {
    let plain: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !hidden(*c)).collect();
    let plain = shortened(&plain.replace("->", "→"), longest);
    let mut safe = String::with_capacity(plain.len());
    let mut before = ' ';
    let mut rest = plain.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '|' | '$' => safe.push_str(&format!("&#{};", u32::from(c))),
            // GitHub looks for these in the finished page, where an entity is no help: something invisible parts them.
            '@' if !before.is_ascii_alphanumeric() => safe.push_str("@&#8203;"),
            '#' if rest.peek().is_some_and(char::is_ascii_digit) => safe.push_str("#&#8203;"),
            '-' if safe.len() >= 2 && safe.as_bytes()[safe.len() - 2..].eq_ignore_ascii_case(b"gh") => {
                safe.push_str("-&#8203;");
            }
            c => safe.push(c),
        }
        before = c;
    }
    safe
}

/// Characters nobody sees, or that turn the order of others around.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `text` with its own lines, as a block of code that nothing in it ends. At most `longest` bytes of it.
pub(super) fn block(text: &str, longest: usize) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.peek() {
        let line: String = line.chars().filter(|c| !hidden(*c)).collect();
        if kept.len() + line.len() >= longest {
            break;
        }
        kept.push_str(&line);
        kept.push('\n');
        lines.next();
    }
    let left = lines.count();
    if left > 0 {
        kept.push_str(&format!("… and {left} more lines\n"));
    }
    let (mut longest_run, mut run) = (0, 0);
    for c in kept.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest_run = longest_run.max(run);
    }
    let fence = "`".repeat(longest_run.max(2) + 1);
    format!("{fence}text\n{kept}{fence}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_a_line() {
        let hostile = "a|b `c` <b>x</b> @ann #12 GH-7 **d** [e](f)\n\n# g\u{202e} $h$ -> x@y&z";
        let safe = inline(hostile, 500);
        for bad in ["|", "`", "<", "@a", " #1", "GH-7", "*", "[", "\n", "\u{202e}", "$", "->"] {
            assert!(!safe.contains(bad), "{bad:?} in {safe}");
        }
        assert!(safe.contains("→ x@y&amp;z"), "{safe}");
        assert_eq!(
            inline("registry.example/api:1.2-rc.1@sha256:ab, 10 %", 99),
            "registry.example/api:1.2-rc.1@sha256:ab, 10 %"
        );
        assert_eq!(inline("abcdef", 4), "abc…");
    }

    #[test]
    fn nothing_ends_a_block_of_code() {
        let text = "x\n```\n<script>\n````` y\u{1b}[31m\n";
        let made = block(text, 1000);
        assert!(made.starts_with("``````text\n") && made.ends_with("\n``````\n"), "{made}");
        assert!(!made.contains('\u{1b}'));
        assert!(block(&"0123456789\n".repeat(100), 55).contains("… and 95 more lines"));
    }
}
