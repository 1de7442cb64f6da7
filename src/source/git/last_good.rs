//! The last good commit with the files it had, kept durably: in force through outages, restarts and a lost mirror.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::commit::Commit;
use crate::model::snapshot::Why;
use crate::source::lower::FileText;

/// The last good commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastGood {
    pub(super) commit: Commit,
    pub(super) read_at: Timestamp,
    pub(super) files: Vec<FileText>,
    /// The commit a person accepted in its place, though it does not come after it.
    pub(super) rewind: Option<String>,
}

impl LastGood {
    /// Its id, when nothing else is known any more.
    pub(super) fn only(id: &str) -> Self {
        let commit = Commit {
            id: id.to_owned(),
            author: "somebody".to_owned(),
            subject: "(its record is lost)".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        };
        Self { commit, read_at: Timestamp::UNIX_EPOCH, files: Vec::new(), rewind: None }
    }

    /// Whether there are files to enforce, and not its id alone.
    pub(super) fn is_whole(&self) -> bool {
        self.read_at != Timestamp::UNIX_EPOCH
    }
}

/// As written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    version: u32,
    /// Of which repository, branch and folder: another one's is no measure for this one.
    source: String,
    commit: Commit,
    read_at: Timestamp,
    rewind: Option<String>,
    files: Vec<WrittenFile>,
}

#[derive(Serialize, Deserialize)]
struct WrittenFile {
    path: PathBuf,
    text: String,
}

const VERSION: u32 = 1;

/// Why there is no record though there is a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotLoaded {
    /// It holds no record of this version.
    Lost(Why),
    /// It could not be read: that may pass, and it is as good as ever then.
    NotNow(Why),
}

/// The file it is kept in.
pub(super) struct Record {
    path: PathBuf,
    source: String,
}

impl Record {
    /// In the file `path`, for what `source` names.
    pub(super) const fn new(path: PathBuf, source: String) -> Self {
        Self { path, source }
    }

    /// None: there is none, or it is another source's.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub(super) fn load(&self) -> Result<Option<LastGood>, NotLoaded> {
        let lost = |why: &str| NotLoaded::Lost(format!("{}: {why}", self.path.display()));
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(NotLoaded::NotNow(format!("{}: {error}", self.path.display()))),
        };
        let written: Written = serde_json::from_slice(&text).map_err(|error| lost(&error.to_string()))?;
        if written.version != VERSION {
            return Err(lost(&format!("it is of version {}, this is {VERSION}", written.version)));
        }
        if written.source != self.source {
            return Ok(None);
        }
        let Written { commit, read_at, rewind, files, .. } = written;
        let files = files.into_iter().map(|WrittenFile { path, text }| FileText { path, text }).collect();
        Ok(Some(LastGood { commit, read_at, files, rewind }))
    }

    /// Keeps `good`; when this returns it is on the disk.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn save(&self, good: &LastGood) -> Result<(), Why> {
        let LastGood { commit, read_at, files, rewind } = good.clone();
        let files = files.into_iter().map(|FileText { path, text }| WrittenFile { path, text }).collect();
        let source = self.source.clone();
        let written = Written { version: VERSION, source, commit, read_at, rewind, files };
        let text = serde_json::to_vec(&written).map_err(|error| error.to_string())?;
        self.replace(&text).map_err(|error| format!("{}: {error}", self.path.display()))
    }

    /// Beside it first, then in its place: after a crash there is the old one or the new one.
    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or_else(|| std::path::Path::new("."));
        fs::create_dir_all(folder)?;
        let beside = self.path.with_extension("new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> LastGood {
        let files = vec![FileText { path: "prod/a.yaml".into(), text: "services: {}\n".into() }];
        LastGood { files, rewind: Some("bb".into()), ..LastGood::only("aa") }
    }

    #[test]
    fn it_comes_back_as_it_was_kept_and_only_for_its_own_source() {
        let dir = tempfile::tempdir().unwrap();
        let record = |source: &str| Record::new(dir.path().join("git/last-good.json"), source.to_owned());
        assert_eq!(record("x#main:.").load(), Ok(None));
        record("x#main:.").save(&good()).unwrap();
        assert_eq!(record("x#main:.").load(), Ok(Some(good())));
        assert_eq!(record("x#other:.").load(), Ok(None));
    }

    #[test]
    fn a_damaged_record_is_an_error_and_not_a_first_start() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::new(dir.path().join("last-good.json"), "x".to_owned());
        record.save(&good()).unwrap();
        let text = fs::read(dir.path().join("last-good.json")).unwrap();
        for length in 0..text.len() {
            fs::write(dir.path().join("last-good.json"), &text[..length]).unwrap();
            assert!(matches!(record.load(), Err(NotLoaded::Lost(_))), "{length} bytes of it");
        }
    }

    #[test]
    fn a_record_the_disk_does_not_give_now_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::new(dir.path().join("last-good.json"), "x".to_owned());
        // Reading it fails as with EIO.
        fs::create_dir(dir.path().join("last-good.json")).unwrap();
        assert!(matches!(record.load(), Err(NotLoaded::NotNow(_))));
    }
}
