//! Who waits for a switch: one turn at a time, and a turn takes everybody who waits.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::{Shared, switch};
use crate::plan::step::{Ensured, TrafficStep};
use crate::ports::StepError;

/// A step, and where its outcome goes.
#[derive(Debug)]
struct Waiting {
    step: TrafficStep,
    outcome: oneshot::Sender<Result<Ensured, StepError>>,
}

/// Steps in the order they came.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Vec<Waiting>>,
    turn: tokio::sync::Mutex<()>,
}

impl Queue {
    fn push(&self, waiting: Waiting) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(waiting);
    }

    /// Everybody who waits, a file once: a second step for the same file waits for the next turn.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = BTreeSet::new();
        let (now, later) = waiting.drain(..).partition(|waiting| files.insert(waiting.step.file.clone()));
        *waiting = later;
        now
    }
}

/// Performs `step` together with whoever else waits. A caller that goes away does not stop a switch half way.
pub(super) async fn perform(shared: &Arc<Shared>, step: TrafficStep) -> Result<Ensured, StepError> {
    let (outcome, result) = oneshot::channel();
    shared.queue.push(Waiting { step, outcome });
    tokio::spawn(take_a_turn(Arc::clone(shared)));
    result.await.unwrap_or_else(|_| Err(StepError::transient("the switch was interrupted")))
}

async fn take_a_turn(shared: Arc<Shared>) {
    let _turn = shared.queue.turn.lock().await;
    // Steps that became ready in the same moment join.
    tokio::task::yield_now().await;
    let (steps, outcomes): (Vec<_>, Vec<_>) =
        shared.queue.take().into_iter().map(|Waiting { step, outcome }| (step, outcome)).unzip();
    if steps.is_empty() {
        return;
    }
    for (outcome, result) in outcomes.into_iter().zip(switch::switch(&shared, steps).await) {
        // Nobody waits any more: the next look tells what became of it.
        let _ = outcome.send(result);
    }
    shared.changed.notify_one();
}
