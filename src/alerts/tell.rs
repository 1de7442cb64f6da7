//! The task that tells: one request at a time, the newest word on each commit, and never in the controller's way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api::{Api, GITHUB, Trouble};
use super::book::{Book, Part};
use super::github::GitHub;
use super::gitlab::GitLab;
use super::place::{Place, name};
use super::verdict::{State, Told, verdict};
use crate::controller::Handle;
use crate::model::names::ControllerId;
use crate::model::snapshot::Why;
use crate::retry::Backoff;
use crate::source::settings::GitSettings;
use crate::source::settings::git::Host;

/// At the end what is not told yet has this long.
const LAST_CALL: Duration = Duration::from_secs(2);
/// Different reasons that are warned of; more are something else that changes.
const REASONS: usize = 32;

/// Tells the host of a repository what becomes of its commits.
#[derive(Debug)]
pub struct CommitStatus {
    host: &'static str,
    speaks: Speaks,
    deployments: bool,
    /// Deployments that are there, by commit.
    ids: BTreeMap<String, u64>,
    backoff: Backoff,
    /// Nothing is sent before; whether the host itself said so.
    pause: Option<(Instant, bool)>,
    /// What was warned of; what comes and goes (`true`) until something went well.
    warned: BTreeSet<(bool, Why)>,
}

#[derive(Debug)]
enum Speaks {
    GitHub(GitHub),
    GitLab(GitLab),
}

impl CommitStatus {
    /// As `git.status` says; none when nobody is told.
    ///
    /// # Errors
    /// When it cannot be derived whom to tell of what; the words end in a hint.
    pub fn new(settings: &GitSettings, controller: &ControllerId) -> Result<Option<Self>, Why> {
        let Some(status) = &settings.status else { return Ok(None) };
        let Place { api, repository } = Place::of(settings, status)?;
        let context = format!("holdfast/{controller}");
        let environment = status.environment.clone().unwrap_or_else(|| controller.to_string());
        let file = status.token_file.clone();
        let speaks = match status.host {
            Host::GitHub => {
                Speaks::GitHub(GitHub { api: Api::new(api, file, GITHUB)?, repository, context, environment })
            }
            Host::GitLab => Speaks::GitLab(GitLab {
                api: Api::new(api, file, &[])?,
                project: repository,
                name: context,
                branch: settings.branch.clone(),
                environment,
            }),
        };
        // Controllers of one repository that lost its host together do not return together.
        let seed = controller.as_str().bytes().fold(0u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        Ok(Some(Self {
            host: name(status.host),
            speaks,
            deployments: status.deployments,
            ids: BTreeMap::new(),
            backoff: Backoff::new(seed),
            pause: None,
            warned: BTreeSet::new(),
        }))
    }

    /// Follows the status until `closing`, then says what is still to be said.
    pub async fn run(mut self, handle: Handle, closing: CancellationToken) {
        let mut changes = handle.changes();
        let mut book = Book::new(self.deployments, Instant::now());
        loop {
            changes.borrow_and_update();
            let now = Instant::now();
            book.look(&verdict(&handle.status()), now);
            self.ids.retain(|commit, _| book.commits().contains(&commit.as_str()));
            let next = book.next(now);
            let due = next.as_ref().map_or(now, |(at, ..)| self.pause.map_or(*at, |(pause, _)| pause.max(*at)));
            tokio::select! {
                biased;
                () = closing.cancelled() => break,
                () = tokio::time::sleep_until(due), if next.is_some() => {}
                Ok(()) = changes.changed() => continue,
            }
            let Some((_, part, told)) = next else { continue };
            tokio::select! {
                biased;
                // Said again below: it does no harm.
                () = closing.cancelled() => break,
                () = self.tell(&mut book, part, &told) => {}
            }
        }
        closing.cancelled().await;
        book.look(&verdict(&handle.status()), Instant::now());
        self.last_call(&mut book).await;
    }

    async fn last_call(&mut self, book: &mut Book) {
        let now = Instant::now();
        if self.pause.is_some_and(|(until, by_host)| by_host && until > now) {
            return;
        }
        let all = async {
            for (part, told) in book.untold(now) {
                self.tell(book, part, &told).await;
            }
        };
        if tokio::time::timeout(LAST_CALL, all).await.is_err() {
            tracing::warn!("holdfast  {} did not answer in time: the last status of a commit is not told", self.host);
        }
    }

    async fn tell(&mut self, book: &mut Book, part: Part, told: &Told) {
        book.try_it(part, told);
        let sent = match (part, &self.speaks) {
            (Part::Status, Speaks::GitHub(host)) => host.status(told).await.map(|()| None),
            (Part::Status, Speaks::GitLab(host)) => host.status(told).await.map(|()| None),
            (Part::Deployment, Speaks::GitHub(host)) => host.deployment(told, self.known(told)).await,
            (Part::Deployment, Speaks::GitLab(host)) => host.deployment(told, self.known(told)).await,
        };
        let (host, short, now) = (self.host, short(told), Instant::now());
        match sent {
            Ok(id) => {
                self.ids.extend(id.map(|id| (told.commit.clone(), id)));
                book.done(part, told, now);
                self.backoff.reset();
                self.pause = None;
                self.warned.retain(|(passes, _)| !passes);
                match part {
                    Part::Status => tracing::info!("holdfast  told {host}: {short} {}", word(told.state)),
                    Part::Deployment => {
                        tracing::debug!("holdfast  told {host}: deployment of {short} {}", word(told.state))
                    }
                }
            }
            Err(Trouble::Later { why, after }) => {
                let wait = after.unwrap_or_else(|| self.backoff.fail_transient());
                self.pause = Some((now + wait, after.is_some()));
                self.warn(true, &format!("could not tell {host} what becomes of commits, and tries again: {why}"));
            }
            Err(Trouble::Refused { why, .. }) => {
                // A deployment that somebody deleted is looked for again.
                self.ids.remove(&told.commit);
                book.refused(part, told, now);
                self.warn(false, &format!("{host} is not told what becomes of commits: {why}"));
            }
        }
    }

    fn known(&self, told: &Told) -> Option<u64> {
        self.ids.get(&told.commit).copied()
    }

    /// Once a reason.
    fn warn(&mut self, passes: bool, why: &str) {
        if self.warned.len() < REASONS && self.warned.insert((passes, why.to_owned())) {
            tracing::warn!("holdfast  {why}");
        } else {
            tracing::debug!("holdfast  {why}");
        }
    }
}

fn short(told: &Told) -> &str {
    told.commit.get(..12).unwrap_or(&told.commit)
}

const fn word(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Success => "success",
        State::Failure => "failure",
        State::Rejected => "rejected",
        State::Superseded => "superseded",
    }
}
