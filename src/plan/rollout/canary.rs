//! Canary steps: shares of the requests the new colour gets first.

use super::{Decision, Situation};
use crate::model::colour::Group;
use crate::model::memory::{Canary, MemoryChange};
use crate::model::release::Release;
use crate::plan::hold::{Hold, after};

/// The share of `target` while a canary step lasts; none when it may have everything.
pub(super) fn share(it: &Situation<'_>, out: &mut Decision, release: &Release, target: Group) -> Option<u16> {
    let steps = &it.service.rollout.canary;
    let hash = release.hash();
    let goes_back = it.wanted.quarantined || it.memory.pin.is_some();
    if it.serving.is_none() || it.memory.committed.is_none() || goes_back || !it.traffic.managed {
        return None;
    }
    let in_force = |weight: u16| it.traffic.weights.get(&target) == Some(&weight);
    let note = |step: usize| {
        let canary = Canary { release: hash.clone(), step, since: it.now };
        (MemoryChange::Canary(canary), "its weights were seen in force".to_owned())
    };
    let known = it.memory.canary.as_ref().filter(|canary| canary.release == hash);
    let Some(known) = known else {
        let first = steps.first()?;
        out.seen.extend(in_force(first.weight).then(|| note(0)));
        return Some(first.weight);
    };
    let now = steps.get(known.step)?;
    let until = now.hold.map(|hold| after(known.since, hold));
    match until {
        Some(until) if it.now < until => {
            out.holds.push(Hold::Canary { group: target, weight: now.weight, until });
            return Some(now.weight);
        }
        None if it.memory.promoted.as_ref() != Some(&hash) => {
            out.holds.push(Hold::AwaitingPromotion { tag: release.tag.to_string(), release: hash });
            return Some(now.weight);
        }
        _ => {}
    }
    let next = steps.get(known.step + 1)?;
    out.seen.extend(in_force(next.weight).then(|| note(known.step + 1)));
    Some(next.weight)
}
