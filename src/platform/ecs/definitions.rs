//! Task definitions: read once and kept (a revision never changes), registered one at a time a family.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::api::Api;
use super::compact::Packed;
use super::parse::{self, list};
use crate::aws::CallError;
use crate::model::ecs::seen::Definition;
use crate::model::ecs::tags;
use crate::model::ecs::task_definition::TaskDefinition;
use crate::model::names::ControllerId;
use crate::model::release::ReleaseHash;
use crate::model::snapshot::Fact;
use crate::plan::step::Ensured;
use crate::plan::step::ecs::Realm;
use crate::ports::StepError;

/// Revisions looked through for one that was registered when the reply was lost.
const NEWEST: i32 = 10;
/// Task definitions kept; beyond that the cache starts anew.
const KEPT: usize = 4096;

/// What is known of task definitions.
pub(super) struct Definitions {
    api: Arc<Api>,
    controller: ControllerId,
    /// Replies, by ARN.
    cache: Mutex<HashMap<String, Packed>>,
    registered: Mutex<BTreeMap<ReleaseHash, String>>,
    inactive: Mutex<BTreeSet<String>>,
    /// One registration a family at a time.
    families: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Definitions {
    pub(super) fn new(api: Arc<Api>, controller: ControllerId) -> Self {
        Self {
            api,
            controller,
            cache: Mutex::default(),
            registered: Mutex::default(),
            inactive: Mutex::default(),
            families: Mutex::default(),
        }
    }

    /// The task definition `arn`, asked for once.
    pub(super) async fn get(&self, region: Option<&str>, arn: &str) -> Fact<Definition> {
        let known = locked(&self.cache).get(arn).cloned();
        match known.map(|known| known.open().and_then(|reply| parse::definition(&reply))) {
            Some(Ok((definition, _))) => Fact::Seen(definition),
            Some(Err(why)) => Fact::Unreadable(why),
            None => self.read(region, arn).await,
        }
    }

    /// The task definition `arn` as it is now: whether it may still be chosen can change.
    pub(super) async fn read(&self, region: Option<&str>, arn: &str) -> Fact<Definition> {
        let reply = match self.api.describe_definition(region, arn).await {
            Ok(reply) => reply,
            Err(error) if error.code() == "ClientException" => return Fact::Absent,
            Err(error) => return Fact::Unreadable(error.why().to_owned()),
        };
        let (definition, active) = match parse::definition(&reply) {
            Ok(parsed) => parsed,
            Err(why) => return Fact::Unreadable(why),
        };
        let mut inactive = locked(&self.inactive);
        if active {
            inactive.remove(arn)
        } else {
            inactive.insert(arn.to_owned())
        };
        drop(inactive);
        let mut cache = locked(&self.cache);
        if cache.len() >= KEPT {
            cache.clear();
        }
        cache.insert(arn.to_owned(), Packed::new(&reply));
        Fact::Seen(definition)
    }

    /// Task definitions this process registered or found, by release, of the releases in `of_interest`.
    pub(super) fn registered(&self, is_of_interest: impl Fn(&str) -> bool) -> BTreeMap<ReleaseHash, String> {
        let registered = locked(&self.registered);
        registered
            .iter()
            .filter(|(_, arn)| is_of_interest(arn))
            .map(|(hash, arn)| (hash.clone(), arn.clone()))
            .collect()
    }

    pub(super) fn inactive(&self) -> BTreeSet<String> {
        locked(&self.inactive).clone()
    }

    pub(super) fn is_inactive(&self, arn: &str) -> bool {
        locked(&self.inactive).contains(arn)
    }

    /// Makes sure a task definition of `release` exists.
    pub(super) async fn ensure(
        &self,
        realm: &Realm,
        release: &ReleaseHash,
        definition: &TaskDefinition,
        with_tags: &BTreeMap<String, String>,
    ) -> Result<Ensured, StepError> {
        let family = definition.family().unwrap_or_default().to_owned();
        let lock = Arc::clone(locked(&self.families).entry(family.clone()).or_default());
        let _one_at_a_time = lock.lock().await;
        let region = realm.region.as_deref();
        if let Some(found) = self.find(region, &family, release, definition).await? {
            locked(&self.registered).insert(release.clone(), found);
            return Ok(Ensured::AlreadySo);
        }
        let mut body = Value::Object(definition.request());
        let mut all = with_tags.clone();
        all.insert(tags::CONTROLLER.to_owned(), self.controller.to_string());
        body["tags"] = all.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        let mut reply = self.api.register(realm, &body).await?;
        let (made, _) = parse::definition(&reply).map_err(StepError::transient)?;
        reply["tags"] = body["tags"].take();
        locked(&self.registered).insert(release.clone(), made.arn.clone());
        locked(&self.cache).insert(made.arn, Packed::new(&reply));
        Ok(Ensured::Changed)
    }

    /// Registers what `from` says once more.
    pub(super) async fn ensure_copy(
        &self,
        realm: &Realm,
        release: &ReleaseHash,
        from: &str,
    ) -> Result<Ensured, StepError> {
        match self.get(realm.region.as_deref(), from).await {
            Fact::Seen(definition) => self.ensure(realm, release, &definition.content, &definition.tags).await,
            Fact::Absent => Err(StepError::refused(format!("{from} was deleted"))),
            Fact::Unreadable(why) => Err(StepError::transient(why)),
        }
    }

    /// One that carries the release's tag, is ours and means the same: the reply to its registration was lost. The tag
    /// alone proves nothing, the console copies tags to the next revision.
    async fn find(
        &self,
        region: Option<&str>,
        family: &str,
        release: &ReleaseHash,
        definition: &TaskDefinition,
    ) -> Result<Option<String>, CallError> {
        let reply = self.api.newest_definitions(region, family, NEWEST).await?;
        let sha256 = definition.sha256();
        let of_family = format!("/{family}:");
        for arn in list(&reply, "taskDefinitionArns").filter_map(Value::as_str).filter(|it| it.contains(&of_family)) {
            if let Fact::Seen(found) = self.get(region, arn).await {
                let tagged = found.tags.get(tags::RELEASE).is_some_and(|it| it == release.as_str());
                if tagged && found.content.sha256() == sha256 && !self.is_inactive(arn) {
                    return Ok(Some(arn.to_owned()));
                }
            }
        }
        Ok(None)
    }
}
