//! Commits made by Holdfast, on real repositories: by the controller, and by `set` and `rollback` from a checkout.
//! They need git, and ssh-keygen for signatures.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]

mod bed;
mod controller;
mod edges;
mod many;
mod races;
mod set;
mod signed;

#[path = "../support/git_server.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod git_server;
