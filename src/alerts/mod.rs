//! Floor 4: what becomes of a commit is told to its host: a commit status, and a deployment where that is wanted.
//!
//! [`verdict()`] says what a status means for its commits (pure), the `book` what of that is not told yet and when it is
//! due (pure), `github` and `gitlab` how it is said, and [`CommitStatus::run`] does it beside the controller, which never
//! waits for it.

mod api;
mod book;
mod github;
mod gitlab;
mod place;
mod tell;
mod verdict;

pub use tell::CommitStatus;
pub use verdict::{State, Told, superseded, verdict};
