//! Which release is to serve: the file's, or the one a person or a failure put in its place.

use std::collections::BTreeSet;

use crate::model::desired::Service;
use crate::model::ecs::EcsRelease;
use crate::model::memory::{Committed, Memory, MemoryChange};
use crate::model::release::Release;
use crate::model::snapshot::{Fact, Snapshot};

use super::ecs::release;
use super::hold::Hold;

/// The answer, and what has to be remembered and said about it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// What the file asks for, once every input is known.
    pub file: Option<Release>,
    /// What is to serve; none while nothing is known well enough.
    pub release: Option<Release>,
    /// Why that one.
    pub because: String,
    /// Quarantines and pins that ended.
    pub changes: Vec<(MemoryChange, String)>,
    /// Why it is not the file's, or why the file's is not known.
    pub holds: Vec<Hold>,
    /// Whether the file's release is quarantined.
    pub quarantined: bool,
}

/// Decides it from the inputs in `snapshot` and from `memory`.
pub fn wanted(service: &Service, snapshot: &Snapshot, memory: &Memory) -> Wanted {
    let mut out = Wanted::default();
    match &service.ecs {
        Some(ecs) => match release::of_file(service, ecs, snapshot, memory) {
            Ok(made) => out.file = Some(made.release),
            Err(holds) => out.holds = holds,
        },
        None => {
            out.file = file_release(service, snapshot, memory);
            if out.file.is_none() {
                out.holds = unknown_inputs(service, snapshot);
            }
        }
    }
    let Some(file) = out.file.clone() else {
        out.release = match &memory.pin {
            Some(pin) => Some(pin.to.clone()),
            None => memory.committed.as_ref().map(|it| it.release.clone()),
        };
        out.because = "the last good release is kept while the file's is not known".to_owned();
        return out;
    };
    let hash = file.hash();
    if let Some(pin) = &memory.pin {
        if pin.from == hash {
            out.holds.push(Hold::RolledBack {
                from: pin.from_tag.clone(),
                to: pin.to.tag.to_string(),
                by: pin.by.clone(),
            });
            out.because = format!("{} rolled back to {}", pin.by, pin.to.tag);
            out.release = Some(pin.to.clone());
            return out;
        }
        out.changes.push((MemoryChange::Unpin, "the file asks for another release".to_owned()));
    }
    for (old, failed) in memory.quarantined.iter().filter(|(known, _)| **known != hash) {
        // Whoever changed the tag, it is not followed back to the one that failed.
        let is_news = memory.reverted.get(&failed.tag) != Some(failed) && failed.tag != file.tag.as_str();
        if service.follow.is_some() && is_news {
            out.changes.extend(super::follow::crowded_out(service, snapshot, memory, failed));
            out.changes.push((MemoryChange::Revert(failed.clone()), "the file asks for another tag".to_owned()));
        }
        out.changes.push((MemoryChange::Release(old.clone()), "the file asks for another release".to_owned()));
    }
    if let Some(quarantine) = memory.quarantined.get(&hash) {
        out.quarantined = true;
        out.holds.push(Hold::Quarantined { tag: quarantine.tag.clone(), why: quarantine.why.clone() });
        let good = |it: &&Committed| it.release.hash() != hash;
        let back = memory.committed.iter().chain(&memory.previous).find(good);
        out.because = format!("{} failed", quarantine.tag);
        out.release = back.map(|it| it.release.clone());
        return out;
    }
    out.because = why_changed(&file, memory.committed.as_ref());
    out.release = Some(file);
    out
}

/// The release of the file. A registry that does not answer does not matter while everything else still says the
/// committed release, or the one under way.
fn file_release(service: &Service, snapshot: &Snapshot, memory: &Memory) -> Option<Release> {
    let env_file = match &snapshot.env_file {
        None => None,
        Some(Fact::Seen(version)) => Some(version.clone()),
        Some(Fact::Absent | Fact::Unreadable(_)) => return None,
    };
    if let Fact::Seen(digest) = &snapshot.image {
        return Some(Release::of(service, digest.clone(), env_file));
    }
    let attempt = memory.attempt.iter().map(|it| &it.release);
    let known = attempt.chain(memory.committed.iter().map(|it| &it.release)).chain(memory.pin.iter().map(|it| &it.to));
    known
        .filter(|known| known.tag == service.tag.tag && known.repository.same_as(&service.image))
        .map(|known| Release::of(service, known.digest.clone(), env_file.clone()))
        .next()
}

fn unknown_inputs(service: &Service, snapshot: &Snapshot) -> Vec<Hold> {
    let mut holds = Vec::new();
    let path = service.docker.env_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    match &snapshot.env_file {
        Some(Fact::Absent) => holds.push(Hold::EnvFileMissing { path, why: None }),
        Some(Fact::Unreadable(why)) => holds.push(Hold::EnvFileMissing { path, why: Some(why.clone()) }),
        Some(Fact::Seen(_)) | None => {}
    }
    let image = format!("{}:{}", service.image, service.tag);
    match &snapshot.image {
        Fact::Absent => holds.push(Hold::ImageMissing { image }),
        Fact::Unreadable(why) => holds.push(Hold::ImageUnresolved { image, why: why.clone() }),
        Fact::Seen(_) => {}
    }
    holds
}

/// What differs between the file's release and the committed one, for people.
pub fn why_changed(file: &Release, committed: Option<&Committed>) -> String {
    let Some(Committed { release: old, .. }) = committed else {
        return format!("the file asks for tag {}", file.tag);
    };
    if old.hash() == file.hash() {
        return format!("tag {} is to serve", file.tag);
    }
    let fields = differences(old, file);
    match fields.as_slice() {
        [] => format!("the file asks for tag {}", file.tag),
        [only] => only.clone(),
        several => several.join(", "),
    }
}

/// Every hashed field in which `new` differs from `old`, as `field: old -> new` without secrets.
pub fn differences(old: &Release, new: &Release) -> Vec<String> {
    let mut out = Vec::new();
    let mut note = |differs: bool, text: String| {
        if differs {
            out.push(text);
        }
    };
    let moved = old.tag == new.tag;
    note(!moved && old.digest != new.digest, format!("tag: {} -> {}", old.tag, new.tag));
    note(
        moved && old.digest != new.digest,
        format!("tag {} moved: {} -> {}", new.tag, old.digest.short(), new.digest.short()),
    );
    if let (Some(was), Some(is)) = (&old.ecs, &new.ecs) {
        note_ecs(was, is, &mut note);
    }
    note(old.port != new.port, format!("port: {} -> {}", show(old.port), show(new.port)));
    for (key, value) in &new.env {
        match old.env.get(key) {
            None => note(true, format!("env {key}: added")),
            Some(was) => note(was != value, format!("env {key}: changed")),
        }
    }
    for key in old.env.keys().filter(|key| !new.env.contains_key(*key)) {
        note(true, format!("env {key}: removed"));
    }
    let content = |release: &Release| release.env_file.as_ref().map(|file| file.sha256.clone());
    note(content(old) != content(new), "the content of envFile changed".to_owned());
    note(old.volumes != new.volumes, format!("volumes: [{}] -> [{}]", old.volumes.join(", "), new.volumes.join(", ")));
    note(old.logging != new.logging, "logging changed".to_owned());
    note(old.command != new.command, "command changed".to_owned());
    note(old.init != new.init, format!("init: {} -> {}", old.init, new.init));
    note(old.stop_timeout != new.stop_timeout, format!("stopTimeout: {}s -> {}s", old.stop_timeout, new.stop_timeout));
    out
}

fn note_ecs(was: &EcsRelease, is: &EcsRelease, note: &mut impl FnMut(bool, String)) {
    for (what, was, is) in [("env", &was.env, &is.env), ("secret", &was.secrets, &is.secrets)] {
        let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        for name in names {
            note(was.get(name) != is.get(name), format!("{what} {name}: changed"));
        }
    }
    for (name, image) in &is.containers {
        note(was.containers.get(name) != Some(image), format!("container {name}: {image}"));
    }
    note(was.family != is.family, format!("family: {} -> {}", was.family, is.family));
}

fn show(port: Option<u16>) -> String {
    port.map_or_else(|| "none".to_owned(), |port| port.to_string())
}
