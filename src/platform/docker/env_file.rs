//! Env files of the host, under `envRoot` and nowhere else.

use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use crate::model::release::EnvFileVersion;
use crate::model::secret::Secret;
use crate::model::snapshot::{Fact, Why};
use crate::ports::EnvFiles;

/// As for desired-state files: nobody writes a larger one on purpose.
const LARGEST: u64 = 1 << 20;

/// The folder of env files.
#[derive(Debug, Clone)]
pub struct EnvFolder {
    root: PathBuf,
}

impl EnvFolder {
    /// The folder at `root`; nothing is read yet.
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The bytes of `path` under the root. A link may not lead out of it.
    async fn read(&self, path: &Path) -> Fact<Vec<u8>> {
        if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Fact::Unreadable("an env file is a path under envRoot, without `..`".to_owned());
        }
        let unreadable = |error: &std::io::Error| Fact::Unreadable(error.to_string());
        let root = match tokio::fs::canonicalize(&self.root).await {
            Ok(root) => root,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Fact::Absent,
            Err(error) => return unreadable(&error),
        };
        let file = match tokio::fs::canonicalize(root.join(path)).await {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Fact::Absent,
            Err(error) => return unreadable(&error),
        };
        if !file.starts_with(&root) {
            return Fact::Unreadable("it is a link that leads out of envRoot".to_owned());
        }
        match tokio::fs::metadata(&file).await {
            Ok(about) if !about.is_file() => return Fact::Unreadable("it is not a file".to_owned()),
            Ok(about) if about.len() > LARGEST => return Fact::Unreadable("it is larger than 1 MiB".to_owned()),
            Ok(_) => {}
            Err(error) => return unreadable(&error),
        }
        match tokio::fs::read(&file).await {
            Ok(bytes) => Fact::Seen(bytes),
            Err(error) => unreadable(&error),
        }
    }

    /// The variables of exactly the version `wanted`.
    pub(super) async fn variables(&self, wanted: &EnvFileVersion) -> Result<Secret<Vec<String>>, Why> {
        let path = wanted.path.display();
        match self.read(&wanted.path).await {
            Fact::Seen(bytes) if hex(&bytes) != wanted.sha256 => {
                Err(format!("env file {path} changed since it was looked at"))
            }
            Fact::Seen(bytes) => parse(&bytes).map(Secret::new).map_err(|why| format!("env file {path}: {why}")),
            Fact::Absent => Err(format!("env file {path} is not there")),
            Fact::Unreadable(why) => Err(format!("env file {path} cannot be read: {why}")),
        }
    }
}

#[async_trait]
impl EnvFiles for EnvFolder {
    async fn version(&self, path: &Path) -> Fact<EnvFileVersion> {
        match self.read(path).await {
            Fact::Seen(bytes) => match parse(&bytes) {
                Ok(_) => Fact::Seen(EnvFileVersion { path: path.to_owned(), sha256: hex(&bytes) }),
                Err(why) => Fact::Unreadable(why),
            },
            Fact::Absent => Fact::Absent,
            Fact::Unreadable(why) => Fact::Unreadable(why),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}"))
}

/// `docker run --env-file`'s grammar: `NAME=value` verbatim, `#` at the start of a line is a comment. A bare `NAME` would
/// take its value from Holdfast's own environment and is refused. Errors name the line, never what it says.
fn parse(bytes: &[u8]) -> Result<Vec<String>, Why> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let mut variables = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = number + 1;
        let (name, _) = line.split_once('=').ok_or_else(|| format!("line {at} has no `=`, expected NAME=value"))?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(format!("line {at} has a blank or an empty name before `=`, expected NAME=value"));
        }
        if line.contains('\0') {
            return Err(format!("line {at} contains a NUL character"));
        }
        variables.push(line.to_owned());
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_that_of_docker_run() {
        let text = b"\xef\xbb\xbf# note\n\nA=1\n  B=two words # kept\r\nC=\nD=a=b\n";
        assert_eq!(parse(text).unwrap(), ["A=1", "B=two words # kept", "C=", "D=a=b"]);
        assert_eq!(parse(b"A=1\nSECRET").unwrap_err(), "line 2 has no `=`, expected NAME=value");
        for bad in [&b"=x"[..], b"A B=x", b"A=\0", b"\xff"] {
            assert!(parse(bad).is_err());
        }
    }

    #[tokio::test]
    async fn nothing_outside_the_root_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("env");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(folder.path().join("outside"), "A=1").unwrap();
        std::fs::write(root.join(".env"), "A=1\n").unwrap();
        std::os::unix::fs::symlink("../outside", root.join("link")).unwrap();
        let files = EnvFolder::new(root.clone());
        let version = files.version(Path::new(".env")).await;
        assert!(matches!(&version, Fact::Seen(found) if found.sha256.len() == 64));
        assert_eq!(files.version(Path::new("none")).await, Fact::Absent);
        for bad in ["../outside", "/etc/hostname", "link"] {
            assert!(matches!(files.version(Path::new(bad)).await, Fact::Unreadable(_)), "{bad}");
        }
        let version = version.seen().unwrap().clone();
        assert_eq!(files.variables(&version).await.unwrap().reveal(), &["A=1"]);
        std::fs::write(root.join(".env"), "A=2\n").unwrap();
        assert!(files.variables(&version).await.unwrap_err().contains("changed since"));
    }
}
