//! The desired-state files of one commit: blobs by object id, nothing followed, nothing converted.

use std::path::PathBuf;

use crate::git::tree::{Entry, Kind};
use crate::git::{Git, GitError};
use crate::source::error::SourceError;
use crate::source::lower::FileText;
use crate::source::yaml::MAX_BYTES;

/// Bytes of one folder's list of names: some 200,000 names. git lists them with two to three times as many bytes.
const MAX_NAMES: u64 = 16 << 20;
/// Files of one folder that are read at most: more is a wrong folder.
const MAX_FILES: usize = 1000;
/// Bytes of all of them: more would not be a desired state, and has to fit into memory.
const MAX_TOTAL: u64 = 32 << 20;

/// The files at `path` of `commit`: what a folder on the host would be read as.
///
/// # Errors
/// The outer one when the repository cannot be read, the inner one with what is wrong there.
pub(super) async fn at(
    git: &Git,
    commit: &str,
    path: &str,
) -> Result<Result<Vec<FileText>, Vec<SourceError>>, GitError> {
    let wrong = |what: &str, hint: &str| {
        let shown = if path.is_empty() { "." } else { path };
        Ok(Err(vec![SourceError::of_file(shown.as_ref(), what).hint(hint)]))
    };
    let (folder, tree, only) = if path.is_empty() {
        (String::new(), format!("{commit}^{{tree}}"), None)
    } else {
        match git.entry(commit, path).await? {
            None => {
                return wrong(
                    "there is no such folder in this commit",
                    "check `git.path`; nothing is removed meanwhile",
                );
            }
            Some(Entry { kind: Kind::Folder, id, .. }) => (format!("{path}/"), id, None),
            Some(Entry { kind: Kind::File, .. }) => {
                // One file by its name; what lies beside it is read for task definitions.
                let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
                let parent =
                    if folder.is_empty() { format!("{commit}^{{tree}}") } else { format!("{commit}:{folder}") };
                let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
                (prefix, parent, Some(file.as_bytes().to_vec()))
            }
            Some(_) => return wrong("it is a link or a submodule", "name a folder of this repository itself"),
        }
    };
    let names = git.size(&tree).await?;
    if names > MAX_NAMES {
        let what = format!("the list of its names has {} MiB, and {} MiB are read", names >> 20, MAX_NAMES >> 20);
        return wrong(&what, "is it the right folder? `git.path` names it");
    }
    let entries = git.children(&tree).await?;
    let wanted = match pick(&folder, entries, only.as_deref()) {
        Ok(wanted) => wanted,
        Err(errors) => return Ok(Err(errors)),
    };
    let ids: Vec<&str> = wanted.iter().map(|(_, entry)| entry.id.as_str()).collect();
    let contents = git.contents(&ids).await?;
    Ok(texts(wanted.into_iter().map(|(path, _)| path).zip(contents)))
}

/// Which entries are read; what stands there and may not be read is an error and never left out.
fn pick(folder: &str, entries: Vec<Entry>, only: Option<&[u8]>) -> Result<Vec<(PathBuf, Entry)>, Vec<SourceError>> {
    let (mut wanted, mut errors) = (Vec::new(), Vec::new());
    for entry in entries {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        let extension = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, extension)| extension);
        let is_yaml = matches!(extension, Some("yaml" | "yml")) && only.is_none_or(|only| only == entry.name);
        let is_json = extension == Some("json");
        let is_hidden = name.starts_with('.') && !name.contains('/');
        if is_hidden || !(is_yaml || is_json) {
            continue;
        }
        match refusal(&entry, &name) {
            None => wanted.push((PathBuf::from(format!("{folder}{name}")), entry)),
            // Only a service that names it misses it.
            Some(_) if is_json => {}
            Some(what) => {
                let shown = PathBuf::from(format!("{folder}{}", name.escape_debug()));
                errors.push(SourceError::of_file(&shown, what).hint("commit it as a plain file"));
            }
        }
    }
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    // No git makes such a tree; which of the two counts would be chance.
    for pair in wanted.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        errors.push(SourceError::of_file(&pair[0].0, "its name stands twice in this folder"));
    }
    let total: u64 = wanted.iter().map(|(_, entry)| entry.size).sum();
    if wanted.len() > MAX_FILES || total > MAX_TOTAL {
        let what = format!("{} files with {} MiB are more than a desired state has", wanted.len(), total >> 20);
        errors.push(SourceError::of_file(if folder.is_empty() { "." } else { folder }.as_ref(), what));
    }
    if errors.is_empty() { Ok(wanted) } else { Err(errors) }
}

/// Why an entry may not be read.
fn refusal(entry: &Entry, name: &str) -> Option<String> {
    match &entry.kind {
        Kind::File if entry.size > u64::try_from(MAX_BYTES).unwrap_or(u64::MAX) => {
            Some("it is larger than 1 MiB".into())
        }
        // A tree made by hand may say `a/../../b` or hide a line end.
        Kind::File
            if name.contains(['/', '\\'])
                || name.contains(char::is_control)
                || !name.is_ascii() && std::str::from_utf8(&entry.name).is_err() =>
        {
            Some("its name is none a file can have".into())
        }
        Kind::File => None,
        Kind::Folder => Some("it is a folder".into()),
        Kind::Link => Some("it is a symbolic link, and none is followed".into()),
        Kind::Submodule => Some("it is a submodule, and none is read".into()),
        Kind::Odd(mode) => Some(format!("its mode is {mode}, and only 100644 and 100755 are plain files")),
    }
}

fn texts(contents: impl Iterator<Item = (PathBuf, Vec<u8>)>) -> Result<Vec<FileText>, Vec<SourceError>> {
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    for (path, content) in contents {
        let is_json = path.extension().is_some_and(|it| it == "json");
        match String::from_utf8(content) {
            Ok(text) => files.push(FileText { path, text }),
            Err(_) if is_json => {}
            Err(_) => errors.push(SourceError::of_file(&path, "it is not UTF-8 text")),
        }
    }
    if errors.is_empty() { Ok(files) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind, name: &str) -> Entry {
        Entry { kind, id: "aa".into(), size: 3, name: name.as_bytes().to_vec() }
    }

    #[test]
    fn only_plain_files_with_plain_names_are_read() {
        let good = vec![
            entry(Kind::File, "b.yml"),
            entry(Kind::File, "a.yaml"),
            entry(Kind::File, "task.json"),
            entry(Kind::File, "it's.yaml"),
            entry(Kind::File, ".hidden.yaml"),
            entry(Kind::File, ".yaml"),
            entry(Kind::File, "README.md"),
            entry(Kind::Link, "elsewhere.json"),
            entry(Kind::Folder, "sub"),
        ];
        let names: Vec<String> =
            pick("prod/", good, None).unwrap().iter().map(|(path, _)| path.display().to_string()).collect();
        assert_eq!(names, ["prod/a.yaml", "prod/b.yml", "prod/it's.yaml", "prod/task.json"]);
        for bad in [
            entry(Kind::Link, "a.yaml"),
            entry(Kind::Submodule, "a.yaml"),
            entry(Kind::Folder, "a.yaml"),
            entry(Kind::Odd("100664".into()), "a.yaml"),
            entry(Kind::File, "../a.yaml"),
            entry(Kind::File, "a\n.yaml"),
            Entry { size: 2 << 20, ..entry(Kind::File, "a.yaml") },
        ] {
            let errors = pick("", vec![bad.clone()], None).unwrap_err();
            assert_eq!(errors.len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn one_named_file_leaves_its_neighbours_and_keeps_their_task_definitions() {
        let entries = vec![entry(Kind::File, "a.yaml"), entry(Kind::File, "b.yaml"), entry(Kind::File, "t.json")];
        let read = pick("", entries, Some(b"b.yaml")).unwrap();
        let names: Vec<&str> = read.iter().filter_map(|(path, _)| path.to_str()).collect();
        assert_eq!(names, ["b.yaml", "t.json"]);
    }
}
