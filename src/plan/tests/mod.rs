//! The rules of a rollout, each as a transcript.

mod property;
mod rules;
mod world;
