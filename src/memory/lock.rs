//! One controller per id: a locked file in the state folder, and an abstract socket that every state folder shares.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

use crate::model::hash::sha256_hex;

use super::failure;
use crate::model::names::ControllerId;
use crate::model::snapshot::Why;

/// Held while a controller runs. The kernel lets go of both halves when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    /// Same state folder, whatever the id.
    _file: File,
    /// Same id on the same engine, whatever the state folder.
    _socket: UnixListener,
}

impl Lock {
    /// Takes `lock` in `dir`, and the name of `controller` at the engine `endpoint` (`unix:///var/run/docker.sock`).
    ///
    /// # Errors
    /// When another controller holds one of them, with its process id when that is known.
    pub fn take(dir: &Path, controller: &ControllerId, endpoint: &str) -> Result<Self, Why> {
        let file = lock_file(dir)?;
        let socket = bind(controller, endpoint)?;
        write_pid(&file).map_err(|error| failure::folder(dir, &error))?;
        Ok(Self { _file: file, _socket: socket })
    }
}

fn lock_file(dir: &Path) -> Result<File, Why> {
    let words = |error: std::io::Error| failure::folder(dir, &error);
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(words)?;
    let path = dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(words)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let holder = match file.read_to_string(&mut text) {
                Ok(_) => text.trim().parse::<u32>().ok(),
                Err(_) => None,
            };
            Err(format!(
                "{} is held by another controller{}; hint: stop it first, or give this one its own `stateDir`",
                path.display(),
                process(holder)
            ))
        }
        Err(TryLockError::Error(error)) => Err(words(error)),
    }
}

fn bind(controller: &ControllerId, endpoint: &str) -> Result<UnixListener, Why> {
    let address = address(controller, endpoint).map_err(|error| format!("the lock of `{controller}`: {error}"))?;
    match UnixListener::bind_addr(&address) {
        Ok(socket) => Ok(socket),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(format!(
            "controller `{controller}` already runs for {endpoint}{}; hint: stop it first, or give this one another \
             `controller:` id",
            process(holder(&address))
        )),
        Err(error) => Err(format!("the lock of `{controller}`: {error}")),
    }
}

fn address(controller: &ControllerId, endpoint: &str) -> std::io::Result<SocketAddr> {
    // An abstract name has 107 bytes at most, an endpoint may be longer.
    let engine = sha256_hex(same_engine(endpoint));
    SocketAddr::from_abstract_name(format!("holdfast/{controller}/{}", &engine[..16]))
}

/// One engine, one text: a socket is named by its path, `/var/run` is `/run`.
fn same_engine(endpoint: &str) -> String {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    match path.strip_prefix("/var/run/") {
        Some(rest) => format!("/run/{rest}"),
        None => path.trim_end_matches('/').to_owned(),
    }
}

/// The process that listens at `address`.
fn holder(address: &SocketAddr) -> Option<u32> {
    let stream = UnixStream::connect_addr(address).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

fn write_pid(mut file: &File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ControllerId {
        ControllerId::new(text).unwrap()
    }

    /// Abstract names are shared by every test on the machine.
    fn engine(test: &str) -> String {
        format!("unix:///{}/{test}.sock", std::process::id())
    }

    #[test]
    fn a_second_controller_in_the_same_folder_is_refused_and_told_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::take(dir.path(), &id("a"), &engine("folder")).unwrap();
        let why = Lock::take(dir.path(), &id("b"), &engine("folder")).unwrap_err();
        assert!(why.contains(&format!("(process {})", std::process::id())), "{why}");
        assert!(why.contains("hint: "), "{why}");
        drop(held);
        Lock::take(dir.path(), &id("b"), &engine("folder")).unwrap();
    }

    #[test]
    fn a_second_controller_with_the_same_id_is_refused_whatever_its_folder() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let held = Lock::take(one.path(), &id("a"), &engine("id")).unwrap();
        let why = Lock::take(two.path(), &id("a"), &engine("id")).unwrap_err();
        assert!(why.contains("`a` already runs"), "{why}");
        assert!(why.contains(&format!("(process {})", std::process::id())), "{why}");
        // Another id, or another engine, is another controller.
        Lock::take(two.path(), &id("b"), &engine("id")).unwrap();
        Lock::take(two.path(), &id("a"), &engine("id-2")).unwrap();
        drop(held);
        Lock::take(two.path(), &id("a"), &engine("id")).unwrap();
    }

    #[test]
    fn one_socket_has_one_name() {
        for text in ["unix:///var/run/docker.sock", "/run/docker.sock", "unix:///run/docker.sock"] {
            assert_eq!(same_engine(text), "/run/docker.sock", "{text}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let why = Lock::take(&file.join("state"), &id("a"), &engine("file")).unwrap_err();
        assert!(why.contains("file/state") && why.contains("hint: "), "{why}");
    }
}
