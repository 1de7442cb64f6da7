//! Floor 2: who gets requests.

pub mod alb;
pub mod nginx;
