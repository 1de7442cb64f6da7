//! A program that was started: read until it ends, and ended with all it started when nobody waits for it any more.

use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::time::timeout;

/// A program that has ended wrote everything by then. What it left running may keep its output open for ever.
const AFTER_THE_END: Duration = Duration::from_millis(200);

/// What is ended together with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    /// Its process group: it was started with one of its own.
    Group,
    /// What it started and what those started: it is in our group, as one that may ask at a terminal has to be.
    Children,
}

/// What a program wrote, and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code, or the signal.
    pub status: ExitStatus,
    /// What it wrote.
    pub out: Vec<u8>,
    /// The beginning of its complaints.
    pub err: Vec<u8>,
}

/// Feeds `stdin` to `child` and waits for its end. Dropped before, it ends the program and what goes `with` it.
///
/// # Errors
/// When it writes more than `most` bytes, or cannot be waited for.
pub async fn ended(mut child: Child, stdin: &[u8], most: usize, most_said: usize, with: With) -> io::Result<Ended> {
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    // Dropped before the child is: until then nobody else has its number.
    let mut guard = Guard { pid, with };
    let (into, from, said) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = {
        let feed = async {
            if let Some(mut into) = into {
                // A child that stops reading says why in its exit code.
                let _ = into.write_all(stdin).await;
            }
            Ok(())
        };
        let wrote = async {
            if let Some(mut from) = from
                && !keep(&mut from, &mut out, most).await?
            {
                return Err(io::Error::other(format!("it wrote more than {} KiB", most >> 10)));
            }
            Ok(())
        };
        let complained = async {
            if let Some(mut said) = said {
                keep(&mut said, &mut err, most_said).await?;
                // The rest is read all the same: a closed pipe would end it.
                tokio::io::copy(&mut said, &mut tokio::io::sink()).await?;
            }
            Ok(())
        };
        let mut talk = pin!(async { tokio::try_join!(feed, wrote, complained).map(drop) });
        tokio::select! {
            biased;
            talked = &mut talk => {
                talked?;
                child.wait().await?
            }
            status = child.wait() => {
                if let Ok(talked) = timeout(AFTER_THE_END, talk).await {
                    talked?;
                }
                status?
            }
        }
    };
    guard.pid = None;
    Ok(Ended { status, out, err })
}

/// Reads to the end or `most` bytes; whether it was the end. What was read stays when nobody waits any more.
async fn keep(from: &mut (impl AsyncRead + Unpin), into: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    let mut some = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut some).await?;
        if count == 0 {
            return Ok(true);
        }
        let room = most - into.len();
        into.extend_from_slice(&some[..count.min(room)]);
        if count > room {
            return Ok(false);
        }
    }
}

/// Ends what it guards when it is dropped.
struct Guard {
    pid: Option<Pid>,
    with: With,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(pid) = self.pid else { return };
        // What is gone already needs no end.
        match self.with {
            With::Group => {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            With::Children => {
                for pid in family(pid) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
        }
    }
}

/// A process and all that come from it, the oldest first.
fn family(pid: Pid) -> Vec<Pid> {
    let mut children: HashMap<Pid, Vec<Pid>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(number) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // `PID (NAME) STATE PARENT …`, where the name may have any characters.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| number(rest.split_whitespace().nth(1)?));
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(child);
        }
    }
    let (mut all, mut at) = (vec![pid], 0);
    while let Some(parent) = all.get(at) {
        all.extend(children.remove(parent).unwrap_or_default());
        at += 1;
    }
    all
}

fn number(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::Instant;

    use tokio::process::Command;

    use super::*;

    fn shell(script: &str, with: With) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if with == With::Group {
            command.process_group(0);
        }
        command.kill_on_drop(true).spawn().unwrap()
    }

    /// Until the process is gone, or dead and not yet fetched by anybody.
    async fn gone(pid: &str) {
        let stat = format!("/proc/{}/stat", pid.trim());
        let is_over = || std::fs::read_to_string(&stat).map_or(true, |it| it.contains(") Z "));
        timeout(Duration::from_secs(10), async {
            while !is_over() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{stat} is still there"));
    }

    #[tokio::test]
    async fn nobody_of_the_family_outlives_the_wait() {
        for with in [With::Group, With::Children] {
            let dir = tempfile::tempdir().unwrap();
            let pids = dir.path().join("pids");
            let script = format!("sh -c 'sleep 300 & echo $! > {0}.new; mv {0}.new {0}; wait; :'; :", pids.display());
            let wait = ended(shell(&script, with), b"", 10, 10, with);
            let started = async {
                while !pids.exists() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                it = wait => panic!("{it:?}"),
                () = started => {}
            }
            gone(&std::fs::read_to_string(pids).unwrap()).await;
        }
    }

    #[tokio::test]
    async fn what_it_leaves_running_is_not_waited_for() {
        let began = Instant::now();
        let it = ended(shell("sleep 300 & echo $!; echo why >&2; exit 7", With::Group), b"", 99, 99, With::Group).await;
        let it = it.unwrap();
        assert!(began.elapsed() < Duration::from_secs(60));
        assert_eq!((it.status.code(), it.err.as_slice()), (Some(7), b"why\n".as_slice()));
        // It goes on running: somebody may need it.
        let left = number(String::from_utf8(it.out).unwrap().trim()).unwrap();
        kill_process(left, Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn an_output_without_end_ends_it() {
        let error = ended(shell("yes", With::Group), b"", 64 << 10, 10, With::Group).await.unwrap_err();
        assert_eq!(error.to_string(), "it wrote more than 64 KiB");
        let it = ended(shell("yes 2>&1 >&2 | head -c 100000 >&2; echo x", With::Group), b"", 10, 4, With::Group).await;
        assert_eq!(it.unwrap().out, b"x\n");
    }
}
