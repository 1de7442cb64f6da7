//! Digests of tags at ECR, asked in batches: what several services ask of one repository at about the same time is one
//! `ecr:BatchGetImage`, up to a hundred tags.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_ecr::types::{ImageFailureCode, ImageIdentifier};
use tokio::sync::oneshot;

use super::ecr::EcrApi;
use crate::aws::{self, CallError};
use crate::model::image::{Digest, Repository, Tag};
use crate::model::snapshot::Fact;

const ACTION: &str = "ecr:BatchGetImage";
/// How long the first one to ask waits for others.
const GATHER: Duration = Duration::from_millis(3);
/// The most one call takes.
const BATCH: usize = 100;
/// What a tag may name: a list of platforms before one platform.
const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Tags waiting to be asked for, by repository.
#[derive(Default)]
pub(super) struct Batches {
    waiting: Arc<Mutex<HashMap<Repository, Vec<Asked>>>>,
}

struct Asked {
    tag: Tag,
    answer: oneshot::Sender<Fact<Digest>>,
}

impl Batches {
    /// The digest of `tag`. The first one to ask of a repository asks for all who come with it.
    pub(super) async fn resolve(&self, api: &EcrApi, repository: &Repository, tag: &Tag) -> Fact<Digest> {
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let asked = waiting.entry(repository.clone()).or_default();
            asked.push(Asked { tag: tag.clone(), answer });
            asked.len() == 1
        };
        if first {
            let (waiting, api, repository) = (Arc::clone(&self.waiting), api.clone(), repository.clone());
            // On its own: who asks for others must not stop because it is given up on.
            tokio::spawn(async move {
                tokio::time::sleep(GATHER).await;
                let asked = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&repository);
                ask(&api, &repository, asked.unwrap_or_default()).await;
            });
        }
        // The task ends early only with the process.
        answered.await.unwrap_or_else(|_| Fact::Unreadable(format!("{ACTION} was given up on")))
    }
}

async fn ask(api: &EcrApi, repository: &Repository, mut asked: Vec<Asked>) {
    while !asked.is_empty() {
        let rest = asked.split_off(asked.len().min(BATCH));
        let tags: Vec<&Tag> = asked.iter().map(|it| &it.tag).collect();
        let facts = digests(api, repository, &tags).await;
        for it in std::mem::replace(&mut asked, rest) {
            let fact = match &facts {
                Ok(facts) => facts.get(&it.tag).cloned().unwrap_or_else(|| left_out(&it.tag)),
                Err(error) => Fact::Unreadable(error.why().to_owned()),
            };
            // One that waits no more does not need it.
            let _ = it.answer.send(fact);
        }
    }
}

fn left_out(tag: &Tag) -> Fact<Digest> {
    Fact::Unreadable(format!("{ACTION} left {tag} out"))
}

async fn digests(
    api: &EcrApi,
    repository: &Repository,
    tags: &[&Tag],
) -> Result<HashMap<Tag, Fact<Digest>>, CallError> {
    let ids = tags.iter().map(|tag| ImageIdentifier::builder().image_tag(tag.as_str()).build()).collect();
    let accepted = ACCEPTED.map(str::to_owned).to_vec();
    let call = api
        .client
        .batch_get_image()
        .repository_name(repository.path())
        .set_registry_id(account_of(repository.host()))
        .set_image_ids(Some(ids))
        .set_accepted_media_types(Some(accepted));
    api.take(ACTION).await;
    let answer = call.send().await.map_err(|error| aws::classify(ACTION, &error));
    let reply = match api.judged(answer).await {
        Ok(reply) => reply,
        Err(error) if error.code() == "RepositoryNotFoundException" => {
            return Ok(tags.iter().map(|tag| ((*tag).clone(), Fact::Absent)).collect());
        }
        Err(error) => return Err(error),
    };
    let mut found = HashMap::new();
    for id in reply.images().iter().filter_map(|image| image.image_id()) {
        let (tag, digest) = (id.image_tag().and_then(|it| Tag::new(it).ok()), id.image_digest());
        if let (Some(tag), Some(digest)) = (tag, digest.and_then(|it| Digest::new(it).ok())) {
            found.insert(tag, Fact::Seen(digest));
        }
    }
    for failure in reply.failures() {
        let tag = failure.image_id().and_then(|id| id.image_tag()).and_then(|it| Tag::new(it).ok());
        let missing = failure.failure_code() == Some(&ImageFailureCode::ImageNotFound);
        let why = failure.failure_reason().unwrap_or("without a reason");
        let fact = if missing { Fact::Absent } else { Fact::Unreadable(format!("{ACTION} failed: {why}")) };
        found.extend(tag.map(|tag| (tag, fact)));
    }
    Ok(found)
}

/// The account in `123456789012.dkr.ecr.…`: another one's repository may be shared with ours.
fn account_of(host: &str) -> Option<String> {
    let first = host.split('.').next()?;
    let is_account = first.len() == 12 && first.bytes().all(|byte| byte.is_ascii_digit());
    is_account.then(|| first.to_owned())
}
