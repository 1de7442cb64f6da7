//! Which images of the registry may go: never what runs, serves, served last, is pinned, on its way, or what a known
//! task definition needs.

use std::collections::BTreeSet;

use crate::model::desired::Service;
use crate::model::ecs::task_definition::digest_of;
use crate::model::image::Digest;
use crate::model::memory::{Memory, MemoryChange};
use crate::model::snapshot::{Fact, RegistryImage, Snapshot};
use crate::plan::step::{PlannedStep, RegistryStep, Step};

/// Stages that delete images beyond `ecr.keep`, once after each commit.
pub fn surplus(service: &Service, snapshot: &Snapshot, memory: &Memory) -> Vec<Vec<PlannedStep>> {
    let (Some(keep), Some(committed)) = (service.ecr_keep, &memory.committed) else { return Vec::new() };
    let Some(Fact::Seen(images)) = &snapshot.repository else { return Vec::new() };
    let needed = needed(service, snapshot, memory);
    let mut newest: Vec<&RegistryImage> = images.iter().collect();
    newest.sort_by_key(|image| std::cmp::Reverse(image.pushed_at));
    // What was pushed after the release that serves (or in the same second) may be what the next commit asks for.
    let serving_at = newest.iter().find(|it| it.digest == committed.release.digest).map(|it| it.pushed_at);
    let digests: Vec<Digest> = newest
        .iter()
        .filter(|it| serving_at.is_some_and(|at| it.pushed_at < at))
        .skip(keep as usize)
        .filter(|it| !needed.contains(&it.digest))
        .map(|it| it.digest.clone())
        // What one call of the registry takes.
        .take(100)
        .collect();
    let because = format!("ecr.keep is {keep}");
    let note = Step::Remember(MemoryChange::Cleaned(committed.at));
    let note = vec![PlannedStep { step: note, because: because.clone() }];
    if digests.is_empty() {
        return vec![note];
    }
    let step = RegistryStep::DeleteImages {
        account: super::realm(service).account,
        service: service.name.clone(),
        repository: service.image.clone(),
        digests,
    };
    vec![vec![PlannedStep { step: Step::Registry(step), because }], note]
}

/// Digests something still needs.
pub fn needed(service: &Service, snapshot: &Snapshot, memory: &Memory) -> BTreeSet<Digest> {
    let mut needed: BTreeSet<Digest> =
        memory.images.iter().take(service.ecr_keep.unwrap_or(0) as usize).cloned().collect();
    needed.extend([&memory.committed, &memory.previous].into_iter().flatten().map(|it| it.release.digest.clone()));
    needed.extend(memory.attempt.iter().map(|it| it.release.digest.clone()));
    needed.extend(memory.pin.iter().map(|it| it.to.digest.clone()));
    needed.extend(snapshot.image.seen().cloned());
    if let Fact::Seen(replicas) = &snapshot.platform.replicas {
        needed.extend(replicas.iter().filter_map(|it| it.digest.clone()));
    }
    for seen in snapshot.ecs.iter().flat_map(|ecs| ecs.services.values()).filter_map(Fact::seen) {
        needed.extend(seen.digests.values().cloned());
        if let Some(definition) = seen.definition.seen() {
            let containers = definition.content.containers();
            needed.extend(containers.iter().filter_map(|it| digest_of(definition.content.image(it)?)));
        }
    }
    needed
}
