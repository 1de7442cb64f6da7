//! Where a key stands in a text: for messages only, so it may fail and is asked only once something is wrong.

use yaml_edit::{Document, Mapping, YamlNode};

use super::error::Position;

/// Key and value of the entry at a path, as far as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) struct Place {
    /// Where the key (or the list item) starts.
    pub(in crate::source) key: Position,
    /// Where its value starts.
    pub(in crate::source) value: Position,
    /// How many parts of the path were found.
    pub(in crate::source) found: usize,
}

/// A text whose keys can be found.
pub(in crate::source) struct Locator {
    text: String,
    root: Option<Mapping>,
}

impl Locator {
    /// Reads `text` leniently.
    pub(in crate::source) fn new(text: &str) -> Self {
        let (document, _) = Document::from_str_relaxed(text);
        Self { text: text.to_owned(), root: document.as_mapping() }
    }

    /// The deepest part of `path` that is there; parts of digits index lists.
    pub(in crate::source) fn find(&self, path: &[&str]) -> Place {
        let mut place = Place { key: Position::START, value: Position::START, found: 0 };
        let Some(mut node) = self.root.clone().map(YamlNode::Mapping) else { return place };
        for part in path {
            let Some((key, value)) = step(&node, part, false) else { break };
            place.key = self.position(key);
            place.value = value.as_ref().map_or(place.key, |value| self.position(start_of(value)));
            place.found += 1;
            match value {
                Some(value) => node = value,
                None => break,
            }
        }
        place
    }

    fn position(&self, byte: usize) -> Position {
        position_of(&self.text, byte)
    }
}

/// Where the last entry with the key at the end of `path` stands (the second of two).
pub(in crate::source) fn last_of_key(text: &str, path: &[&str]) -> Option<Position> {
    let locator = Locator::new(text);
    let (last, parents) = path.split_last()?;
    let mut node = YamlNode::Mapping(locator.root.clone()?);
    for part in parents {
        node = step(&node, part, false)?.1?;
    }
    step(&node, last, true).map(|(key, _)| locator.position(key))
}

/// The line and column of a byte of `text`.
pub(in crate::source) fn position_of(text: &str, byte: usize) -> Position {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

fn start_of(node: &YamlNode) -> usize {
    node.byte_range().start as usize
}

/// One part down: the byte its key starts at, and its value.
fn step(node: &YamlNode, part: &str, last: bool) -> Option<(usize, Option<YamlNode>)> {
    if let Some(list) = node.as_sequence() {
        let item = list.get(part.parse().ok()?)?;
        return Some((start_of(&item), Some(item)));
    }
    let map = node.as_mapping()?;
    let mut hits = map.entries().filter(|entry| entry.key_node().is_some_and(|key| text_of(&key) == part));
    let entry = if last { hits.last() } else { hits.next() }?;
    Some((start_of(&entry.key_node()?), entry.value_node()))
}

/// A scalar's text, quotes taken off.
pub(in crate::source) fn text_of(node: &YamlNode) -> String {
    node.as_scalar().map(yaml_edit::Scalar::as_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a comment\nservices:\n  \"hello\":  # why\n    image: 한글 # c\n    docker: {port: 1, env: {A: 'b'}}\n    volumes:\n      - a:/b\n      - c:/d\n";

    #[test]
    fn keys_and_values_are_found() {
        let locator = Locator::new(TEXT);
        let at = |path: &[&str]| {
            let Place { key, value, found } = locator.find(path);
            ((key.line, key.column), (value.line, value.column), found)
        };
        assert_eq!(at(&["services", "hello"]), ((3, 3), (4, 5), 2));
        assert_eq!(at(&["services", "hello", "image"]), ((4, 5), (4, 12), 3));
        assert_eq!(at(&["services", "hello", "docker", "env", "A"]), ((5, 29), (5, 32), 5));
        assert_eq!(at(&["services", "hello", "volumes", "1"]), ((8, 9), (8, 9), 4));
        assert_eq!(at(&["services", "hello", "tag"]), ((3, 3), (4, 5), 2));
        assert_eq!(at(&["nope"]), ((1, 1), (1, 1), 0));
    }

    #[test]
    fn the_second_of_two_is_found() {
        assert_eq!(last_of_key("a: 1\nb: 2\na: 3\n", &["a"]), Some(Position { line: 3, column: 1 }));
    }
}
