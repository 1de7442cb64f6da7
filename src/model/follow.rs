//! `follow:`: which tags of a repository a service follows by itself.

/// The policy, checked: the texts are a version range and a regular expression that are understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follow {
    /// The highest version in the range: `>=1.4 <2`.
    Semver(String),
    /// Of the tags the whole of which matches, the last one in `order`.
    Regex {
        /// Its first group, where it has one, is what is ordered.
        pattern: String,
        /// What comes last is followed.
        order: TagOrder,
    },
}

/// How tags are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagOrder {
    /// As whole numbers.
    Numeric,
    /// As text.
    Alphabetical,
    /// By the moment they were pushed.
    Newest,
}
