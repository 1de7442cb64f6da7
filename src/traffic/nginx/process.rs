//! The processes of one nginx, from `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::boot::Boot;
use crate::model::snapshot::{Fact, NginxProcesses, Why, Worker};

/// What a process of nginx calls itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Title {
    Master,
    Worker,
    Leaving,
    /// The cache manager and loader, and children that have not got their title yet.
    Other,
}

/// A running nginx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Running {
    /// Its master.
    pub(super) master: u32,
    /// Its workers.
    pub(super) processes: NginxProcesses,
}

/// The nginx whose master wrote `pid_file`. An empty pid file is what `nginx -t` leaves when nginx is not running.
pub(super) fn running(pid_file: &Path, boot: &Boot) -> Fact<Running> {
    let text = match fs::read_to_string(pid_file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Fact::Absent,
        Err(error) => return Fact::Unreadable(format!("pid file {}: {error}", pid_file.display())),
    };
    if text.trim().is_empty() {
        return Fact::Absent;
    }
    let Some(master) = text.trim().parse::<u32>().ok().filter(|pid| *pid > 0) else {
        return Fact::Unreadable(format!("pid file {}: expected a process id, found other text", pid_file.display()));
    };
    match under(master, boot) {
        Ok(Some(processes)) => Fact::Seen(Running { master, processes }),
        Ok(None) => Fact::Absent,
        Err(why) => Fact::Unreadable(why),
    }
}

/// The workers under `master`; none when it is no nginx master (any more).
fn under(master: u32, boot: &Boot) -> Result<Option<NginxProcesses>, Why> {
    match title(master).map_err(|error| format!("process {master}: {error}"))? {
        Some(Title::Master) => {}
        Some(_) => return Ok(None),
        None if exists(master) => {
            return Err(format!("process {master} is there but /proc does not show it (is it mounted with hidepid?)"));
        }
        None => return Ok(None),
    }
    let pids = match children(master) {
        Ok(pids) => pids,
        Err(error) if is_gone(&error) && !exists(master) => return Ok(None),
        Err(error) => return Err(format!("the children of nginx {master}: {error}")),
    };
    let mut seen = NginxProcesses::default();
    for pid in pids {
        let Some((worker, leaving)) = worker(pid, boot).map_err(|error| format!("process {pid}: {error}"))? else {
            continue;
        };
        if leaving {
            seen.leaving.insert(worker)
        } else {
            seen.workers.insert(worker)
        };
    }
    Ok(Some(seen))
}

/// Whether `pid` is an nginx master now.
pub(super) fn is_master(pid: u32) -> bool {
    matches!(title(pid), Ok(Some(Title::Master)))
}

/// The worker `pid`, and whether it is leaving; none when it is gone or no worker.
pub(super) fn worker(pid: u32, boot: &Boot) -> io::Result<Option<(Worker, bool)>> {
    let leaving = match title(pid)? {
        Some(Title::Worker) => false,
        Some(Title::Leaving) => true,
        Some(Title::Master | Title::Other) | None => return Ok(None),
    };
    let Some(started_ms) = started_ms(pid, boot)? else { return Ok(None) };
    Ok(Some((Worker { pid, started_ms }, leaving)))
}

/// The process ids of the children of `master`, dead ones not yet waited for among them.
pub(super) fn children(master: u32) -> io::Result<BTreeSet<u32>> {
    let text = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
    Ok(text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// None: gone, or dead and not yet waited for.
fn title(pid: u32) -> io::Result<Option<Title>> {
    Ok(absent_when_gone(fs::read(format!("/proc/{pid}/cmdline")))?.and_then(|bytes| title_of(&bytes)))
}

fn title_of(cmdline: &[u8]) -> Option<Title> {
    let end = cmdline.iter().rposition(|byte| *byte != 0 && *byte != b' ').map(|last| last + 1)?;
    let text = String::from_utf8_lossy(&cmdline[..end]);
    Some(if text.starts_with("nginx: master process") {
        Title::Master
    } else if text == "nginx: worker process" {
        Title::Worker
    } else if text == "nginx: worker process is shutting down" {
        Title::Leaving
    } else {
        Title::Other
    })
}

fn started_ms(pid: u32, boot: &Boot) -> io::Result<Option<i64>> {
    let Some(stat) = absent_when_gone(fs::read_to_string(format!("/proc/{pid}/stat")))? else { return Ok(None) };
    match start_ticks(&stat) {
        Some(ticks) => Ok(Some(boot.moment_ms(ticks))),
        None => Err(io::Error::other(format!("/proc/{pid}/stat has no start time"))),
    }
}

/// Field 22; the name in field 2 may contain anything, so fields are counted from its closing bracket.
fn start_ticks(stat: &str) -> Option<i64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn exists(pid: u32) -> bool {
    let Some(pid) = to_pid(pid) else { return false };
    match test_kill_process(pid) {
        Ok(()) => true,
        Err(error) => error != Errno::SRCH,
    }
}

/// The process id as the system calls take it.
pub(super) fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

fn absent_when_gone<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_told_apart_and_a_zombie_has_none() {
        assert_eq!(title_of(b"nginx: master process nginx -c /etc/nginx.conf\0"), Some(Title::Master));
        assert_eq!(title_of(b"nginx: worker process\0\0\0"), Some(Title::Worker));
        assert_eq!(title_of(b"nginx: worker process          "), Some(Title::Worker));
        assert_eq!(title_of(b"nginx: worker process is shutting down\0"), Some(Title::Leaving));
        assert_eq!(title_of(b"nginx: cache manager process\0"), Some(Title::Other));
        assert_eq!(title_of(b"bash\0"), Some(Title::Other));
        assert_eq!(title_of(b""), None);
    }

    #[test]
    fn the_start_is_field_22_whatever_the_name_contains() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";
        assert_eq!(start_ticks(stat), Some(4711));
        assert_eq!(start_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn a_pid_file_proves_nothing_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("nginx.pid");
        let boot = Boot::default();
        assert_eq!(running(&file, &boot), Fact::Absent);
        fs::write(&file, "").unwrap();
        assert_eq!(running(&file, &boot), Fact::Absent, "empty: left by nginx -t");
        fs::write(&file, std::process::id().to_string()).unwrap();
        assert_eq!(running(&file, &boot), Fact::Absent, "a reused pid is no nginx");
        fs::write(&file, "nginx").unwrap();
        assert!(matches!(running(&file, &boot), Fact::Unreadable(_)));
    }

    #[test]
    fn a_process_starts_at_the_same_moment_every_time() {
        let boot = Boot::default();
        let first = started_ms(std::process::id(), &boot).unwrap();
        for _ in 0..1000 {
            assert_eq!(started_ms(std::process::id(), &boot).unwrap(), first);
        }
        let again = started_ms(std::process::id(), &Boot::default()).unwrap();
        assert!(again.unwrap().abs_diff(first.unwrap()) <= 1, "another run of Holdfast sees the same");
    }
}
