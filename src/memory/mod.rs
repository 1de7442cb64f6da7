//! Floor 2: durable memory, events and history in SQLite, and the lock that keeps a controller single.

mod failure;
pub mod lock;
mod schema;
pub mod sqlite;

pub use lock::Lock;
pub use sqlite::Sqlite;
