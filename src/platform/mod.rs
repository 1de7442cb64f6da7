//! Floor 2: where containers run.
//!
//! [`docker`] talks to a Docker Engine; [`sandbox`] is a whole world in memory behind the same traits.

pub mod docker;
pub mod ecs;
pub mod sandbox;
