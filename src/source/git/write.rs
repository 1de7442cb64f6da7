//! Commits of the controller itself: one changed tag each, on the newest commit of the branch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;

use super::GitSource;
use super::last_good::LastGood;
use crate::git::commit::{Author, NewCommit, TRIES, pause, wrapped};
use crate::git::{GitError, Mirror, Trouble};
use crate::model::desired::DesiredState;
use crate::model::snapshot::Why;
use crate::plan::step::{Ensured, SourceStep};
use crate::ports::{Source as _, StepError, StepErrorKind, WriteBack};
use crate::source::edit;
use crate::source::lower::FileText;
use crate::source::settings::GitWrite;

/// The mirror is held for a moment by each look; longer than this it waits for a server that does not answer.
const IN_USE: Duration = Duration::from_secs(2);
/// Asking for the head, bringing it over and building on it. A turn of the controller waits for it, and its service is
/// not repaired meanwhile.
const BUILD: Duration = Duration::from_secs(10);
/// A turn waits this long for a push. One that takes longer (a server with slow hooks) goes on by itself.
const PUSH: Duration = Duration::from_secs(5);

/// Writes to the branch a [`GitSource`] reads.
pub(super) struct Writer {
    source: Arc<GitSource>,
    author: Author,
    skip_ci: bool,
    /// A push that outlasted its turn.
    pushing: Mutex<Option<JoinHandle<Result<(), GitError>>>>,
}

/// What a try comes to before anything is sent.
enum Built {
    /// The tag is there.
    AlreadySo,
    /// This commit is to be pushed.
    Commit { id: String, parent: String },
}

/// One file with its new content.
struct Change {
    path: String,
    text: String,
}

impl Writer {
    pub(super) fn new(source: Arc<GitSource>, write: GitWrite) -> Self {
        let GitWrite { name, email, signing_key, skip_ci } = write;
        Self { source, author: Author { name, email, signing_key }, skip_ci, pushing: Mutex::default() }
    }

    /// One try; none: somebody else pushed in between.
    async fn once(&self, step: &SourceStep) -> Result<Option<Ensured>, StepError> {
        // Held to the end: what is looked at is what is built upon, and the source reads before it or after it.
        let mirror = tokio::time::timeout(IN_USE, Arc::clone(&self.source.mirror).lock_owned());
        let mirror = mirror.await.map_err(|_| StepError::transient("the git server keeps another question waiting"))?;
        let built = tokio::time::timeout(BUILD, self.build(&mirror, step)).await.map_err(|_| {
            StepError::transient(format!("the git server did not answer within {} s", BUILD.as_secs()))
        })??;
        let Built::Commit { id, parent } = built else { return Ok(Some(Ensured::AlreadySo)) };
        let source = Arc::clone(&self.source);
        let (told, pushed) = (id.clone(), id);
        let mut pushing = tokio::spawn(async move {
            let ended = mirror.push(&pushed, &parent).await;
            drop(mirror);
            source.look_again();
            ended
        });
        match tokio::time::timeout(PUSH, &mut pushing).await {
            Ok(Ok(Ok(()))) => {
                tracing::info!(
                    "{}  committed tag {} -> {} as {}",
                    step.service,
                    step.from,
                    step.to,
                    told.get(..12).unwrap_or(&told)
                );
                Ok(Some(Ensured::Changed))
            }
            Ok(Ok(Err(error))) if error.trouble == Trouble::Overtaken => Ok(None),
            Ok(Ok(Err(error))) => Err(error.into()),
            Ok(Err(error)) => Err(StepError::transient(format!("the push was cut off: {error}"))),
            Err(_) => {
                *self.pushing() = Some(pushing);
                Err(StepError::transient(format!("the push of {told} takes longer than {} s", PUSH.as_secs())))
            }
        }
    }

    fn pushing(&self) -> MutexGuard<'_, Option<JoinHandle<Result<(), GitError>>>> {
        self.pushing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the newest commit and makes the one that comes after it; nobody else has it yet.
    async fn build(&self, mirror: &Mirror, step: &SourceStep) -> Result<Built, StepError> {
        let (head, state) = self.head(mirror).await?;
        let parent = &head.commit.id;
        let Some(service) = state.services.get(&step.service) else {
            return Err(StepError::stale(format!("commit {} has no service {}", head.commit, step.service)));
        };
        if service.tag == step.to {
            return Ok(Built::AlreadySo);
        }
        if service.tag != step.from {
            let (tag, from) = (&service.tag, &step.from);
            return Err(StepError::stale(format!("commit {} has tag {tag}, and no longer {from}", head.commit)));
        }
        let Change { path, text } = self.change(&head, step).map_err(StepError::refused)?;
        let message = self.message(step);
        let new = NewCommit { parent, path: &path, content: &text, message: &message, author: &self.author };
        let id = mirror.make(&new).await?;
        if let Some(signers) = &self.source.settings.signers {
            // Pushed, it would be refused by every controller, this one included, and block the branch.
            mirror.git().verify_signature(&id, signers).await.map_err(|error| {
                let hint = "the public key of `git.write.signingKey` has to be in `git.allowedSigners`";
                StepError::refused(format!("its own signature would not count: {}\n  hint: {hint}", error.said))
            })?;
        }
        Ok(Built::Commit { id, parent: parent.clone() })
    }

    /// The newest commit, if the source would take it: nothing is built on one that was rewound, is broken or lacks
    /// its signature.
    async fn head(&self, mirror: &Mirror) -> Result<(LastGood, Arc<DesiredState>), StepError> {
        let source = &self.source;
        let asked = mirror.ask().await?;
        let asked = asked.ok_or_else(|| StepError::refused(super::judge::no_branch(&source.settings.branch)))?;
        let id = mirror.fetch(&asked).await?;
        let is_accepted_rewind = source.known().good.as_ref().is_some_and(|good| good.rewind.as_ref() == Some(&id));
        if is_accepted_rewind {
            // Only this very commit was accepted; one on top of it would be refused.
            return Err(StepError::transient(format!("commit {id} was accepted and is not in force yet")));
        }
        match source.weigh(mirror, &id).await? {
            Ok(weighed) => Ok(weighed),
            Err(refused) => {
                Err(StepError::refused(format!("nothing is committed on a refused commit: {}", refused.why)))
            }
        }
    }

    /// The file that has the service, with the new tag in it: the only value that differs.
    fn change(&self, head: &LastGood, step: &SourceStep) -> Result<Change, Why> {
        let mut why = format!("no file of commit {} has the service {}", head.commit, step.service);
        let assignment = [("tag".to_owned(), step.to.to_string())];
        for (index, file) in head.files.iter().enumerate() {
            if file.path.extension().is_some_and(|it| it == "json") {
                continue;
            }
            let text = match edit::set(&file.text, step.service.as_str(), &assignment) {
                Ok(text) => text,
                Err(edit::EditError::NoService { .. }) => continue,
                Err(error) => {
                    why = format!("{}: {error}", file.path.display());
                    continue;
                }
            };
            // The result is judged as the source will; a file of another controller leaves the tag as it was.
            match self.tag_after(head, index, &text, step) {
                Ok(true) => return Ok(Change { path: file.path.display().to_string(), text }),
                Ok(false) => {}
                Err(refused) => why = refused,
            }
        }
        Err(why)
    }

    fn tag_after(&self, head: &LastGood, index: usize, text: &str, step: &SourceStep) -> Result<bool, Why> {
        let mut files = head.files.clone();
        if let Some(FileText { text: old, .. }) = files.get_mut(index) {
            text.clone_into(old);
        }
        let after = LastGood { files, ..head.clone() };
        let state = self.source.parse(&after).map_err(|refused| refused.why)?;
        Ok(state.services.get(&step.service).is_some_and(|service| service.tag == step.to))
    }

    fn message(&self, step: &SourceStep) -> String {
        let SourceStep { service, from, to, why } = step;
        let skip = if self.skip_ci { " [skip ci]" } else { "" };
        let mut message = format!("{service}: tag {from} -> {to}{skip}\n\n");
        let body = wrapped(why);
        if !body.is_empty() {
            message += &format!("{body}\n\n");
        }
        let controller = &self.source.rules.controller;
        message + &format!("Holdfast-Controller: {controller}\nHoldfast-Service: {service}\n")
    }
}

impl From<GitError> for StepError {
    fn from(error: GitError) -> Self {
        match error.trouble {
            Trouble::Denied | Trouble::NotInstalled => Self::refused(error.to_string()),
            Trouble::TimedOut | Trouble::Unreachable | Trouble::Overtaken | Trouble::Other => {
                Self::transient(error.to_string())
            }
        }
    }
}

#[async_trait]
impl WriteBack for Writer {
    fn closed(&self) -> Option<Why> {
        None
    }

    async fn perform(&self, step: &SourceStep) -> Result<Ensured, StepError> {
        // How it ended shows in the branch.
        if self.pushing().as_ref().is_some_and(|pushing| !pushing.is_finished()) {
            return Err(StepError::transient("the push of an earlier commit is under way"));
        }
        for tried in 1..=TRIES {
            let ended = self.once(step).await;
            let is_news = match &ended {
                Ok(ensured) => ensured.is_some(),
                Err(error) => error.kind == StepErrorKind::Stale,
            };
            if is_news {
                // What was done or found there is to be in force at once.
                self.source.look_again();
            }
            match ended? {
                Some(ensured) => return Ok(ensured),
                None => tokio::time::sleep(pause(tried)).await,
            }
        }
        Err(StepError::transient(format!("somebody else pushed first, {TRIES} times in a row")))
    }
}
