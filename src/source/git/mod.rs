//! Desired state from one branch of a git repository: polled, and looked at when somebody says it moved.
//!
//! What is enforced is always the last *good* commit, and it is kept durably with the files it had: an outage, a
//! restart and a damaged mirror leave it in force.

mod files;
mod judge;
mod last_good;
mod once;
mod schedule;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::error::in_words;
use super::lower::HostRules;
use super::settings::GitSettings;
use crate::git::{GitError, Mirror, Remote, Trouble};
use crate::model::desired::{DesiredState, SourceRevision};
use crate::model::snapshot::Why;
use crate::ports::{Clock, Source, SourceUpdate, WriteBack};
use judge::Refused;
use last_good::{LastGood, Record};
pub use once::{Reading, read_once};
use schedule::Schedule;

/// A person names at least so many digits of a commit.
const SHORTEST: usize = 7;

/// What a [`GitSource`] is made from.
#[derive(Clone)]
pub struct GitOptions {
    /// `git:` of `holdfast.yaml`.
    pub settings: GitSettings,
    /// Where the mirror and the last good commit are kept.
    pub folder: PathBuf,
    /// What the files are judged by.
    pub rules: HostRules,
    /// Ages are told by it.
    pub clock: Arc<dyn Clock>,
}

/// One branch of one repository.
pub struct GitSource {
    settings: GitSettings,
    rules: HostRules,
    clock: Arc<dyn Clock>,
    /// One user of the mirror at a time.
    mirror: Arc<tokio::sync::Mutex<Mirror>>,
    record: Record,
    known: Mutex<Known>,
    moved: Notify,
}

/// What is known of the branch.
#[derive(Default)]
struct Known {
    /// The last good commit, as it is kept.
    good: Option<LastGood>,
    /// What it means.
    state: Option<Arc<DesiredState>>,
    /// The commit of the branch that does not come after the good one.
    rewound: Option<String>,
    /// Whether the record on disk was read.
    loaded: bool,
}

/// How a look ended.
enum Seen {
    Good(Arc<DesiredState>),
    Refused(Refused),
    Unreadable(Why),
}

/// A commit that may be the last good one with what it says, or why not.
type Weighed = Result<(LastGood, Arc<DesiredState>), Refused>;

impl From<GitError> for Seen {
    fn from(error: GitError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl GitSource {
    /// Nothing is asked or read before the first look.
    pub fn new(options: GitOptions) -> Self {
        let GitOptions { settings, folder, rules, clock } = options;
        let remote =
            Remote { url: settings.url.clone(), branch: settings.branch.clone(), access: settings.access.clone() };
        let record = Record::new(folder.join("last-good.json"), place(&settings));
        let mirror = Arc::new(tokio::sync::Mutex::new(Mirror::new(&folder, remote)));
        Self { settings, rules, clock, mirror, record, known: Mutex::default(), moved: Notify::new() }
    }

    /// How the controller commits to this branch: not at all without `git.write`.
    pub fn writer(self: &Arc<Self>) -> Arc<dyn WriteBack> {
        match self.settings.write.clone() {
            Some(write) => Arc::new(write::Writer::new(Arc::clone(self), write)),
            None => Arc::new(super::Closed(
                "the controller may not commit to the repository\n  hint: say who commits as `git.write` in holdfast.yaml"
                    .to_owned(),
            )),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last good commit as it was kept, once; later what is known now.
    async fn load(&self) -> Option<Result<Arc<DesiredState>, Refused>> {
        if std::mem::replace(&mut self.known().loaded, true) {
            return None;
        }
        let good = match self.record.load() {
            Ok(Some(good)) => good,
            Ok(None) => return None,
            Err(why) => {
                tracing::warn!("holdfast  the record of the last good commit is lost: {why}");
                let mirror = self.mirror.lock().await;
                let id = mirror.kept().await?;
                let Some(good) = self.recovered(&mirror, &id).await else {
                    // Its files come with the next look; until then its history guards against a rewind.
                    self.known().good = Some(LastGood::only(&id));
                    return None;
                };
                if let Err(why) = self.record.save(&good) {
                    tracing::warn!("holdfast  commit {} cannot be kept: {why}", good.commit);
                }
                good
            }
        };
        let parsed = self.parse(&good);
        let mut known = self.known();
        known.good = Some(good);
        if let Ok(state) = &parsed {
            known.state = Some(Arc::clone(state));
        }
        Some(parsed)
    }

    /// The last good commit as the mirror has it.
    async fn recovered(&self, mirror: &Mirror, id: &str) -> Option<LastGood> {
        let commit = mirror.commit(id).await.ok()?;
        let files = files::at(mirror.git(), id, &self.settings.path).await.ok()?.ok()?;
        Some(LastGood { commit, read_at: self.clock.now(), files, rewind: None })
    }

    fn parse(&self, good: &LastGood) -> Result<Arc<DesiredState>, Refused> {
        let revision = SourceRevision(good.commit.id.clone());
        let whole = Path::new(if self.settings.path.is_empty() { "." } else { &self.settings.path });
        let state = super::parse(whole, &good.files, &self.rules, &revision, good.read_at)
            .map_err(|errors| Refused { commit: Some(good.commit.clone()), why: in_words(&errors) })?;
        Ok(Arc::new(DesiredState { commit: Some(good.commit.clone()), ..state }))
    }

    /// Looks at the branch once.
    async fn look(&self) -> Seen {
        let loaded = self.load().await;
        match self.branch().await {
            Ok(seen) => seen,
            // Without an answer from over there what was good stays good.
            Err(error) => match loaded {
                Some(Err(refused)) => Seen::Refused(refused),
                _ => error.into(),
            },
        }
    }

    async fn branch(&self) -> Result<Seen, GitError> {
        let mirror = self.mirror.lock().await;
        let Some(asked) = mirror.ask().await? else {
            return Ok(Seen::Refused(Refused { commit: None, why: judge::no_branch(&self.settings.branch) }));
        };
        // What the branch no longer has can no longer be accepted.
        self.known().rewound.take_if(|rewound| *rewound != asked);
        if let Some(state) = self.known().state.as_ref().filter(|state| state.revision.0 == asked) {
            return Ok(Seen::Good(Arc::clone(state)));
        }
        let id = mirror.fetch(&asked).await?;
        match self.judge(&mirror, &id).await {
            // What was just fetched cannot be read: the disk has damaged what lies below it.
            Err(error) if error.trouble == Trouble::Other => {
                tracing::warn!("holdfast  the mirror {} is made anew: {error}", mirror.git().dir().display());
                mirror.rebuild(&asked).await?;
                let id = mirror.fetch(&asked).await?;
                self.judge(&mirror, &id).await
            }
            judged => judged,
        }
    }

    /// Takes the commit `id` for the last good one, if it may be that.
    async fn judge(&self, mirror: &Mirror, id: &str) -> Result<Seen, GitError> {
        let (new, state) = match self.weigh(mirror, id).await? {
            Ok(weighed) => weighed,
            Err(refused) => return Ok(Seen::Refused(refused)),
        };
        // Locked meanwhile: a person who accepts a rewind now must not write the older record over this one.
        let mut known = self.known();
        // Kept before it is enforced: a restart in between must know it.
        if let Err(why) = self.record.save(&new) {
            return Ok(Seen::Unreadable(format!("commit {} cannot be kept: {why}", new.commit)));
        }
        (known.good, known.state, known.rewound) = (Some(new), Some(Arc::clone(&state)), None);
        Ok(Seen::Good(state))
    }

    /// Whether the commit `id` may take the place of the last good one, and what it says; nothing is kept.
    async fn weigh(&self, mirror: &Mirror, id: &str) -> Result<Weighed, GitError> {
        let good = self.known().good.clone();
        let commit = mirror.commit(id).await?;
        if let Some(good) = good.as_ref().filter(|good| good.rewind.as_deref() != Some(id))
            && !mirror.descends(id, &good.commit.id).await?
        {
            self.known().rewound = Some(id.to_owned());
            let why = judge::rewound(&commit, &good.commit, &self.settings.branch);
            return Ok(Err(Refused { commit: Some(commit), why }));
        }
        if let Some(signers) = &self.settings.signers
            && let Err(error) = mirror.git().verify_signature(id, signers).await
        {
            if error.code.is_none() {
                return Err(error);
            }
            let why = judge::unsigned(&error);
            return Ok(Err(Refused { commit: Some(commit), why }));
        }
        let files = match files::at(mirror.git(), id, &self.settings.path).await? {
            Ok(files) => files,
            Err(errors) => return Ok(Err(Refused { commit: Some(commit), why: in_words(&errors) })),
        };
        let includes = match &good {
            Some(good) => mirror.between(&good.commit.id, id).await,
            None => Vec::new(),
        };
        let new = LastGood { commit, read_at: self.clock.now(), files, rewind: None };
        Ok(self.parse(&new).map(|state| (new, Arc::new(DesiredState { includes, ..(*state).clone() }))))
    }
}

/// `https://host/repository#main:desired-state/prod`, without a password.
fn place(settings: &GitSettings) -> String {
    let url = crate::git::names::without_password(&settings.url);
    let path = if settings.path.is_empty() { "." } else { &settings.path };
    format!("{url}#{}:{path}", settings.branch)
}

/// As reported, and whether it was the same the last time.
fn update(seen: Seen, reported: &mut Option<String>) -> SourceUpdate {
    match seen {
        Seen::Good(state) if reported.as_ref() == Some(&state.revision.0) => SourceUpdate::Unchanged,
        Seen::Good(state) => {
            *reported = Some(state.revision.0.clone());
            SourceUpdate::Accepted(state)
        }
        Seen::Refused(Refused { commit, why }) => {
            *reported = None;
            let revision = commit.as_ref().map(|commit| SourceRevision(commit.id.clone()));
            SourceUpdate::Rejected { revision, commit, why }
        }
        // Whether anything changed is not known: what was reported stays so.
        Seen::Unreadable(why) => SourceUpdate::Unreadable(why),
    }
}

#[async_trait]
impl Source for GitSource {
    async fn read(&self) -> SourceUpdate {
        let seen = self.look().await;
        update(seen, &mut None)
    }

    async fn watch(&self, updates: mpsc::Sender<SourceUpdate>) {
        let mut reported = None;
        // What was good is enforced at once: repair does not wait for a git server.
        if let Some(Ok(state)) = self.load().await
            && updates.send(update(Seen::Good(state), &mut reported)).await.is_err()
        {
            return;
        }
        let mut schedule = Schedule::new(self.settings.interval, self.rules.controller.as_str());
        loop {
            let began = Instant::now();
            let seen = self.look().await;
            let failed = matches!(seen, Seen::Unreadable(_));
            let update = update(seen, &mut reported);
            let moved = match &update {
                SourceUpdate::Accepted(state) => Some(state.revision.0.clone()),
                _ => None,
            };
            if updates.send(update).await.is_err() {
                return;
            }
            if let Some(id) = &moved {
                // Behind the report: nobody waits for a clean-up.
                self.mirror.lock().await.keep(id).await;
            }
            tokio::select! {
                () = tokio::time::sleep(schedule.next(failed, moved.is_some())) => schedule.polled(),
                () = self.moved.notified() => {
                    schedule.told();
                    tokio::time::sleep_until(began + schedule::APART).await;
                }
                () = updates.closed() => return,
            }
        }
    }

    fn place(&self) -> String {
        place(&self.settings)
    }

    fn look_again(&self) {
        self.moved.notify_one();
    }

    async fn accept_rewind(&self, commit: &str, by: &str) -> Result<String, Why> {
        let mut known = self.known();
        let (rewound, good) = (known.rewound.clone(), known.good.clone());
        let Some(good) = good else { return Err("no commit was good yet: nothing has to be accepted".to_owned()) };
        let is_meant = |id: &String| commit.len() >= SHORTEST && id.starts_with(commit);
        if let Some(id) = good.rewind.as_ref().filter(|id| is_meant(id)) {
            return Ok(format!("commit {id} is accepted already"));
        }
        let id = match rewound {
            Some(rewound) if is_meant(&rewound) => rewound,
            Some(rewound) => return Err(format!("{commit} is not the commit that is refused; {rewound} is")),
            None => return Err(format!("no commit is refused for a history that went back, {commit} neither")),
        };
        let good = LastGood { rewind: Some(id.clone()), ..good };
        self.record.save(&good)?;
        let short = id.get(..12).unwrap_or(&id).to_owned();
        let last = good.commit.short().to_owned();
        known.good = Some(good);
        Ok(format!("commit {short} may take the place of {last}: accepted by {by}"))
    }
}
