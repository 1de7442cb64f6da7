//! A value as YAML text.

/// Writes `value`, in the quotes of the old one where it had some.
pub(super) fn value(value: &str, old_start: Option<char>) -> String {
    let one_line = !value.contains(char::is_control);
    match old_start {
        _ if value.starts_with(['[', '{']) => value.to_owned(),
        Some('\'') if one_line => format!("'{}'", value.replace('\'', "''")),
        Some('"') => quoted(value),
        _ if is_plain(value) => value.to_owned(),
        _ => quoted(value),
    }
}

/// A JSON string is a double-quoted YAML one.
fn quoted(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// Whether YAML reads it as it stands, in block and in flow. (Numbers do: a scalar is its raw text here.)
fn is_plain(value: &str) -> bool {
    let no_value = ["null", "Null", "NULL", "~"];
    value.starts_with(|c: char| c.is_ascii_alphanumeric() || "/._".contains(c))
        && value.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@:=%".contains(c))
        && !value.ends_with(':')
        && !no_value.contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_kept_and_added_where_needed() {
        assert_eq!(value("1.10", None), "1.10");
        assert_eq!(value("v2", Some('\'')), "'v2'");
        assert_eq!(value("it's", Some('\'')), "'it''s'");
        assert_eq!(value("v2", Some('"')), "\"v2\"");
        assert_eq!(value("null", None), "\"null\"");
        assert_eq!(value("a: b # c", None), "\"a: b # c\"");
        assert_eq!(value("[a, b]", Some('[')), "[a, b]");
    }
}
