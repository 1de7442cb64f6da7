//! Holdfast: keeps watching a desired-state file and makes reality match it.
//!
//! The crate in floors; a floor imports only those below it, siblings of floor 2 not each other
//! (`tests/layers.rs` reads the `use` paths and fails on a breach):
//!
//! | floor | modules | what they are |
//! |---|---|---|
//! | 0 | [`model`] | what things are |
//! | 1 | [`plan`], [`retry`], [`ports`], [`process`], [`aws`], [`git`] | what to do next; failures to delays; the traits of every edge; the end of a process; how AWS and git are asked |
//! | 2 | [`source`], [`platform`], [`registry`], [`traffic`], [`probe`], [`memory`] | one edge each |
//! | 3 | [`controller`] | queue, observe, plan, perform, settle |
//! | 4 | [`web`], [`alerts`], [`cli`] | people and programs |
//!
//! The path data takes: edit (source) → desire ([`model::desired`]) → queue ([`controller`]) → snapshot
//! ([`model::snapshot`]) → plan ([`plan`]) → perform ([`ports`]) → status ([`model::status`]). Drift is the same path,
//! woken by the platform.

pub mod alerts;
pub mod aws;
pub mod cli;
pub mod controller;
pub mod git;
pub mod memory;
pub mod model;
pub mod plan;
pub mod platform;
pub mod ports;
pub mod probe;
pub mod process;
pub mod registry;
pub mod retry;
pub mod source;
pub mod traffic;
pub mod web;
