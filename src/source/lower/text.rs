//! Which characters may stand where. What ends in an nginx file, a path or the engine is checked here first.

use std::path::Path;

use crate::model::env_file;

/// Letters, digits and `._-`, a letter or digit first: containers, volumes.
pub(super) fn is_engine_name(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// A variable's name.
pub(super) fn is_variable(text: &str) -> bool {
    text.len() <= 255
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// No control character but tabs and line ends.
pub(super) fn is_value(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r'))
}

/// One line without control characters.
pub(super) fn is_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// An absolute path of plain characters, without `.`, `..`, `//` and a `/` at the end.
pub(super) fn is_plain_path(text: &str) -> bool {
    text.len() <= 1024
        && text.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| {
                !matches!(part, "" | "." | "..")
                    && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-+@".contains(c))
            })
        })
}

/// A relative path that stays below where it starts.
pub(super) fn stays_below(path: &Path) -> bool {
    env_file::stays_below(path) && path.to_str().is_some_and(is_line)
}

/// `ap-northeast-2`.
pub(super) fn is_region(text: &str) -> bool {
    text.split('-').count() >= 3
        && text.ends_with(|c: char| c.is_ascii_digit())
        && text
            .split('-')
            .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()))
}

/// A host name with an optional port, for a Host header.
pub(super) fn is_host(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-:_".contains(c))
}

/// A header's name: a token of RFC 9110.
pub(super) fn is_header(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_plain() {
        assert!(is_plain_path("/etc/nginx/holdfast/api.servers"));
        for bad in ["", "/", "etc", "/a/", "/a//b", "/a/../b", "/a/./b", "/a b", "/a;b", "/a{b", "/a\nb", "/a*"] {
            assert!(!is_plain_path(bad), "{bad}");
        }
        assert!(stays_below(Path::new(".env.prod")) && stays_below(Path::new("a/b")));
        for bad in ["", "/a", "../a", "a/../../b", ".", "a\nb"] {
            assert!(!stays_below(Path::new(bad)), "{bad}");
        }
    }

    #[test]
    fn regions_and_hosts_have_a_shape() {
        assert!(is_region("ap-northeast-2") && is_region("us-gov-west-1"));
        assert!(!is_region("seoul") && !is_region("ap-northeast-") && !is_region("AP-northeast-2"));
        assert!(is_host("api.example.com:8080") && !is_host("a\r\nb") && !is_host("a/b"));
    }
}
