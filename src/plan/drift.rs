//! Drift: whether a difference is put back now, reported, or fought over.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::desired::{DriftField, Service};
use crate::model::memory::Memory;

use super::hold::{Hold, after};

/// Repairs of one field within this time are one fight.
const FIGHT: Duration = Duration::from_secs(600);
/// Repairs before Holdfast stands down for a while.
const PATIENCE: usize = 3;
/// Losses in two minutes that are replaced at once.
const LOSSES_AT_ONCE: usize = 4;

/// Whether drift of `field` may be put back now.
///
/// # Errors
/// The hold that says why not; none where the file says to ignore this field.
pub fn repair(
    service: &Service,
    memory: &Memory,
    field: DriftField,
    what: &str,
    now: Timestamp,
) -> Result<(), Option<Hold>> {
    if service.drift.ignore.contains(&field) {
        return Err(None);
    }
    if service.drift.detect_only {
        return Err(Some(Hold::DriftReported { field, what: what.to_owned() }));
    }
    let recent = recent(memory.repairs.get(&field).map_or(&[], Vec::as_slice), FIGHT, now);
    if recent.len() < PATIENCE {
        return Ok(());
    }
    let Some(last) = recent.last() else { return Ok(()) };
    let doublings = u32::try_from(recent.len() - PATIENCE).unwrap_or(u32::MAX).min(4);
    let until = after(*last, Duration::from_secs(60 << doublings).min(FIGHT));
    if until <= now {
        return Ok(());
    }
    Err(Some(Hold::Conflict { field, repairs: u32::try_from(recent.len()).unwrap_or(u32::MAX), until }))
}

/// When lost replicas may be replaced: now, or later when losses keep coming. They are backed off, never stood down.
pub fn loss_wait(memory: &Memory, now: Timestamp) -> Option<Timestamp> {
    let recent = recent(&memory.losses, Duration::from_secs(120), now);
    let extra = recent.len().checked_sub(LOSSES_AT_ONCE + 1)?;
    let until = after(*recent.last()?, Duration::from_secs(1 << extra.min(6)));
    (until > now).then_some(until)
}

fn recent(times: &[Timestamp], window: Duration, now: Timestamp) -> &[Timestamp] {
    let first = times.iter().position(|at| after(*at, window) > now).unwrap_or(times.len());
    &times[first..]
}
