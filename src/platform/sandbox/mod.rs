//! A whole world in memory: engine, registry, nginx and probes, ECS and a load balancer, good enough to watch a rollout, a
//! failure and a repair.
//!
//! Every tag resolves to a stable made-up digest; a tag with `missing` in it does not exist, one with `bad` in it never
//! becomes healthy. An ECS service that a file wants to adopt exists already, with a release `initial`. Starting takes some tens of milliseconds of tokio time, so a paused clock works.

mod ecs;
mod edges;
mod engine;
mod nginx;
mod state;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::model::names::ServiceName;
use crate::model::snapshot::ReplicaState;
use crate::ports::{Clock, Wakes};
pub use ecs::console::EcsState;
use state::State;

/// From create to running, about what a real engine needs.
const START: Duration = Duration::from_millis(30);
/// From SIGTERM to gone, for an app that listens to it.
const STOP: Duration = Duration::from_millis(10);
/// From running to the first good answer.
const FIRST_ANSWER: Duration = Duration::from_millis(20);
/// One round of the scheduler of ECS: tasks start or stop.
const ROUND: Duration = Duration::from_millis(150);
/// How long an old nginx worker takes to finish its last requests.
const LEAVE: Duration = Duration::from_millis(60);

/// The world in memory.
pub struct Sandbox {
    clock: Arc<dyn Clock>,
    wakes: Wakes,
    state: Mutex<State>,
    /// For the tasks it starts: they must not keep it alive.
    me: Weak<Self>,
}

impl Sandbox {
    /// An empty world: no container, no image, an nginx that runs and includes every servers file.
    pub fn new(clock: Arc<dyn Clock>, wakes: Wakes) -> Arc<Self> {
        let now = clock.now();
        Arc::new_cyclic(|me| Self { clock, wakes, state: Mutex::new(State::new(now)), me: me.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `then` after `wait`, unless the world ended before.
    fn later(&self, wait: Duration, then: impl FnOnce(&Self) + Send + 'static) {
        let me = self.me.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(world) = me.upgrade() {
                then(&world);
            }
        });
    }

    fn wake(&self, service: Option<&ServiceName>, why: &str) {
        self.wakes.wake(service, format!("sandbox: {why}"));
    }

    /// `docker kill NAME`: it exits with 137 and stays. False: there is no such container.
    pub fn kill(&self, name: &str) -> bool {
        self.touch(name, ReplicaState::Exited(Some(137)), "die")
    }

    /// `docker pause NAME`. False: there is no such container.
    pub fn pause(&self, name: &str) -> bool {
        self.touch(name, ReplicaState::Paused, "pause")
    }

    fn touch(&self, name: &str, to: ReplicaState, event: &str) -> bool {
        let service = {
            let mut state = self.state();
            let Some(found) = state.containers.get_mut(name) else { return false };
            found.replica.state = to;
            found.service.clone()
        };
        self.wake(Some(&service), &format!("{event} {name}"));
        true
    }

    /// `docker rm -f NAME`. False: there is no such container.
    pub fn remove(&self, name: &str) -> bool {
        let Some(found) = self.state().containers.remove(name) else { return false };
        self.wake(Some(&found.service), &format!("destroy {name}"));
        true
    }

    /// Somebody edits a servers file by hand; nginx is not reloaded.
    pub fn edit_servers(&self, file: &Path, text: &str) {
        let now = self.clock.now();
        self.state().nginx.write(file, text, now);
        self.wake(None, "a servers file was edited");
    }

    /// Somebody else reloads nginx.
    pub fn foreign_reload(&self) {
        self.reload();
        self.wake(None, "nginx was reloaded by somebody");
    }

    /// How many calls changed the world so far.
    pub fn mutations(&self) -> u64 {
        self.state().mutations
    }

    /// While on, every call fails: nothing can be read, no step succeeds.
    pub fn outage(&self, on: bool) {
        self.state().outage = on;
        self.wake(None, if on { "outage" } else { "back" });
    }

    /// The containers that get requests: listed in the servers file at `file`, up, and past their first good answer.
    pub fn serving(&self, file: &Path) -> Vec<String> {
        let now = self.clock.now();
        let state = self.state();
        let listed = state.nginx.servers(file);
        let good = |one: &&state::Container| {
            let address = one.replica.port.map(|port| format!("127.0.0.1:{port}"));
            let ready = one.replica.started_at.is_some_and(|at| crate::plan::hold::after(at, FIRST_ANSWER) <= now);
            one.replica.state == ReplicaState::Running
                && ready
                && !one.tag.as_str().contains("bad")
                && address.is_some_and(|address| listed.contains(&address))
        };
        state.containers.values().filter(good).map(|one| one.replica.name.clone()).collect()
    }

    /// The names of all containers, for tests.
    pub fn containers(&self) -> Vec<String> {
        self.state().containers.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests;
