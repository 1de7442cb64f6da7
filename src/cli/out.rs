//! Standard output: lines, JSON, and what a terminal can take.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::failure::Failure;

/// Writes text as it is.
///
/// # Errors
/// When the output is closed or full.
pub(crate) fn print(text: impl fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    write!(out, "{text}").and_then(|()| out.flush()).map_err(Failure::output)
}

/// Writes one line.
///
/// # Errors
/// When the output is closed or full.
pub(crate) fn line(text: impl fmt::Display) -> Result<(), Failure> {
    print(format_args!("{text}\n"))
}

/// Writes `value` as indented JSON.
///
/// # Errors
/// When the output is closed or full.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::new("could not write JSON").because(error))?;
    line(text)
}

/// Writes `value` as one line of JSON.
///
/// # Errors
/// When the output is closed or full.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::new("could not write JSON").because(error))?;
    line(text)
}

/// One remark on standard error, which never mixes with what a program reads.
pub(crate) fn remark(text: impl fmt::Display) {
    // With stderr closed there is nobody left to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Whether standard output shows colour: a terminal, and nobody asked for none (<https://no-color.org>).
pub(crate) fn colour() -> bool {
    io::stdout().is_terminal() && colour_allowed()
}

/// Whether the surroundings forbid colour.
pub(crate) fn colour_allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// How text is set off where colour may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// As it is.
    Plain,
    /// Headings.
    Bold,
    /// Of lesser weight.
    Dim,
    /// Good.
    Green,
    /// On its way.
    Yellow,
    /// Bad.
    Red,
    /// The blue colour of a service.
    Blue,
}

impl Paint {
    /// `text` in this paint, or as it is without colour.
    pub(crate) fn on(self, text: &str, colour: bool) -> String {
        let code = match self {
            Self::Plain => return text.to_owned(),
            _ if !colour => return text.to_owned(),
            Self::Bold => 1,
            Self::Dim => 2,
            Self::Red => 31,
            Self::Green => 32,
            Self::Yellow => 33,
            Self::Blue => 34,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
