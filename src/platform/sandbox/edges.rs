//! The sandbox's registry, account, env files and probes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::ecs::aws::is_bad;
use super::engine::OUTAGE;
use super::state::digest_of;
use super::{FIRST_ANSWER, Sandbox};
use crate::model::desired::{AwsGuard, Check};
use crate::model::env_file::EnvVariables;
use crate::model::hash::sha256_hex;
use crate::model::image::{Digest, Repository, Tag, TagSpec};
use crate::model::names::ServiceName;
use crate::model::release::EnvFileVersion;
use crate::model::snapshot::{Fact, Health, RegistryImage, ReplicaState, TagSeen, Why};
use crate::plan::step::{Ensured, RegistryStep};
use crate::ports::{Account, Credentials, EnvFiles, Probe, ProbeTarget, Registry, StepError};

#[async_trait]
impl Registry for Sandbox {
    async fn resolve(&self, repository: &Repository, tag: &TagSpec, _max_age: Duration) -> Fact<Digest> {
        if self.state().outage {
            return Fact::Unreadable(OUTAGE.to_owned());
        }
        if let Some(digest) = &tag.digest {
            return Fact::Seen(digest.clone());
        }
        if tag.tag.as_str().contains("missing") {
            return Fact::Absent;
        }
        self.list(repository, &tag.tag);
        let digest = digest_of(repository, &tag.tag);
        if is_bad(tag.tag.as_str()) {
            self.state().ecs.bad.extend(digest.clone());
        }
        digest.map_or(Fact::Absent, Fact::Seen)
    }

    async fn credentials(&self, _repository: &Repository) -> Result<Option<Credentials>, Why> {
        Ok(None)
    }

    async fn images(&self, _repository: &Repository) -> Fact<Vec<RegistryImage>> {
        Fact::Seen(Vec::new())
    }

    async fn tags(&self, repository: &Repository, _max_age: Duration) -> Fact<Vec<TagSeen>> {
        let state = self.state();
        if state.outage {
            return Fact::Unreadable(OUTAGE.to_owned());
        }
        let of_it = state.pushed.iter().filter(|((of, _), _)| of == repository);
        Fact::Seen(of_it.map(|((_, tag), at)| TagSeen { tag: tag.clone(), pushed_at: Some(*at) }).collect())
    }

    async fn perform(&self, _step: &RegistryStep) -> Result<Ensured, StepError> {
        Ok(Ensured::AlreadySo)
    }
}

#[async_trait]
impl Account for Sandbox {
    async fn account(&self, guard: &AwsGuard) -> Fact<String> {
        if self.state().outage {
            return Fact::Unreadable(OUTAGE.to_owned());
        }
        Fact::Seen(guard.account.clone().unwrap_or_else(|| "000000000000".to_owned()))
    }
}

#[async_trait]
impl EnvFiles for Sandbox {
    async fn version(&self, path: &Path) -> Fact<EnvFileVersion> {
        if path.to_string_lossy().contains("missing") {
            return Fact::Absent;
        }
        let sha256 = sha256_hex(path.as_os_str().as_encoded_bytes());
        Fact::Seen(EnvFileVersion { path: path.to_owned(), sha256 })
    }

    async fn variables(&self, _: &EnvFileVersion) -> Result<EnvVariables, Why> {
        Ok(EnvVariables::new())
    }
}

impl Probe for Sandbox {
    fn watch(&self, service: &ServiceName, targets: Vec<ProbeTarget>) {
        let now = self.clock.now();
        let mut state = self.state();
        let known = state.verdicts.entry(service.clone()).or_default();
        known.retain(|id, (started, _)| targets.iter().any(|one| one.id == *id && one.started_at == *started));
        let mut fresh = Vec::new();
        for target in targets.into_iter().filter(|target| target.check != Check::Container) {
            if !known.contains_key(&target.id) {
                known.insert(target.id.clone(), (target.started_at, Health::unasked(now)));
                fresh.push(target);
            }
        }
        drop(state);
        for target in fresh {
            let service = service.clone();
            let wait = match target.check {
                Check::Running(wanted) => wanted,
                _ => FIRST_ANSWER,
            };
            self.later(wait, move |world| world.answer(&service, &target.id, target.started_at));
        }
    }

    fn verdicts(&self, service: &ServiceName) -> BTreeMap<String, Health> {
        let state = self.state();
        let known = state.verdicts.get(service).into_iter().flatten();
        known.map(|(id, (_, health))| (id.clone(), health.clone())).collect()
    }
}

impl Sandbox {
    /// `docker push REPOSITORY:TAG`.
    pub fn push(&self, repository: &Repository, tag: &Tag) {
        self.list(repository, tag);
        self.wake(None, &format!("push {repository}:{tag}"));
    }

    fn list(&self, repository: &Repository, tag: &Tag) {
        let now = self.clock.now();
        self.state().pushed.entry((repository.clone(), tag.clone())).or_insert(now);
    }

    /// The first answer of a replica arrives.
    fn answer(&self, service: &ServiceName, id: &str, started: Timestamp) {
        let now = self.clock.now();
        {
            let mut state = self.state();
            let found = state.containers.values().find(|one| one.replica.id == id);
            let Some((tag, up)) = found.map(|one| (one.tag.clone(), one.replica.state == ReplicaState::Running)) else {
                return;
            };
            let Some(known) = state.verdicts.get_mut(service).and_then(|of| of.get_mut(id)) else { return };
            if known.0 != started {
                return;
            }
            let unknown = |why: &str| match &known.1 {
                Health::Unknown { since, .. } => Health::Unknown { since: *since, last: Some(why.to_owned()) },
                _ => Health::Unknown { since: now, last: Some(why.to_owned()) },
            };
            known.1 = match (up, tag.as_str().contains("bad")) {
                (true, false) => Health::Healthy(now),
                (true, true) => unknown("answered 503, expected 200-399"),
                (false, _) => unknown("the connection was refused"),
            };
        }
        self.wake(Some(service), "probe answered");
    }
}
