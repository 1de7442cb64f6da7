//! Containers whose process has just ended.
//!
//! The engine tells late: `die` comes about 30 ms after the process is gone, and for another 70 ms, while it takes the
//! network down, its lists still say `running` and an inspect of the container does not answer. Where the engine is on
//! this host the kernel tells at once; elsewhere the `die` event does. Until the engine's list agrees, the container is
//! what it was when it last ran, and not running.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::classify::{engine_restarts, moment, restart_of};
use super::engine::lock;
use crate::model::names::ServiceName;
use crate::model::snapshot::ReplicaState;
use crate::ports::Wakes;
use crate::process;

/// The engine's list agrees within a tenth of this; if it does not, the engine is asked in full again.
const BELIEVED: Duration = Duration::from_secs(3);

/// A signal through the engine is told at the moment it is sent, but on another way than the end it causes: a look
/// between the two would take the container for one that comes back by itself.
const WORD_OF_A_SIGNAL: Duration = Duration::from_millis(5);

/// One run of one container.
struct Run {
    pid: i64,
    seen: Arc<ContainerInspectResponse>,
    /// Somebody sent it a signal through the engine: its restart policy will not bring it back.
    killed: bool,
    /// Told when the engine said something about it.
    word: Arc<Notify>,
    /// None while it runs.
    ended: Option<(Instant, Option<i64>)>,
    _watch: Option<AbortOnDropHandle<()>>,
}

impl Run {
    /// A stream that is opened again tells events once more: those of an earlier run say nothing of this one.
    fn began_before(&self, at: Timestamp) -> bool {
        let started = self.seen.state.as_ref().and_then(|state| moment(state.started_at.as_deref()?));
        started.is_none_or(|started| started <= at)
    }
}

/// Every run that is watched, by container id.
#[derive(Default)]
pub(super) struct Deaths(Arc<Mutex<HashMap<String, Run>>>);

impl Deaths {
    /// Watches the run `seen` describes, if it is one and not watched yet. `wakes`: to be told of its end by the kernel.
    pub(super) fn note(&self, service: &ServiceName, seen: &Arc<ContainerInspectResponse>, wakes: Option<&Wakes>) {
        let Some((id, pid)) = running(seen) else { return };
        let mut runs = lock(&self.0);
        let known = runs.get_mut(id).filter(|run| run.pid == pid);
        if let Some(run) = known {
            run.seen = Arc::clone(seen);
            return;
        }
        let word = Arc::new(Notify::new());
        let watch = wakes.and_then(|wakes| self.watch(service, id, pid, wakes.clone(), Arc::clone(&word)));
        let run = Run { pid, seen: Arc::clone(seen), killed: false, word, ended: None, _watch: watch };
        runs.insert(id.to_owned(), run);
    }

    fn watch(
        &self,
        service: &ServiceName,
        id: &str,
        pid: i64,
        wakes: Wakes,
        word: Arc<Notify>,
    ) -> Option<AbortOnDropHandle<()>> {
        let process = u32::try_from(pid).ok()?;
        let end = process::end_of(process)?;
        // Another host's engine may be behind a local socket, and numbers of processes are used again.
        process::is_of_container(process, id).then_some(())?;
        let (runs, service, id) = (Arc::clone(&self.0), service.clone(), id.to_owned());
        Some(AbortOnDropHandle::new(tokio::spawn(async move {
            end.await;
            // A word that came before the end is kept for this.
            let _ = tokio::time::timeout(WORD_OF_A_SIGNAL, word.notified()).await;
            if end_run(&runs, &id, |run| run.pid == pid, None) {
                wakes.wake(Some(&service), format!("docker: the process of {} ended", &id[..12.min(id.len())]));
            }
        })))
    }

    /// The engine says that a signal was sent to `id` at `at`; whether that changes what its end means.
    pub(super) fn killed(&self, id: &str, at: Timestamp) -> bool {
        let mut runs = lock(&self.0);
        let Some(run) = runs.get_mut(id).filter(|run| run.began_before(at)) else { return false };
        run.word.notify_one();
        !std::mem::replace(&mut run.killed, true) && run.ended.is_some()
    }

    /// The engine says that `id` died at `at`.
    pub(super) fn died(&self, id: &str, at: Timestamp, code: Option<i64>) {
        end_run(&self.0, id, |run| run.began_before(at), code);
    }

    /// The engine says that another run of `id` began, or that it is gone.
    pub(super) fn forget(&self, id: &str) {
        lock(&self.0).remove(id);
    }

    /// Containers that are gone are watched no more.
    pub(super) fn keep_only(&self, is_listed: impl Fn(&str) -> bool) {
        lock(&self.0).retain(|id, _| is_listed(id));
    }

    /// What `listed` was and is now, while the engine has not caught up with its end.
    pub(super) fn of(&self, listed: &ContainerSummary) -> Option<(Arc<ContainerInspectResponse>, ReplicaState)> {
        let id = listed.id.as_deref()?;
        let mut runs = lock(&self.0);
        let run = runs.get(id)?;
        let (at, code) = run.ended?;
        let still = listed.state.is_some_and(|state| state.to_string() == "running");
        if !still || at.elapsed() > BELIEVED {
            runs.remove(id);
            return None;
        }
        let policy = run.seen.host_config.as_ref().map(restart_of);
        let state = if !run.killed && policy.is_some_and(engine_restarts) {
            ReplicaState::Restarting
        } else {
            ReplicaState::Exited(code)
        };
        Some((Arc::clone(&run.seen), state))
    }
}

/// Marks the run of `id`, if it is the one, as ended; whether that was news.
fn end_run(runs: &Mutex<HashMap<String, Run>>, id: &str, is_it: impl Fn(&Run) -> bool, code: Option<i64>) -> bool {
    let mut runs = lock(runs);
    let Some(run) = runs.get_mut(id).filter(|run| is_it(run)) else { return false };
    match &mut run.ended {
        Some((_, known)) => {
            *known = known.or(code);
            false
        }
        None => {
            run.ended = Some((Instant::now(), code));
            true
        }
    }
}

fn running(seen: &ContainerInspectResponse) -> Option<(&str, i64)> {
    let state = seen.state.as_ref().filter(|state| state.status == Some(ContainerStateStatusEnum::RUNNING))?;
    Some((seen.id.as_deref()?, state.pid.filter(|pid| *pid > 0)?))
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerState, ContainerSummaryStateEnum, HostConfig};

    use super::*;
    use crate::model::desired::Restart;
    use crate::platform::docker::run::restart_policy;

    fn seen(restart: Restart) -> Arc<ContainerInspectResponse> {
        Arc::new(ContainerInspectResponse {
            id: Some("c1".to_owned()),
            state: Some(ContainerState {
                status: Some(ContainerStateStatusEnum::RUNNING),
                pid: Some(7),
                started_at: Some("2026-01-01T00:00:10Z".to_owned()),
                ..ContainerState::default()
            }),
            host_config: Some(HostConfig { restart_policy: Some(restart_policy(restart)), ..HostConfig::default() }),
            ..ContainerInspectResponse::default()
        })
    }

    fn at(second: i64) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(second)
    }

    fn listed(state: ContainerSummaryStateEnum) -> ContainerSummary {
        ContainerSummary { id: Some("c1".to_owned()), state: Some(state), ..ContainerSummary::default() }
    }

    fn deaths(restart: Restart) -> Deaths {
        let deaths = Deaths::default();
        deaths.note(&ServiceName::new("api").unwrap(), &seen(restart), None);
        assert!(deaths.of(&listed(ContainerSummaryStateEnum::RUNNING)).is_none(), "it runs");
        deaths
    }

    fn state(deaths: &Deaths) -> Option<ReplicaState> {
        deaths.of(&listed(ContainerSummaryStateEnum::RUNNING)).map(|(_, state)| state)
    }

    #[tokio::test(start_paused = true)]
    async fn a_killed_container_is_lost_and_one_that_ended_by_itself_comes_back() {
        let killed = deaths(Restart::UnlessStopped);
        killed.killed("c1", at(20));
        killed.died("c1", at(20), Some(137));
        assert_eq!(state(&killed), Some(ReplicaState::Exited(Some(137))));
        let crashed = deaths(Restart::UnlessStopped);
        crashed.died("c1", at(20), Some(1));
        assert_eq!(state(&crashed), Some(ReplicaState::Restarting));
        let ended = deaths(Restart::No);
        ended.died("c1", at(20), Some(0));
        assert_eq!(state(&ended), Some(ReplicaState::Exited(Some(0))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_again_of_an_earlier_run_says_nothing_of_this_one() {
        let restarted = deaths(Restart::UnlessStopped);
        restarted.killed("c1", at(5));
        restarted.died("c1", at(5), Some(137));
        assert_eq!(state(&restarted), None, "that was before it started");
        restarted.died("c1", at(15), Some(1));
        assert_eq!(state(&restarted), Some(ReplicaState::Restarting), "and that signal was not for it");
    }

    #[tokio::test(start_paused = true)]
    async fn the_engine_has_the_last_word() {
        let one = deaths(Restart::No);
        one.died("c1", at(20), None);
        assert!(one.of(&listed(ContainerSummaryStateEnum::EXITED)).is_none());
        assert!(state(&one).is_none(), "it caught up, and what it says from then on counts");
        let other = deaths(Restart::No);
        other.died("c1", at(20), None);
        tokio::time::advance(BELIEVED * 2).await;
        assert!(state(&other).is_none(), "it never agreed");
        let again = deaths(Restart::No);
        again.died("c1", at(20), None);
        again.forget("c1");
        assert!(state(&again).is_none(), "another run began");
    }
}
