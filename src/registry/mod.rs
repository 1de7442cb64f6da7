//! Floor 2: images (tag to digest, the tags of a repository, credentials for pulls) and the AWS account.
//!
//! A look asks by HEAD; whatever is not a complete, positive answer is `Unreadable`, never `Absent`. No text of a
//! registry, and no credential or token, ever gets into a message.

pub mod account;
mod answers;
mod batch;
mod challenge;
mod clean;
mod docker_config;
mod ecr;
mod images;
mod login;
mod manifest;
mod oci;
mod rule;
mod tags;
mod token;
mod words;

pub use account::Sts;
pub use images::{Images, ImagesOptions};
pub use rule::{Auth, Kind, RegistryRule};
