//! Names: of services, of controllers, of containers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::colour::Group;

/// Why a name was refused: a lowercase fragment that completes "`x` is not a name: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub &'static str);

fn checked(text: &str, longest: usize) -> Result<String, NameError> {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text.is_empty() {
        return Err(NameError("it is empty"));
    }
    if text.len() > longest {
        return Err(NameError("it is longer than 63 characters"));
    }
    if !text.chars().all(|c| edge(c) || c == '-') {
        return Err(NameError("only a-z, 0-9 and `-` are allowed"));
    }
    if !text.starts_with(edge) || !text.ends_with(edge) {
        return Err(NameError("it must start and end with a letter or a digit"));
    }
    Ok(text.to_owned())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text`: 1 to 63 of `a-z0-9-`, a letter or digit at both ends.
            ///
            /// # Errors
            /// Says which of these rules is broken.
            pub fn new(text: &str) -> Result<Self, NameError> {
                checked(text, 63).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

name! {
    /// The name of a service: the key under `services:`.
    ServiceName
}
name! {
    /// The id on everything this controller creates: `controller:` of `holdfast.yaml`.
    ControllerId
}

/// The name of the container in `slot` (from 1) of `group`: `<service>-<colour>-<n>`, `<service>-<n>` when rolling.
pub fn container_name(service: &ServiceName, group: Group, slot: u32) -> String {
    match group.colour() {
        Some(colour) => format!("{service}-{colour}-{slot}"),
        None => format!("{service}-{slot}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        assert!(ServiceName::new("dangdang-api").is_ok());
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "a/b", &"a".repeat(64)] {
            assert!(ServiceName::new(bad).is_err(), "{bad}");
        }
    }
}
