//! End to end: the real binary, the real Docker Engine, a real nginx. One binary, because each one costs a link.
//!
//! Switched on by `HOLDFAST_TEST_DOCKER=1` (`make test` does). Every test lives in a [`support::world::World`] of its own.

#![expect(clippy::expect_used, clippy::panic, reason = "the harness of tests: a failure is a failed test")]

mod colours;
mod crash;
mod drift;
mod edges;
mod engine_restart;
mod removal;
mod rollback;

#[path = "../support/mod.rs"]
mod support;
