//! Edits a desired-state file in place: comments, layout, quotes and line ends stay as they are.

mod render;

use std::str::FromStr;

use yaml_edit::{Document, Mapping, YamlNode};

use super::error::{Position, nearest};
use super::file::RawFile;
use super::locate::text_of;
use super::{lower, yaml};

/// Why a file was not edited: a lowercase fragment that completes "could not set …: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The file is wrong already, or would be after the edit.
    #[error("line {line}, column {column}: {what}")]
    Invalid {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong, with what was expected and a hint.
        what: String,
    },
    /// No such service in this text.
    #[error("there is no service `{service}` here{}", near(.nearest.as_deref()))]
    NoService {
        /// As asked for.
        service: String,
        /// The one that may be meant.
        nearest: Option<String>,
    },
    /// A key that is no path of keys.
    #[error("`{0}` is not a key like `tag` or `docker.port`")]
    NotAKey(String),
    /// A key to remove that is not there.
    #[error("there is no `{key}` to remove{}", near(.nearest.as_deref()))]
    NotThere {
        /// As asked for.
        key: String,
        /// The one that may be meant.
        nearest: Option<String>,
    },
    /// A map or a list where one value was given.
    #[error("`{0}` is a map or a list\n  hint: name a key in it, or give the whole as `[…]` or `{{…}}`")]
    NotAValue(String),
    /// The edit would have changed something else too.
    #[error("`{0}` cannot be edited without changing something else\n  hint: edit the file by hand")]
    NotAlone(String),
}

fn near(nearest: Option<&str>) -> String {
    nearest.map(|near| format!("\n  hint: did you mean `{near}`?")).unwrap_or_default()
}

/// Sets `assignments` (dotted keys of the service, raw values; an empty value removes the key) and returns the text.
///
/// # Errors
/// When a service or a key is unknown, or the result would be wrong or differ anywhere else.
pub fn set(text: &str, service: &str, assignments: &[(String, String)]) -> Result<String, EditError> {
    let raw = valid(text)?;
    let services = raw.services.get().map(|services| &services.0);
    if !services.is_some_and(|services| services.contains_key(service)) {
        let names = services.into_iter().flatten().map(|(name, _)| name.as_str());
        let nearest = nearest(service, names).map(str::to_owned);
        return Err(EditError::NoService { service: service.to_owned(), nearest });
    }
    let mut edited = text.to_owned();
    for (key, value) in assignments {
        edited = set_one(&edited, service, key, value)?;
    }
    // Judged at the end: several assignments may only make sense together.
    nothing_new_is_wrong(text, &edited)?;
    Ok(edited)
}

fn valid(text: &str) -> Result<RawFile, EditError> {
    yaml::parse::<RawFile>(text).map_err(|error| {
        let expected = error.expected.map(|expected| format!("; expected {expected}")).unwrap_or_default();
        let hint = error.hint.map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
        let what = format!("{}{expected}{hint}", error.message);
        EditError::Invalid { line: error.line, column: error.column, what }
    })
}

/// Refuses an edit that makes a value wrong; what was wrong before is none of this edit's business.
fn nothing_new_is_wrong(old: &str, new: &str) -> Result<(), EditError> {
    let known: Vec<String> = lower::errors_of(old).into_iter().map(|error| error.what).collect();
    let Some(error) = lower::errors_of(new).into_iter().find(|error| !known.contains(&error.what)) else {
        return Ok(());
    };
    let expected = error.expected.map(|expected| format!("; expected {expected}")).unwrap_or_default();
    let hint = error.hint.map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
    let at = error.at.unwrap_or(Position::START);
    Err(EditError::Invalid { line: at.line, column: at.column, what: format!("{}{expected}{hint}", error.what) })
}

/// `docker.env.A.B` as `docker`, `env`, `A.B`: the keys of free maps may have dots in them.
fn parts_of(key: &str) -> Option<Vec<&str>> {
    for free in ["docker.env.", "docker.logging.options.", "health.http.headers."] {
        if let Some(name) = key.strip_prefix(free) {
            let parts = free.trim_end_matches('.').split('.').chain([name]);
            return (!name.is_empty()).then(|| parts.collect());
        }
    }
    let parts: Vec<&str> = key.split('.').collect();
    let plain = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric());
    parts.iter().all(plain).then_some(parts)
}

fn set_one(text: &str, service: &str, key: &str, value: &str) -> Result<String, EditError> {
    let parts = parts_of(key).ok_or_else(|| EditError::NotAKey(key.to_owned()))?;
    let not_alone = || EditError::NotAlone(key.to_owned());
    let document = Document::from_str(text).map_err(|_| not_alone())?;
    let map = document.get_mapping("services").and_then(|services| services.get_mapping(service));
    let map = map.ok_or_else(not_alone)?;
    let edited = if value.is_empty() {
        remove(&map, &parts, key)?;
        document.to_string()
    } else if let Some(node) = find(&map, &parts) {
        replace(text, &node, value).ok_or_else(|| EditError::NotAValue(key.to_owned()))?
    } else {
        add(&document, &map, &parts, value).ok_or_else(not_alone)?
    };
    valid(&edited)?;
    let path: Vec<&str> = ["services", service].into_iter().chain(parts.iter().copied()).collect();
    if !yaml::differ_only_at(text, &edited, &path) || !holds(&edited, &path, value) {
        return Err(not_alone());
    }
    Ok(edited)
}

/// Whether the finished text has `value` at `path` (or, for an empty one, nothing).
fn holds(text: &str, path: &[&str], value: &str) -> bool {
    let Ok(document) = Document::from_str(text) else { return false };
    let node = document.as_mapping().and_then(|root| find(&root, path));
    match node {
        None => value.is_empty(),
        // A whole map or list was written as it stands.
        Some(node) if !node.is_scalar() => value.starts_with(['[', '{']),
        Some(node) => text_of(&node) == value,
    }
}

fn find(map: &Mapping, parts: &[&str]) -> Option<YamlNode> {
    let (last, parents) = parts.split_last()?;
    let mut map = map.clone();
    for part in parents {
        map = map.get_mapping(*part)?;
    }
    map.get(*last)
}

/// Replaces the bytes of one value, in the quotes it had.
fn replace(text: &str, node: &YamlNode, value: &str) -> Option<String> {
    if !node.is_scalar() && !node.is_alias() && !value.starts_with(['[', '{']) {
        return None;
    }
    let range = node.byte_range();
    let (start, end) = (range.start as usize, range.end as usize);
    let old = text.get(start..end)?;
    let kept = old.len() - old.trim_end_matches(['\r', '\n', ' ']).len();
    let rendered = render::value(value, old.chars().next());
    Some(format!("{}{rendered}{}", text.get(..start)?, text.get(end - kept..)?))
}

/// Adds a key, and the maps that lead to it.
fn add(document: &Document, map: &Mapping, parts: &[&str], value: &str) -> Option<String> {
    // The library would quote by its own reading of the value; a word that needs no quotes holds its place.
    const PLACE: &str = "holdfast-value-comes-here";
    let (last, parents) = parts.split_last()?;
    let mut map = map.clone();
    for part in parents {
        if map.get_mapping(*part).is_none() {
            map.entry(*part).or_insert_mapping();
        }
        map = map.get_mapping(*part)?;
    }
    map.set(*last, PLACE);
    let text = document.to_string();
    (text.matches(PLACE).count() == 1).then(|| text.replace(PLACE, &render::value(value, None)))
}

/// Removes a key, and the maps that would be empty without it.
fn remove(map: &Mapping, parts: &[&str], key: &str) -> Result<(), EditError> {
    let mut map = map.clone();
    let mut from = (map.clone(), parts[0]);
    for (index, part) in parts.iter().enumerate() {
        if !map.contains_key(*part) {
            let keys: Vec<String> = map.keys().map(|key| text_of(&key)).collect();
            let nearest = nearest(part, keys.iter().map(String::as_str)).map(str::to_owned);
            return Err(EditError::NotThere { key: key.to_owned(), nearest });
        }
        if index == 0 || map.len() > 1 {
            from = (map.clone(), part);
        }
        match map.get_mapping(*part) {
            Some(inner) => map = inner,
            None if index + 1 == parts.len() => {}
            None => return Err(EditError::NotThere { key: key.to_owned(), nearest: None }),
        }
    }
    from.0.remove(from.1);
    Ok(())
}

#[cfg(test)]
mod tests;
