//! How a verb ends: an exit code of the contract, or a failure with its causes and a hint.

use std::error::Error;
use std::fmt;
use std::io;

/// The exit codes of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, settled, nothing to do, serving.
    Fine,
    /// It could not be done; a [`Failure`] says why.
    Error,
    /// `plan` has changes, `status` and `run --once` are not settled.
    Unsettled,
    /// `wait`: rolled back or quarantined.
    RolledBack,
    /// `wait`: the time is over.
    Timeout,
}

impl Exit {
    /// What the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Error => 1,
            Self::Unsettled => 2,
            Self::RolledBack => 3,
            Self::Timeout => 4,
        }
    }
}

/// Why a verb could not do its work. `Display` is one line; causes follow through `source`.
#[derive(Debug)]
pub struct Failure {
    what: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
    broken_pipe: bool,
}

impl Failure {
    /// A failure, in words that follow "error: ".
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: None, hint: None, broken_pipe: false }
    }

    /// A failure of an edge, whose words may end in a hint of their own.
    pub fn from_words(what: impl Into<String>, words: &str) -> Self {
        let (why, hint) = match words.split_once("hint: ") {
            Some((why, hint)) => (why.trim_end_matches([';', ' ', '\n', ',']), Some(hint.trim())),
            None => (words.trim_end(), None),
        };
        let failure = Self::new(what).because(why);
        match hint {
            Some(hint) => failure.try_this(hint),
            None => failure,
        }
    }

    /// With what lies behind it.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// With what to do about it.
    #[must_use]
    pub fn try_this(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Our output could not be written.
    pub fn output(error: io::Error) -> Self {
        let broken_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        Self { broken_pipe, ..Self::new("could not write the output").because(error) }
    }

    /// What to do about it, when there is something.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether somebody closed our output: a quiet end.
    pub const fn is_broken_pipe(&self) -> bool {
        self.broken_pipe
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_in_an_edges_words_is_a_hint() {
        for words in [
            "the lock is held; hint: stop it",
            "the lock is held\nhint: stop it",
            "the lock is held\n  hint: stop it\n",
        ] {
            let failure = Failure::from_words("could not start", words);
            assert_eq!(failure.source().map(ToString::to_string).as_deref(), Some("the lock is held"));
            assert_eq!(failure.hint(), Some("stop it"));
        }
        assert_eq!(Failure::from_words("could not start", "no").hint(), None);
    }
}
