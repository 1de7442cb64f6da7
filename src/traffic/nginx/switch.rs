//! One switch of one or more servers files: write all, test once, reload once. What a test refuses is put back.

use std::fs::File;
use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::process::{self, Running};
use super::program::Failure;
use super::servers_file::{self, OnDisk};
use super::{Shared, config_text, include, reload};
use crate::model::snapshot::Fact;
use crate::plan::step::{Ensured, TrafficStep};
use crate::ports::{StepError, StepErrorKind};

type Outcome = Result<Ensured, StepError>;

/// One file of a switch.
#[derive(Debug)]
struct Member {
    step: TrafficStep,
    wanted: Vec<u8>,
    /// What was there before; none: nothing.
    previous: Option<OnDisk>,
    /// None while it takes part.
    outcome: Option<Outcome>,
}

impl Member {
    fn new(step: TrafficStep) -> Self {
        let wanted = TrafficStep::render(&step.service, &step.servers).into_bytes();
        let (previous, outcome) = match servers_file::read(&step.file) {
            Ok(previous) => (previous, None),
            Err(error) => (None, Some(Err(file_error("read", &step.file, &error)))),
        };
        Self { step, wanted, previous, outcome }
    }

    fn is_written(&self) -> bool {
        self.previous.as_ref().is_some_and(|on_disk| on_disk.bytes == self.wanted)
    }

    /// Writes the wanted bytes; none: they were there already. Equal bytes are not written again: that would make the
    /// file younger than the workers that loaded it.
    fn write(&self) -> Result<Option<File>, StepError> {
        if self.is_written() {
            return Ok(None);
        }
        let written = servers_file::write(&self.step.file, &self.wanted);
        written.map(Some).map_err(|error| file_error("write", &self.step.file, &error))
    }

    /// Puts back what was there. A file that was absent and is included becomes one that takes no requests: without it
    /// nginx would not start again.
    fn put_back(&self, shared: &Shared) {
        let file = &self.step.file;
        let done = match &self.previous {
            Some(_) if self.is_written() => Ok(()),
            Some(previous) => servers_file::write(file, &previous.bytes).map(drop),
            None if config_text::includes(&shared.options.config, &include::settled(file)) => {
                servers_file::write(file, TrafficStep::render(&self.step.service, &[]).as_bytes()).map(drop)
            }
            None => servers_file::remove(file),
        };
        if let Err(error) = done {
            tracing::error!(service = %self.step.service, file = %file.display(), %error, "could not put the servers file back");
        }
    }
}

/// Performs `steps`, which name different files; the outcomes are in the same order.
pub(super) async fn switch(shared: &Shared, steps: Vec<TrafficStep>) -> Vec<Outcome> {
    let mut members: Vec<Member> = steps.into_iter().map(Member::new).collect();
    let running = process::running(&shared.options.pid, &shared.boot);
    for member in members.iter_mut().filter(|member| member.outcome.is_none()) {
        member.outcome = without_reload(member, &running);
    }
    if members.iter().any(|member| member.outcome.is_none()) {
        write_and_test(shared, &mut members).await;
    }
    if members.iter().any(|member| member.outcome.is_none()) {
        let loaded = load(shared, &members).await.map(|()| Ensured::Changed);
        for member in members.iter_mut().filter(|member| member.outcome.is_none()) {
            if loaded.as_ref().is_err_and(|error| error.kind != StepErrorKind::Stale) {
                // nginx goes on with what it had. Workers it forks from now on, in place of some that crash, would look
                // as if they had loaded the new bytes.
                member.put_back(shared);
            }
            member.outcome = Some(loaded.clone());
        }
    }
    let interrupted = || Err(StepError::transient("the switch ended without an outcome"));
    members.into_iter().map(|member| member.outcome.unwrap_or_else(interrupted)).collect()
}

/// The outcome where nothing has to be loaded, or nothing can be.
fn without_reload(member: &Member, running: &Fact<Running>) -> Option<Outcome> {
    let write = || match member.write() {
        Ok(None) => Ok(Ensured::AlreadySo),
        Ok(Some(file)) => servers_file::make_durable(&[file])
            .map(|()| Ensured::Changed)
            .map_err(|error| file_error("write", &member.step.file, &error)),
        Err(error) => Err(error),
    };
    if !member.step.reload {
        return Some(write());
    }
    match running {
        Fact::Seen(running) if member.is_written() && is_loaded(running, member.previous.as_ref()) => {
            Some(Ok(Ensured::AlreadySo))
        }
        Fact::Seen(_) => None,
        // Written all the same: nginx then starts with it.
        Fact::Absent => Some(write().and_then(|_| Err(StepError::refused("nginx is not running")))),
        Fact::Unreadable(why) => Some(Err(StepError::transient(why.clone()))),
    }
}

/// Whether every accepting worker was started after the file last changed.
fn is_loaded(running: &Running, on_disk: Option<&OnDisk>) -> bool {
    let Some(on_disk) = on_disk else { return false };
    let workers = &running.processes.workers;
    let changed_ms = reload::ceil_ms(on_disk.changed_at);
    !workers.is_empty() && workers.iter().all(|worker| worker.started_ms >= changed_ms)
}

/// Writes every member still without an outcome and tests them together; members that fail get their outcome and their
/// previous bytes.
async fn write_and_test(shared: &Shared, members: &mut [Member]) {
    let _untested = shared.untested.lock().await;
    let mut written = Vec::new();
    for member in members.iter_mut().filter(|member| member.outcome.is_none()) {
        match member.write() {
            Ok(file) => written.extend(file),
            Err(error) => member.outcome = Some(Err(error)),
        }
    }
    let mut open: Vec<&mut Member> = members.iter_mut().filter(|member| member.outcome.is_none()).collect();
    if open.is_empty() {
        return;
    }
    let durable = tokio::task::spawn_blocking(move || servers_file::make_durable(&written));
    let (tested, durable) = tokio::join!(shared.program.test(), durable);
    let failure = match (tested, durable) {
        (Ok(()), Ok(Ok(()))) => return,
        (Err(failure), _) => failure,
        (Ok(()), Ok(Err(error))) => Failure::NotRun(format!("the servers file is not safe on disk: {error}")),
        (Ok(()), Err(error)) => Failure::NotRun(format!("the servers file is not safe on disk: {error}")),
    };
    for member in &open {
        member.put_back(shared);
    }
    match failure {
        Failure::Refused(_) if open.len() > 1 => test_one_by_one(shared, open).await,
        failure => open.iter_mut().for_each(|member| member.outcome = Some(Err(refusal(&failure)))),
    }
}

/// Finds out who is to blame: adds one member after the other and leaves out those nginx refuses. Those get another
/// chance while others still got in: a member may be what mends a file that was broken before.
async fn test_one_by_one(shared: &Shared, mut waiting: Vec<&mut Member>) {
    loop {
        let before = waiting.len();
        let mut left_out = Vec::new();
        for member in waiting {
            let failure = match member.write() {
                Ok(_) => shared.program.test().await.map_err(|failure| refusal(&failure)),
                Err(error) => Err(error),
            };
            if let Err(error) = failure {
                member.put_back(shared);
                left_out.push((member, error));
            }
        }
        if left_out.is_empty() {
            return;
        }
        if left_out.len() == before {
            for (member, error) in left_out {
                member.outcome = Some(Err(error));
            }
            return;
        }
        waiting = left_out.into_iter().map(|(member, _)| member).collect();
    }
}

/// Reloads nginx once for every member still without an outcome.
async fn load(shared: &Shared, members: &[Member]) -> Result<(), StepError> {
    let mut changed_at = Timestamp::MIN;
    for member in members.iter().filter(|member| member.outcome.is_none()) {
        let file = &member.step.file;
        match servers_file::read(file) {
            Ok(Some(on_disk)) if on_disk.bytes == member.wanted => changed_at = changed_at.max(on_disk.changed_at),
            Ok(_) => {
                return Err(StepError::stale(format!("{} was changed by somebody else meanwhile", file.display())));
            }
            Err(error) => return Err(file_error("read", file, &error)),
        }
    }
    // Read again: the test took a while, and whoever is a worker now is an old one.
    match process::running(&shared.options.pid, &shared.boot) {
        Fact::Seen(running) => reload::reload(&running, changed_at, &shared.boot, &*shared.options.clock).await,
        Fact::Absent => Err(StepError::stale("nginx has just ended")),
        Fact::Unreadable(why) => Err(StepError::transient(why)),
    }
}

fn refusal(failure: &Failure) -> StepError {
    match failure {
        Failure::Refused(words) => StepError::refused(format!("nginx refuses the configuration: {words}")),
        Failure::NotRun(why) => StepError::transient(why.clone()),
    }
}

fn file_error(verb: &str, file: &Path, error: &io::Error) -> StepError {
    use io::ErrorKind::{IsADirectory, NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    let why = format!("{verb} {}: {error}", file.display());
    match error.kind() {
        PermissionDenied | ReadOnlyFilesystem | NotADirectory | IsADirectory => StepError::refused(why),
        _ => StepError::transient(why),
    }
}
