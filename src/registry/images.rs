//! The registry port: answers remembered for a while, many askers sharing one question.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::batch::Batches;
use super::clean;
use super::login::Logins;
use super::oci::Oci;
use super::rule::RegistryRule;
use crate::aws::Shared;
use crate::model::image::{Digest, Repository, Tag, TagSpec};
use crate::model::snapshot::{Fact, RegistryImage, Why};
use crate::plan::step::{Ensured, RegistryStep};
use crate::ports::{Clock, Credentials, Registry, StepError};

/// Tags nobody asks for any more are dropped beyond this many.
const KEPT: usize = 1024;

/// What [`Images`] is made from.
#[derive(Clone)]
pub struct ImagesOptions {
    /// `registries:` of `holdfast.yaml`.
    pub registries: Vec<RegistryRule>,
    /// Ages and ends are told by it.
    pub clock: Arc<dyn Clock>,
    /// The budget of calls, and whose credentials are in use.
    pub aws: Shared,
}

/// Every registry.
pub struct Images {
    clock: Arc<dyn Clock>,
    logins: Logins,
    oci: Oci,
    batches: Batches,
    answers: Mutex<HashMap<(Repository, Tag), Arc<Slot>>>,
}

/// What is known of one tag.
#[derive(Default)]
struct Slot {
    /// Held while the registry is asked.
    answer: tokio::sync::Mutex<Option<Known>>,
    /// How often it was asked: who waited while it was asked takes that answer, whatever it is.
    asked: AtomicU64,
}

#[derive(Clone)]
struct Known {
    fact: Fact<Digest>,
    at: Timestamp,
}

impl Images {
    /// Nothing is asked, and no credentials are looked for, before the first question.
    pub fn new(options: ImagesOptions) -> Arc<Self> {
        let ImagesOptions { registries, clock, aws } = options;
        Arc::new(Self {
            logins: Logins::new(registries, Arc::clone(&clock), aws),
            oci: Oci::new(Arc::clone(&clock)),
            batches: Batches::default(),
            answers: Mutex::default(),
            clock,
        })
    }

    fn slot(&self, repository: &Repository, tag: &Tag) -> Arc<Slot> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= KEPT {
            answers.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(answers.entry((repository.clone(), tag.clone())).or_default())
    }
}

#[async_trait]
impl Registry for Images {
    async fn resolve(&self, repository: &Repository, tag: &TagSpec, max_age: Duration) -> Fact<Digest> {
        if let Some(digest) = &tag.digest {
            return Fact::Seen(digest.clone());
        }
        let slot = self.slot(repository, &tag.tag);
        let before = slot.asked.load(Ordering::Acquire);
        let mut answer = slot.answer.lock().await;
        if let Some(known) = answer.as_ref() {
            let meanwhile = slot.asked.load(Ordering::Acquire) != before;
            // A failure is never remembered: when to ask again is the controller's to say.
            let certain = !matches!(known.fact, Fact::Unreadable(_));
            if meanwhile || (certain && young(known.at, self.clock.now(), max_age)) {
                return known.fact.clone();
            }
        }
        let fact = match self.logins.ecr(repository.host()).await {
            Some(api) => self.batches.resolve(&api, repository, &tag.tag).await,
            None => self.oci.resolve(repository, &tag.tag, &self.logins).await,
        };
        *answer = Some(Known { fact: fact.clone(), at: self.clock.now() });
        slot.asked.fetch_add(1, Ordering::AcqRel);
        fact
    }

    async fn credentials(&self, repository: &Repository) -> Result<Option<Credentials>, Why> {
        self.logins.credentials(repository.host()).await
    }

    async fn images(&self, repository: &Repository) -> Fact<Vec<RegistryImage>> {
        match self.logins.ecr(repository.host()).await {
            Some(api) => clean::images(&api, repository).await,
            None => Fact::Unreadable(no_ecr(repository)),
        }
    }

    async fn perform(&self, step: &RegistryStep) -> Result<Ensured, StepError> {
        let RegistryStep::DeleteImages { account, service: _, repository, digests } = step;
        match self.logins.ecr(repository.host()).await {
            Some(api) => clean::delete(&api, account.as_ref(), repository, digests).await,
            None => Err(StepError::refused(no_ecr(repository))),
        }
    }
}

fn no_ecr(repository: &Repository) -> Why {
    format!("{} is no ECR registry: `ecr.keep` cleans up nothing else", repository.host())
}

fn young(at: Timestamp, now: Timestamp, max_age: Duration) -> bool {
    Duration::try_from(now.duration_since(at)).is_ok_and(|age| age < max_age)
}
