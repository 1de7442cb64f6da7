//! Env files: the text of `docker run --env-file`, without I/O.

use std::path::{Component, Path};

use super::hash::sha256_hex;
use super::release::EnvFileVersion;
use super::secret::Secret;

/// The largest env file that is read.
pub const MAX_BYTES: usize = 1 << 20;

/// Why an env file cannot be used: by line, never with what stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvFileError {
    /// It is not text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// It is larger than [`MAX_BYTES`].
    #[error("it is larger than 1 MiB")]
    TooLarge,
    /// A line without `=`. Docker would take the value from its own environment; a controller has none to give away.
    #[error("line {0} has no `=`")]
    NoValue(usize),
    /// A line that starts with `=`.
    #[error("line {0} has no name before `=`")]
    NoName(usize),
    /// A name with a space in it.
    #[error("the name on line {0} has white space in it")]
    SpaceInName(usize),
    /// A NUL byte.
    #[error("line {0} has a NUL byte")]
    Nul(usize),
}

/// The variables of an env file, in its order; a name written twice keeps both (the engine takes the last).
pub type EnvVariables = Vec<(String, Secret<String>)>;

/// Reads `bytes` by Docker's rules: one `NAME=value` a line, values as they stand (quotes and spaces included),
/// empty lines and lines that start with `#` left out, white space before a name ignored.
///
/// # Errors
/// With the first line that cannot be used.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<(EnvFileVersion, EnvVariables), EnvFileError> {
    if bytes.len() > MAX_BYTES {
        return Err(EnvFileError::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| EnvFileError::NotText)?;
    let mut variables = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = index + 1;
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.contains('\0') {
            return Err(EnvFileError::Nul(number));
        }
        let (name, value) = line.split_once('=').ok_or(EnvFileError::NoValue(number))?;
        if name.is_empty() {
            return Err(EnvFileError::NoName(number));
        }
        if name.contains(char::is_whitespace) {
            return Err(EnvFileError::SpaceInName(number));
        }
        variables.push((name.to_owned(), Secret::new(value.to_owned())));
    }
    Ok((version(path, bytes), variables))
}

/// The version of an env file: its path as written and the digest of its bytes.
pub fn version(path: &Path, bytes: &[u8]) -> EnvFileVersion {
    EnvFileVersion { path: path.to_owned(), sha256: sha256_hex(bytes) }
}

/// Whether `path` stays below the folder it is joined to: relative, no `..`.
pub fn stays_below(path: &Path) -> bool {
    path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, EnvFileError> {
        let (_, variables) = parse(Path::new(".env"), text.as_bytes())?;
        Ok(variables.into_iter().map(|(name, value)| (name, value.reveal().clone())).collect())
    }

    #[test]
    fn values_are_taken_as_they_stand() {
        let text = "\u{feff}# comment\n\nA=1\n  B=\"quoted\" \r\nC=a=b\nD=\n";
        let pairs = [("A", "1"), ("B", "\"quoted\" "), ("C", "a=b"), ("D", "")];
        assert_eq!(read(text), Ok(pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec()));
    }

    #[test]
    fn errors_name_the_line_and_not_the_value() {
        assert_eq!(read("A=1\nhunter2"), Err(EnvFileError::NoValue(2)));
        assert_eq!(read("=hunter2"), Err(EnvFileError::NoName(1)));
        assert_eq!(read("A B=hunter2"), Err(EnvFileError::SpaceInName(1)));
        assert!(!EnvFileError::NoValue(2).to_string().contains("hunter2"));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let (_, variables) = parse(Path::new("e"), b"A=hunter2").unwrap_or_else(|e| unreachable!("{e}"));
        assert!(!format!("{variables:?}").contains("hunter2"));
    }
}
