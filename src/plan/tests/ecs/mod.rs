//! ECS: the rules of a rollout as transcripts, and random lives. The account is the sandbox's, moved by these tests' time.

#[allow(clippy::duplicate_mod, reason = "the plan may not use the platform; its tests live in the same account")]
#[path = "../../../platform/sandbox/ecs/aws/mod.rs"]
mod aws;

mod colours;
mod drift;
mod follow;
mod life;
mod property;
mod refused;
mod rolling;
mod world;
