//! Images: what the engine has, pulling by digest, and letting go of what nobody needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::{CreateImageInfo, ImageSummary};
use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder};
use futures_util::StreamExt;
use tokio::time::Instant;

use super::Docker;
use super::engine::Engine;
use crate::model::desired::{Pull, Service};
use crate::model::image::{Digest, Repository};
use crate::model::names::ServiceName;
use crate::model::snapshot::{Fact, KeptImage};
use crate::plan::step::Ensured;
use crate::ports::StepError;

/// A pull that reports nothing for so long hangs: the engine sends progress several times a second.
const PULL_SILENCE: Duration = Duration::from_secs(120);

/// A person who watches a pull hears of it this often.
const PULL_NEWS: Duration = Duration::from_secs(5);

/// The layers of a pull and how far each is, in bytes.
#[derive(Debug, Default)]
struct Layers(BTreeMap<String, (i64, i64)>);

impl Layers {
    fn take(&mut self, line: &CreateImageInfo) {
        let Some(layer) = &line.id else { return };
        let detail = line.progress_detail.as_ref();
        let amount = detail.and_then(|it| Some((it.current?, it.total?)));
        match (line.status.as_deref(), amount) {
            (Some("Downloading"), Some(amount)) => drop(self.0.insert(layer.clone(), amount)),
            // What follows a download counts its own way up from zero.
            (Some("Download complete" | "Extracting" | "Pull complete"), _) => {
                if let Some((done, total)) = self.0.get_mut(layer) {
                    *done = *total;
                }
            }
            _ => {}
        }
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, total) = self.0.values().fold((0, 0), |(a, b), (done, total)| (a + done, b + total));
        match total {
            0 => f.write_str("under way"),
            _ if done >= total => write!(f, "extracting {} MiB", total >> 20),
            _ => write!(f, "{} of {} MiB", done >> 20, total >> 20),
        }
    }
}

/// The repository under which images of `service` are kept.
fn kept_repository(service: &ServiceName) -> String {
    format!("holdfast/{service}")
}

/// The tag that spares `digest` from a prune.
pub(super) fn kept_tag(service: &ServiceName, digest: &Digest) -> String {
    format!("{}:{}", kept_repository(service), digest.short())
}

/// `repo@sha256:…` as its two halves.
fn split_digest(reference: &str) -> Option<(Repository, Digest)> {
    let (repository, digest) = reference.split_once('@')?;
    Some((Repository::new(repository).ok()?, Digest::new(digest).ok()?))
}

/// The digests `service` could run without asking its registry.
pub(super) fn local(images: &[ImageSummary], service: &Service) -> BTreeSet<Digest> {
    match service.docker.pull {
        Pull::Never => images.iter().filter_map(|image| Digest::new(&image.id).ok()).collect(),
        Pull::Always => images
            .iter()
            .flat_map(|image| &image.repo_digests)
            .filter_map(|reference| split_digest(reference))
            .filter(|(repository, _)| repository.same_as(&service.image))
            .map(|(_, digest)| digest)
            .collect(),
    }
}

/// Images under a tag of ours. A digest reference that another service keeps too is not ours alone and stays.
pub(super) fn kept(images: &[ImageSummary], name: &ServiceName, service: Option<&Service>) -> Vec<KeptImage> {
    let own = format!("{}:", kept_repository(name));
    let mut kept = Vec::new();
    for image in images {
        let shared = image.repo_tags.iter().any(|tag| tag.starts_with("holdfast/") && !tag.starts_with(&own));
        for tag in image.repo_tags.iter().filter(|tag| tag.starts_with(&own)) {
            let short = &tag[own.len()..];
            let digests: Vec<(Repository, Digest)> = image
                .repo_digests
                .iter()
                .filter_map(|reference| split_digest(reference))
                .filter(|(repository, digest)| {
                    digest.short() == short && service.is_none_or(|service| repository.same_as(&service.image))
                })
                .collect();
            let id = Digest::new(&image.id).ok().filter(|id| id.short() == short);
            let Some(digest) = digests.first().map(|(_, digest)| digest.clone()).or(id) else { continue };
            let mut references = vec![tag.clone()];
            if !shared {
                references.extend(digests.iter().map(|(repository, digest)| format!("{repository}@{digest}")));
            }
            kept.push(KeptImage { digest, references });
        }
    }
    kept.sort_by(|a, b| a.digest.cmp(&b.digest));
    kept
}

/// The id of `reference`, an image the engine has.
pub(super) async fn id_of(engine: &Engine, reference: &str) -> Fact<Digest> {
    match engine.read(|client| async move { client.inspect_image(reference).await }).await {
        Ok(Some(image)) => match image.id.as_deref().map(Digest::new) {
            Some(Ok(id)) => Fact::Seen(id),
            _ => Fact::Unreadable(format!("the engine gave no id for image {reference}")),
        },
        Ok(None) => Fact::Absent,
        Err(why) => Fact::Unreadable(why),
    }
}

impl Docker {
    /// Makes sure the engine has `repository@digest`, under a tag of ours.
    pub(super) async fn pull(
        &self,
        service: &ServiceName,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Ensured, StepError> {
        let reference = format!("{repository}@{digest}");
        let mut done = Ensured::AlreadySo;
        match id_of(&self.engine, &reference).await {
            Fact::Seen(_) => {}
            Fact::Absent => {
                self.download(service, repository, digest).await?;
                done = Ensured::Changed;
            }
            Fact::Unreadable(why) => return Err(StepError::transient(why)),
        }
        if self.keep(service, &reference, digest).await? == Ensured::Changed {
            done = Ensured::Changed;
        }
        Ok(done)
    }

    /// Puts our tag on an image the engine has.
    pub(super) async fn keep(
        &self,
        service: &ServiceName,
        reference: &str,
        digest: &Digest,
    ) -> Result<Ensured, StepError> {
        let (wanted, found) = tokio::join!(id_of(&self.engine, reference), async {
            id_of(&self.engine, &kept_tag(service, digest)).await
        });
        match (wanted, found) {
            (Fact::Seen(wanted), Fact::Seen(found)) if wanted == found => return Ok(Ensured::AlreadySo),
            (Fact::Seen(_), Fact::Seen(_) | Fact::Absent) => {}
            (Fact::Absent, _) => return Err(StepError::stale(format!("image {reference} is gone from the engine"))),
            (Fact::Unreadable(why), _) | (_, Fact::Unreadable(why)) => return Err(StepError::transient(why)),
        }
        let options = TagImageOptionsBuilder::new().repo(&kept_repository(service)).tag(digest.short()).build();
        self.engine
            .write(Duration::ZERO, |client| async move { client.tag_image(reference, Some(options)).await })
            .await
            .map_err(super::engine::Failed::into_step)?;
        Ok(Ensured::Changed)
    }

    async fn download(&self, service: &ServiceName, repository: &Repository, digest: &Digest) -> Result<(), StepError> {
        let credentials = self.registry.credentials(repository).await.map_err(StepError::refused)?;
        let credentials = credentials.map(|credentials| DockerCredentials {
            username: Some(credentials.username),
            password: Some(credentials.password.reveal().clone()),
            serveraddress: Some(credentials.host),
            ..DockerCredentials::default()
        });
        let client = self.engine.client().await.map_err(StepError::transient)?;
        // A digest goes where the tag would: without either the engine pulls every tag there is.
        let options = CreateImageOptionsBuilder::new().from_image(repository.as_str()).tag(digest.as_str()).build();
        let mut progress = std::pin::pin!(client.create_image(Some(options), None, credentials));
        let mut layers = Layers::default();
        let mut told = Instant::now();
        // An error arrives inside the stream of a 200, so the stream is read to its end.
        loop {
            match tokio::time::timeout(PULL_SILENCE, progress.next()).await {
                Ok(Some(Ok(line))) => {
                    layers.take(&line);
                    if told.elapsed() >= PULL_NEWS
                        && let Some(wakes) = self.wakes.get()
                    {
                        told = Instant::now();
                        wakes.progress(service, format!("pulling {repository}@{}: {layers}", digest.short()));
                    }
                }
                Ok(Some(Err(error))) => return Err(pull_failed(&self.engine.explain(&error))),
                Ok(None) => return Ok(()),
                Err(_) => {
                    let seconds = PULL_SILENCE.as_secs();
                    return Err(StepError::transient(format!("the pull made no progress for {seconds} s")));
                }
            }
        }
    }

    /// Deletes references of ours; what a container still uses stays.
    pub(super) async fn remove_image(
        &self,
        service: &ServiceName,
        digest: &Digest,
        references: &[String],
    ) -> Result<Ensured, StepError> {
        let mut done = Ensured::AlreadySo;
        let own = kept_tag(service, digest);
        for reference in references {
            if *reference != own && split_digest(reference).is_none_or(|(_, named)| named != *digest) {
                return Err(StepError::refused(format!("{reference} is no reference of ours")));
            }
            let removed = self
                .engine
                .write(Duration::ZERO, |client| async move {
                    client.remove_image(reference, None::<RemoveImageOptions>, None).await
                })
                .await;
            match removed {
                Ok(_) => done = Ensured::Changed,
                Err(failed) if failed.status == Some(404) => {}
                Err(failed) if failed.status == Some(409) => return Ok(done),
                Err(failed) => return Err(failed.into_step()),
            }
        }
        Ok(done)
    }
}

/// What a registry refuses for good, and what may go better later.
fn pull_failed(why: &str) -> StepError {
    let lower = why.to_ascii_lowercase();
    let said = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if said(&["unauthorized", "denied", "no basic auth", "authentication required"]) {
        return StepError::refused(format!(
            "{why}; hint: add the registry's credentials to `registries:` of holdfast.yaml"
        ));
    }
    if said(&["manifest unknown", "not found", "does not exist", "no matching manifest"]) {
        return StepError::refused(why);
    }
    StepError::transient(why)
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;
    use crate::ports::StepErrorKind;

    fn image(id: char, tags: &[&str], digests: &[String]) -> ImageSummary {
        ImageSummary {
            id: format!("sha256:{}", id.to_string().repeat(64)),
            repo_tags: tags.iter().map(ToString::to_string).collect(),
            repo_digests: digests.to_vec(),
            ..ImageSummary::default()
        }
    }

    #[test]
    fn what_is_kept_names_only_references_that_are_ours_alone() {
        let name = ServiceName::new("api").unwrap();
        let digest = format!("sha256:{}", "d".repeat(64));
        let reference = format!("localhost:5000/app@{digest}");
        let tag = "holdfast/api:dddddddddddd";
        let alone = kept(&[image('1', &[tag, "app:latest"], std::slice::from_ref(&reference))], &name, None);
        assert_eq!(alone[0].digest.as_str(), digest);
        assert_eq!(alone[0].references, [tag, &reference]);
        let shared = kept(&[image('1', &[tag, "holdfast/api-2:dddddddddddd"], &[reference])], &name, None);
        assert_eq!(shared[0].references, [tag]);
        let by_id = kept(&[image('1', &["holdfast/api:111111111111"], &[])], &name, None);
        assert_eq!(by_id[0].references, ["holdfast/api:111111111111"]);
        let moved = kept(&[image('2', &["holdfast/api:111111111111"], &[])], &name, None);
        assert_eq!(moved, []);
    }

    #[test]
    fn a_pull_says_how_far_it_is() {
        let line = |layer: &str, status: &str, current, total| CreateImageInfo {
            id: Some(layer.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: Some(ProgressDetail { current: Some(current), total: Some(total) }),
            ..CreateImageInfo::default()
        };
        let mut layers = Layers::default();
        assert_eq!(layers.to_string(), "under way");
        layers.take(&line("a", "Downloading", 34 << 20, 100 << 20));
        layers.take(&line("b", "Downloading", 0, 20 << 20));
        assert_eq!(layers.to_string(), "34 of 120 MiB");
        layers.take(&line("a", "Extracting", 1, 100 << 20));
        layers.take(&line("b", "Download complete", 0, 0));
        assert_eq!(layers.to_string(), "extracting 120 MiB");
    }

    #[test]
    fn the_kind_of_a_failed_pull_decides_the_backoff() {
        for (why, kind) in [
            ("unauthorized: authentication required", StepErrorKind::Refused),
            ("manifest for app@sha256:00 not found: manifest unknown", StepErrorKind::Refused),
            ("toomanyrequests: slow down", StepErrorKind::Transient),
            ("received unexpected HTTP status: 500", StepErrorKind::Transient),
        ] {
            assert_eq!(pull_failed(why).kind, kind, "{why}");
        }
    }
}
