//! The only file that knows serde_yaml (it has no maintainer any more: a swap is one commit).
//!
//! Around the parser: a scan that refuses what would keep it busy, duplicate keys refused in maps, and errors in words.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::{Position, nearest, shown};
use super::locate;

/// The largest file that is read.
pub(in crate::source) const MAX_BYTES: usize = 1 << 20;
/// The deepest nesting of `[` and `{`, and of `- - -` on one line.
const MAX_NESTING: usize = 64;
/// The deepest nesting with brackets inside quotes and comments counted too: the parser's time grows with the square
/// of the depth, 4,000 levels cost it about 20 ms, and no trick with quotes gets past this count.
const MAX_RAW_NESTING: usize = 4_000;

/// Why a text is not what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) struct YamlError {
    /// From 1.
    pub(in crate::source) line: usize,
    /// From 1.
    pub(in crate::source) column: usize,
    /// What is wrong.
    pub(in crate::source) message: String,
    /// What would be right.
    pub(in crate::source) expected: Option<String>,
    /// What to do about it.
    pub(in crate::source) hint: Option<String>,
}

impl YamlError {
    fn at(at: Position, message: impl Into<String>) -> Self {
        Self { line: at.line, column: at.column, message: message.into(), expected: None, hint: None }
    }

    /// Where it is.
    pub(in crate::source) const fn position(&self) -> Position {
        Position { line: self.line, column: self.column }
    }
}

/// Reads one YAML document as a `T`.
///
/// # Errors
/// When it is too large or too deep, is not YAML, or is not a `T`.
pub(in crate::source) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    pre_scan(text)?;
    // First the syntax alone: what fails here is not YAML, what fails below is not what was asked for.
    if let Err(error) = serde_yaml::from_str::<IgnoredAny>(text) {
        return Err(syntax_error(&error));
    }
    serde_yaml::from_str::<T>(text).map_err(|error| data_error(text, &error))
}

/// Whether `old` and `new` differ at `path` at most.
pub(in crate::source) fn differ_only_at(old: &str, new: &str, path: &[&str]) -> bool {
    let without = |text: &str| {
        let mut value = serde_yaml::from_str::<serde_yaml::Value>(text).ok()?;
        remove(&mut value, path);
        Some(value)
    };
    match (without(old), without(new)) {
        (Some(old), Some(new)) => old == new,
        _ => false,
    }
}

/// Removes what stands at `path`, and the maps on the way that are empty after it (an edit may have added them).
fn remove(value: &mut serde_yaml::Value, path: &[&str]) {
    let (Some(map), Some((first, rest))) = (value.as_mapping_mut(), path.split_first()) else { return };
    if rest.is_empty() {
        map.remove(*first);
        return;
    }
    if let Some(inner) = map.get_mut(*first) {
        remove(inner, rest);
        if inner.as_mapping().is_some_and(serde_yaml::Mapping::is_empty) {
            map.remove(*first);
        }
    }
}

/// Refuses what would keep the parser busy for longer than an edit may take.
fn pre_scan(text: &str) -> Result<(), YamlError> {
    if text.len() > MAX_BYTES {
        let mut error = YamlError::at(Position::START, format!("the file has {} bytes", text.len()));
        error.expected = Some("at most 1 MiB".to_owned());
        return Err(error);
    }
    let mut scan = Scan::default();
    for (number, line) in text.lines().enumerate() {
        if let Some(column) = scan.line(line) {
            let mut error = YamlError::at(Position { line: number + 1, column }, "the nesting is too deep");
            error.expected = Some(format!("at most {MAX_NESTING} levels"));
            return Err(error);
        }
    }
    Ok(())
}

/// Bracket depth so far: once as YAML has it (quotes and comments left out, roughly), once counting every bracket.
#[derive(Default)]
struct Scan {
    depth: usize,
    raw_depth: usize,
    quote: Option<char>,
}

impl Scan {
    /// The column where `line` gets too deep.
    fn line(&mut self, line: &str) -> Option<usize> {
        let mut rest = line.trim_start();
        for _ in 0..MAX_NESTING {
            match rest.strip_prefix(['-', '?']).filter(|after| after.starts_with([' ', '\t'])) {
                Some(after) => rest = after.trim_start(),
                None => break,
            }
        }
        if rest.starts_with("- ") || rest.starts_with("-\t") || rest.starts_with("? ") || rest.starts_with("?\t") {
            return Some(1);
        }
        let mut before = ' ';
        let mut comment = false;
        for (column, c) in line.chars().enumerate() {
            match c {
                '[' | '{' => self.raw_depth += 1,
                ']' | '}' => self.raw_depth = self.raw_depth.saturating_sub(1),
                _ => {}
            }
            match (self.quote, c) {
                (Some(open), c) if c == open && !(open == '"' && before == '\\') => self.quote = None,
                (Some(_), _) => {}
                (None, '#') if before.is_whitespace() => comment = true,
                (None, '"' | '\'') if before.is_whitespace() || "[{,:".contains(before) => self.quote = Some(c),
                (None, '[' | '{') if !comment => self.depth += 1,
                (None, ']' | '}') if !comment => self.depth = self.depth.saturating_sub(1),
                (None, _) => {}
            }
            if comment {
                self.quote = None;
            }
            if self.depth > MAX_NESTING || self.raw_depth > MAX_RAW_NESTING {
                return Some(column + 1);
            }
            before = c;
        }
        None
    }
}

fn position(error: &serde_yaml::Error) -> Position {
    error.location().map_or(Position::START, |at| Position { line: at.line().max(1), column: at.column().max(1) })
}

/// The message without its place.
fn message(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    match text.find(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn syntax_error(error: &serde_yaml::Error) -> YamlError {
    let text = message(error);
    let mut yaml = YamlError::at(position(error), format!("this is not YAML: {text}"));
    if text.contains("more than one document") {
        yaml.message = "the file holds more than one document".to_owned();
        yaml.expected = Some("one document, without a `---` between two".to_owned());
    } else if text.contains("cannot start any token") && error.to_string().contains("found character") {
        yaml.hint = Some("indent with spaces, never with tabs, and quote values that start with @ ` % or >".to_owned());
    } else if text.contains("expected comment or line break") {
        yaml.hint = Some("quote values that start with > or |, like `\">=1.4 <2\"`".to_owned());
    } else if text.contains("mapping values are not allowed") {
        yaml.hint = Some("check the indentation, and quote values that contain `: `".to_owned());
    }
    yaml
}

/// serde's words, in ours.
fn data_error(text: &str, error: &serde_yaml::Error) -> YamlError {
    let message = message(error);
    let mut at = position(error);
    let (path, what) = split_path(&message);
    let place = || path.rsplit('.').next().filter(|last| !last.is_empty()).map(|last| format!("`{last}`: "));
    let place = place().unwrap_or_default();
    let quoted: Vec<&str> = what.split('`').skip(1).step_by(2).collect();
    if let (true, Some((key, known))) = (what.starts_with("unknown field"), quoted.split_first()) {
        return unknown_key(at, key, known);
    }
    if let (true, Some(key)) = (what.starts_with("duplicate field"), quoted.first()) {
        let path: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).chain([*key]).collect();
        at = locate::last_of_key(text, &path).unwrap_or(at);
        return YamlError::at(at, format!("`{key}` is written twice"));
    }
    let (found, expected) = match what.split_once(", expected ") {
        Some((found, expected)) => (found, Some(expected.to_owned())),
        None => (what, None),
    };
    let found = found.strip_prefix("invalid type: ").or_else(|| found.strip_prefix("invalid value: "));
    let mut yaml = YamlError::at(
        at,
        match found {
            Some(found) => format!("{place}found {}", in_words(found)),
            None => format!("{place}{what}"),
        },
    );
    // serde names our own types where a map is expected.
    let map = |expected: String| if expected.starts_with("struct ") { "a map".to_owned() } else { expected };
    yaml.expected = found.and(expected).map(map);
    yaml
}

/// `services.hello: unknown field …` as its path and the rest.
fn split_path(message: &str) -> (&str, &str) {
    match message.split_once(": ") {
        Some((path, what)) if !path.contains([' ', '`']) => (path, what),
        _ => ("", message),
    }
}

/// serde's `string "x"`, `sequence`, `map`, in the words of YAML.
fn in_words(found: &str) -> String {
    match found {
        "map" => "a map".to_owned(),
        "sequence" => "a list".to_owned(),
        "unit value" | "null" => "no value".to_owned(),
        other => match other.split_once(' ') {
            Some(("string", text)) => format!("`{}`", shown(text.trim_matches('"'))),
            Some(("integer" | "boolean", rest)) => rest.to_owned(),
            Some(("floating", rest)) => rest.trim_start_matches("point ").to_owned(),
            _ => shown(other),
        },
    }
}

/// A key nobody knows, and the one that may be meant.
fn unknown_key(at: Position, key: &str, known: &[&str]) -> YamlError {
    let mut yaml = YamlError::at(at, format!("unknown key `{}`", shown(key)));
    yaml.expected = Some(match known {
        [] => "no key".to_owned(),
        [one] => format!("`{one}`"),
        many => format!("one of {}", many.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    });
    yaml.hint = match (key, nearest(key, known.iter().copied())) {
        ("<<", _) => Some("merge keys are not read; write shared values under `defaults:`".to_owned()),
        (_, Some(near)) => Some(format!("did you mean `{near}`?")),
        (_, None) => None,
    };
    yaml
}

/// A map that refuses a key written twice (serde's own would silently take the last).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) struct UniqueMap<V>(pub(in crate::source) BTreeMap<String, V>);

impl<V> Default for UniqueMap<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = UniqueMap<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    if entries.contains_key(&key) {
                        return Err(serde::de::Error::custom(format_args!("duplicate field `{key}`")));
                    }
                    entries.insert(key, map.next_value()?);
                }
                Ok(UniqueMap(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<V: JsonSchema> JsonSchema for UniqueMap<V> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        BTreeMap::<String, V>::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        BTreeMap::<String, V>::json_schema(generator)
    }
    fn inline_schema() -> bool {
        true
    }
}
