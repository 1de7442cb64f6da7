//! JSON that is kept for long, as its text: a small part of the memory of the tree.

use std::sync::Arc;

use serde_json::Value;

use crate::model::snapshot::Why;

/// A JSON value, packed.
#[derive(Debug, Clone)]
pub(super) struct Packed(Arc<str>);

impl Packed {
    /// Packs `value`.
    pub(super) fn new(value: &Value) -> Self {
        Self(value.to_string().into())
    }

    /// The value again.
    ///
    /// # Errors
    /// When the text is no JSON any more: never, it was written by `new`.
    pub(super) fn open(&self) -> Result<Value, Why> {
        serde_json::from_str(&self.0).map_err(|error| format!("what was kept cannot be read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Packed;

    #[test]
    fn what_is_packed_comes_back_whole() {
        let value = json!({"createdAt": 1764000000.123, "big": 18_446_744_073_709_551_615_u64, "list": [null, "\u{1F600}\n", -1]});
        assert_eq!(Packed::new(&value).open(), Ok(value));
    }
}
