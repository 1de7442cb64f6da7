//! The house keeps its floors: who may use whom, where clocks and unmaintained crates may be, how long files get.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One piece of code; comments, strings and characters are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

/// Rust in words and signs. `::` is one sign; everything else is one character.
fn tokens(text: &str) -> Vec<Token> {
    let characters: Vec<char> = text.chars().collect();
    let at = |index: usize| characters.get(index).copied().unwrap_or('\0');
    let (mut index, mut line, mut found) = (0, 1, Vec::new());
    while index < characters.len() {
        let begin = index;
        match at(index) {
            '/' if at(index + 1) == '/' => index = skip_to(&characters, index, '\n'),
            '/' if at(index + 1) == '*' => index = skip_block_comment(&characters, index),
            '"' => index = skip_string(&characters, index),
            '\'' => index = skip_character(&characters, index),
            character if character.is_alphabetic() || character == '_' => {
                while at(index).is_alphanumeric() || at(index) == '_' {
                    index += 1;
                }
                let word: String = characters[begin..index].iter().collect();
                if matches!(word.as_str(), "r" | "br" | "cr") && matches!(at(index), '"' | '#') {
                    index = skip_raw_string(&characters, index);
                } else {
                    found.push(Token { text: word, line });
                }
            }
            ':' if at(index + 1) == ':' => {
                found.push(Token { text: "::".to_owned(), line });
                index += 2;
            }
            character => {
                if !character.is_whitespace() {
                    found.push(Token { text: character.to_string(), line });
                }
                index += 1;
            }
        }
        line += characters[begin..index.min(characters.len())].iter().filter(|&&c| c == '\n').count();
    }
    found
}

fn skip_to(characters: &[char], from: usize, end: char) -> usize {
    characters[from..].iter().position(|&c| c == end).map_or(characters.len(), |offset| from + offset)
}

fn skip_block_comment(characters: &[char], from: usize) -> usize {
    let (mut index, mut depth) = (from, 0);
    while index < characters.len() {
        match (characters[index], characters.get(index + 1)) {
            ('/', Some('*')) => (depth, index) = (depth + 1, index + 2),
            ('*', Some('/')) => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            break;
        }
    }
    index
}

fn skip_string(characters: &[char], from: usize) -> usize {
    let mut index = from + 1;
    while index < characters.len() && characters[index] != '"' {
        index += if characters[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

/// From the `#`s or the quote after `r`. `r#word` is a word, not a string.
fn skip_raw_string(characters: &[char], from: usize) -> usize {
    let hashes = characters[from..].iter().take_while(|&&c| c == '#').count();
    if characters.get(from + hashes) != Some(&'"') {
        return from + hashes;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = from + hashes + 1;
    let found = characters[body..].windows(end.len()).position(|window| window == end);
    found.map_or(characters.len(), |offset| body + offset + end.len())
}

/// A character, or only the quote of a lifetime.
fn skip_character(characters: &[char], from: usize) -> usize {
    match (characters.get(from + 1), characters.get(from + 2)) {
        (Some('\\'), _) => skip_to(characters, from + 3, '\'') + 1,
        (Some(_), Some('\'')) => from + 3,
        _ => from + 1,
    }
}

/// The modules at the top of the crate that `tokens` of the module at `file` use, with lines.
fn used_modules(tokens: &[Token], file: &[String]) -> Vec<(String, usize)> {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let mut used = Vec::new();
    // Of every open brace, whether it is a module's.
    let mut braces: Vec<bool> = Vec::new();
    let mut inside = file.to_vec();
    let mut index = 0;
    while index < tokens.len() {
        let mut next = index + 1;
        match text(index) {
            "{" => {
                let module = index >= 2 && text(index - 2) == "mod";
                if module {
                    inside.push(text(index - 1).to_owned());
                }
                braces.push(module);
            }
            "}" if braces.pop() == Some(true) => drop(inside.pop()),
            "crate" if text(index + 1) == "::" => used.extend(first_names(tokens, index + 2)),
            "super" if index == 0 || text(index - 1) != "::" => {
                let mut left = inside.len();
                next = index;
                while text(next) == "super" && text(next + 1) == "::" {
                    left = left.saturating_sub(1);
                    next += 2;
                }
                if left == 0 {
                    used.extend(first_names(tokens, next));
                }
                next = next.max(index + 1);
            }
            _ => {}
        }
        index = next;
    }
    used
}

/// The names right after the root: `a` of `a::b`, `a` and `c` of `{a::b, c}`.
fn first_names(tokens: &[Token], from: usize) -> Vec<(String, usize)> {
    let Some(first) = tokens.get(from) else { return Vec::new() };
    if first.text != "{" {
        return vec![(first.text.clone(), first.line)];
    }
    let (mut depth, mut expected, mut names) = (0, false, Vec::new());
    for token in &tokens[from..] {
        match token.text.as_str() {
            "{" => {
                depth += 1;
                expected = depth == 1;
            }
            "}" => depth -= 1,
            "," => expected = depth == 1,
            name => {
                if std::mem::take(&mut expected) {
                    names.push((name.to_owned(), token.line));
                }
            }
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// The table in the head of `src/lib.rs`: module to floor.
fn floors(lib: &str) -> BTreeMap<String, u8> {
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | ")?.split_once(" | "));
    rows.filter_map(|(floor, rest)| Some((floor.parse::<u8>().ok()?, rest.split('|').next()?)))
        .flat_map(|(floor, names)| {
            let name = |part: &str| part.split("`]").next().unwrap_or_default().to_owned();
            names.split("[`").skip(1).map(move |part| (name(part), floor)).collect::<Vec<_>>()
        })
        .collect()
}

/// `source/yaml.rs` is the module `source::yaml`.
fn module(file: &Path) -> Vec<String> {
    let mut path: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    path.pop_if(|last| matches!(last.as_str(), "mod" | "lib" | "main"));
    path
}

/// Words that may stand in one place only, and why.
const KEPT_APART: [(&[&str], &str, &str); 2] = [
    (&["serde_yaml"], "source/yaml.rs", "it has no maintainer: one file, so that a swap is one commit"),
    (&["backoff", "::"], "retry.rs", "it has no maintainer: one file, so that a swap is one commit"),
];

/// Words that may not stand under `model/` and `plan/`: decisions are pure.
const IMPURE: [&[&str]; 12] = [
    &["Timestamp", "::", "now"],
    &["Zoned", "::", "now"],
    &["SystemTime"],
    &["Instant"],
    &["rand", "::"],
    &["getrandom", "::"],
    &["thread_rng"],
    &["RandomState"],
    &["tokio", "::"],
    &["tracing", "::"],
    &["async", "fn"],
    &["async", "move"],
];

/// Lines a file may have without a reason.
const LONGEST: usize = 400;

/// Everything wrong with one file; `file` is its path under `src/`.
fn breaches(file: &Path, text: &str, floors: &BTreeMap<String, u8>) -> Vec<String> {
    let tokens = tokens(text);
    let place = |line: usize| format!("src/{}:{line}: ", file.display());
    let mut found = Vec::new();
    let own = module(file);
    if let Some(floor) = own.first().and_then(|name| floors.get(name)) {
        for (used, line) in used_modules(&tokens, &own) {
            let Some(other) = floors.get(&used) else { continue };
            if *other > *floor {
                found.push(format!("{}floor {floor} uses `{used}` of floor {other} above it", place(line)));
            }
            if *other == 2 && *floor == 2 && own[0] != used {
                found.push(format!("{}`{}` uses `{used}`, its sibling on floor 2", place(line), own[0]));
            }
        }
    }
    let pure = matches!(own.first().map(String::as_str), Some("model" | "plan"));
    let mut words: Vec<(&[&str], &str)> = KEPT_APART
        .iter()
        .filter(|(_, only, _)| file != Path::new(only))
        .map(|(words, _, why)| (*words, *why))
        .collect();
    if pure {
        words.extend(IMPURE.iter().map(|words| (*words, "decisions are pure: no clock, no chance, no I/O")));
    }
    for (words, why) in words {
        for window in tokens.windows(words.len()).filter(|window| window.iter().map(|it| &it.text).eq(words)) {
            found.push(format!("{}`{}`: {why}", place(window[0].line), words.concat()));
        }
    }
    let lines = text.lines().count();
    if lines > LONGEST && !text.lines().take(30).any(|line| line.starts_with("// Long because ")) {
        found.push(format!("{}{lines} lines, more than {LONGEST} without `// Long because …`", place(1)));
    }
    if !text.starts_with("//! ") {
        found.push(format!("{}it does not begin with `//! ` and what it is", place(1)));
    }
    found
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_file_keeps_to_its_floor() {
    let lib = std::fs::read_to_string(source().join("lib.rs")).unwrap();
    let (floors, mut files) = (floors(&lib), Vec::new());
    rust_files(&source(), &mut files);
    assert!(files.len() > 20, "only {} files were found", files.len());
    files.sort();
    let found: Vec<String> = files
        .iter()
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            breaches(path.strip_prefix(source()).unwrap(), &text, &floors)
        })
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_module_has_a_floor() {
    let lib = std::fs::read_to_string(source().join("lib.rs")).unwrap();
    let declared: std::collections::BTreeSet<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let floors = floors(&lib);
    assert_eq!(declared, floors.keys().map(String::as_str).collect());
    assert!(declared.contains("model") && floors["model"] == 0 && floors["cli"] == 4, "{floors:?}");
}

#[cfg(test)]
mod samples {
    use super::*;

    fn breaches_of(file: &str, body: &str) -> Vec<String> {
        let floors: BTreeMap<String, u8> =
            [("model", 0), ("plan", 1), ("ports", 1), ("retry", 1), ("source", 2), ("probe", 2), ("controller", 3)]
                .map(|(name, floor)| (name.to_owned(), floor))
                .into();
        breaches(Path::new(file), &format!("//! A sample.\n{body}"), &floors)
    }

    #[test]
    fn what_is_allowed_passes() {
        for (file, body) in [
            ("source/git.rs", "use crate::model::names::ServiceName;\nuse super::yaml;\nuse crate::source::yaml;"),
            ("ports.rs", "use crate::plan::step::Step;"),
            ("controller/mod.rs", "use crate::{model::names, probe, source::{yaml, git}};"),
            ("source/yaml.rs", "use serde_yaml::Value;"),
            ("retry.rs", "use backoff::backoff::Backoff;"),
            ("source/mod.rs", "mod a { mod b { use super::super::probe; } }"),
            (
                "source/mod.rs",
                "// crate::probe\n/* crate::probe /* x */ crate::probe */ const A: &str = \"crate::probe \\\" x\";",
            ),
            ("source/mod.rs", "const A: &str = r#\"crate::probe\" \"#; const B: char = '\"'; fn a<'a>(x: &'a str) {}"),
            ("plan/mod.rs", "fn at(now: Timestamp) { let instantly = now; }"),
            ("cli.rs", "use crate::controller;"),
        ] {
            assert_eq!(breaches_of(file, body), Vec::<String>::new(), "{file}: {body}");
        }
    }

    #[test]
    fn every_way_to_the_wrong_floor_is_found() {
        for (file, body, line) in [
            ("source/git.rs", "use crate::probe;", 2),
            ("source/git.rs", "use crate::{model, probe::http};", 2),
            ("source/git.rs", "use crate::{\n    model::{self, names},\n    probe,\n};", 4),
            ("source/git.rs", "fn a() { crate::probe::b() }", 2),
            ("source/git.rs", "use super::super::probe;", 2),
            ("source/mod.rs", "use super::probe;", 2),
            ("source/mod.rs", "#[cfg(test)]\nmod tests {\n    use super::super::probe;\n}", 4),
            ("source/mod.rs", "mod a { } use super::probe;", 2),
            ("source/mod.rs", "const A: char = '\\''; const B: char = '\\\\'; use crate::probe;", 2),
            ("source/mod.rs", "const A: &str = \"\n\"; use crate::probe;", 3),
            ("plan/mod.rs", "use crate::controller::x;", 2),
            ("model/mod.rs", "use crate::plan::x;", 2),
            ("model.rs", "pub(crate) use crate::plan::x;", 2),
        ] {
            let found = breaches_of(file, body);
            assert_eq!(found.len(), 1, "{file}: {body}: {found:?}");
            assert!(found[0].starts_with(&format!("src/{file}:{line}: ")), "{found:?}");
        }
    }

    #[test]
    fn words_in_the_wrong_place_are_found() {
        for (file, body) in [
            ("plan/mod.rs", "let now = jiff::Timestamp::now();"),
            ("plan/mod.rs", "use std::time::Instant;"),
            ("model/a.rs", "use std::time::{Duration, SystemTime};"),
            ("model/a.rs", "let x = rand::random();"),
            ("plan/a.rs", "async fn a() {}"),
            ("plan/a.rs", "tracing::info!(1);"),
            ("source/git.rs", "use serde_yaml as yaml;"),
            ("controller/mod.rs", "use backoff::ExponentialBackoff;"),
        ] {
            assert_eq!(breaches_of(file, body).len(), 1, "{file}: {body}");
        }
        assert!(breaches_of("controller/mod.rs", "use tokio::time::Instant;").is_empty());
    }

    #[test]
    fn long_files_and_files_without_a_head_are_found() {
        let long = "\n".repeat(400);
        assert_eq!(breaches_of("plan/mod.rs", &long).len(), 1);
        assert!(breaches_of("plan/mod.rs", &format!("// Long because it is a table.\n{long}")).is_empty());
        assert!(breaches_of("plan/mod.rs", &"\n".repeat(399)).is_empty());
        assert_eq!(breaches(Path::new("plan/mod.rs"), "use x;\n//! A sample.", &BTreeMap::new()).len(), 1);
    }
}
