//! Reads every file of the folder, and nothing outside it.

use std::ffi::OsStr;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::model::desired::SourceRevision;
use crate::model::hash::hex;
use crate::source::error::SourceError;
use crate::source::lower::FileText;
use crate::source::yaml::MAX_BYTES;

/// Files of one folder that are read at most: more is a wrong folder.
const MAX_FILES: usize = 1000;
/// How often a folder that changes while it is read is read again.
const ATTEMPTS: usize = 3;

/// What was read.
#[derive(Debug, Clone)]
pub(in crate::source) struct Texts {
    /// By name.
    pub(in crate::source) files: Vec<FileText>,
    /// The digest of names and contents.
    pub(in crate::source) revision: SourceRevision,
}

/// Reads the files at `path` (a folder, or one file).
pub(in crate::source) fn texts(path: &Path) -> Result<Texts, Vec<SourceError>> {
    let mut attempt = 1;
    loop {
        match once(path) {
            // A file that went while it was read: links are being swapped.
            Err(Failure::Vanished(_)) if attempt < ATTEMPTS => attempt += 1,
            Err(Failure::Vanished(error) | Failure::Lasting(error)) => return Err(vec![error]),
            Ok(texts) => return Ok(texts),
        }
    }
}

enum Failure {
    Vanished(SourceError),
    Lasting(SourceError),
}

fn once(path: &Path) -> Result<Texts, Failure> {
    let lasting = |error: std::io::Error| Failure::Lasting(SourceError::of_file(path, error.to_string()));
    let root = path.canonicalize().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::Lasting(
            SourceError::of_file(path, "there is no such folder")
                .hint("make it, or name another with PATH or `source` of holdfast.yaml"),
        ),
        _ => lasting(error),
    })?;
    let files = if root.is_dir() { folder(path, &root).map_err(lasting)? } else { vec![path.to_owned()] };
    let beside = if root.is_dir() { (path.to_owned(), root.clone()) } else { parents(path, &root) };
    if files.len() > MAX_FILES {
        let what = format!("the folder has {} files, more than {MAX_FILES}", files.len());
        return Err(Failure::Lasting(SourceError::of_file(path, what)));
    }
    let mut read = Vec::new();
    for file in files {
        // One file named by itself may be a link to anywhere; in a folder, links stay inside.
        let inside = root.is_dir().then_some(root.as_path());
        read.push(FileText { text: text(&file, inside)?, path: file });
    }
    read.extend(task_definitions(&beside.0, &beside.1));
    Ok(Texts { revision: revision(&read), files: read })
}

/// The folder of one file, as shown and as it is.
fn parents(path: &Path, root: &Path) -> (PathBuf, PathBuf) {
    let of = |path: &Path| path.parent().map(Path::to_owned).unwrap_or_default();
    (of(path), of(root))
}

/// The JSON files beside the desired state. One that cannot be read is left out: only a service that names it misses it.
fn task_definitions(shown: &Path, root: &Path) -> Vec<FileText> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let mut names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    names.retain(|name| Path::new(name).extension() == Some(OsStr::new("json")));
    names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
    names.sort();
    let read = |name: &std::ffi::OsString| {
        let path = shown.join(name);
        Some(FileText { text: text(&root.join(name), Some(root)).ok()?, path })
    };
    names.iter().take(MAX_FILES).filter_map(read).collect()
}

/// The `*.yaml` and `*.yml` that are direct children; hidden ones are editors' own.
fn folder(shown: &Path, root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let name = entry?.file_name();
        let yaml = matches!(Path::new(&name).extension().and_then(OsStr::to_str), Some("yaml" | "yml"));
        if yaml && !name.as_encoded_bytes().starts_with(b".") {
            files.push(shown.join(name));
        }
    }
    files.sort();
    Ok(files)
}

fn text(file: &Path, inside: Option<&Path>) -> Result<String, Failure> {
    let lasting = |what: String| Failure::Lasting(SourceError::of_file(file, what));
    let io = |error: std::io::Error| {
        let error_of_file = SourceError::of_file(file, error.to_string());
        if error.kind() == ErrorKind::NotFound {
            Failure::Vanished(error_of_file)
        } else {
            Failure::Lasting(error_of_file)
        }
    };
    let real = file.canonicalize().map_err(io)?;
    if inside.is_some_and(|root| !real.starts_with(root)) {
        return Err(Failure::Lasting(
            SourceError::of_file(file, "it is a link that leaves the folder").hint("copy the file into the folder"),
        ));
    }
    if !std::fs::metadata(&real).map_err(io)?.is_file() {
        return Err(lasting("it is not a regular file".to_owned()));
    }
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    std::fs::File::open(&real).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(io)?;
    if bytes.len() > MAX_BYTES {
        return Err(lasting("it is larger than 1 MiB".to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| lasting("it is not UTF-8 text".to_owned()))
}

/// A digest over names and contents, lengths included so that no two sets look the same.
fn revision(files: &[FileText]) -> SourceRevision {
    let mut digest = Sha256::new();
    for FileText { path, text } in files {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        for part in [name, text.as_bytes()] {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
    }
    SourceRevision(hex(&digest.finalize()))
}
