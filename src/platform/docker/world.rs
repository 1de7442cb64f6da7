//! What the engine has: one list for all services, and inspects of what changed.
//!
//! A list is shared until an event or an act of our own says it is old. Every invalidation raises a generation; what was
//! asked before it is never kept after it. While the event stream is down nothing is kept at all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerSummary, ImageSummary};
use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptionsBuilder, ListImagesOptions, ListImagesOptionsBuilder,
};
use tokio::time::Instant;

use super::engine::{Engine, lock};
use crate::model::snapshot::Why;

/// A list older than this is asked for again although no event came: the engine buffers 256 events and drops the rest.
/// A little less than the default `resync`, so that every sweep really looks.
const LIST_AGE: Duration = Duration::from_secs(25);
/// The same for an inspect; each is one more call, and the list shows a changed state anyway.
const INSPECT_AGE: Duration = Duration::from_secs(55);

struct Kept<T> {
    at: Instant,
    generation: u64,
    value: Arc<T>,
}

impl<T> Kept<T> {
    fn usable(&self, generation: u64, age: Duration) -> bool {
        self.generation == generation && self.at.elapsed() < age
    }
}

/// Everything read from one engine.
pub(super) struct World {
    engine: Arc<Engine>,
    streaming: AtomicBool,
    container_generation: AtomicU64,
    image_generation: AtomicU64,
    containers: tokio::sync::Mutex<Option<Kept<Vec<ContainerSummary>>>>,
    images: tokio::sync::Mutex<Option<Kept<Vec<ImageSummary>>>>,
    inspects: Mutex<HashMap<String, Kept<ContainerInspectResponse>>>,
}

impl World {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            streaming: AtomicBool::new(false),
            container_generation: AtomicU64::new(0),
            image_generation: AtomicU64::new(0),
            containers: tokio::sync::Mutex::new(None),
            images: tokio::sync::Mutex::new(None),
            inspects: Mutex::new(HashMap::new()),
        }
    }

    /// Something happened to a container (to any of them with `None`).
    pub(super) fn container_changed(&self, id: Option<&str>) {
        let mut inspects = lock(&self.inspects);
        self.container_generation.fetch_add(1, Ordering::SeqCst);
        match id {
            Some(id) => {
                inspects.remove(id);
            }
            None => inspects.clear(),
        }
    }

    /// Something happened to an image.
    pub(super) fn image_changed(&self) {
        self.image_generation.fetch_add(1, Ordering::SeqCst);
    }

    /// The event stream came up or went down: what was kept is worth nothing either way.
    pub(super) fn set_streaming(&self, up: bool) {
        self.streaming.store(up, Ordering::SeqCst);
        self.container_changed(None);
        self.image_changed();
    }

    /// Every container of the engine, stopped ones too.
    pub(super) async fn containers(&self) -> Result<Arc<Vec<ContainerSummary>>, Why> {
        let mut kept = self.containers.lock().await;
        let generation = self.container_generation.load(Ordering::SeqCst);
        if let Some(list) = kept.as_ref()
            && list.usable(generation, LIST_AGE)
        {
            return Ok(list.value.clone());
        }
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let list = self.engine.read(|client| async move { client.list_containers(Some(options)).await }).await?;
        let value = Arc::new(list.ok_or("the engine answered 404 to the list of containers")?);
        self.keep_only(&value);
        *kept = self.streaming().then(|| Kept { at: Instant::now(), generation, value: value.clone() });
        Ok(value)
    }

    /// Every image of the engine.
    pub(super) async fn images(&self) -> Result<Arc<Vec<ImageSummary>>, Why> {
        let mut kept = self.images.lock().await;
        let generation = self.image_generation.load(Ordering::SeqCst);
        if let Some(list) = kept.as_ref()
            && list.usable(generation, LIST_AGE)
        {
            return Ok(list.value.clone());
        }
        let options: ListImagesOptions = ListImagesOptionsBuilder::new().build();
        let list = self.engine.read(|client| async move { client.list_images(Some(options)).await }).await?;
        let value = Arc::new(list.ok_or("the engine answered 404 to the list of images")?);
        *kept = self.streaming().then(|| Kept { at: Instant::now(), generation, value: value.clone() });
        Ok(value)
    }

    /// One listed container in full; `None`: it was removed since.
    pub(super) async fn inspect(
        &self,
        listed: &ContainerSummary,
    ) -> Result<Option<Arc<ContainerInspectResponse>>, Why> {
        let Some(id) = listed.id.as_deref() else {
            return Err("the engine listed a container without an id".to_owned());
        };
        if let Some(known) = lock(&self.inspects).get(id)
            && known.at.elapsed() < INSPECT_AGE
            && self.streaming()
            && same_state(listed, &known.value)
        {
            return Ok(Some(known.value.clone()));
        }
        let generation = self.container_generation.load(Ordering::SeqCst);
        let Some(found) = self.inspect_now(id).await? else { return Ok(None) };
        let found = Arc::new(found);
        let mut inspects = lock(&self.inspects);
        if self.streaming() && generation == self.container_generation.load(Ordering::SeqCst) {
            inspects.insert(id.to_owned(), Kept { at: Instant::now(), generation, value: found.clone() });
        }
        Ok(Some(found))
    }

    /// A container in full by id or name, from the engine itself; `None`: there is none.
    pub(super) async fn inspect_now(&self, name: &str) -> Result<Option<ContainerInspectResponse>, Why> {
        self.engine
            .read(|client| async move { client.inspect_container(name, None::<InspectContainerOptions>).await })
            .await
    }

    fn streaming(&self) -> bool {
        self.streaming.load(Ordering::SeqCst)
    }

    /// Containers that are gone need no memory.
    fn keep_only(&self, listed: &[ContainerSummary]) {
        let mut inspects = lock(&self.inspects);
        if inspects.len() > listed.len() {
            inspects.retain(|id, _| listed.iter().any(|one| one.id.as_deref() == Some(id)));
        }
    }
}

/// Whether the list and the inspect name the same state: a second, eventless sign that an inspect is old.
fn same_state(listed: &ContainerSummary, known: &ContainerInspectResponse) -> bool {
    let listed = listed.state.map(|state| state.to_string());
    let known = known.state.as_ref().and_then(|state| state.status).map(|status| status.to_string());
    listed == known
}
