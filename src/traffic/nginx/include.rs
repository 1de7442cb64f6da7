//! Whether the configuration of nginx includes a servers file, and what to add where it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use super::config_text;
use super::program::{Failure, Program};
use super::servers_file;
use crate::model::names::ServiceName;
use crate::model::snapshot::{Fact, Why};

/// After this long `nginx -T` is asked again even if no file changed: a swapped symlink in a path changes none.
const OLDEST: SignedDuration = SignedDuration::from_mins(5);

/// The lines to add to the user's own configuration, once.
pub fn include_hint(service: &ServiceName, file: &Path) -> String {
    format!(
        "upstream {service} {{\n    include {};\n    keepalive 32;\n}}\n\
         # and where its requests come in:\n\
         location / {{\n    proxy_pass http://{service};\n    proxy_http_version 1.1;\n    \
         proxy_set_header Connection '';\n}}\n",
        file.display()
    )
}

/// What tells one state of a file or directory from another.
type Stamp = Option<(u64, u64, i64, i64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()))
}

/// The last answer of `nginx -T`, and what it was made from.
#[derive(Debug)]
struct Loaded {
    /// Every file it loaded.
    files: BTreeSet<PathBuf>,
    /// The configuration files and their folders; not the servers files, which change with every switch.
    made_from: BTreeMap<PathBuf, Stamp>,
    /// The folders of the servers files: a change there may add a file to an `include *.servers`.
    folders: BTreeMap<PathBuf, Stamp>,
    at: Timestamp,
}

impl Loaded {
    fn new(dump: &str, servers_files: &BTreeSet<PathBuf>, at: Timestamp) -> Self {
        let files: BTreeSet<PathBuf> = listed(dump).iter().map(|file| settled(file)).collect();
        let ours: BTreeSet<PathBuf> = servers_files.iter().map(|file| settled(file)).collect();
        let folders: BTreeSet<&Path> = ours.iter().filter_map(|file| file.parent()).collect();
        let mut made_from = BTreeMap::new();
        for file in files.difference(&ours) {
            made_from.insert(file.clone(), stamp(file));
            if let Some(folder) = file.parent().filter(|folder| !folders.contains(folder)) {
                made_from.insert(folder.to_owned(), stamp(folder));
            }
        }
        let folders = folders.into_iter().map(|folder| (folder.to_owned(), stamp(folder))).collect();
        Self { files, made_from, folders, at }
    }

    /// The answer for `file` while it still holds.
    fn answer(&self, file: &Path, now: Timestamp) -> Option<bool> {
        let old = now.duration_since(self.at) > OLDEST || now < self.at;
        if old || self.made_from.iter().any(|(path, known)| stamp(path) != *known) {
            return None;
        }
        if self.files.contains(file) {
            return Some(true);
        }
        let folder = file.parent()?;
        (self.folders.get(folder)? == &stamp(folder)).then_some(false)
    }
}

/// Answers [`Includes::includes`] from the last `nginx -T` while nothing it read has changed.
#[derive(Debug, Default)]
pub(super) struct Includes(Mutex<Option<Loaded>>);

impl Includes {
    /// Whether the configuration includes `file`. `disk` is held by a switch while untested bytes are in place.
    pub(super) async fn includes(
        &self,
        program: &Program,
        file: &Path,
        servers_files: &BTreeSet<PathBuf>,
        now: Timestamp,
        disk: &Mutex<()>,
    ) -> Fact<bool> {
        let file = settled(file);
        let mut cache = self.0.lock().await;
        if let Some(answer) = cache.as_ref().and_then(|loaded| loaded.answer(&file, now)) {
            return Fact::Seen(answer);
        }
        *cache = None;
        let dump = {
            let _untested_bytes_are_gone = disk.lock().await;
            program.dump().await
        };
        match dump {
            Ok(dump) => {
                let loaded = Loaded::new(&dump, servers_files, now);
                let answer = loaded.files.contains(&file);
                *cache = Some(loaded);
                Fact::Seen(answer)
            }
            Err(Failure::Refused(words)) => refused(program, &file, words),
            Err(Failure::NotRun(why)) => Fact::Unreadable(why),
        }
    }
}

/// A configuration that does not load because of this very file does include it: then writing the file is the cure.
fn refused(program: &Program, file: &Path, words: Why) -> Fact<bool> {
    let empty = match servers_file::read(file) {
        Ok(Some(on_disk)) => !String::from_utf8_lossy(&on_disk.bytes).contains("server"),
        Ok(None) => true,
        Err(_) => false,
    };
    if config_text::blames(&words, file) || (empty && config_text::includes(&program.config, file)) {
        Fact::Seen(true)
    } else {
        Fact::Unreadable(words)
    }
}

/// The files a dump lists: each stands under `# configuration file /path:`.
fn listed(dump: &str) -> Vec<PathBuf> {
    let path = |line: &str| line.strip_prefix("# configuration file ")?.strip_suffix(':').map(PathBuf::from);
    dump.lines().filter_map(path).collect()
}

/// The path with its folder resolved, so that two ways to write it compare equal; the file itself may be missing.
pub(super) fn settled(file: &Path) -> PathBuf {
    match (file.parent().map(fs::canonicalize), file.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_holds_until_a_configuration_file_or_the_folder_changes() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let (conf, a, b) = (root.join("nginx.conf"), root.join("s/a.servers"), root.join("s/b.servers"));
        fs::create_dir(root.join("s")).unwrap();
        fs::write(&conf, "x").unwrap();
        fs::write(&a, "x").unwrap();
        let dump = format!("# configuration file {}:\nx\n# configuration file {}:\n", conf.display(), a.display());
        let now = Timestamp::UNIX_EPOCH;
        let loaded = Loaded::new(&dump, &BTreeSet::from([a.clone(), b.clone()]), now);
        assert_eq!(loaded.answer(&a, now), Some(true));
        assert_eq!(loaded.answer(&b, now), Some(false));
        assert_eq!(loaded.answer(&a, now + SignedDuration::from_mins(6)), None, "too old");
        fs::write(&b, "x").unwrap();
        assert_eq!(loaded.answer(&b, now), None, "a new file in the folder may match a pattern");
        assert_eq!(loaded.answer(&a, now), Some(true), "a switch does not ask nginx again");
        fs::write(&conf, "other").unwrap();
        assert_eq!(loaded.answer(&a, now), None, "the configuration changed");
    }

    #[test]
    fn the_hint_is_what_nginx_needs() {
        let hint = include_hint(&ServiceName::new("api").unwrap(), Path::new("/etc/nginx/holdfast/api.servers"));
        assert!(
            hint.starts_with("upstream api {\n    include /etc/nginx/holdfast/api.servers;\n    keepalive 32;\n}\n")
        );
    }
}
