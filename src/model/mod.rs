//! Floor 0: what things are. No I/O, no clock, no async.

pub mod colour;
pub mod commit;
pub mod desired;
pub mod drift;
pub mod ecs;
pub mod env_file;
pub mod event;
pub mod follow;
pub mod hash;
pub mod image;
pub mod memory;
pub mod names;
pub mod release;
pub mod secret;
pub mod snapshot;
pub mod status;
pub mod words;
