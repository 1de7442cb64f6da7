//! The token for HTTPS: of a file, or of a program that prints one. Nothing of either is ever repeated.

use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::child::{self, With};
use crate::model::secret::Secret;

/// A token program answers by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// What it may print: a token and its line end, or a mistake.
const MOST_PRINTED: usize = 64 << 10;
/// The longest file that may hold a token.
const MOST_READ: u64 = 8 << 10;

/// The token in the file.
pub(super) fn of_file(path: &Path) -> Result<Secret<String>, String> {
    let text = read(path).map_err(|error| format!("the token file {} cannot be read: {error}", path.display()))?;
    match text.trim() {
        "" => Err(format!("the token file {} is empty", path.display())),
        text if text.contains(char::is_whitespace) => {
            Err(format!("the token file {} does not hold one token", path.display()))
        }
        text => Ok(Secret::new(text.to_owned())),
    }
}

fn read(path: &Path) -> io::Result<String> {
    // Without blocking: somebody may have put a pipe there.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST_READ + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MOST_READ {
        return Err(io::Error::other(format!("it is larger than {} KiB", MOST_READ >> 10)));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is no text"))
}

/// What the token program prints.
pub(super) async fn printed(command: &[String]) -> Result<Secret<String>, String> {
    printed_within(PATIENCE, command).await
}

async fn printed_within(patience: Duration, command: &[String]) -> Result<Secret<String>, String> {
    let (program, args) = command.split_first().ok_or("there is no token program")?;
    let mut run = Command::new(program);
    run.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // A group of its own: what it started ends with it when it takes too long.
    run.process_group(0).kill_on_drop(true);
    let child = run.spawn().map_err(|error| format!("the token program {program} did not start: {error}"))?;
    let ended = timeout(patience, child::ended(child, b"", MOST_PRINTED, 0, With::Group)).await;
    let ended = ended
        .map_err(|_| format!("the token program {program} took longer than {} s", patience.as_secs()))?
        .map_err(|error| format!("the token program {program} failed: {error}"))?;
    let token = String::from_utf8_lossy(&ended.out).trim().to_owned();
    match ended.status.code() {
        Some(0) if !token.is_empty() && !token.contains(char::is_whitespace) => Ok(Secret::new(token)),
        Some(0) => Err(format!("the token program {program} did not print one token")),
        code => Err(format!("the token program {program} failed (exit {})", code.unwrap_or(-1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Vec<String> {
        vec!["sh".into(), "-c".into(), script.into()]
    }

    #[tokio::test]
    async fn a_program_that_hangs_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 300 & echo $! > {}; wait", pid.display());
        let why = printed_within(Duration::from_millis(1500), &sh(&script)).await.unwrap_err();
        assert!(why.contains("took longer than"), "{why}");
        let stat = format!("/proc/{}/stat", std::fs::read_to_string(pid).unwrap().trim());
        let gone = timeout(Duration::from_secs(10), async {
            while std::fs::read_to_string(&stat).is_ok_and(|it| !it.contains(") Z ")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(gone.await.is_ok(), "{stat} is still there");
    }

    #[tokio::test]
    async fn a_program_that_leaves_a_daemon_is_not_waited_for_and_one_without_end_is_ended() {
        let token = printed_within(Duration::from_secs(20), &sh("sleep 30 & echo tok3n")).await.unwrap();
        assert_eq!(token.reveal(), "tok3n");
        assert!(!format!("{token:?}").contains("tok3n"));
        let why = printed_within(Duration::from_secs(20), &sh("yes s3cret")).await.unwrap_err();
        assert!(why.contains("more than 64 KiB") && !why.contains("s3cret"), "{why}");
    }

    #[test]
    fn a_token_is_in_a_small_plain_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, " tok3n\n").unwrap();
        assert_eq!(of_file(&path).unwrap().reveal(), "tok3n");
        std::fs::write(&path, "x".repeat(8 << 10)).unwrap();
        assert!(of_file(&path).is_ok());
        std::fs::write(&path, "x".repeat((8 << 10) + 1)).unwrap();
        assert!(of_file(&path).unwrap_err().contains("larger than 8 KiB"));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(of_file(&path).unwrap_err().contains("no text"));
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for odd in [pipe.as_path(), Path::new("/dev/zero"), dir.path()] {
            let why = of_file(odd).unwrap_err();
            assert!(why.contains("no regular file"), "{why}");
        }
    }
}
