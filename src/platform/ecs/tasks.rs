//! What the tasks of a service say: the digests they run, and why the last ones stopped.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::api::Api;
use super::parse::{self, list, text};
use super::sweep::ClusterKey;
use crate::aws::CallError;
use crate::model::ecs::seen::{RolloutState, ServiceSeen, StoppedTask};
use crate::model::image::Digest;

/// How often a deployment under way is asked why its tasks stop.
const STOPPED_EVERY: Duration = Duration::from_secs(2);
/// Tasks described in one call.
const BATCH: usize = 100;
/// Pages of task ids read at most: a crash loop leaves a thousand stopped tasks an hour.
const PAGES: usize = 10;
/// Services remembered; beyond that it starts anew.
const KEPT: usize = 4096;

/// What is remembered of tasks.
pub(super) struct Tasks {
    api: Arc<Api>,
    /// By deployment: ECS pins the digest of a tag for as long as the deployment lasts.
    digests: Mutex<HashMap<String, BTreeMap<String, Digest>>>,
    stopped: Mutex<HashMap<String, Stopped>>,
}

/// What was said of stopped tasks, when, and of which state of the deployments.
#[derive(Clone)]
struct Stopped {
    at: Instant,
    of: Vec<(String, RolloutState, u32)>,
    tasks: Vec<StoppedTask>,
}

impl Tasks {
    pub(super) fn new(api: Arc<Api>) -> Self {
        Self { api, digests: Mutex::default(), stopped: Mutex::default() }
    }

    /// The digest each container runs, where every running task agrees.
    pub(super) async fn digests(&self, key: &ClusterKey, seen: &ServiceSeen) -> BTreeMap<String, Digest> {
        let Some(primary) = seen.primary().filter(|_| seen.running > 0) else { return BTreeMap::new() };
        if let Some(known) = self.digests.lock().unwrap_or_else(PoisonError::into_inner).get(&primary.id) {
            return known.clone();
        }
        let tasks = self.describe(key, &seen.name, false).await.unwrap_or_default();
        let of_definition = |task: &&Value| text(task, "taskDefinitionArn") == seen.task_definition;
        let mut found: BTreeMap<String, Option<Digest>> = BTreeMap::new();
        for container in tasks.iter().filter(of_definition).flat_map(|task| list(task, "containers")) {
            let name = text(container, "name").to_owned();
            let digest = Digest::new(text(container, "imageDigest")).ok();
            let entry = found.entry(name).or_insert_with(|| digest.clone());
            if *entry != digest {
                *entry = None;
            }
        }
        let found: BTreeMap<String, Digest> = found.into_iter().filter_map(|(name, it)| Some((name, it?))).collect();
        if !found.is_empty() && !seen.is_deploying() {
            let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
            if digests.len() >= KEPT {
                digests.clear();
            }
            digests.insert(primary.id.clone(), found.clone());
        }
        found
    }

    /// When the youngest task that runs the service's task definition started; none while one is on its way.
    pub(super) async fn youngest(&self, key: &ClusterKey, seen: &ServiceSeen) -> Option<Timestamp> {
        let tasks = self.describe(key, &seen.name, false).await.ok()?;
        let ours = tasks.iter().filter(|task| text(task, "taskDefinitionArn") == seen.task_definition);
        let started: Option<Vec<Timestamp>> = ours.map(|task| parse::time(task, "startedAt")).collect();
        started.filter(|all| all.len() >= seen.desired as usize)?.into_iter().max()
    }

    /// Why tasks stopped lately, newest first; asked only while a deployment does not get there.
    pub(super) async fn stopped(&self, key: &ClusterKey, seen: &ServiceSeen) -> Vec<StoppedTask> {
        let unfinished = |it: &crate::model::ecs::seen::DeploymentSeen| {
            it.rollout == RolloutState::Failed || (it.primary && it.running < it.desired)
        };
        let known = self.stopped.lock().unwrap_or_else(PoisonError::into_inner).get(&seen.arn).cloned();
        let before = || known.as_ref().map(|it| it.tasks.clone()).unwrap_or_default();
        if !seen.deployments.iter().any(unfinished) {
            return before();
        }
        let now = Instant::now();
        let of: Vec<_> = seen.deployments.iter().map(|it| (it.id.clone(), it.rollout, it.failed)).collect();
        if known.as_ref().is_some_and(|it| it.of == of && now.duration_since(it.at) < STOPPED_EVERY) {
            return before();
        }
        let Ok(tasks) = self.describe(key, &seen.name, true).await else { return before() };
        let mut stopped: Vec<StoppedTask> =
            tasks.iter().filter(|task| !parse::is_ordinary(task)).map(parse::stopped).collect();
        stopped.sort_by_key(|it| std::cmp::Reverse(it.at));
        stopped.truncate(5);
        let mut all = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KEPT {
            all.clear();
        }
        all.insert(seen.arn.clone(), Stopped { at: now, of, tasks: stopped.clone() });
        stopped
    }

    async fn describe(&self, key: &ClusterKey, service: &str, stopped: bool) -> Result<Vec<Value>, CallError> {
        let region = key.region.as_deref();
        let (mut arns, mut token): (Vec<String>, Option<String>) = (Vec::new(), None);
        for _ in 0..PAGES {
            let reply = self.api.list_tasks(region, &key.cluster, service, stopped, token).await?;
            arns.extend(list(&reply, "taskArns").filter_map(Value::as_str).map(str::to_owned));
            token = Some(text(&reply, "nextToken").to_owned()).filter(|it| !it.is_empty());
            if token.is_none() {
                break;
            }
        }
        // The newest are listed last where there is an order at all.
        let arns = arns.split_off(arns.len().saturating_sub(BATCH));
        if arns.is_empty() {
            return Ok(Vec::new());
        }
        let reply = self.api.describe_tasks(region, &key.cluster, arns).await?;
        Ok(list(&reply, "tasks").cloned().collect())
    }
}
