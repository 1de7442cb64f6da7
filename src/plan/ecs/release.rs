//! Which release the file asks for: the base with the image, variables and secrets of the file in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::desired::Service;
use crate::model::ecs::seen::{Definition, EcsSeen};
use crate::model::ecs::task_definition::{Inserts, TaskDefinition};
use crate::model::ecs::{Ecs, EcsRelease};
use crate::model::image::Digest;
use crate::model::memory::Memory;
use crate::model::release::Release;
use crate::model::snapshot::{Fact, Snapshot};
use crate::plan::hold::Hold;

/// A release and the task definition it is.
#[derive(Debug, Clone)]
pub struct Made {
    /// The release.
    pub release: Release,
    /// What is registered for it.
    pub definition: Arc<TaskDefinition>,
    /// The base, when it is a registered one.
    pub base: Option<String>,
}

/// The release of the file.
///
/// # Errors
/// Every reason why it is not known.
pub fn of_file(service: &Service, ecs: &Ecs, snapshot: &Snapshot, memory: &Memory) -> Result<Made, Vec<Hold>> {
    let nobody = || vec![Hold::EcsUnreadable { what: "ECS".to_owned(), why: "nobody looked".to_owned() }];
    let seen = snapshot.ecs.as_ref().ok_or_else(nobody)?;
    let (base, arn) = base(ecs, seen).map_err(|hold| vec![hold])?;
    let mut holds = Vec::new();
    let digest = digest(service, snapshot, memory).map_err(|hold| holds.push(hold)).ok();
    let containers = sidecars(ecs, seen, memory, &mut holds);
    let unusable = |why: String| vec![Hold::TaskDefinitionUnusable { why }];
    let container = container(ecs, base).map_err(unusable)?;
    if let Some(missing) = ecs.containers.keys().find(|name| base.image(name).is_none()) {
        return Err(unusable(format!(
            "the base has no container `{missing}`; it has {}",
            base.containers().join(", ")
        )));
    }
    let (Some(digest), true) = (digest, holds.is_empty()) else { return Err(holds) };
    let no_family = || unusable("the base has no `family`; write `ecs.family`".to_owned());
    let family = ecs.family.as_deref().or_else(|| base.family()).ok_or_else(no_family)?.to_owned();
    let inserts = Inserts {
        container: &container,
        image: format!("{}@{digest}", service.image),
        env: ecs.env.clone(),
        secrets: ecs.secrets.clone(),
        containers: containers.clone(),
    };
    let definition = base.with(&family, &inserts);
    let part = EcsRelease {
        family,
        definition: definition.sha256(),
        env: ecs.env.clone(),
        secrets: ecs.secrets.clone(),
        containers,
        container,
    };
    Ok(Made { release: Release::on_ecs(service, digest, part), definition: Arc::new(definition), base: arn })
}

/// The base: of the file, as remembered, or what is live.
fn base<'a>(ecs: &'a Ecs, seen: &'a EcsSeen) -> Result<(&'a TaskDefinition, Option<String>), Hold> {
    if let Some(file) = &ecs.base {
        return Ok((&file.content, None));
    }
    let usable = |it: &'a Definition| (&*it.content, Some(it.arn.clone()));
    match &seen.base {
        Some(Fact::Seen(base)) => return Ok(usable(base)),
        Some(Fact::Unreadable(why)) => {
            return Err(Hold::EcsUnreadable { what: "the base of its task definitions".to_owned(), why: why.clone() });
        }
        Some(Fact::Absent) => {
            let why = "the base it was adopted with was deleted; write `ecs.taskDefinition`".to_owned();
            return Err(Hold::TaskDefinitionUnusable { why });
        }
        None => {}
    }
    let live = seen.services.values().filter_map(Fact::seen).find_map(|it| it.definition.seen());
    live.map(usable).ok_or_else(|| {
        let names: Vec<&str> = ecs.services.values().map(String::as_str).collect();
        let name = format!("{}/{}", ecs.cluster.rsplit('/').next().unwrap_or(&ecs.cluster), names.join(" or "));
        let hint = match &ecs.create {
            Some(_) => "to create it, write `ecs.taskDefinition`: there is nothing live to start from",
            None => "create it once, or write `ecs.create` and `ecs.taskDefinition`",
        };
        Hold::EcsServiceMissing { name, hint: hint.to_owned() }
    })
}

/// The container whose image the service's is.
fn container(ecs: &Ecs, base: &TaskDefinition) -> Result<String, String> {
    let names = base.containers();
    match &ecs.container {
        Some(name) if names.contains(&name.as_str()) => Ok(name.clone()),
        Some(name) => Err(format!("the base has no container `{name}`; it has {}", names.join(", "))),
        None => match names.as_slice() {
            [only] => Ok((*only).to_owned()),
            several => {
                Err(format!("the base has {}; say which is this service's with `ecs.container`", several.join(", ")))
            }
        },
    }
}

/// The digest of the tag. A registry that does not answer does not matter while the tag is one we know.
fn digest(service: &Service, snapshot: &Snapshot, memory: &Memory) -> Result<Digest, Hold> {
    let image = format!("{}:{}", service.image, service.tag);
    let why = match &snapshot.image {
        Fact::Seen(digest) => return Ok(digest.clone()),
        Fact::Absent => Hold::ImageMissing { image },
        Fact::Unreadable(why) => Hold::ImageUnresolved { image, why: why.clone() },
    };
    let known = known(memory);
    let same = |it: &&Release| it.tag == service.tag.tag && it.repository.same_as(&service.image);
    known.into_iter().find(same).map(|it| it.digest.clone()).ok_or(why)
}

fn known(memory: &Memory) -> Vec<&Release> {
    let attempt = memory.attempt.iter().map(|it| &it.release);
    attempt.chain(memory.committed.iter().map(|it| &it.release)).chain(memory.pin.iter().map(|it| &it.to)).collect()
}

fn sidecars(ecs: &Ecs, seen: &EcsSeen, memory: &Memory, holds: &mut Vec<Hold>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, sidecar) in &ecs.containers {
        let image = format!("{}:{}", sidecar.image, sidecar.tag);
        let hold = match seen.sidecars.get(name) {
            Some(Fact::Seen(digest)) => {
                found.insert(name.clone(), format!("{}@{digest}", sidecar.image));
                continue;
            }
            Some(Fact::Absent) => Hold::ImageMissing { image },
            Some(Fact::Unreadable(why)) => Hold::ImageUnresolved { image, why: why.clone() },
            None => Hold::ImageUnresolved { image, why: "nobody asked".to_owned() },
        };
        let before = known(memory).into_iter().filter_map(|it| it.ecs.as_ref()?.containers.get(name));
        let same = |it: &&String| it.starts_with(&format!("{}@", sidecar.image));
        match before.into_iter().find(same) {
            Some(known) => drop(found.insert(name.clone(), known.clone())),
            None => holds.push(hold),
        }
    }
    found
}
