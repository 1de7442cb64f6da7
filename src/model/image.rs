//! Images: repository, tag, digest.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a part of an image reference was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ImageError(pub &'static str);

/// An image name without tag or digest, as written in the file: `nginx`, `localhost:4566/app`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository(String);

impl Repository {
    /// Checks `text` against the grammar of the distribution specification.
    ///
    /// # Errors
    /// Says what part of the name is wrong.
    pub fn new(text: &str) -> Result<Self, ImageError> {
        if text.is_empty() {
            return Err(ImageError("it is empty"));
        }
        if text.len() > 255 {
            return Err(ImageError("it is longer than 255 characters"));
        }
        if text.contains('@') {
            return Err(ImageError("the digest belongs in `tag`, as `TAG@sha256:…`"));
        }
        let (host, path) = split_host(text);
        if path.contains(':') {
            return Err(ImageError("the tag belongs in `tag`"));
        }
        let part_ok = |part: &str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
                && part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.ends_with(|c: char| c.is_ascii_alphanumeric())
        };
        if !path.split('/').all(part_ok) {
            return Err(ImageError(
                "a path part must be a-z, 0-9, `.`, `_` or `-`, with a letter or digit at both ends",
            ));
        }
        let host_ok = |host: &str| {
            let (name, port) = host.split_once(':').unwrap_or((host, "1"));
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
                && port.parse::<u16>().is_ok_and(|p| p > 0)
        };
        if host.is_some_and(|host| !host_ok(host)) {
            return Err(ImageError("the registry must be a host name with an optional port"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The registry that holds it; `docker.io` when the name has none.
    pub fn host(&self) -> &str {
        match split_host(&self.0).0 {
            Some(host) => host,
            None => "docker.io",
        }
    }

    /// The path at the registry; official images get their `library/`.
    pub fn path(&self) -> String {
        match split_host(&self.0) {
            (None, path) if !path.contains('/') => format!("library/{path}"),
            (Some("docker.io"), path) if !path.contains('/') => format!("library/{path}"),
            (_, path) => path.to_owned(),
        }
    }

    /// Whether both names mean the same repository (`nginx` is `docker.io/library/nginx`).
    pub fn same_as(&self, other: &Self) -> bool {
        self.host() == other.host() && self.path() == other.path()
    }
}

fn split_host(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
        _ => (None, text),
    }
}

/// A tag, kept as the raw text of the file (`1.10` stays `1.10`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    /// Checks `text`: 1 to 128 of `A-Za-z0-9_.-`, not starting with `.` or `-`.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn new(text: &str) -> Result<Self, ImageError> {
        if text.is_empty() {
            return Err(ImageError("it is empty"));
        }
        if text.len() > 128 {
            return Err(ImageError("it is longer than 128 characters"));
        }
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) || text.starts_with(['.', '-']) {
            return Err(ImageError(
                "only letters, digits, `_`, `.` and `-` are allowed, starting with a letter, digit or `_`",
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The content digest of an image, `sha256:` and 64 hex digits. For `pull: never` it is the local image id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Checks `text`.
    ///
    /// # Errors
    /// When it is anything but `sha256:` and 64 lowercase hex digits.
    pub fn new(text: &str) -> Result<Self, ImageError> {
        let hex = text.strip_prefix("sha256:").ok_or(ImageError("a digest starts with `sha256:`"))?;
        if hex.len() != 64 || !hex.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)) {
            return Err(ImageError("a digest has 64 lowercase hex digits after `sha256:`"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The whole digest.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 hex digits, as people quote them.
    pub fn short(&self) -> &str {
        &self.0[7..19]
    }
}

macro_rules! text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = ImageError;
            fn try_from(text: String) -> Result<Self, ImageError> {
                Self::new(&text)
            }
        }
        impl From<$name> for String {
            fn from(it: $name) -> Self {
                it.0
            }
        }
    )*};
}
text!(Repository, Tag, Digest);

/// What `tag:` names: a tag to resolve, a digest that pins it, or both (the digest wins).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagSpec {
    /// The tag, for people and for resolving.
    pub tag: Tag,
    /// The digest written after `@`: no registry is asked.
    pub digest: Option<Digest>,
}

impl fmt::Display for TagSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tag, digest } = self;
        match digest {
            Some(digest) => write!(f, "{tag}@{digest}"),
            None => write!(f, "{tag}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_a_host_and_a_path() {
        for (text, host, path) in [
            ("nginx", "docker.io", "library/nginx"),
            ("docker.io/nginx", "docker.io", "library/nginx"),
            ("team/app", "docker.io", "team/app"),
            ("localhost/app", "localhost", "app"),
            ("localhost:4566/app", "localhost:4566", "app"),
            (
                "533267282498.dkr.ecr.ap-northeast-2.amazonaws.com/dangdangwalk",
                "533267282498.dkr.ecr.ap-northeast-2.amazonaws.com",
                "dangdangwalk",
            ),
        ] {
            let repository = Repository::new(text).unwrap_or_else(|e| unreachable!("{text}: {e}"));
            assert_eq!((repository.host(), repository.path().as_str()), (host, path));
        }
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        for bad in ["", "App", "app:1", "a//b", "/a", "a/", "a@sha256:00", "host:99999/app", "a b", "-a"] {
            assert!(Repository::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tag_keeps_its_text() {
        assert_eq!(Tag::new("1.10").map(String::from), Ok("1.10".to_owned()));
        for bad in ["", ".a", "-a", "a b", "a/b", "a:b"] {
            assert!(Tag::new(bad).is_err(), "{bad}");
        }
    }
}
