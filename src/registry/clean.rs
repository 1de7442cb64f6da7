//! Clean-up at ECR: what a repository holds, and what is deleted from it.

use aws_sdk_ecr::operation::batch_delete_image::BatchDeleteImageOutput;
use aws_sdk_ecr::types::{DescribeImagesFilter, ImageIdentifier, TagStatus};
use jiff::Timestamp;

use super::ecr::EcrApi;
use crate::aws::raw::Raw;
use crate::aws::{self, CallError};
use crate::model::image::{Digest, Repository};
use crate::model::snapshot::{Fact, RegistryImage};
use crate::plan::step::Ensured;
use crate::ports::StepError;

/// Images of one repository that are looked at; beyond that it is not cleaned up, for nobody saw the whole.
const MOST: usize = 5000;

/// Every image of `repository`, page by page; a page that is missing makes it unreadable.
pub(super) async fn images(api: &EcrApi, repository: &Repository) -> Fact<Vec<RegistryImage>> {
    let mut found = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let any = DescribeImagesFilter::builder().tag_status(TagStatus::Any).build();
        let call = api.client.describe_images().repository_name(repository.path()).filter(any).set_next_token(token);
        api.take("ecr:DescribeImages").await;
        let answer = call.send().await.map_err(|error| aws::classify("ecr:DescribeImages", &error));
        let reply = match api.judged(answer).await {
            Ok(reply) => reply,
            Err(error) if error.code() == "RepositoryNotFoundException" => return Fact::Absent,
            Err(error) => return Fact::Unreadable(error.why().to_owned()),
        };
        for image in reply.image_details() {
            let digest = image.image_digest().and_then(|it| Digest::new(it).ok());
            let pushed_at =
                image.image_pushed_at().and_then(|it| Timestamp::from_millisecond(it.to_millis().ok()?).ok());
            if let (Some(digest), Some(pushed_at)) = (digest, pushed_at) {
                found.push(RegistryImage { digest, tags: image.image_tags().to_vec(), pushed_at });
            }
        }
        if found.len() > MOST {
            return Fact::Unreadable(format!("{repository} has more than {MOST} images"));
        }
        token = reply.next_token().map(str::to_owned);
        if token.is_none() {
            return Fact::Seen(found);
        }
    }
}

/// Deletes `digests` with credentials of `account`; what is gone already is so already.
pub(super) async fn delete(
    api: &EcrApi,
    account: Option<&String>,
    repository: &Repository,
    digests: &[Digest],
) -> Result<Ensured, StepError> {
    let raw = Raw::writing(None, api.aws.guard(account));
    let mut answer = send(api, raw.clone(), repository, digests).await;
    if raw.is_unconfirmed() {
        api.aws.identities.ask(api.region.as_deref()).await.map_err(StepError::transient)?;
        answer = send(api, Raw::writing(None, api.aws.guard(account)), repository, digests).await;
    }
    let reply = answer?;
    let failed = reply.failures().iter().find(|it| {
        let code = it.failure_code().map_or("", |code| code.as_str());
        // Part of a manifest list that stays: it goes with the list.
        code != "ImageNotFound" && code != "ImageReferencedByManifestList"
    });
    if let Some(failure) = failed {
        let why = failure.failure_reason().unwrap_or("without a reason").to_owned();
        let error = CallError::Refused { code: String::new(), why: format!("ecr:BatchDeleteImage refused: {why}") };
        return Err(error.into());
    }
    Ok(if reply.image_ids().is_empty() { Ensured::AlreadySo } else { Ensured::Changed })
}

async fn send(
    api: &EcrApi,
    raw: Raw,
    repository: &Repository,
    digests: &[Digest],
) -> Result<BatchDeleteImageOutput, CallError> {
    let ids =
        digests.iter().map(|digest| ImageIdentifier::builder().image_digest(digest.to_string()).build()).collect();
    let call = api.client.batch_delete_image().repository_name(repository.path()).set_image_ids(Some(ids));
    api.take("ecr:BatchDeleteImage").await;
    let sent = call.customize().interceptor(raw).send().await;
    api.judged(sent.map_err(|error| aws::classify("ecr:BatchDeleteImage", &error))).await
}
