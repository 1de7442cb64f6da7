//! The text of nginx's configuration, read by ourselves: only for when `nginx -T` cannot, because a servers file is
//! missing or empty.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// More files than any configuration has; bounds an include that includes itself.
const MOST_FILES: usize = 1000;

/// Whether nginx's `words` are about `file`: `open() "/x" failed`, `… in /x:3`.
pub(super) fn blames(words: &str, file: &Path) -> bool {
    let file = file.display();
    words.contains(&format!("\"{file}\"")) || words.contains(&format!(" in {file}:"))
}

/// Whether some `include` reachable from `config` names `file`, which need not exist.
pub(super) fn includes(config: &Path, file: &Path) -> bool {
    let Some(folder) = config.parent() else { return false };
    let mut queue = VecDeque::from([config.to_owned()]);
    let mut seen = BTreeSet::new();
    while let Some(next) = queue.pop_front() {
        if seen.len() >= MOST_FILES || !seen.insert(next.clone()) {
            continue;
        }
        let Ok(text) = fs::read(&next) else { continue };
        for pattern in included(&String::from_utf8_lossy(&text)) {
            // Relative to the main configuration file, whichever file it stands in.
            let pattern = folder.join(pattern);
            if matches(&pattern, file) {
                return true;
            }
            queue.extend(expand(&pattern));
        }
    }
    false
}

/// The arguments of all `include` directives.
fn included(text: &str) -> Vec<String> {
    let plain: Vec<&str> = text.lines().map(|line| line.split('#').next().unwrap_or_default()).collect();
    let plain = plain.join("\n");
    let argument = |statement: &str| {
        let mut words = statement.split_ascii_whitespace();
        (words.next() == Some("include")).then(|| words.next().map(|word| word.trim_matches(['"', '\'']).to_owned()))?
    };
    plain.split([';', '{', '}']).filter_map(argument).collect()
}

/// The files `pattern` matches; wildcards in its last part only.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let text = pattern.to_string_lossy();
    if !text.contains(['*', '?']) {
        return vec![pattern.to_owned()];
    }
    let Some(entries) = pattern.parent().and_then(|folder| fs::read_dir(folder).ok()) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| matches(pattern, file));
    files
}

fn matches(pattern: &Path, file: &Path) -> bool {
    let resolved = super::include::settled(pattern);
    let (pattern, file) = (resolved.to_string_lossy(), file.to_string_lossy());
    let (pattern, file): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), file.split('/').collect());
    pattern.len() == file.len() && pattern.iter().zip(&file).all(|(part, name)| wild(part.as_bytes(), name.as_bytes()))
}

fn wild(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => wild(rest, name) || name.split_first().is_some_and(|(_, name)| wild(pattern, name)),
        (Some((b'?', rest)), Some((_, name))) => wild(rest, name),
        (Some((a, rest)), Some((b, name))) => a == b && wild(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_through_patterns_and_other_files_even_if_missing() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("conf.d")).unwrap();
        fs::create_dir_all(root.join("holdfast")).unwrap();
        let config = root.join("nginx.conf");
        fs::write(&config, "http { # include holdfast/no.servers;\n include conf.d/*.conf;include nginx.conf; }")
            .unwrap();
        let text = "upstream a { include \"holdfast/a.servers\"; } upstream b{include holdfast/b?.servers;}";
        fs::write(root.join("conf.d/a.conf"), text).unwrap();
        for (name, wanted) in [("a.servers", true), ("b1.servers", true), ("b.servers", false), ("no.servers", false)] {
            assert_eq!(includes(&config, &root.join("holdfast").join(name)), wanted, "{name}");
        }
    }

    #[test]
    fn nginx_blames_a_file_by_its_path() {
        let file = Path::new("/h/a.servers");
        assert!(blames("open() \"/h/a.servers\" failed (2: No such file or directory) in /n.conf:3", file));
        assert!(blames("unexpected \"}\" in /h/a.servers:3", file));
        assert!(!blames("unexpected \"}\" in /h/aa.servers:3", file));
    }
}
