//! Colours, and the groups of replicas a service has.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the two colours of a blue/green service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Colour {
    /// The colour a first deploy takes when both are free.
    Blue,
    /// The other one.
    Green,
}

impl Colour {
    /// The other colour.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Blue => "blue",
            Self::Green => "green",
        })
    }
}

/// A set of replicas that is brought up and taken away as one: a colour, or all there is when rolling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Group {
    /// The one group of a rolling service.
    Only,
    /// The blue replicas.
    Blue,
    /// The green replicas.
    Green,
}

impl Group {
    /// The colour of this group; none when rolling.
    pub const fn colour(self) -> Option<Colour> {
        match self {
            Self::Only => None,
            Self::Blue => Some(Colour::Blue),
            Self::Green => Some(Colour::Green),
        }
    }

    /// ` on blue` for people; nothing where there is only one group.
    pub const fn on(self) -> &'static str {
        match self {
            Self::Only => "",
            Self::Blue => " on blue",
            Self::Green => " on green",
        }
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "only" => Some(Self::Only),
            "blue" => Some(Self::Blue),
            "green" => Some(Self::Green),
            _ => None,
        }
    }
}

impl From<Colour> for Group {
    fn from(colour: Colour) -> Self {
        match colour {
            Colour::Blue => Self::Blue,
            Colour::Green => Self::Green,
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Only => "only",
            Self::Blue => "blue",
            Self::Green => "green",
        })
    }
}
