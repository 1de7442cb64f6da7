//! Floor 2: who gets requests.

pub mod nginx;
