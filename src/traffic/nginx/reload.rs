//! Makes a running nginx load its configuration, and proves that it did.
//!
//! After a HUP the master forks new workers, then sleeps 100 ms before it stops the old ones, which go on accepting.
//! Stopping them ourselves saves that time; done before the new ones exist, it would drop requests.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use tokio::time::{Instant, sleep, timeout};

use super::boot::Boot;
use super::process::{self, Running};
use crate::model::snapshot::Worker;
use crate::ports::{Clock, StepError};

/// A master that cannot bind tries five times, half a second apart, before it gives up and keeps its old workers.
const LONGEST: Duration = Duration::from_secs(5);

/// Workers are forked within a few milliseconds and nothing tells: look this often, this many times, then less often.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const FIRST_PAUSES: u32 = 50;
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// HUPs `nginx` no earlier than its workers will certainly look younger than `changed_at`, waits for the new workers,
/// then asks the old ones to leave.
pub(super) async fn reload(
    nginx: &Running,
    changed_at: Timestamp,
    boot: &Boot,
    clock: &dyn Clock,
) -> Result<(), StepError> {
    wait_for_the_tick(changed_at, boot, clock).await;
    signal_master(nginx.master)?;
    let waiting = wait_for_new_workers(nginx, boot);
    let new = timeout(LONGEST, waiting).await.map_err(|_| {
        StepError::transient(
            "nginx kept its old workers: the master could not load the configuration; see its error log",
        )
    })??;
    let old: Vec<&Worker> = nginx.processes.workers.difference(&new).collect();
    old.iter().for_each(|worker| retire(worker, boot));
    timeout(LONGEST, wait_until_none_accepts(&old, boot))
        .await
        .map_err(|_| StepError::transient("nginx loaded the configuration, but its old workers still accept requests"))
}

/// Until then a new connection may still reach an old worker, and with it the old servers.
async fn wait_until_none_accepts(old: &[&Worker], boot: &Boot) {
    let accepts = |worker: &&&Worker| accepting(worker.pid, boot).as_ref() == Some(**worker);
    let mut looks = 0;
    while old.iter().any(|worker| accepts(&worker)) {
        looks += 1;
        sleep(if looks > FIRST_PAUSES { LONGEST_PAUSE } else { FIRST_PAUSE }).await;
    }
}

/// Start times in `/proc` come in ticks of 10 ms, rounded down: a worker forked right after the file was written would
/// look older than it. Waits until the next tick, at most 12 ms.
async fn wait_for_the_tick(changed_at: Timestamp, boot: &Boot, clock: &dyn Clock) {
    let young = boot.younger_than_ms(ceil_ms(changed_at));
    let wait = young - ceil_ms(clock.now()).saturating_sub(1);
    if (1..=12).contains(&wait) {
        sleep(Duration::from_millis(wait.unsigned_abs())).await;
    }
}

/// Milliseconds since the epoch, rounded up.
pub(super) fn ceil_ms(at: Timestamp) -> i64 {
    at.as_millisecond() + i64::from(at.subsec_nanosecond() % 1_000_000 > 0)
}

fn signal_master(master: u32) -> Result<(), StepError> {
    match signal(master, Signal::HUP, || process::is_master(master)) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => Err(StepError::refused(format!(
            "nginx (process {master}) may not be signalled by this user; hint: run holdfast as root or as nginx's user"
        ))),
        Err(Errno::SRCH) => Err(StepError::stale(format!("nginx (process {master}) has just ended"))),
        Err(error) => Err(StepError::transient(format!("signal nginx (process {master}): {error}"))),
    }
}

/// Signals the process that `is_it` recognised, not another one that got its pid in between.
fn signal(pid: u32, signal: Signal, is_it: impl Fn() -> bool) -> Result<(), Errno> {
    let pid = process::to_pid(pid).ok_or(Errno::SRCH)?;
    let pidfd: Option<OwnedFd> = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Some(pidfd),
        // Linux before 5.3.
        Err(Errno::NOSYS) => None,
        Err(error) => return Err(error),
    };
    if !is_it() {
        return Err(Errno::SRCH);
    }
    match pidfd {
        Some(pidfd) => pidfd_send_signal(pidfd, signal),
        None => kill_process(pid, signal),
    }
}

/// The master tells them too, 100 ms later: a failure here costs that time and nothing else.
fn retire(worker: &Worker, boot: &Boot) {
    let is_it = || matches!(process::worker(worker.pid, boot), Ok(Some((now, false))) if now == *worker);
    if let Err(error) = signal(worker.pid, Signal::QUIT, is_it)
        && error != Errno::SRCH
    {
        tracing::debug!(pid = worker.pid, %error, "an old worker of nginx is left to its master");
    }
}

async fn wait_for_new_workers(before: &Running, boot: &Boot) -> Result<BTreeSet<Worker>, StepError> {
    let old: BTreeSet<u32> = before.processes.workers.iter().chain(&before.processes.leaving).map(|w| w.pid).collect();
    let started = Instant::now();
    let (mut pause, mut looks) = (FIRST_PAUSE, 0);
    loop {
        sleep(pause).await;
        looks += 1;
        if looks > FIRST_PAUSES {
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        let Ok(children) = process::children(before.master) else {
            return Err(StepError::stale("nginx ended while it was to load its configuration"));
        };
        let new: BTreeSet<Worker> = children.difference(&old).filter_map(|pid| accepting(*pid, boot)).collect();
        // A child wears its master's title until it is ready.
        let starting = children.difference(&old).any(|pid| process::is_master(*pid));
        if !new.is_empty() && !starting && loaded(before, new.len(), boot) {
            tracing::debug!(workers = new.len(), elapsed = ?started.elapsed(), "nginx forked new workers");
            return Ok(new);
        }
    }
}

fn accepting(pid: u32, boot: &Boot) -> Option<Worker> {
    match process::worker(pid, boot) {
        Ok(Some((worker, false))) => Some(worker),
        _ => None,
    }
}

/// Whether `new` workers prove a reload that is through with its forks: they are as many as the old ones, or the master
/// tells the old ones to leave, which it does last. The master also replaces a worker that crashed, by one with the
/// old configuration: as many new as lost ones prove nothing, unless old ones are leaving, or several ended together.
fn loaded(before: &Running, new: usize, boot: &Boot) -> bool {
    let old = before.processes.workers.len();
    let (mut lost, mut leaving) = (0, 0);
    for worker in &before.processes.workers {
        match process::worker(worker.pid, boot) {
            Ok(Some((now, is_leaving))) if now == *worker => leaving += usize::from(is_leaving),
            _ => lost += 1,
        }
    }
    let told = leaving > 0 || (lost > 1 && lost == old);
    told || (new >= old && new > lost)
}
