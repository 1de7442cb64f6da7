//! Desired state from real git repositories: over HTTP, over SSH and from this host; well-behaved, damaged and hostile.
//!
//! All of it needs git; what needs an SSH server or GnuPG is switched on by `HOLDFAST_TEST_GIT=1` (`make test` does).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]

mod bed;
mod commits;
mod content;
mod damage;
mod hostile;
mod killed;
mod lives;
mod outage;
mod program;
mod prompt;
mod reach;
mod rewind;
mod secrets;
mod signed;
mod sound;
mod ssh;
mod sshd;
mod tls;
mod trees;

#[path = "../support/git_server.rs"]
mod git_server;
