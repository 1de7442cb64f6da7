//! Drift: whether a difference is put back now, reported, or fought over.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::desired::{DriftField, Service};
use crate::model::memory::Memory;

use super::hold::{Hold, after};

/// Repairs of one field no further apart than this are one fight. Twice the longest stand-down: who changes it back right
/// after each repair is met at most ten times in an hour.
const FIGHT: Duration = Duration::from_secs(1800);
/// The longest stand-down.
const LONGEST: Duration = Duration::from_secs(900);
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
    let recent = fight(memory.repairs.get(&field).map_or(&[], Vec::as_slice), now);
    if recent.len() < PATIENCE {
        return Ok(());
    }
    let Some(last) = recent.last() else { return Ok(()) };
    let doublings = u32::try_from(recent.len() - PATIENCE).unwrap_or(u32::MAX).min(4);
    let until = after(*last, Duration::from_secs(60 << doublings).min(LONGEST));
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

/// The repairs of the fight under way, oldest first; none when the last is long ago.
fn fight(times: &[Timestamp], now: Timestamp) -> &[Timestamp] {
    let mut next = now;
    let ours = times.iter().rev().take_while(|at| after(**at, FIGHT) > std::mem::replace(&mut next, **at)).count();
    &times[times.len() - ours..]
}

fn recent(times: &[Timestamp], window: Duration, now: Timestamp) -> &[Timestamp] {
    let first = times.iter().position(|at| after(*at, window) > now).unwrap_or(times.len());
    &times[first..]
}
