//! End to end on ECS: the real binary against an emulator that runs tasks as real containers, with a real ECR and a real
//! load balancer's data path.
//!
//! Switched on by `HOLDFAST_TEST_DOCKER=1` and `HOLDFAST_TEST_AWS=1` (`make test` does). Each test has a cluster, a family
//! and a repository of its own in one emulator.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]
#![allow(dead_code, reason = "the harness is shared with the tests of Docker hosts")]

mod bed;
mod colours;
mod drift;
mod git;
mod ownership;
mod rolling;
mod tour;

#[path = "../support/mod.rs"]
mod support;
