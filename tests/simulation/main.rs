//! The real controller and planner on the sandbox, with a fault at every call that changes something.
//!
//! A scenario is played once without a fault; then once more for each of its mutating calls and each way that call can go
//! wrong: nothing happens, it happens and the reply is an error, it takes long, AWS asks for fewer calls, and the controller
//! dies before or after it. (Sieve, OSDI 2022, restarts controllers after each write; "happened, but the reply was an error"
//! is what it leaves out.) At every change of the world what must never be is looked for; at the end the world must be what
//! the file says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]

mod docker;
mod ecs;
#[path = "../fakes/mod.rs"]
mod fakes;
mod shim;
mod stage;
