//! ECS: services seen in shared sweeps, changed by one call each.
//!
//! | file | does |
//! |---|---|
//! | `api` | one call: budget, account, JSON carried through whole |
//! | `sweep` | what ECS says of every service, ten a call |
//! | `parse` | JSON to what a look saw |
//! | `compact` | JSON that is kept, as its text |
//! | `definitions` | task definitions, read once, registered one at a time |
//! | `tasks` | digests that run, and why tasks stopped |
//! | `perform` | steps, checked once more right before each |
//! | `watch` | deployments polled, events taken from a queue |
//! | `import` | the desired state of what already runs |

mod api;
mod compact;
mod definitions;
mod import;
mod parse;
mod perform;
mod sweep;
mod tasks;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::Instant;

use api::Api;
use definitions::Definitions;
use sweep::{ClusterKey, Sweeps, unread};
use tasks::Tasks;

use crate::aws::Shared;
use crate::model::colour::Group;
use crate::model::ecs::seen::{Definition, EcsSeen, Owner, ServiceSeen};
use crate::model::ecs::tags;
use crate::model::ecs::task_definition::digest_of;
use crate::model::names::ControllerId;
use crate::model::snapshot::Fact;
use crate::plan::step::{EcsStep, Ensured};
use crate::ports::{Cluster, EcsLookAt, StepError, Wakes};

/// How long an answer about alarms is good.
const ALARMS_FOR: Duration = Duration::from_secs(20);

/// What ECS is asked with.
pub struct EcsOptions {
    /// Whose services are ours.
    pub controller: ControllerId,
    /// Ids taken over with `adopt --from`.
    pub former: Vec<ControllerId>,
    /// The sweep behind the events.
    pub resync: Duration,
    /// The URL of the event queue.
    pub queue: Option<String>,
    /// The budget of calls, and whose credentials are in use.
    pub aws: Shared,
}

/// Which alarms of a service are in ALARM, and when that was asked.
type Alarms = (Instant, Fact<Vec<String>>);

/// ECS in every region and cluster the desired state names.
pub struct Ecs {
    api: Arc<Api>,
    controller: ControllerId,
    ours: Vec<ControllerId>,
    queue: Option<String>,
    sweeps: Sweeps,
    definitions: Definitions,
    tasks: Tasks,
    alarms: Mutex<BTreeMap<String, Alarms>>,
    me: std::sync::Weak<Self>,
}

impl Ecs {
    /// Nothing is asked before the first look.
    pub fn new(options: EcsOptions) -> Arc<Self> {
        let EcsOptions { controller, former, resync, queue, aws } = options;
        let api = Arc::new(Api::new(aws));
        let ours = std::iter::once(controller.clone()).chain(former).collect();
        Arc::new_cyclic(|me| Self {
            sweeps: Sweeps::new(Arc::clone(&api), resync),
            definitions: Definitions::new(Arc::clone(&api), controller.clone()),
            tasks: Tasks::new(Arc::clone(&api)),
            alarms: Mutex::default(),
            api,
            controller,
            ours,
            queue,
            me: me.clone(),
        })
    }

    async fn see(&self, key: &ClusterKey, group: Group, name: &str, at: EcsLookAt<'_>) -> Fact<ServiceSeen> {
        let description = self.sweeps.look(key, name, at.name, at.max_age).await;
        if let Some(why) = unread(&description) {
            return Fact::Unreadable(why);
        }
        let Fact::Seen(description) = description else { return Fact::Absent };
        let Fact::Seen(mut seen) = parse::service(&description, &self.ours) else { return Fact::Absent };
        if at.service.is_none() {
            return Fact::Seen(seen);
        }
        let region = key.region.as_deref();
        seen.definition = self.definitions.get(region, &seen.task_definition).await;
        if needs_digests(&seen) {
            seen.digests = self.tasks.digests(key, &seen).await;
        }
        let on_its_way = at.memory.attempt.as_ref().is_some_and(|it| it.group == group);
        if on_its_way && at.service.is_some_and(|it| it.alb.is_some()) && seen.running >= seen.desired.max(1) {
            seen.youngest = self.tasks.youngest(key, &seen).await;
        }
        seen.stopped = self.tasks.stopped(key, &seen).await;
        seen.alarming = self.alarming(region, &seen.arn, &description).await;
        Fact::Seen(seen)
    }

    async fn alarming(&self, region: Option<&str>, arn: &str, description: &Value) -> Fact<Vec<String>> {
        let names = parse::alarms(description);
        if names.is_empty() {
            return Fact::Absent;
        }
        let known = self.alarms.lock().unwrap_or_else(PoisonError::into_inner).get(arn).cloned();
        if let Some((at, fact)) = known
            && at.elapsed() < ALARMS_FOR
        {
            return fact;
        }
        let fact = match self.api.alarming(region, names).await {
            Ok(alarming) => Fact::Seen(alarming),
            Err(error) => Fact::Unreadable(error.why().to_owned()),
        };
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        alarms.insert(arn.to_owned(), (Instant::now(), fact.clone()));
        fact
    }

    /// The base as remembered, or as the tags say; none while nothing does.
    async fn base(&self, region: Option<&str>, at: EcsLookAt<'_>, seen: &[&ServiceSeen]) -> Option<Fact<Definition>> {
        at.service?;
        let by_tag = || {
            let ours = seen.iter().filter(|it| it.owner == Owner::Us);
            let of_definition = |it: &&&ServiceSeen| it.definition.seen()?.tags.get(tags::BASE).cloned();
            let tagged = ours.clone().find_map(|it| it.tags.get(tags::BASE).cloned());
            tagged.or_else(|| ours.clone().find_map(|it| of_definition(&it)))
        };
        let arn = at.memory.base.clone().or_else(by_tag)?;
        Some(self.definitions.get(region, &arn).await)
    }
}

/// A tag says nothing of what runs.
fn needs_digests(seen: &ServiceSeen) -> bool {
    let Some(definition) = seen.definition.seen() else { return false };
    let pinned = |name: &&str| definition.content.image(name).is_some_and(|image| digest_of(image).is_some());
    !definition.content.containers().iter().all(pinned)
}

#[async_trait]
impl Cluster for Ecs {
    async fn look(&self, at: EcsLookAt<'_>) -> EcsSeen {
        let key = ClusterKey { region: at.place.region.clone(), cluster: at.place.cluster.clone() };
        let mut services = BTreeMap::new();
        for (group, name) in &at.place.services {
            services.insert(*group, self.see(&key, *group, name, at).await);
        }
        let seen: Vec<&ServiceSeen> = services.values().filter_map(Fact::seen).collect();
        let base = self.base(key.region.as_deref(), at, &seen).await;
        let family = |arn: &str| {
            let name = arn.rsplit('/').next().and_then(|it| it.split(':').next()).unwrap_or_default().to_owned();
            let configured = at.service.and_then(|it| it.ecs.as_ref()?.family.clone());
            let of_base = base.as_ref().and_then(|it| it.seen()?.content.family().map(str::to_owned));
            let of_file = at.service.and_then(|it| it.ecs.as_ref()?.base.as_ref()?.content.family().map(str::to_owned));
            let live = seen.iter().filter_map(|it| it.definition.seen()?.content.family().map(str::to_owned));
            configured.into_iter().chain(of_base).chain(of_file).chain(live).any(|it| it == name)
        };
        let registered = self.definitions.registered(family);
        EcsSeen { base, sidecars: BTreeMap::new(), registered, inactive: self.definitions.inactive(), services }
    }

    async fn perform(&self, step: &EcsStep) -> Result<Ensured, StepError> {
        self.do_step(step).await
    }

    async fn watch(&self, wakes: Wakes) {
        if let Some(me) = self.me.upgrade() {
            Box::pin(watch::watch(&me, wakes)).await;
        }
    }
}
