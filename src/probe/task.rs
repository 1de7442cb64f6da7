//! The task of one target: when to ask next, and whom to tell.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::ask::Asker;
use super::verdict::Answers;
use crate::model::desired::Check;
use crate::model::names::ServiceName;
use crate::model::snapshot::Health;
use crate::ports::{Clock, ProbeTarget, Wakes};

/// The second probe; every further one waits twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// A settled service is not asked more often: drift of this kind is rare and the engine reports exits at once.
const SETTLED_WAIT: Duration = Duration::from_secs(5);
/// A reason that changes while there is no verdict is worth a look, but not with every probe.
const REASON_WAIT: Duration = Duration::from_secs(1);

pub(super) struct Task {
    pub(super) service: ServiceName,
    pub(super) asker: Asker,
    pub(super) wakes: Wakes,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) changes: watch::Receiver<ProbeTarget>,
    pub(super) report: watch::Sender<Health>,
}

impl Task {
    /// Probes until it is dropped.
    pub(super) async fn run(mut self) {
        let check = self.changes.borrow().check.clone();
        match check {
            Check::Running(wanted) => self.wait_for(wanted).await,
            Check::Http { .. } | Check::Tcp { .. } | Check::Container => self.ask_for_ever().await,
        }
    }

    /// `running: 10s`: a restart would be another target, so only time has to pass.
    async fn wait_for(&self, wanted: Duration) {
        let started = self.changes.borrow().started_at;
        let since = self.clock.now().duration_since(started);
        let run = Duration::try_from(since).unwrap_or_default();
        tokio::time::sleep(wanted.saturating_sub(run)).await;
        self.report.send_replace(Health::Healthy(self.clock.now()));
        self.wake("it ran long enough");
    }

    async fn ask_for_ever(&mut self) {
        let mut answers = Answers::new(self.clock.now());
        let mut fast = FIRST_WAIT;
        let mut told = (None, Instant::now());
        loop {
            let target = self.changes.borrow_and_update().clone();
            let answer = self.asker.ask(&target).await;
            let turned = answers.take(answer, target.successes, target.failures, self.clock.now());
            self.report.send_if_modified(|verdict| {
                let changed = verdict != answers.verdict();
                verdict.clone_from(answers.verdict());
                changed
            });
            if turned {
                self.wake(describe(answers.verdict()));
            }
            if let Health::Unknown { since: _, last: why @ Some(_) } = answers.verdict()
                && (*why != told.0 && told.1.elapsed() >= REASON_WAIT)
            {
                self.wake("no good answer yet");
                told = (why.clone(), Instant::now());
            }
            let wait = if matches!(answers.verdict(), Health::Unknown { .. }) {
                let wait = fast.min(target.interval);
                fast = fast.saturating_mul(2).min(target.interval.max(FIRST_WAIT));
                wait
            } else {
                pace(&target, &answers)
            };
            self.rest(wait, &target).await;
        }
    }

    /// Waits, but not longer than a changed pace asks for.
    async fn rest(&mut self, wait: Duration, target: &ProbeTarget) {
        let since = Instant::now();
        if tokio::time::timeout(wait, self.changes.changed()).await.is_err() {
            return;
        }
        let now = self.changes.borrow().clone();
        let wait = if now.settled == target.settled { wait } else { wait.min(now.interval) };
        tokio::time::sleep_until(since + wait).await;
    }

    fn wake(&self, why: &str) {
        self.wakes.wake(Some(&self.service), format!("probe: {why}"));
    }
}

fn pace(target: &ProbeTarget, answers: &Answers) -> Duration {
    if target.settled && !answers.is_doubtful() { target.interval.max(SETTLED_WAIT) } else { target.interval }
}

const fn describe(verdict: &Health) -> &'static str {
    match verdict {
        Health::Healthy(_) => "healthy",
        Health::Unhealthy(..) => "unhealthy",
        Health::Unknown { .. } => "unknown",
    }
}

#[cfg(test)]
mod tests;
