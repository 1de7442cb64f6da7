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
use std::time::Duration;

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
use last_good::{LastGood, NotLoaded, Record};
pub use once::{Reading, read_once};
use schedule::Schedule;

/// A commit that could not be read is tried again after this: it may have been this host after all.
const ODD: Duration = Duration::from_secs(3600);
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
    /// A commit that cannot be read on a sound mirror either, and since when.
    odd: Option<(Refused, Instant)>,
    /// Whether the record on disk was read.
    loaded: bool,
    /// Why it could not be read the last time.
    not_loaded: Option<Why>,
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
    ///
    /// # Errors
    /// When the disk does not give it now: it is asked again at the next look, and nothing is judged before.
    async fn load(&self) -> Result<Option<Result<Arc<DesiredState>, Refused>>, Why> {
        if self.known().loaded {
            return Ok(None);
        }
        let good = match self.record.load() {
            Ok(good) => Ok(good),
            Err(NotLoaded::NotNow(why)) => Err(why),
            Err(NotLoaded::Lost(why)) => self.replaced(&why).await,
        };
        let parsed = good.as_ref().ok().and_then(Option::as_ref).map(|good| (good.is_whole(), self.parse(good)));
        let mut known = self.known();
        let good = good.inspect_err(|why| known.not_loaded = Some(why.clone()))?;
        if std::mem::replace(&mut known.loaded, true) {
            return Ok(None);
        }
        (known.good, known.not_loaded) = (good, None);
        match parsed {
            Some((true, parsed)) => {
                known.state = parsed.as_ref().ok().map(Arc::clone);
                Ok(Some(parsed))
            }
            // Its files come with the next look; until then its history guards against a rewind.
            _ => Ok(None),
        }
    }

    /// In place of a record that is lost: what the mirror knows.
    async fn replaced(&self, why: &str) -> Result<Option<LastGood>, Why> {
        tracing::warn!("holdfast  the record of the last good commit is lost: {why}");
        let mirror = self.mirror.lock().await;
        let Some(id) = mirror.kept().await.map_err(|error| error.to_string())? else { return Ok(None) };
        let Some(good) = self.recovered(&mirror, &id).await else { return Ok(Some(LastGood::only(&id))) };
        if let Err(why) = self.record.save(&good) {
            tracing::warn!("holdfast  commit {} cannot be kept: {why}", good.commit);
        }
        Ok(Some(good))
    }

    /// The last good commit as the mirror has it.
    async fn recovered(&self, mirror: &Mirror, id: &str) -> Option<LastGood> {
        let commit = mirror.commit(id).await.ok()?.ok()?;
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
        let loaded = match self.load().await {
            Ok(loaded) => loaded,
            Err(why) => return Seen::Unreadable(why),
        };
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
        let is_it = |refused: &Refused| refused.commit.as_ref().is_some_and(|commit| commit.id == asked);
        if let Some((refused, since)) = &self.known().odd
            && is_it(refused)
            && since.elapsed() < ODD
        {
            return Ok(Seen::Refused(refused.clone()));
        }
        let seen = self.judged(&mirror, &asked).await;
        let good = self.known().good.as_ref().map(|good| good.commit.id.clone());
        if let Some(good) = good {
            // Beside the record, and again after the mirror was made anew.
            mirror.keep(&good).await;
        }
        seen
    }

    /// Brings the branch over and judges its commit. A mirror that turns out to be damaged is made anew, once; what
    /// cannot be read on a sound one either is the commit's own fault.
    async fn judged(&self, mirror: &Mirror, asked: &str) -> Result<Seen, GitError> {
        let mut id = mirror.fetch(asked).await?;
        let mut judged = self.judge(mirror, &id).await;
        if let Err(error) = &judged
            && error.trouble == Trouble::Other
            && mirror.is_damaged(judge::is_of_content(error)).await
        {
            tracing::warn!("holdfast  the mirror {} is made anew: {error}", mirror.git().dir().display());
            mirror.rebuild(asked).await?;
            id = mirror.fetch(asked).await?;
            judged = self.judge(mirror, &id).await;
        }
        match judged {
            Err(error) if judge::is_of_content(&error) => {
                let refused = Refused::odd(&id, &error.said);
                self.known().odd = Some((refused.clone(), Instant::now()));
                Ok(Seen::Refused(refused))
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
        let not_loaded = self.known().not_loaded.clone();
        if let Some(why) = not_loaded {
            // Without the record a rewind could not be told.
            return Ok(Err(Refused { commit: None, why }));
        }
        let commit = match mirror.commit(id).await? {
            Ok(commit) => commit,
            Err(odd) => return Ok(Err(Refused::odd(id, &odd))),
        };
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
        let rewinds = good.is_some_and(|good| good.rewind.as_deref() == Some(id));
        let new = LastGood { commit, read_at: self.clock.now(), files, rewind: None };
        Ok(self.parse(&new).map(|state| (new, Arc::new(DesiredState { includes, rewinds, ..(*state).clone() }))))
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
        let mut schedule = Schedule::new(self.settings.interval, self.rules.controller.as_str());
        loop {
            let began = Instant::now();
            // What was good is enforced at once: repair does not wait for a git server.
            if let Ok(Some(Ok(state))) = self.load().await
                && updates.send(update(Seen::Good(state), &mut reported)).await.is_err()
            {
                return;
            }
            let seen = self.look().await;
            let failed = matches!(seen, Seen::Unreadable(_));
            let update = update(seen, &mut reported);
            let moved = matches!(update, SourceUpdate::Accepted(_));
            if updates.send(update).await.is_err() {
                return;
            }
            if moved && let Ok(mirror) = self.mirror.try_lock() {
                mirror.clean().await;
            }
            tokio::select! {
                () = tokio::time::sleep(schedule.next(failed, moved)) => schedule.polled(),
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
