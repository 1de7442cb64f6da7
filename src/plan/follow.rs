//! The one change of the desired state a plan may end with: the newer tag a service follows, or the way back to the last
//! good one.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::desired::{OnFailure, Service};
use crate::model::follow::{Fit, Follow, Place, TagOrder};
use crate::model::image::{Tag, TagSpec};
use crate::model::memory::{Committed, Memory, MemoryChange, Quarantine, REVERTED};
use crate::model::snapshot::{Fact, Snapshot, TagSeen};
use crate::model::words::counted;

use super::Plan;
use super::hold::{Hold, after};
use super::step::{PlannedStep, SourceStep, Step};
use super::wanted::Wanted;

/// A rollout that fails has at least this long before a newer tag takes its place: as long as tags are not asked for again.
const PACE: Duration = Duration::from_secs(60);

/// What is to be committed.
struct Move {
    to: TagSpec,
    /// For people, without a full stop.
    because: String,
    /// The rest of the commit's message.
    more: String,
}

/// Adds the change as the plan's last stage, or why there is none.
pub fn extend(
    plan: &mut Plan,
    service: &Service,
    snapshot: &Snapshot,
    memory: &Memory,
    wanted: &Wanted,
    now: Timestamp,
) {
    // A person's rollback stands until a person says otherwise.
    if memory.paused.is_some() || memory.pin.is_some() || is_turning(plan) {
        return;
    }
    let followed = service.follow.as_ref().and_then(|policy| {
        let (found, holds) = newer(policy, service, snapshot, memory);
        plan.holds.extend(holds);
        found.filter(|_| !is_young(plan, service, memory, now))
    });
    let found = followed.or_else(|| back(service, memory, wanted).filter(|_| is_at_rest(plan)));
    if let Some(why) = &snapshot.source_closed {
        if found.is_some() || service.follow.is_some() {
            let tag = found.map(|found| found.to.to_string());
            plan.holds.push(Hold::SourceClosed { tag, why: why.clone() });
        }
        return;
    }
    let Some(Move { to, because, more }) = found else { return };
    if plan.view.stage.is_empty() {
        plan.view.stage = format!("committing tag {to}");
    }
    // Remembered first: once the file asks for another release, its quarantine ends.
    if let Some(failed) = failed_now(service, memory, wanted)
        && memory.reverted.get(&failed.tag) != Some(failed)
    {
        let led_away = format!("the file is led on to {to}");
        plan.remember(crowded_out(service, snapshot, memory, failed));
        plan.remember(vec![(MemoryChange::Revert(failed.clone()), led_away)]);
    }
    let why = format!("{because}.{more}");
    let step = SourceStep { service: service.name.clone(), from: service.tag.clone(), to, why };
    plan.stage(vec![PlannedStep { step: Step::Source(step), because }]);
}

/// A rollout begins or is given up in this very plan: what is remembered is not what will be.
fn is_turning(plan: &Plan) -> bool {
    plan.steps().any(|it| {
        matches!(
            &it.step,
            Step::Remember(MemoryChange::Attempt(_) | MemoryChange::Quarantine(..) | MemoryChange::Unpin)
        )
    })
}

/// The world itself has gone back: nothing is left to do or on its way.
fn is_at_rest(plan: &Plan) -> bool {
    plan.stages.is_empty() && !plan.holds.iter().any(|it| it.is_progress() || matches!(it, Hold::Failing { .. }))
}

/// A rollout under way gets the time it may take: were a newer tag committed every minute, none would ever serve.
fn is_young(plan: &Plan, service: &Service, memory: &Memory, now: Timestamp) -> bool {
    let fails = plan.holds.iter().any(|hold| matches!(hold, Hold::Failing { .. }));
    let patience = if fails { PACE } else { service.rollout.progress_deadline.max(PACE) };
    memory.attempt.as_ref().is_some_and(|attempt| now < after(attempt.started_at, patience))
}

/// Why the release of the file failed, if it did.
fn failed_now<'a>(service: &Service, memory: &'a Memory, wanted: &Wanted) -> Option<&'a Quarantine> {
    let hash = wanted.file.as_ref().filter(|_| wanted.quarantined)?.hash();
    memory.quarantined.get(&hash).filter(|failed| failed.tag == service.tag.tag.as_str())
}

/// What a tag has to come after.
#[derive(PartialEq)]
enum Floor {
    /// The tag of the file.
    Above(Place),
    /// No tag is known to come after it.
    Stay,
    /// The tag of the file does not fit: any that does is better.
    None,
}

impl Floor {
    fn lets(&self, place: &Place) -> bool {
        match self {
            Self::Above(floor) => place > floor,
            Self::Stay => false,
            Self::None => true,
        }
    }
}

/// A tag that fits, and where it stands.
type Placed<'a> = (Place, &'a TagSeen);

/// The tag to follow, and what is to be said where there is none.
fn newer(policy: &Follow, service: &Service, snapshot: &Snapshot, memory: &Memory) -> (Option<Move>, Vec<Hold>) {
    let seen = match &snapshot.tags {
        Some(Fact::Seen(seen)) if !seen.is_empty() => seen,
        other => return (None, vec![Hold::FollowUnreadable { why: unlisted(service, other.as_ref()) }]),
    };
    let (placed, unordered) = sorted(policy, service, seen);
    let failed = memory.failed_tags();
    let mut holds = Vec::new();
    let now = place_of(policy, &service.tag.tag, seen);
    if placed.is_empty() && (unordered > 0 || now == Fit::No) && !matches!(now, Fit::At(_)) {
        holds.push(Hold::NoTagFits { policy: policy.to_string(), why: none_fits(policy, seen.len(), unordered) });
        return (None, holds);
    }
    let floor = match now {
        Fit::At(now) => Floor::Above(now),
        Fit::Unordered if is_newest(policy) => known_since(service, memory, &failed).map_or(Floor::Stay, Floor::Above),
        Fit::Unordered | Fit::No => Floor::None,
    };
    if floor == Floor::Stay && !placed.is_empty() {
        holds.push(Hold::FollowUnreadable { why: undated(service) });
    }
    let fits = floor != Floor::None;
    // Without a floor every older one would be tried in turn, and so would those whose failure had to be forgotten.
    let full = memory.reverted.len() >= REVERTED;
    let ceiling = ceiling(policy, &failed, seen).filter(|_| !fits || full);
    let is_over = |place: &Place| ceiling.as_ref().is_none_or(|(highest, _)| place > highest);
    let good = |(place, it): &&Placed<'_>| !failed.contains_key(it.tag.as_str()) && is_over(place);
    let chosen = placed.iter().rev().find(good).filter(|(place, _)| floor.lets(place));
    holds.extend(skipped(service, &placed, &failed, chosen, &floor, ceiling.as_ref()));
    if let Some((_, highest)) = ceiling.as_ref().filter(|_| chosen.is_none() && !fits) {
        let why = format!("{} failed here, and only a tag that comes after it is tried", highest.tag);
        holds.push(Hold::NoTagFits { policy: policy.to_string(), why });
    }
    let found = chosen.map(|(_, it)| {
        let from = &service.tag.tag;
        let mut because = format!("{} is the newest tag that fits {policy}", it.tag);
        if !fits {
            because.push_str(&format!("; {from} does not fit"));
        } else if let Some(why) = failed.get(from.as_str()) {
            because.push_str(&format!("; {from} failed: {}", why.why));
        }
        let more = format!(" It is a tag of {}.", service.image);
        Move { to: TagSpec { tag: it.tag.clone(), digest: None }, because, more }
    });
    (found, holds)
}

fn unlisted(service: &Service, tags: Option<&Fact<Vec<TagSeen>>>) -> String {
    match tags {
        Some(Fact::Unreadable(why)) => why.clone(),
        Some(Fact::Absent) => format!("{} does not exist at its registry", service.image),
        Some(Fact::Seen(_)) => format!("{} has no tag", service.image),
        None => format!("nobody asked for the tags of {}", service.image),
    }
}

/// The tags that fit, the one to follow last, and how many match that cannot be ordered.
fn sorted<'a>(policy: &Follow, service: &Service, seen: &'a [TagSeen]) -> (Vec<Placed<'a>>, usize) {
    let mut unordered = 0;
    let mut placed: Vec<Placed<'a>> = Vec::new();
    for it in seen {
        match policy.fit(it) {
            Fit::At(place) => placed.push((place, it)),
            Fit::Unordered => unordered += 1,
            Fit::No => {}
        }
    }
    // Of one version in two spellings the one the file uses: `v1.5.0` after `v1.4.0`.
    let spelt = |it: &TagSeen| it.tag.as_str().starts_with('v') == service.tag.tag.as_str().starts_with('v');
    placed.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| spelt(x).cmp(&spelt(y))).then_with(|| x.tag.cmp(&y.tag)));
    (placed, unordered)
}

/// Where `tag` stands; when it was pushed is known only where it is listed.
fn place_of(policy: &Follow, tag: &Tag, seen: &[TagSeen]) -> Fit {
    let pushed_at = seen.iter().find(|it| it.tag == *tag).and_then(|it| it.pushed_at);
    policy.fit(&TagSeen { tag: tag.clone(), pushed_at })
}

/// Where a tag that failed stands; no later than this it was pushed.
fn place_of_failed(policy: &Follow, failed: &Quarantine, seen: &[TagSeen]) -> Option<Place> {
    match place_of(policy, &Tag::new(&failed.tag).ok()?, seen) {
        Fit::At(place) => Some(place),
        Fit::Unordered if is_newest(policy) => Some(Place::At(failed.at)),
        Fit::Unordered | Fit::No => None,
    }
}

/// The highest tag of the policy that failed here.
fn ceiling<'a>(
    policy: &Follow,
    failed: &BTreeMap<&str, &'a Quarantine>,
    seen: &[TagSeen],
) -> Option<(Place, &'a Quarantine)> {
    let placed = failed.values().filter_map(|it| Some((place_of_failed(policy, it, seen)?, *it)));
    placed.max_by(|(a, _), (b, _)| a.cmp(b))
}

/// What is forgotten so that `failed` can be remembered: what the policy does not follow, then the lowest. A tag
/// below one that failed is not tried while the memory is full.
pub fn crowded_out(
    service: &Service,
    snapshot: &Snapshot,
    memory: &Memory,
    failed: &Quarantine,
) -> Vec<(MemoryChange, String)> {
    if memory.reverted.len() < REVERTED || memory.reverted.contains_key(&failed.tag) {
        return Vec::new();
    }
    let seen = snapshot.tags.as_ref().and_then(Fact::seen).map_or(&[][..], Vec::as_slice);
    let place = |it| service.follow.as_ref().and_then(|policy| place_of_failed(policy, it, seen));
    let mut known: Vec<_> = memory.reverted.values().map(|it| (place(it), it.at, &it.tag)).collect();
    known.sort();
    let more = known.len() + 1 - REVERTED;
    let because = || format!("no more than {REVERTED} failed tags are remembered");
    known.into_iter().take(more).map(|(_, _, tag)| (MemoryChange::Unrevert(tag.clone()), because())).collect()
}

/// Since when the tag of the file serves, or when it failed: whatever was pushed later comes after it.
fn known_since(service: &Service, memory: &Memory, failed: &BTreeMap<&str, &Quarantine>) -> Option<Place> {
    let tag = &service.tag.tag;
    let served = memory.committed.as_ref().filter(|it| it.release.tag == *tag);
    let served = served.filter(|it| it.release.repository.same_as(&service.image)).map(|it| it.at);
    served.or_else(|| failed.get(tag.as_str()).map(|it| it.at)).map(Place::At)
}

fn undated(service: &Service) -> String {
    let tag = &service.tag.tag;
    format!(
        "nobody says when {tag} was pushed: {} does not list it, and it never served or failed here; hint: write a tag that is \
         listed, then newer ones are followed",
        service.image
    )
}

const fn is_newest(policy: &Follow) -> bool {
    matches!(policy, Follow::Regex { order: TagOrder::Newest, .. })
}

fn none_fits(policy: &Follow, all: usize, unordered: usize) -> String {
    match policy {
        Follow::Regex { order: TagOrder::Newest, .. } if unordered > 0 => format!(
            "{} of {all} match, and the registry does not say when they were pushed; `order: newest` needs Amazon ECR, \
             elsewhere order by a number in the tag",
            unordered
        ),
        Follow::Regex { .. } if unordered > 0 => format!(
            "{} of {all} match, and what is ordered is no number; put the number in a group, or use `order: alphabetical`",
            unordered
        ),
        Follow::Semver(_) | Follow::Regex { .. } => {
            format!("its repository has {}, and none does", counted(all, "tag"))
        }
    }
}

/// The newest tag that would be followed had it not failed.
fn skipped(
    service: &Service,
    placed: &[Placed<'_>],
    failed: &BTreeMap<&str, &Quarantine>,
    chosen: Option<&Placed<'_>>,
    floor: &Floor,
    ceiling: Option<&(Place, &Quarantine)>,
) -> Option<Hold> {
    let (place, last) = placed.last()?;
    let ahead = floor.lets(place) && chosen.is_none_or(|(chosen, _)| chosen < place) && last.tag != service.tag.tag;
    let (below, failed) = match (failed.get(last.tag.as_str()), ceiling) {
        (Some(failed), _) => (None, *failed),
        (None, Some((_, highest))) => (Some(highest.tag.clone()), *highest),
        (None, None) => return None,
    };
    ahead.then(|| Hold::TagSkipped { tag: last.tag.to_string(), below, why: failed.why.clone() })
}

/// `onFailure: revert`: the way back, once something else serves in place of what the file asks for.
fn back(service: &Service, memory: &Memory, wanted: &Wanted) -> Option<Move> {
    if service.rollout.on_failure != OnFailure::Revert {
        return None;
    }
    let failed = failed_now(service, memory, wanted)?;
    // Somebody wrote it back after it had failed: then it is theirs to take out again.
    if memory.reverted.get(&failed.tag).is_some_and(|before| before.at != failed.at) {
        return None;
    }
    let file = wanted.file.as_ref()?;
    let Committed { release: good, .. } = memory.committed.as_ref()?;
    let is_good = !memory.quarantined.contains_key(&good.hash()) && good.repository.same_as(&service.image);
    let same_tag = good.tag == file.tag;
    // What failed is something else than the image: another tag would not mend it.
    if !is_good || (same_tag && good.digest == file.digest) {
        return None;
    }
    let moved = same_tag || memory.failed_tags().contains_key(good.tag.as_str());
    let to = TagSpec { tag: good.tag.clone(), digest: moved.then(|| good.digest.clone()) };
    let because = format!("{} failed: {}", failed.tag, failed.why);
    let more = format!(" {} served before it and serves again.", good.tag);
    (to != service.tag).then_some(Move { to, because, more })
}
