//! What a commit holds: trees and blobs by object id, nothing followed, nothing converted.

use super::GitError;
use super::program::{Git, Run};

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its object id.
    pub id: String,
    /// Bytes, of a file.
    pub size: u64,
    /// Its name, as it is written in the tree: strangers chose it.
    pub name: Vec<u8>,
}

/// What an entry is, by its mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// 100644 or 100755.
    File,
    /// 040000.
    Folder,
    /// 120000.
    Link,
    /// 160000.
    Submodule,
    /// Anything else, as it is written.
    Odd(String),
}

impl Git {
    /// What stands at `path` of `commit`; none when nothing does.
    ///
    /// # Errors
    /// When the commit is not there or cannot be read.
    pub async fn entry(&self, commit: &str, path: &str) -> Result<Option<Entry>, GitError> {
        let run = Run::local(["ls-tree", "-z", "--long", "--full-tree", commit, "--", path]);
        let mut entries = parse(&self.run(run).await?);
        Ok((entries.len() == 1).then(|| entries.remove(0)))
    }

    /// The direct children of a tree (an object id of a commit or a tree).
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub async fn children(&self, tree: &str) -> Result<Vec<Entry>, GitError> {
        Ok(parse(&self.run(Run::local(["ls-tree", "-z", "--long", "--full-tree", tree])).await?))
    }

    /// The content of objects, in the order asked.
    ///
    /// # Errors
    /// When one is not there or cannot be read.
    pub async fn contents(&self, ids: &[&str]) -> Result<Vec<Vec<u8>>, GitError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let asked: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let out = self.run(Run::local(["cat-file", "--batch", "--buffer"]).reads(asked)).await?;
        split(&out, ids.len()).ok_or_else(missing)
    }

    /// Bytes of one object: asked before something is read that may be larger than any of its kind is.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub async fn size(&self, object: &str) -> Result<u64, GitError> {
        let run = Run::local(["cat-file", "--batch-check=%(objectsize)"]).reads(format!("{object}\n"));
        let out = self.run(run).await?;
        String::from_utf8_lossy(&out).trim().parse().map_err(|_| missing())
    }
}

fn missing() -> GitError {
    GitError {
        verb: "cat-file".to_owned(),
        said: "an object is missing or damaged".to_owned(),
        // It ended well, and said so in its answer.
        code: Some(0),
        trouble: super::Trouble::Other,
        hint: None,
    }
}

/// `MODE SP TYPE SP ID SP+ SIZE TAB NAME NUL`, repeated.
fn parse(out: &[u8]) -> Vec<Entry> {
    let entry = |line: &[u8]| {
        let tab = line.iter().position(|byte| *byte == b'\t')?;
        let head = std::str::from_utf8(&line[..tab]).ok()?;
        let mut words = head.split_ascii_whitespace();
        let (mode, _, id, size) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let kind = match mode {
            "100644" | "100755" => Kind::File,
            "040000" => Kind::Folder,
            "120000" => Kind::Link,
            "160000" => Kind::Submodule,
            odd => Kind::Odd(odd.to_owned()),
        };
        Some(Entry { kind, id: id.to_owned(), size: size.parse().unwrap_or(0), name: line[tab + 1..].to_vec() })
    };
    out.split(|byte| *byte == 0).filter(|line| !line.is_empty()).filter_map(entry).collect()
}

/// `ID SP TYPE SP SIZE LF CONTENT LF`, repeated; none when an object is missing or a line is odd.
fn split(mut out: &[u8], count: usize) -> Option<Vec<Vec<u8>>> {
    let mut contents = Vec::with_capacity(count);
    for _ in 0..count {
        let end = out.iter().position(|byte| *byte == b'\n')?;
        let size: usize = std::str::from_utf8(&out[..end]).ok()?.rsplit_once(' ')?.1.parse().ok()?;
        let content = out.get(end + 1..end + 1 + size)?;
        contents.push(content.to_vec());
        out = out.get(end + 2 + size..)?;
    }
    out.is_empty().then_some(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_is_told_apart_and_a_name_may_be_anything() {
        let out = b"100644 blob aa      12\ta b.yaml\x00040000 tree bb       -\tx\x00120000 blob cc       3\tl\n\x00160000 commit dd       -\ts\x00100664 blob ee       1\t../e\x00";
        let entries = parse(out);
        let kinds: Vec<&Kind> = entries.iter().map(|it| &it.kind).collect();
        assert_eq!(kinds, [&Kind::File, &Kind::Folder, &Kind::Link, &Kind::Submodule, &Kind::Odd("100664".into())]);
        assert_eq!((entries[0].size, entries[2].name.as_slice()), (12, b"l\n".as_slice()));
    }

    #[test]
    fn contents_may_hold_anything_and_a_missing_object_is_no_content() {
        let out = b"aa blob 3\na\nb\nbb blob 0\n\n";
        assert_eq!(split(out, 2), Some(vec![b"a\nb".to_vec(), Vec::new()]));
        for bad in [b"aa missing\n".as_slice(), b"aa blob 9\nabc\n", b"aa blob 1\nab\n", b""] {
            assert_eq!(split(bad, 1), None);
        }
    }
}
