//! ECS: the rules of a rollout as transcripts, and random lives. The account is the sandbox's, moved by these tests' time.

#[path = "../../../platform/sandbox/ecs/aws/mod.rs"]
mod aws;

mod colours;
mod drift;
mod property;
mod refused;
mod rolling;
mod world;
