//! What reports changes: every edge that watches, each kept going for ever.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::core::Core;
use super::perform;
use crate::ports::Wakes;
use crate::retry::Backoff;

/// Starts the watchers of the edges.
pub(super) fn start(core: &Arc<Core>, wakes: &Wakes, watchers: &mut JoinSet<()>) {
    let again = (Arc::clone(core), wakes.clone());
    watchers.spawn(for_ever("the platform", wakes.clone(), move || {
        let (core, wakes) = again.clone();
        async move {
            // A controller of ECS services alone has no engine to watch.
            core.until_used(true).await;
            core.edges.platform.watch(wakes).await;
        }
    }));
    let again = (Arc::clone(core), wakes.clone());
    watchers.spawn(for_ever("ECS", wakes.clone(), move || {
        let (core, wakes) = again.clone();
        async move {
            core.until_used(false).await;
            core.edges.cluster.watch(wakes).await;
        }
    }));
    let again = (Arc::clone(core), wakes.clone());
    watchers.spawn(for_ever("the env files", wakes.clone(), move || {
        let (core, wakes) = again.clone();
        async move { core.edges.env_files.watch(wakes).await }
    }));
    let again = (Arc::clone(core), wakes.clone());
    watchers.spawn(for_ever("the traffic", wakes.clone(), move || {
        let (core, wakes) = again.clone();
        async move { core.edges.traffic.watch(wakes).await }
    }));
}

/// Keeps a watcher going: one that ends or panics is started again, later each time, and everything is looked at.
pub(super) async fn for_ever<F>(what: &'static str, wakes: Wakes, watch: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    // The jitter of a few watchers of one process needs no seed of its own.
    let mut backoff = Backoff::new(what.len() as u64);
    loop {
        let since = Instant::now();
        // A set, so that the watcher ends with this future.
        let mut task = JoinSet::from_iter([watch()]);
        let why = match task.join_next().await {
            Some(Err(error)) => perform::panic_text(error),
            Some(Ok(())) | None => "it ended".to_owned(),
        };
        if since.elapsed() > Duration::from_secs(60) {
            backoff.reset();
        }
        tracing::warn!("holdfast  watching {what} stopped and is started again: {why}");
        tokio::time::sleep(backoff.fail_transient()).await;
        wakes.wake(None, format!("watching {what} began again"));
    }
}
