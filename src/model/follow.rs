//! `follow:`: which tags of a repository a service follows by itself.

use std::fmt;

use jiff::Timestamp;
use regex::bytes::{Regex, RegexBuilder};
use semver::{Version, VersionReq};

use super::image::Tag;
use super::snapshot::TagSeen;

/// No policy people write is longer; what is longer is refused before anything reads it.
const LONGEST: usize = 256;
/// Of a compiled expression, in bytes: some hundred times what one that names builds needs.
const EXPRESSION_SIZE: usize = 1 << 20;
/// Open groups within each other.
const EXPRESSION_DEPTH: u32 = 32;

/// The policy, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follow {
    /// The highest version in the range: `>=1.4 <2`.
    Semver(Range),
    /// Of the tags the whole of which matches, the last one in `order`.
    Regex {
        /// Its first group, where it has one, is what is ordered.
        pattern: Pattern,
        /// What comes last is followed.
        order: TagOrder,
    },
}

/// How tags are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagOrder {
    /// As whole numbers, however long.
    Numeric,
    /// As text.
    Alphabetical,
    /// By the moment they were pushed.
    Newest,
}

/// Why a policy was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct FollowError {
    /// A fragment that completes "`…` cannot be followed: ".
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

impl FollowError {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}

/// A range of versions: comparators with commas or spaces between them, alternatives with `||`.
#[derive(Debug, Clone)]
pub struct Range {
    text: String,
    any: Vec<VersionReq>,
}

/// An expression for whole tags.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

/// Where a tag stands; only places of one policy are compared, and the last one is followed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// By version.
    Version(Version),
    /// A whole number: how many digits it has without leading zeros, and these.
    Number(usize, String),
    /// As text.
    Text(String),
    /// When it was pushed.
    At(Timestamp),
}

/// Whether a tag is one of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// It is not.
    No,
    /// It matches, but what it is ordered by is not known or no number.
    Unordered,
    /// It is, and stands here.
    At(Place),
}

impl Follow {
    /// Reads a range of versions.
    ///
    /// # Errors
    /// What of it is not understood.
    pub fn semver(text: &str) -> Result<Self, FollowError> {
        Range::new(text).map(Self::Semver)
    }

    /// Reads an expression.
    ///
    /// # Errors
    /// Where it is wrong, or that it is too large.
    pub fn regex(text: &str, order: TagOrder) -> Result<Self, FollowError> {
        Ok(Self::Regex { pattern: Pattern::new(text)?, order })
    }

    /// Whether `seen` is a tag of the policy, and where it stands.
    pub fn fit(&self, seen: &TagSeen) -> Fit {
        match self {
            Self::Semver(range) => match version(&seen.tag).filter(|version| range.has(version)) {
                Some(version) => Fit::At(Place::Version(version)),
                None => Fit::No,
            },
            Self::Regex { pattern, order } => {
                let Some(key) = pattern.key(&seen.tag) else { return Fit::No };
                let place = match order {
                    TagOrder::Numeric => number(key),
                    TagOrder::Alphabetical => Some(Place::Text(key.to_owned())),
                    TagOrder::Newest => seen.pushed_at.map(Place::At),
                };
                place.map_or(Fit::Unordered, Fit::At)
            }
        }
    }
}

impl Range {
    fn new(text: &str) -> Result<Self, FollowError> {
        if text.trim().is_empty() {
            return Err(FollowError::new("it is empty", "write a range like `>=1.4 <2`, or `*` for every version"));
        }
        if text.len() > LONGEST {
            return Err(FollowError::new(format!("it is longer than {LONGEST} characters"), "write a shorter range"));
        }
        let any = text.split("||").map(alternative).collect::<Result<_, _>>()?;
        Ok(Self { text: text.trim().to_owned(), any })
    }

    /// Whether `version` is in it. A pre-release is only where the range names one of the same version.
    fn has(&self, version: &Version) -> bool {
        self.any.iter().any(|all| all.matches(version))
    }
}

/// Comparators that hold together: `>=1.4 <2`, `>=1.4, <2`, `~1.4`, `1.x`.
fn alternative(text: &str) -> Result<VersionReq, FollowError> {
    let mut comparators: Vec<String> = Vec::new();
    let mut operator = String::new();
    for word in text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()) {
        if word == "-" {
            return Err(FollowError::new("`A - B` is not understood", "write `>=A <=B`"));
        }
        let digits = word.trim_start_matches(['<', '>', '=', '^', '~']);
        operator.push_str(&word[..word.len() - digits.len()]);
        if digits.is_empty() {
            continue;
        }
        let version = digits.strip_prefix('v').unwrap_or(digits);
        let wild = version.contains(['*', 'x', 'X']) && !version.contains(['-', '+']);
        if operator.is_empty() && !wild && version.starts_with(|c: char| c.is_ascii_digit()) {
            let what = format!("`{version}` alone is not clear");
            let hint = format!(
                "write `={version}` for it alone, `~{version}` for its patches, `^{version}` up to the next major"
            );
            return Err(FollowError::new(what, hint));
        }
        comparators.push(format!("{operator}{version}"));
        operator.clear();
    }
    if comparators.is_empty() || !operator.is_empty() {
        return Err(FollowError::new("a version is missing", "write a range like `>=1.4 <2`"));
    }
    VersionReq::parse(&comparators.join(", ")).map_err(|error| {
        FollowError::new(error.to_string(), "write a range like `>=1.4 <2`, `~1.4`, `1.x` or `^1 || ^2`")
    })
}

/// The version a tag is, with or without a leading `v`: `1.5.0`, `v1.5.0-rc.1`. `1.5` and `latest` move, and are none.
fn version(tag: &Tag) -> Option<Version> {
    let text = tag.as_str();
    Version::parse(text.strip_prefix('v').unwrap_or(text)).ok()
}

impl Pattern {
    fn new(text: &str) -> Result<Self, FollowError> {
        if text.is_empty() {
            return Err(FollowError::new(
                "it is empty",
                "write an expression for whole tags like `main-[0-9a-f]+-([0-9]+)`",
            ));
        }
        if text.len() > LONGEST {
            return Err(FollowError::new(
                format!("it is longer than {LONGEST} characters"),
                "write a shorter expression",
            ));
        }
        // By itself first: `a)|(b` must not slip out of the anchors.
        compile(text)?;
        let regex = compile(&format!(r"\A(?:{text})\z")).map_err(|error| match compile(&format!("(?:{text}\n)")) {
            Ok(_) => FollowError::new("it ends in a comment", "leave the comment out"),
            Err(_) => error,
        })?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// What `tag` is ordered by; none when it does not match.
    fn key<'a>(&self, tag: &'a Tag) -> Option<&'a str> {
        let found = self.regex.captures(tag.as_str().as_bytes())?;
        let range = match found.get(1) {
            Some(group) => group.range(),
            // A group that took no part in the match orders nothing.
            None if self.regex.captures_len() > 1 => return Some(""),
            None => found.get(0)?.range(),
        };
        // A tag is ASCII, so every place in it is one between characters.
        tag.as_str().get(range)
    }
}

fn compile(text: &str) -> Result<Regex, FollowError> {
    let built = RegexBuilder::new(text)
        .unicode(false)
        .size_limit(EXPRESSION_SIZE)
        .dfa_size_limit(EXPRESSION_SIZE)
        .nest_limit(EXPRESSION_DEPTH)
        .build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            FollowError::new("the expression is too large", "use smaller counts in `{…}`")
        }
        error => {
            // The last line names it; those before it draw it.
            let words = error.to_string();
            let last = words.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            FollowError::new(last, "look-around and back-references are not part of this syntax; `\\.` is a dot")
        }
    })
}

/// Digits as a number of any length.
fn number(text: &str) -> Option<Place> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = text.trim_start_matches('0');
    Some(Place::Number(digits.len(), digits.to_owned()))
}

/// The policy as it is written.
impl fmt::Display for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Semver(range) => f.write_str(&range.text),
            Self::Regex { pattern, order } => write!(f, "{} ({order})", pattern.text),
        }
    }
}

impl fmt::Display for TagOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Numeric => "numeric",
            Self::Alphabetical => "alphabetical",
            Self::Newest => "newest",
        })
    }
}

/// The same text is the same policy.
macro_rules! same_text {
    ($($name:ident),*) => {$(
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.text == other.text
            }
        }
        impl Eq for $name {}
    )*};
}
same_text!(Range, Pattern);

#[cfg(test)]
mod tests;
