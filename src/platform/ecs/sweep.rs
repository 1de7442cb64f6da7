//! What ECS says of every service we look at: read in sweeps of ten that all of them share.
//!
//! A look costs nothing when a sweep that is fresh enough answers it. When one has to ask, everything of the cluster that
//! is about as old is asked along, so that N services cost ⌈N/10⌉ calls however many of them look.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::api::Api;
use super::compact::Packed;
use super::parse::{list, text};
use crate::aws::CallError;
use crate::model::names::ServiceName;
use crate::model::snapshot::{Fact, Why};

/// The most one call takes.
const BATCH: usize = 10;
/// How long a reply to a write outweighs reads that do not show it yet: ECS is eventually consistent.
const UNSETTLED: Duration = Duration::from_secs(60);
/// How long a sweep that is told to slow down goes on before it says so.
const PATIENCE: Duration = Duration::from_secs(45);

/// A cluster in a region.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClusterKey {
    pub(super) region: Option<String>,
    pub(super) cluster: String,
}

/// What was read of one service, and when.
#[derive(Debug, Clone)]
struct Observed {
    description: Fact<Packed>,
    /// When the question was asked: the answer is no older.
    at: Instant,
}

#[derive(Debug)]
struct Entry {
    /// Who wants to know.
    service: ServiceName,
    observed: Option<Observed>,
    last_asked_for: Instant,
    /// The deployment a write of ours began, until a read shows it.
    expected: Option<(String, Instant)>,
    /// When its deployment was first seen under way.
    deploying_since: Option<Instant>,
    polled_at: Instant,
}

#[derive(Debug, Default)]
struct ClusterState {
    entries: Mutex<BTreeMap<String, Entry>>,
    /// Held while a sweep runs.
    sweeping: tokio::sync::Mutex<()>,
}

/// Every cluster that is looked at.
pub(super) struct Sweeps {
    api: Arc<Api>,
    resync: Duration,
    clusters: Mutex<BTreeMap<ClusterKey, Arc<ClusterState>>>,
    /// Something began to deploy: the poller may have slept too long.
    pub(super) moved: Notify,
}

impl ClusterState {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sweeps {
    pub(super) fn new(api: Arc<Api>, resync: Duration) -> Self {
        Self { api, resync, clusters: Mutex::default(), moved: Notify::new() }
    }

    fn cluster(&self, key: &ClusterKey) -> Arc<ClusterState> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(clusters.entry(key.clone()).or_default())
    }

    /// The description of one service, at most `max_age` old.
    pub(super) async fn look(
        &self,
        key: &ClusterKey,
        name: &str,
        service: &ServiceName,
        max_age: Duration,
    ) -> Fact<Arc<Value>> {
        let cluster = self.cluster(key);
        let asked = Instant::now();
        cluster.note_interest(name, service, asked);
        let fresh = |cluster: &ClusterState| {
            let entries = cluster.entries();
            let observed = entries.get(name).and_then(|entry| entry.observed.clone());
            observed.filter(|it| it.at + max_age >= asked).map(|it| opened(&it.description))
        };
        if let Some(known) = fresh(&cluster) {
            return known;
        }
        let _sweeping = cluster.sweeping.lock().await;
        if let Some(known) = fresh(&cluster) {
            return known;
        }
        let names = cluster.due(name, self.resync);
        self.sweep(key, &cluster, &names).await;
        let entries = cluster.entries();
        let observed = entries.get(name).and_then(|entry| entry.observed.clone());
        observed.map_or_else(|| Fact::Unreadable("the sweep left it out".to_owned()), |it| opened(&it.description))
    }

    /// Reads `names`, ten a call.
    async fn sweep(&self, key: &ClusterKey, cluster: &ClusterState, names: &[String]) {
        let until = Instant::now() + PATIENCE;
        for batch in names.chunks(BATCH) {
            let answer = loop {
                let at = Instant::now();
                let answer = self.api.describe_services(key.region.as_deref(), &key.cluster, batch).await;
                match answer {
                    // The budget makes the next call wait; nobody fails because AWS asks for fewer calls.
                    Err(CallError::Throttled(_)) if Instant::now() < until => {}
                    answer => break answer.map(|reply| (reply, at)),
                }
            };
            match answer {
                Ok((reply, at)) => cluster.take(batch, &reply, at),
                Err(error) => cluster.fail(batch, error.why()),
            }
        }
        if cluster.entries().values().any(|entry| entry.deploying_since.is_some()) {
            self.moved.notify_one();
        }
    }

    /// A write was answered with this description: it is the newest there is.
    pub(super) fn wrote(&self, key: &ClusterKey, name: &str, description: &Value) {
        let cluster = self.cluster(key);
        let mut entries = cluster.entries();
        let Some(entry) = entries.get_mut(name) else { return };
        entry.expected = primary(description).map(|id| (id.to_owned(), Instant::now() + UNSETTLED));
        entry.observe(Fact::Seen(kept(description)), Instant::now());
        drop(entries);
        self.moved.notify_one();
    }

    /// What is known of a service is no longer so.
    pub(super) fn forget(&self, key: &ClusterKey, name: &str) {
        if let Some(entry) = self.cluster(key).entries().get_mut(name) {
            entry.observed = None;
        }
    }

    /// An event told of a service by its ARN or name: who is to look again.
    pub(super) fn told(&self, cluster: &str, name: &str) -> Option<ServiceName> {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let short = |text: &str| text.rsplit('/').next().unwrap_or(text).to_owned();
        for (key, state) in clusters.iter().filter(|(key, _)| short(&key.cluster) == short(cluster)) {
            if let Some(entry) = state.entries().get_mut(&short(name)) {
                tracing::debug!(target: "holdfast::aws", cluster = key.cluster, name, "told by an event");
                entry.observed = None;
                return Some(entry.service.clone());
            }
        }
        None
    }

    /// Reads everything that is being deployed and due for it; returns who changed, and when to come again.
    pub(super) async fn poll(&self) -> (Vec<ServiceName>, Option<Instant>) {
        let clusters: Vec<_> = {
            let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
            clusters.iter().map(|(key, state)| (key.clone(), Arc::clone(state))).collect()
        };
        let mut changed = Vec::new();
        for (key, cluster) in &clusters {
            let due = cluster.due_for_poll(Instant::now());
            if due.is_empty() {
                continue;
            }
            let _sweeping = cluster.sweeping.lock().await;
            let before = cluster.told_of(&due);
            self.sweep(key, cluster, &due).await;
            let after = cluster.told_of(&due);
            let differs = before.iter().zip(&after).filter(|(a, b)| a.1 != b.1);
            changed.extend(differs.map(|((service, _), _)| service.clone()));
        }
        let next = clusters.iter().filter_map(|(_, cluster)| cluster.next_poll()).min();
        (changed, next)
    }
}

impl ClusterState {
    fn note_interest(&self, name: &str, service: &ServiceName, now: Instant) {
        let mut entries = self.entries();
        let entry = entries.entry(name.to_owned()).or_insert_with(|| Entry {
            service: service.clone(),
            observed: None,
            last_asked_for: now,
            expected: None,
            deploying_since: None,
            polled_at: now,
        });
        entry.last_asked_for = now;
        entry.service.clone_from(service);
    }

    /// `name`, and whatever is so old that it would be asked for soon anyway. Who is not asked for any more is dropped.
    fn due(&self, name: &str, resync: Duration) -> Vec<String> {
        let mut entries = self.entries();
        let now = Instant::now();
        entries.retain(|_, entry| now.duration_since(entry.last_asked_for) < resync * 4);
        let old =
            |entry: &Entry| entry.observed.as_ref().is_none_or(|it| now.duration_since(it.at) >= resync.mul_f64(0.5));
        let mut names: Vec<String> = entries
            .iter()
            .filter(|(other, entry)| *other != name && old(entry))
            .map(|(name, _)| name.clone())
            .collect();
        names.insert(0, name.to_owned());
        names
    }

    fn due_for_poll(&self, now: Instant) -> Vec<String> {
        let entries = self.entries();
        let due = entries.iter().filter(|(_, entry)| entry.poll_at().is_some_and(|at| at <= now));
        due.map(|(name, _)| name.clone()).collect()
    }

    fn next_poll(&self) -> Option<Instant> {
        self.entries().values().filter_map(Entry::poll_at).min()
    }

    /// What of each of `names` is worth a look.
    fn told_of(&self, names: &[String]) -> Vec<(ServiceName, Option<String>)> {
        let entries = self.entries();
        let of = |name: &String| {
            let entry = entries.get(name)?;
            let told = entry.observed.as_ref().map(|it| match opened(&it.description) {
                Fact::Seen(description) => essence(&description),
                Fact::Absent => "absent".to_owned(),
                Fact::Unreadable(why) => why,
            });
            Some((entry.service.clone(), told))
        };
        names.iter().filter_map(of).collect()
    }

    fn take(&self, batch: &[String], reply: &Value, at: Instant) {
        let mut entries = self.entries();
        for name in batch {
            let Some(entry) = entries.get_mut(name) else { continue };
            let described = list(reply, "services").find(|it| text(it, "serviceName") == name);
            let failure = list(reply, "failures").find(|it| {
                let arn = text(it, "arn");
                arn == name || arn.ends_with(&format!("/{name}"))
            });
            match (described, failure) {
                (Some(description), _) => entry.read(description, at),
                (None, Some(failure)) if text(failure, "reason") == "MISSING" => entry.observe(Fact::Absent, at),
                (None, Some(failure)) => {
                    let why = format!("ecs:DescribeServices answered {}", text(failure, "reason"));
                    entry.observe(Fact::Unreadable(why), at);
                }
                // Neither there nor missing: a partial answer says nothing.
                (None, None) => entry.observe(Fact::Unreadable("ecs:DescribeServices left it out".to_owned()), at),
            }
        }
    }

    fn fail(&self, batch: &[String], why: &str) {
        let mut entries = self.entries();
        for name in batch {
            if let Some(entry) = entries.get_mut(name) {
                entry.observe(Fact::Unreadable(why.to_owned()), Instant::now());
            }
        }
    }
}

impl Entry {
    /// Takes a description, unless it is older than a write of ours.
    fn read(&mut self, description: &Value, at: Instant) {
        if let Some((id, until)) = &self.expected {
            let shows = list(description, "deployments").any(|it| text(it, "id") == id);
            if !shows && at < *until {
                tracing::debug!(target: "holdfast::aws", service = %self.service, "a read older than our write");
                return;
            }
            self.expected = None;
        }
        self.observe(Fact::Seen(kept(description)), at);
    }

    fn observe(&mut self, description: Fact<Value>, at: Instant) {
        let deploying = description.seen().is_some_and(is_moving);
        self.deploying_since = deploying.then(|| self.deploying_since.unwrap_or(at));
        self.polled_at = at;
        let description = match description {
            Fact::Seen(description) => Fact::Seen(Packed::new(&description)),
            Fact::Absent => Fact::Absent,
            Fact::Unreadable(why) => Fact::Unreadable(why),
        };
        self.observed = Some(Observed { description, at });
    }

    /// While a deployment is under way: a twentieth of the time it has taken so far, 200 ms to 5 s.
    fn poll_at(&self) -> Option<Instant> {
        let since = self.deploying_since?;
        let wait =
            (self.polled_at.duration_since(since) / 20).clamp(Duration::from_millis(200), Duration::from_secs(5));
        Some(self.polled_at + wait)
    }
}

fn opened(description: &Fact<Packed>) -> Fact<Arc<Value>> {
    match description {
        Fact::Seen(packed) => packed.open().map_or_else(Fact::Unreadable, |it| Fact::Seen(Arc::new(it))),
        Fact::Absent => Fact::Absent,
        Fact::Unreadable(why) => Fact::Unreadable(why.clone()),
    }
}

/// What is kept of a description: all but the log of the last hundred events, which is most of it and read by nobody.
fn kept(description: &Value) -> Value {
    let Some(fields) = description.as_object() else { return description.clone() };
    Value::Object(
        fields.iter().filter(|(key, _)| *key != "events").map(|(key, it)| (key.clone(), it.clone())).collect(),
    )
}

fn primary(description: &Value) -> Option<&str> {
    list(description, "deployments").find(|it| text(it, "status") == "PRIMARY").map(|it| text(it, "id"))
}

/// Whether ECS is at work on the service.
fn is_moving(description: &Value) -> bool {
    let count = |key: &str| description.get(key).and_then(Value::as_u64).unwrap_or(0);
    let in_progress = list(description, "deployments").any(|it| text(it, "rolloutState") == "IN_PROGRESS");
    in_progress
        || text(description, "status") == "DRAINING"
        || count("runningCount") != count("desiredCount")
        || count("pendingCount") > 0
}

/// What a change of is worth a look: no events, no timestamps.
fn essence(description: &Value) -> String {
    let mut parts: Vec<String> = Vec::new();
    for key in ["status", "taskDefinition", "desiredCount", "runningCount", "deploymentConfiguration"] {
        parts.push(description.get(key).map(Value::to_string).unwrap_or_default());
    }
    for deployment in list(description, "deployments") {
        for key in ["id", "status", "rolloutState", "runningCount", "desiredCount", "failedTasks"] {
            parts.push(deployment.get(key).map(Value::to_string).unwrap_or_default());
        }
    }
    parts.join(" ")
}

/// A fact about a description, with the reason of one that could not be read.
pub(super) fn unread(fact: &Fact<Arc<Value>>) -> Option<Why> {
    match fact {
        Fact::Unreadable(why) => Some(why.clone()),
        Fact::Seen(_) | Fact::Absent => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::kept;

    #[test]
    fn the_event_log_of_a_service_is_not_kept() {
        let described = json!({"serviceName": "api", "somethingNew": {"a": 1}, "events": [{"message": "steady"}]});
        assert_eq!(kept(&described), json!({"serviceName": "api", "somethingNew": {"a": 1}}));
    }
}
