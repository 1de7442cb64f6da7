//! The event stream: what it says makes lists old and wakes the right service.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::{EventsOptions, EventsOptionsBuilder};
use futures_util::{Stream, StreamExt};

use super::Docker;
use super::labels::{self, Owners};
use crate::model::desired::{Pull, Service};
use crate::model::image::Repository;
use crate::model::names::ServiceName;
use crate::ports::Wakes;

/// The first wait before the stream is opened again.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest: a daemon that was away for minutes is noticed within this.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Before the newest moment known to be covered: the engine's clock and ours are the same host's.
const OVERLAP: Duration = Duration::from_secs(1);

/// Everything that can change a look; exec and attach events are not even sent. `health_status` also matches
/// `health_status: healthy`.
const EVENTS: [&str; 18] = [
    "create",
    "start",
    "kill",
    "restart",
    "die",
    "oom",
    "pause",
    "unpause",
    "rename",
    "update",
    "destroy",
    "health_status",
    "pull",
    "tag",
    "untag",
    "delete",
    "import",
    "load",
];

/// What would matter to each service that was looked at, beside its labels.
#[derive(Debug, Default)]
pub(super) struct Interests(BTreeMap<ServiceName, Interest>);

#[derive(Debug)]
struct Interest {
    names: BTreeSet<String>,
    /// With `pull: never` a new local tag is a new release.
    local: Option<Repository>,
}

impl Interests {
    /// Remembers what `service` depends on.
    pub(super) fn note(&mut self, service: &Service) {
        let names = super::classify::needed_names(service).chain(service.docker.replaces.iter().cloned()).collect();
        let local = (service.docker.pull == Pull::Never).then(|| service.image.clone());
        self.0.insert(service.name.clone(), Interest { names, local });
    }

    /// The service left the file.
    pub(super) fn forget(&mut self, service: &ServiceName) {
        self.0.remove(service);
    }

    fn by_container(&self, name: &str) -> impl Iterator<Item = &ServiceName> {
        self.0.iter().filter(move |(_, interest)| interest.names.contains(name)).map(|(service, _)| service)
    }

    fn by_image(&self, reference: &str) -> impl Iterator<Item = &ServiceName> {
        let repository = reference.rsplit_once(':').map_or(reference, |(repository, _)| repository);
        let repository = Repository::new(repository).ok();
        self.0.iter().filter_map(move |(service, interest)| {
            interest.local.as_ref()?.same_as(repository.as_ref()?).then_some(service)
        })
    }
}

/// Who has to look again after `event`.
fn concerned(event: &EventMessage, owners: &Owners, interests: &Interests) -> BTreeSet<ServiceName> {
    let none = HashMap::new();
    let attributes = event.actor.as_ref().and_then(|actor| actor.attributes.as_ref()).unwrap_or(&none);
    let name = attributes.get("name").map(String::as_str).unwrap_or_default();
    if event.typ == Some(EventMessageTypeEnum::IMAGE) {
        return interests.by_image(name).cloned().collect();
    }
    let mut services: BTreeSet<ServiceName> = interests.by_container(name).cloned().collect();
    if let Some(old) = attributes.get("oldName") {
        services.extend(interests.by_container(old.trim_start_matches('/')).cloned());
    }
    if owners.owns_labels(attributes)
        && let Some(service) = attributes.get(labels::SERVICE).and_then(|text| ServiceName::new(text).ok())
    {
        services.insert(service);
    }
    services
}

fn moment_of(event: &EventMessage) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_nanosecond(i128::from(event.time_nano?)).ok()
}

impl Docker {
    /// Follows the stream for ever.
    pub(super) async fn follow(&self, wakes: &Wakes) {
        let mut wait = FIRST_WAIT;
        let mut since = self.clock.now();
        let mut known_down = false;
        loop {
            let why = match self.open_events(since).await {
                Ok(events) => {
                    self.world.set_streaming(true);
                    tracing::debug!("docker: the event stream is open");
                    wakes.wake(None, "docker: the event stream is open");
                    (wait, known_down) = (FIRST_WAIT, false);
                    let why = self.read_events(events, wakes, &mut since).await;
                    self.world.set_streaming(false);
                    why
                }
                Err(why) => why,
            };
            if !known_down {
                known_down = true;
                tracing::warn!("docker: no events, every look asks the engine: {why}");
                wakes.wake(None, "docker: the event stream is lost");
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Opens the stream. The engine answers its head at once, but the client shows only events: the stream counts as open
    /// when a call made after the request was answered; what lies between comes again because of `since`.
    async fn open_events(
        &self,
        since: jiff::Timestamp,
    ) -> Result<impl Stream<Item = Result<EventMessage, bollard::errors::Error>> + Unpin + use<>, String> {
        let client = self.engine.client().await?;
        let since = since.checked_sub(OVERLAP).unwrap_or(since);
        let filters = HashMap::from([("type", vec!["container", "image"]), ("event", EVENTS.to_vec())]);
        let options: EventsOptions = EventsOptionsBuilder::new()
            .since(&format!("{}.{:09}", since.as_second(), since.subsec_nanosecond()))
            .filters(&filters)
            .build();
        let mut stream = Box::pin(client.events(Some(options)));
        let first = tokio::select! {
            biased;
            first = stream.next() => Some(first),
            answered = self.engine.read(|client| async move { client.ping().await }) => {
                answered?;
                None
            }
        };
        match first {
            Some(None) => Err("the event stream ended at once".to_owned()),
            Some(Some(Err(error))) => {
                self.engine.forget();
                Err(self.engine.explain(&error))
            }
            Some(Some(Ok(event))) => Ok(futures_util::stream::iter([Ok(event)]).chain(stream).boxed()),
            None => Ok(stream.boxed()),
        }
    }

    /// Reads until the stream ends, and says why it did.
    async fn read_events(
        &self,
        mut events: impl Stream<Item = Result<EventMessage, bollard::errors::Error>> + Unpin,
        wakes: &Wakes,
        since: &mut jiff::Timestamp,
    ) -> String {
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    *since = moment_of(&event).unwrap_or(*since).max(*since);
                    self.take_event(&event, wakes);
                }
                Err(error) => {
                    self.engine.forget();
                    return self.engine.explain(&error);
                }
            }
        }
        self.engine.forget();
        "the engine ended the event stream".to_owned()
    }

    fn take_event(&self, event: &EventMessage, wakes: &Wakes) {
        let id = event.actor.as_ref().and_then(|actor| actor.id.as_deref());
        let action = event.action.as_deref().unwrap_or_default();
        let attribute = |name: &str| event.actor.as_ref().and_then(|actor| actor.attributes.as_ref()?.get(name));
        let is_container = event.typ == Some(EventMessageTypeEnum::CONTAINER);
        if let Some(id) = id.filter(|_| is_container) {
            let at = moment_of(event).unwrap_or_else(|| self.clock.now());
            match action {
                // A signal alone changes nothing that a look sees.
                "kill" if !self.deaths.killed(id, at) => return,
                "die" => self.deaths.died(id, at, attribute("exitCode").and_then(|code| code.parse().ok())),
                "start" | "destroy" => self.deaths.forget(id),
                _ => {}
            }
        }
        if event.typ == Some(EventMessageTypeEnum::IMAGE) {
            self.world.image_changed();
        } else {
            self.world.container_changed(id);
        }
        let named = attribute("name");
        for service in concerned(event, &self.owners, &super::engine::lock(&self.interests)) {
            wakes.wake(Some(&service), format!("docker: {action} {}", named.map(String::as_str).unwrap_or_default()));
        }
    }
}
