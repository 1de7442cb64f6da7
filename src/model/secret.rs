//! A value that must not be printed.

use std::fmt;

/// A value that no `Debug`, `Display` or serialisation shows.
///
/// Deliberately neither `Serialize` nor `Display`: what is secret reaches the engine and nothing else.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the one place that hands it to the engine.
    pub const fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
