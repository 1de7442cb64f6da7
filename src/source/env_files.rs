//! Env files under `envRoot`.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use crate::model::env_file::{self, EnvVariables};
use crate::model::release::EnvFileVersion;
use crate::model::snapshot::{Fact, Why};
use crate::ports::{EnvFiles, Wakes};

use super::directory::{LONGEST_NOISE, QUIET, Watch};

/// A root that appears or is made again is watched from then on; what changes deeper below it is found by the sweep.
const RENEW: Duration = Duration::from_secs(2);

/// The folder of env files; nothing outside it is ever read.
#[derive(Debug, Clone)]
pub struct EnvRoot {
    root: PathBuf,
}

impl EnvRoot {
    /// Env files below `path`.
    pub const fn new(path: PathBuf) -> Self {
        Self { root: path }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Reads one file now. `Absent` only when it is certainly not there.
    pub fn read(&self, path: &Path) -> Fact<(EnvFileVersion, env_file::EnvVariables)> {
        let bytes = match self.bytes(path) {
            Fact::Seen(bytes) => bytes,
            Fact::Absent => return Fact::Absent,
            Fact::Unreadable(why) => return Fact::Unreadable(why),
        };
        match env_file::parse(path, &bytes) {
            Ok(read) => Fact::Seen(read),
            Err(why) => Fact::Unreadable(why.to_string()),
        }
    }

    fn bytes(&self, path: &Path) -> Fact<Vec<u8>> {
        if !env_file::stays_below(path) {
            return Fact::Unreadable(format!("{} leaves the env root", path.display()));
        }
        let root = match self.root.canonicalize() {
            Ok(root) => root,
            // No root, no file: a fresh host.
            Err(error) if error.kind() == ErrorKind::NotFound => return Fact::Absent,
            Err(error) => return Fact::Unreadable(format!("{}: {error}", self.root.display())),
        };
        let full = match root.join(path).canonicalize() {
            Ok(full) => full,
            Err(error) if error.kind() == ErrorKind::NotFound => return Fact::Absent,
            Err(error) => return Fact::Unreadable(error.to_string()),
        };
        if !full.starts_with(&root) {
            return Fact::Unreadable(format!("{} is a link that leaves the env root", path.display()));
        }
        if !full.is_file() {
            return Fact::Unreadable(format!("{} is not a file", path.display()));
        }
        let limit = u64::try_from(env_file::MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        match std::fs::File::open(&full).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
            Ok(_) => Fact::Seen(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => Fact::Absent,
            Err(error) => Fact::Unreadable(error.to_string()),
        }
    }
}

#[async_trait]
impl EnvFiles for EnvRoot {
    async fn version(&self, path: &Path) -> Fact<EnvFileVersion> {
        let (root, path) = (self.clone(), path.to_owned());
        match tokio::task::spawn_blocking(move || root.read(&path)).await {
            Ok(Fact::Seen((version, _))) => Fact::Seen(version),
            Ok(Fact::Absent) => Fact::Absent,
            Ok(Fact::Unreadable(why)) => Fact::Unreadable(why),
            Err(error) => Fact::Unreadable(format!("reading was interrupted: {error}")),
        }
    }

    async fn variables(&self, wanted: &EnvFileVersion) -> Result<EnvVariables, Why> {
        let (root, path) = (self.clone(), wanted.path.clone());
        let read = tokio::task::spawn_blocking(move || root.read(&path)).await;
        let path = wanted.path.display();
        match read {
            Ok(Fact::Seen((found, variables))) if found == *wanted => Ok(variables),
            Ok(Fact::Seen(_)) => Err(format!("env file {path} changed since it was looked at")),
            Ok(Fact::Absent) => Err(format!("env file {path} is not there")),
            Ok(Fact::Unreadable(why)) => Err(format!("env file {path} cannot be read: {why}")),
            Err(error) => Err(format!("reading env file {path} was interrupted: {error}")),
        }
    }

    async fn watch(&self, wakes: Wakes) {
        let mut watch = Watch::start(&self.root);
        loop {
            watch.renew(&self.root);
            let changed = tokio::time::timeout(RENEW, watch.changed()).await;
            if changed.is_ok() {
                watch.quiet(QUIET, LONGEST_NOISE).await;
                wakes.wake(None, "an env file changed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn variables_are_those_of_the_version_that_was_planned_with() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join(".env"), "A=1\n")?;
        let env = EnvRoot::new(dir.path().to_owned());
        let Fact::Seen(version) = env.version(Path::new(".env")).await else { panic!("it is there") };
        let known = env.variables(&version).await.unwrap();
        assert_eq!((known[0].0.as_str(), known[0].1.reveal().as_str()), ("A", "1"));
        std::fs::write(dir.path().join(".env"), "A=2\n")?;
        assert_eq!(env.variables(&version).await.unwrap_err(), "env file .env changed since it was looked at");
        Ok(())
    }

    #[test]
    fn only_what_lies_below_the_root_is_read() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let root = dir.path().join("env");
        std::fs::create_dir(&root)?;
        std::fs::write(dir.path().join("outside"), "A=1")?;
        std::fs::write(root.join(".env"), "A=1\n")?;
        std::os::unix::fs::symlink(dir.path().join("outside"), root.join("link"))?;
        let env = EnvRoot::new(root);
        assert!(matches!(env.read(Path::new(".env")), Fact::Seen((version, _)) if version.sha256.len() == 64));
        assert_eq!(env.read(Path::new("none")), Fact::Absent);
        for bad in ["../outside", "link", "/etc/passwd", "."] {
            assert!(matches!(env.read(Path::new(bad)), Fact::Unreadable(_)), "{bad}");
        }
        assert_eq!(EnvRoot::new(dir.path().join("no")).read(Path::new("x")), Fact::Absent);
        Ok(())
    }
}
