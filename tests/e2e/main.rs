//! End to end: the real binary, the real Docker Engine, a real nginx. One binary, because each one costs a link.
//!
//! Switched on by `HOLDFAST_TEST_DOCKER=1` (`make test` does). Every test lives in a [`support::world::World`] of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]
#![expect(clippy::expect_used, clippy::panic, reason = "the harness of tests: a failure is a failed test")]

mod colours;
mod crash;
mod drift;
mod edges;
mod engine_restart;
mod git;
mod removal;
mod rollback;
mod tour;

#[path = "../support/mod.rs"]
mod support;
