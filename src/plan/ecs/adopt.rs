//! Adoption: what serves already is remembered, and nothing else happens.

use std::collections::BTreeMap;

use crate::model::colour::Group;
use crate::model::ecs::seen::ServiceSeen;
use crate::model::ecs::task_definition::{digest_of, repository_of, tag_of};
use crate::model::ecs::{EcsRelease, tags};
use crate::model::image::Tag;
use crate::model::memory::{Committed, MemoryChange};
use crate::model::release::Release;
use crate::plan::hold::{Hold, after};
use crate::plan::{Plan, step};

use super::{Facts, group};

/// The adoption of a service nothing is remembered of; none once something is, or where nothing serves.
///
/// The release that runs becomes the committed one, so that the first change of the file already has a way back.
pub fn plan(facts: &Facts<'_>) -> Option<Plan> {
    let memory = facts.memory;
    if let Some(plan) = regrouped(facts) {
        return Some(plan);
    }
    if memory.committed.is_some() || memory.attempt.is_some() {
        return None;
    }
    let group = facts.serving?;
    let seen = facts.of(group)?;
    let failed = |release: &Release| memory.quarantined.contains_key(&release.hash());
    let asked = facts.wanted.release.as_ref().is_some_and(|release| group::runs(facts, seen, release));
    if seen.running == 0 || (asked && seen.is_deploying()) {
        return None;
    }
    if seen.is_deploying() {
        // One that takes longer than a rollout of ours may is no reason to wait, and nothing to adopt.
        let begun = seen.primary().and_then(|it| it.created_at)?;
        let deadline = after(begun, facts.service.rollout.progress_deadline);
        if deadline <= facts.now {
            return None;
        }
        let last = Some("a deployment nobody here began is under way".to_owned());
        let (healthy, wanted) = (seen.running.min(seen.desired), seen.desired);
        return Some(Plan::waiting(vec![Hold::AwaitingHealth { group, healthy, wanted, last, deadline }]));
    }
    let release = match &facts.wanted.file {
        Some(file) if asked => file.clone(),
        _ => live(facts, seen)?,
    };
    if failed(&release) {
        return None;
    }
    Some(remember(facts, group, seen, release))
}

/// The ECS service that serves is another group in the file now, as when `rolling` becomes `blueGreen`: it goes on to
/// serve as that one.
fn regrouped(facts: &Facts<'_>) -> Option<Plan> {
    let committed = facts.memory.committed.as_ref()?;
    let place = committed.place.as_ref().filter(|place| place.cluster == facts.ecs.cluster)?;
    if facts.ecs.services.contains_key(&committed.group) {
        return None;
    }
    let name = place.services.get(&committed.group)?;
    let (group, _) = facts.ecs.services.iter().find(|(_, other)| *other == name)?;
    let because = format!("{name} is {group} in the file");
    let mut plan = Plan::default();
    plan.view.stage = format!("adopting {name} as {group}");
    let committed = Committed { group: *group, place: Some(facts.ecs.place()), ..committed.clone() };
    plan.remember(vec![(MemoryChange::Commit(Box::new(committed)), because)]);
    Some(plan)
}

fn remember(facts: &Facts<'_>, group: Group, seen: &ServiceSeen, release: Release) -> Plan {
    let because = format!("{} serves already", step::revision(&seen.task_definition));
    let mut plan = Plan::default();
    plan.view.stage = format!("adopting {}", seen.name);
    plan.holds.clone_from(&facts.wanted.holds);
    let mut changes = facts.wanted.changes.clone();
    if facts.ecs.base.is_none() && facts.memory.base.is_none() {
        let base = facts.seen.base.as_ref().and_then(|it| it.seen());
        let arn = base.map_or_else(|| seen.task_definition.clone(), |it| it.arn.clone());
        changes.push((MemoryChange::AdoptBase(arn), because.clone()));
    }
    changes.push((MemoryChange::Registered(release.hash(), seen.task_definition.clone()), because.clone()));
    let committed = Committed {
        release,
        group,
        revision: crate::model::desired::SourceRevision("adopted".to_owned()),
        at: facts.now,
        servers_file: None,
        place: Some(facts.ecs.place()),
    };
    changes.push((MemoryChange::Commit(Box::new(committed)), because));
    plan.remember(changes);
    plan
}

/// What runs, as a release; none where its digest is not known.
fn live(facts: &Facts<'_>, seen: &ServiceSeen) -> Option<Release> {
    let definition = seen.definition.seen()?;
    let names = definition.content.containers();
    let container = match &facts.ecs.container {
        Some(name) => name.as_str(),
        None => names.first().copied().filter(|_| names.len() == 1)?,
    };
    let image = definition.content.image(container)?;
    let digest = digest_of(image).or_else(|| seen.digests.get(container).cloned())?;
    let tag = tag_of(image).or_else(|| definition.tags.get(tags::TAG).map(String::as_str)).unwrap_or("adopted");
    let repository = repository_of(image)?;
    let pinned = definition.content.pinned(&BTreeMap::from([(container, &repository)]), &seen.digests);
    let part = EcsRelease {
        family: definition.content.family().unwrap_or_default().to_owned(),
        container: container.to_owned(),
        definition: pinned.sha256(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        containers: BTreeMap::new(),
    };
    let mut release = Release::on_ecs(facts.service, digest, part);
    release.tag = Tag::new(tag).ok()?;
    release.repository = repository;
    Some(release)
}
