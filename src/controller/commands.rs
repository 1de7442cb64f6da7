//! What a person may say about a service, each a change of its memory and a fresh look.

use std::fmt;
use std::str::FromStr;

use super::core::Core;
use crate::model::event::EventKind;
use crate::model::memory::{Memory, MemoryChange, Paused, Pin, Quarantine};
use crate::model::names::ServiceName;
use crate::model::release::Release;
use crate::plan::hold::Hold;

/// A verb about one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// What waits for approval goes live.
    Promote,
    /// What served before serves again.
    Rollback,
    /// What failed or was rolled back is tried once more.
    Retry,
    /// Nothing is changed until `resume`.
    Pause,
    /// Ends `pause`.
    Resume,
    /// Looks again now, without caches and without waiting for a backoff.
    Reconcile,
    /// Approves the removal of a service that left the file.
    Remove,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 7] =
        [Self::Promote, Self::Rollback, Self::Retry, Self::Pause, Self::Resume, Self::Reconcile, Self::Remove];
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Promote => "promote",
            Self::Rollback => "rollback",
            Self::Retry => "retry",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Reconcile => "reconcile",
            Self::Remove => "remove",
        })
    }
}

impl FromStr for Verb {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|verb| verb.to_string() == text).ok_or(())
    }
}

/// Why a command was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    /// For people.
    pub message: String,
    /// What to do about it; empty when there is nothing to say.
    pub hint: String,
    /// What kind.
    pub kind: CommandErrorKind,
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandErrorKind {
    /// No such service.
    NotFound,
    /// It makes no sense now.
    Refused,
    /// It could not be remembered.
    Internal,
}

fn refused(message: impl Into<String>, hint: impl Into<String>) -> CommandError {
    CommandError { message: message.into(), hint: hint.into(), kind: CommandErrorKind::Refused }
}

/// What a verb came to: changes to remember, and what to tell the person.
type Decision = Result<(Vec<MemoryChange>, String), CommandError>;

/// What a verb is decided on.
struct Known {
    name: ServiceName,
    memory: Memory,
    holds: Vec<Hold>,
    wanted: Option<Release>,
    in_file: bool,
}

pub(super) async fn command(
    core: &Core,
    service: &str,
    verb: Verb,
    by: &str,
    only: Option<&str>,
) -> Result<String, CommandError> {
    let known = find(core, service)?;
    let now = core.now();
    let (changes, message) = match verb {
        Verb::Promote => promote(&known, only),
        Verb::Rollback => rollback(&known, by, now),
        Verb::Retry => Ok(retry(&known)),
        Verb::Pause => Ok(pause(&known, by, now)),
        Verb::Resume => Ok(resume(&known)),
        Verb::Reconcile => Ok((Vec::new(), "it is looked at again now".to_owned())),
        Verb::Remove => remove(&known),
    }?;
    let name = &known.name;
    for change in &changes {
        let before = core.memory.of(name);
        let internal = |why| CommandError {
            message: format!("could not remember it: {why}"),
            hint: "look at the state folder (`stateDir`): is it full or read-only?".into(),
            kind: CommandErrorKind::Internal,
        };
        if let Err(why) = core.memory.remember(name, change).await {
            // What was remembered before it holds, and is not left to the next sweep.
            core.commanded(name, &format!("command: {verb}"));
            return Err(internal(why));
        }
        let revision = core.order(name).map(|order| order.revision);
        if let Some(revision) = revision {
            super::history::follow(core, name, &before, change, &format!("{verb} by {by}"), &revision).await;
        }
    }
    core.journal.note(Some(name), EventKind::Command, format!("{verb}: {message}"), Some(format!("{by} said so")));
    core.commanded(name, &format!("command: {verb}"));
    Ok(format!("{name}: {message}"))
}

/// A person says that the history of the desired state may go back to `commit`.
pub(super) async fn accept_rewind(core: &Core, commit: &str, by: &str) -> Result<String, CommandError> {
    let hint = "`holdfast status` shows the commit that is refused; pass its id";
    let message = core.source.accept_rewind(commit, by).await.map_err(|why| refused(why, hint))?;
    core.journal.note(None, EventKind::Command, message.clone(), Some(format!("{by} said so")));
    core.source.look_again();
    Ok(message)
}

fn find(core: &Core, service: &str) -> Result<Known, CommandError> {
    let state = core.state();
    let found = ServiceName::new(service).ok().and_then(|name| Some((state.services.get(&name)?, name)));
    let Some((entry, name)) = found else {
        let nearest = state.services.keys().max_by(|a, b| {
            let near = |name: &ServiceName| strsim::jaro_winkler(name.as_str(), service);
            near(a).total_cmp(&near(b))
        });
        return Err(CommandError {
            message: format!("there is no service `{service}`"),
            hint: match nearest {
                Some(nearest) => format!("the nearest name is `{nearest}`; `holdfast status` lists them all"),
                None => "no service is known yet; look at `holdfast status`".into(),
            },
            kind: CommandErrorKind::NotFound,
        });
    };
    Ok(Known {
        memory: core.memory.of(&name),
        holds: entry.holds.clone(),
        wanted: entry.wanted_release.clone(),
        in_file: entry.wanted.service().is_some(),
        name,
    })
}

fn promote(known: &Known, only: Option<&str>) -> Decision {
    let waiting = known.holds.iter().find_map(|hold| match hold {
        Hold::AwaitingPromotion { tag, release } => Some((tag, release)),
        _ => None,
    });
    let Some((tag, release)) = waiting else {
        return Err(refused("nothing waits for promotion", "`holdfast status` shows what it waits for, if anything"));
    };
    if only.is_some_and(|only| only != tag && only != release.as_str()) {
        let hint = "look again at what waits, then promote that";
        return Err(refused(format!("{tag} ({release}) waits for promotion, not {}", only.unwrap_or_default()), hint));
    }
    Ok((vec![MemoryChange::Promote(release.clone())], format!("{tag} goes live")))
}

/// Leaves the release that serves (or, during a rollout, the one that is to serve) for the one before it.
fn rollback(known: &Known, by: &str, now: jiff::Timestamp) -> Decision {
    let memory = &known.memory;
    if let Some(pin) = &memory.pin {
        let hint = "change the tag in the file to go on, or `holdfast retry` to try what was left once more";
        return Err(refused(format!("it is already rolled back to {}", pin.to.tag), hint));
    }
    let nothing = || refused("there is no previous release to go back to", "write the wanted tag into the file");
    let committed = memory.committed.as_ref().ok_or_else(nothing)?;
    let serving = committed.release.hash();
    let attempted = memory.attempt.as_ref().map(|attempt| &attempt.release).filter(|it| it.hash() != serving);
    let (from, to) = match attempted {
        Some(attempted) => (attempted, &committed.release),
        None => (&committed.release, &memory.previous.as_ref().ok_or_else(nothing)?.release),
    };
    if let Some(failed) = memory.quarantined.get(&to.hash()) {
        let hint = "write a tag that works into the file";
        return Err(refused(format!("the previous release {} failed itself: {}", to.tag, failed.why), hint));
    }
    let asked = known.wanted.as_ref().unwrap_or(from);
    let pin = Pin { to: to.clone(), from: asked.hash(), from_tag: asked.tag.to_string(), by: by.to_owned(), at: now };
    let why = Quarantine { why: format!("rolled back by {by}"), at: now, tag: from.tag.to_string() };
    let message = format!("back from {} to {}", from.tag, to.tag);
    // The pin first: between the two the previous release is wanted already, and nothing is left without a target.
    Ok((vec![MemoryChange::Pin(Box::new(pin)), MemoryChange::Quarantine(from.hash(), why)], message))
}

fn retry(known: &Known) -> (Vec<MemoryChange>, String) {
    let memory = &known.memory;
    let mut changes: Vec<MemoryChange> = memory.quarantined.keys().cloned().map(MemoryChange::Release).collect();
    changes.extend(memory.reverted.keys().cloned().map(MemoryChange::Unrevert));
    if memory.pin.is_some() {
        changes.push(MemoryChange::Unpin);
    }
    let tags: Vec<&str> = memory.failed_tags().into_keys().collect();
    let message = if tags.is_empty() {
        "nothing is quarantined; it is looked at again now".to_owned()
    } else {
        format!("{} may be tried once more", tags.join(", "))
    };
    (changes, message)
}

fn pause(known: &Known, by: &str, now: jiff::Timestamp) -> (Vec<MemoryChange>, String) {
    match &known.memory.paused {
        Some(paused) => (Vec::new(), format!("it is paused already, by {}", paused.by)),
        None => {
            let change = MemoryChange::Pause(Paused { by: by.to_owned(), at: now });
            (vec![change], "paused; nothing is changed until `holdfast resume`".to_owned())
        }
    }
}

fn resume(known: &Known) -> (Vec<MemoryChange>, String) {
    match &known.memory.paused {
        Some(_) => (vec![MemoryChange::Resume], "resumed".to_owned()),
        None => (Vec::new(), "it was not paused".to_owned()),
    }
}

fn remove(known: &Known) -> Decision {
    if known.in_file {
        let hint = "take it out of the file first; `replicas: 0` stops it and keeps it";
        return Err(refused(format!("{} is in the file", known.name), hint));
    }
    Ok((vec![MemoryChange::ApproveRemoval], "its removal is approved".to_owned()))
}
