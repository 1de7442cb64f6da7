//! The rules of a rollout, each as a transcript.

mod ecs;
mod follow;
mod property;
mod rules;
mod world;
