//! Floor 1: the end of a process on this host, told by the kernel the moment it happens.

use std::future::Future;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Whether the process `pid` of this host is in a control group that names `container`. Engines name them after the
/// container's id, so this tells a container's process from another one with its number, or one of another host's.
pub fn is_of_container(pid: u32, container: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(container))
}

/// A future that ends when the process `pid` does. None where nobody can tell: there is no such process (any more), or
/// the kernel has no pidfd (Linux before 5.3).
///
/// The number may have gone to another process since it was read: ask what it is after this has returned.
pub fn end_of(pid: u32) -> Option<impl Future<Output = ()> + Send + 'static> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    #[expect(deprecated, reason = "sound for an `OwnedFd`, whose descriptor stays the same; its successor is unsafe")]
    let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE).ok()?;
    Some(async move {
        // An error would mean the runtime is going down.
        let _ = pidfd.readable().await;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_is_told_and_a_process_that_is_gone_has_none() {
        let mut child = tokio::process::Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap();
        let pid = child.id().unwrap();
        let end = end_of(pid).unwrap();
        child.start_kill().unwrap();
        end.await;
        child.wait().await.unwrap();
        assert!(end_of(pid).is_none());
    }
}
