//! The registry port: which way in each host has, and what is remembered of its answers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::answers::{Ages, Answers};
use super::batch::Batches;
use super::login::Logins;
use super::oci::Oci;
use super::rule::RegistryRule;
use super::{clean, tags};
use crate::aws::Shared;
use crate::model::image::{Digest, Repository, Tag, TagSpec};
use crate::model::snapshot::{Fact, RegistryImage, TagSeen, Why};
use crate::plan::step::{Ensured, RegistryStep};
use crate::ports::{Clock, Credentials, Registry, StepError};

/// What nobody asks for any more are dropped beyond this many.
const KEPT: usize = 1024;

/// A look does not wait longer for a list of tags: repairs do not wait for it.
const LIST_PATIENCE: Duration = Duration::from_secs(3);
/// All pages of a list have come by then.
const LIST_DEADLINE: Duration = Duration::from_secs(20);
/// While a list is on its way the one before counts this long.
const LIST_STALE: Duration = Duration::from_secs(600);

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
    logins: Arc<Logins>,
    oci: Arc<Oci>,
    batches: Batches,
    digests: Answers<(Repository, Tag), Digest>,
    tags: Arc<Answers<Repository, Vec<TagSeen>>>,
}

impl Images {
    /// Nothing is asked, and no credentials are looked for, before the first question.
    pub fn new(options: ImagesOptions) -> Arc<Self> {
        let ImagesOptions { registries, clock, aws } = options;
        Arc::new(Self {
            logins: Arc::new(Logins::new(registries, Arc::clone(&clock), aws)),
            oci: Arc::new(Oci::new(Arc::clone(&clock))),
            batches: Batches::default(),
            // A failure is never remembered: when to ask again is the controller's to say.
            digests: Answers::new(KEPT, false),
            // A list is many calls: a registry that cannot give it is not asked by every look.
            tags: Arc::new(Answers::new(KEPT, true)),
            clock,
        })
    }
}

#[async_trait]
impl Registry for Images {
    async fn resolve(&self, repository: &Repository, tag: &TagSpec, max_age: Duration) -> Fact<Digest> {
        if let Some(digest) = &tag.digest {
            return Fact::Seen(digest.clone());
        }
        let ask = async {
            match self.logins.ecr(repository.host()).await {
                Some(api) => self.batches.resolve(&api, repository, &tag.tag).await,
                None => self.oci.resolve(repository, &tag.tag, &self.logins).await,
            }
        };
        self.digests.get((repository.clone(), tag.tag.clone()), &*self.clock, max_age, Box::pin(ask)).await
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

    async fn tags(&self, repository: &Repository, max_age: Duration) -> Fact<Vec<TagSeen>> {
        let (logins, oci, of) = (Arc::clone(&self.logins), Arc::clone(&self.oci), repository.clone());
        let ask = async move {
            match logins.ecr(of.host()).await {
                Some(api) => tags::at_ecr(&api, &of).await,
                None => tags::at_oci(&oci, &of, &logins).await,
            }
        };
        let ages = Ages { max_age, stale: LIST_STALE, patience: LIST_PATIENCE, deadline: LIST_DEADLINE };
        self.tags.soon(repository.clone(), &self.clock, ages, ask).await
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
