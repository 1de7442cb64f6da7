//! Which kept images may go: never what runs, serves, served last, is pinned or on its way.

use std::collections::BTreeSet;

use crate::model::image::Digest;

use super::docker::Facts;
use super::step::{PlannedStep, PlatformStep, Step};

/// Steps that let go of images beyond `keepImages`.
pub fn surplus(facts: &Facts<'_>) -> Vec<PlannedStep> {
    let memory = facts.memory;
    let Some(committed) = &memory.committed else { return Vec::new() };
    let keep = facts.service.docker.keep_images as usize;
    let needed: BTreeSet<&Digest> = memory
        .images
        .iter()
        .take(keep)
        .chain(std::iter::once(&committed.release.digest))
        .chain(memory.previous.iter().map(|it| &it.release.digest))
        .chain(memory.pin.iter().map(|it| &it.to.digest))
        .chain(memory.attempt.iter().map(|it| &it.release.digest))
        .chain(facts.replicas.iter().filter_map(|it| it.digest.as_ref()))
        .collect();
    facts
        .snapshot
        .platform
        .kept_images
        .iter()
        .filter(|image| !needed.contains(&image.digest))
        .map(|image| PlannedStep {
            step: Step::Platform(PlatformStep::RemoveImage {
                service: facts.service.name.clone(),
                digest: image.digest.clone(),
                references: image.references.clone(),
            }),
            because: match memory.images.contains(&image.digest) {
                true => format!("keepImages is {keep}"),
                false => "no release of it ever served".to_owned(),
            },
        })
        .collect()
}
