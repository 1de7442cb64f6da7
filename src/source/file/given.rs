//! A key that may be left out, be there without a value, or be given.

use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

use crate::source::yaml::UniqueMap;

/// The three states of a key. A key without a value is no default: it is what a half-written file looks like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::source) enum Given<T> {
    /// The key is not there.
    #[default]
    Missing,
    /// The key is there and nothing stands behind it.
    Null,
    /// The key has a value.
    Value(T),
}

impl<T> Given<T> {
    /// The value, if there is one.
    pub(in crate::source) const fn get(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Missing | Self::Null => None,
        }
    }

    /// Whether the key is there.
    pub(in crate::source) const fn is_given(&self) -> bool {
        !matches!(self, Self::Missing)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Given<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_none<E>(self) -> Result<Given<T>, E> {
                Ok(Given::Null)
            }
            fn visit_unit<E>(self) -> Result<Given<T>, E> {
                Ok(Given::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Given<T>, D::Error> {
                T::deserialize(deserializer).map(Given::Value)
            }
        }
        deserializer.deserialize_option(Either(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Given<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
    fn inline_schema() -> bool {
        T::inline_schema()
    }
}

/// A part of a file: it can be filled from `defaults:`, and knows its keys without a value.
pub(in crate::source) trait Part: Clone {
    /// Takes from `from` what is missing here.
    fn fill(&mut self, _from: &Self) {}
    /// Adds the paths of keys without a value.
    fn nulls(&self, _path: &mut Vec<String>, _found: &mut Vec<Vec<String>>) {}
}

impl<T: Part> Part for Given<T> {
    fn fill(&mut self, from: &Self) {
        match (&mut *self, from) {
            (Self::Value(mine), Self::Value(other)) => mine.fill(other),
            (Self::Missing, other) => *self = other.clone(),
            _ => {}
        }
    }
    fn nulls(&self, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        match self {
            Self::Missing => {}
            Self::Null => found.push(path.clone()),
            Self::Value(value) => value.nulls(path, found),
        }
    }
}

impl<T: Part> Part for Vec<T> {
    fn nulls(&self, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        for (index, item) in self.iter().enumerate() {
            nulls_at(&index.to_string(), item, path, found);
        }
    }
}

impl<T: Part> Part for UniqueMap<T> {
    fn fill(&mut self, from: &Self) {
        for (key, value) in &from.0 {
            self.0.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    fn nulls(&self, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        for (key, value) in &self.0 {
            nulls_at(key, value, path, found);
        }
    }
}

/// The nulls of `part`, which stands under `key`.
pub(in crate::source) fn nulls_at(key: &str, part: &impl Part, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    path.push(key.to_owned());
    part.nulls(path, found);
    path.pop();
}

/// A section of the file: each key optional, unknown ones refused.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $key:literal $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub(in crate::source) struct $name {
            $($(#[$field_doc])* #[serde(rename = $key)] pub(in crate::source) $field: $crate::source::file::given::Given<$type>,)*
        }
        impl $crate::source::file::given::Part for $name {
            fn fill(&mut self, from: &Self) {
                let _ = from;
                $($crate::source::file::given::Part::fill(&mut self.$field, &from.$field);)*
            }
            fn nulls(&self, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
                let _ = (&path, &found);
                $($crate::source::file::given::nulls_at($key, &self.$field, path, found);)*
            }
        }
    };
}
pub(in crate::source) use section;
