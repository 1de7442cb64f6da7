//! The servers file on disk: read, written, put back.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::hash::sha256_hex;
use jiff::Timestamp;

use crate::model::names::ServiceName;
use crate::model::snapshot::{Fact, ServersFile};

/// More than this is no servers file: 1,000 replicas take 30 KiB.
const LARGEST: u64 = 1 << 20;

/// Bytes and the moment their inode last changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OnDisk {
    /// As read.
    pub(super) bytes: Vec<u8>,
    /// ctime (a rename counts), and what it may lag behind.
    pub(super) changed_at: Timestamp,
}

/// By how much the stamp of a file may lie before its change: it is taken from the kernel's coarse clock, which stands
/// still between two ticks. A worker that started in between would look younger than a file it never read.
fn stamp_lag() -> Duration {
    let tick = rustix::time::clock_getres(rustix::time::ClockId::RealtimeCoarse);
    Duration::from_nanos(u64::try_from(tick.tv_nsec).unwrap_or(0))
}

/// Reads `file` whole. None: it is not there.
pub(super) fn read(file: &Path) -> io::Result<Option<OnDisk>> {
    // Without blocking: somebody may have put a pipe there.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut open = match OpenOptions::new().read(true).custom_flags(flags).open(file) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let meta = open.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if meta.len() > LARGEST {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    let mut bytes = Vec::new();
    Read::by_ref(&mut open).take(LARGEST).read_to_end(&mut bytes)?;
    let nanos = i32::try_from(meta.ctime_nsec()).unwrap_or_default();
    let stamped = Timestamp::new(meta.ctime(), nanos).map_err(io::Error::other)?;
    let changed_at = stamped.saturating_add(stamp_lag()).map_err(io::Error::other)?;
    Ok(Some(OnDisk { bytes, changed_at }))
}

/// The fact a look reports.
pub(super) fn look(file: &Path) -> Fact<ServersFile> {
    match read(file) {
        Ok(Some(OnDisk { bytes, changed_at })) => {
            Fact::Seen(ServersFile { sha256: sha256_hex(&bytes), servers: servers(&bytes), changed_at })
        }
        Ok(None) => Fact::Absent,
        Err(error) => Fact::Unreadable(format!("{}: {error}", file.display())),
    }
}

/// The addresses that take requests, as written, in order; whatever else the bytes say is left to their digest.
pub(super) fn servers(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let plain: String =
        text.lines().map(|line| line.split('#').next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    plain.split(';').filter_map(server).collect()
}

fn server(directive: &str) -> Option<String> {
    let mut words = directive.split_ascii_whitespace();
    if words.next() != Some("server") {
        return None;
    }
    let address = words.next()?;
    (!words.any(|word| word == "down")).then(|| address.to_owned())
}

/// The service named in the comment that [`crate::plan::step::TrafficStep::render`] writes on top.
pub(super) fn owner(bytes: &[u8]) -> Option<ServiceName> {
    let text = std::str::from_utf8(bytes).ok()?;
    let name = text.strip_prefix("# ")?.split_once(": written by holdfast")?.0;
    ServiceName::new(name).ok()
}

/// Puts `bytes` in place of `file` by rename, so that nginx never reads half of them; makes the directory if it is
/// missing. The returned handle is the new file, for [`make_durable`].
pub(super) fn write(file: &Path, bytes: &[u8]) -> io::Result<File> {
    let temporary = temporary(file)?;
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    remove(&temporary)?;
    let written = write_new(&temporary, bytes).and_then(|open| fs::rename(&temporary, file).map(|()| open));
    if written.is_err() {
        // The first error is the one to report; a left-over is replaced by the next write.
        let _ = remove(&temporary);
    }
    written
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut open = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    // The umask may have taken bits away; workers run as another user.
    open.set_permissions(Permissions::from_mode(0o644))?;
    open.write_all(bytes)?;
    Ok(open)
}

/// Hidden and with another ending, so that no `include *.servers` matches it.
fn temporary(file: &Path) -> io::Result<PathBuf> {
    let name = file.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
    Ok(file.with_file_name(format!(".{}.holdfast", name.to_string_lossy())))
}

/// On disk, not only in memory: an empty include after a power cut would keep nginx from starting.
pub(super) fn make_durable(written: &[File]) -> io::Result<()> {
    written.iter().try_for_each(File::sync_data)
}

/// Removes `file`; it may be gone already.
pub(super) fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::plan::step::TrafficStep;

    proptest! {
        #[test]
        fn what_is_rendered_reads_back_as_exactly_its_servers(
            name in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
            backends in proptest::collection::vec(any::<SocketAddr>(), 0..8),
        ) {
            let service = ServiceName::new(&name).unwrap();
            let text = TrafficStep::render(&service, &backends);
            let wanted: Vec<String> = backends.iter().map(ToString::to_string).collect();
            prop_assert_eq!(servers(text.as_bytes()), wanted);
            prop_assert_eq!(owner(text.as_bytes()), Some(service));
            // Exactly the expected directives, one a line, and nothing nginx could read as anything else.
            prop_assert_eq!(text.matches(';').count(), backends.len().max(1) + 1);
            for line in text.lines().skip(1) {
                prop_assert!(line.starts_with("server ") && line.ends_with(';'));
                let quiet = !line.contains(['{', '}', '"', '\'', '\\', '$', '#']);
                prop_assert!(quiet, "a character nginx reads as more than itself");
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            servers(&bytes);
            owner(&bytes);
        }
    }

    #[test]
    fn a_server_that_is_down_takes_no_requests() {
        let text = b"# server 10.0.0.9:1;\nserver 10.0.0.1:80 weight=2; server 10.0.0.2:80 down;\nserver\n 10.0.0.3:80 ;\nkeepalive 3;";
        assert_eq!(servers(text), ["10.0.0.1:80", "10.0.0.3:80"]);
    }

    #[test]
    fn a_write_replaces_the_file_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/api.servers");
        assert_eq!(read(&file).unwrap(), None);
        write(&file, b"one").unwrap();
        fs::write(file.with_file_name(".api.servers.holdfast"), "left over").unwrap();
        write(&file, b"two").unwrap();
        assert_eq!(read(&file).unwrap().unwrap().bytes, b"two");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        remove(&file).unwrap();
        remove(&file).unwrap();
        assert_eq!(look(&file), Fact::Absent);
    }

    #[test]
    fn what_is_no_file_is_unreadable_not_absent() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(look(dir.path()), Fact::Unreadable(_)));
        assert!(write(dir.path(), b"x").is_err());
        assert!(matches!(look(&dir.path().join("a\0b")), Fact::Unreadable(_)));
    }
}
