//! Clean-up at ECR: what a repository holds, and what is deleted from it.

use aws_sdk_ecr::Client;
use aws_sdk_ecr::types::{DescribeImagesFilter, ImageIdentifier, TagStatus};
use jiff::Timestamp;

use crate::aws::{self, CallError};
use crate::model::image::{Digest, Repository};
use crate::model::snapshot::{Fact, RegistryImage};
use crate::plan::step::Ensured;
use crate::ports::StepError;

/// Images of one repository that are looked at; beyond that it is not cleaned up, for nobody saw the whole.
const MOST: usize = 5000;

/// Every image of `repository`, page by page; a page that is missing makes it unreadable.
pub(super) async fn images(client: &Client, repository: &Repository) -> Fact<Vec<RegistryImage>> {
    let mut found = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let any = DescribeImagesFilter::builder().tag_status(TagStatus::Any).build();
        tracing::debug!(target: "holdfast::aws", action = "ecr:DescribeImages", "call");
        let call = client.describe_images().repository_name(repository.path()).filter(any).set_next_token(token);
        let reply = match call.send().await.map_err(|error| aws::classify("ecr:DescribeImages", &error)) {
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

/// Deletes `digests`; what is gone already is so already.
pub(super) async fn delete(client: &Client, repository: &Repository, digests: &[Digest]) -> Result<Ensured, StepError> {
    let ids =
        digests.iter().map(|digest| ImageIdentifier::builder().image_digest(digest.to_string()).build()).collect();
    let call = client.batch_delete_image().repository_name(repository.path()).set_image_ids(Some(ids));
    tracing::debug!(target: "holdfast::aws", action = "ecr:BatchDeleteImage", "call");
    let sent = call.send().await;
    let reply = sent.map_err(|error| StepError::from(aws::classify("ecr:BatchDeleteImage", &error)))?;
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
