//! Collects what is wrong with one file, each with its place.

use std::cell::OnceCell;
use std::path::Path;

use crate::source::error::{Position, SourceError, shown};
use crate::source::file::given::Given;
use crate::source::file::scalars::{Later, Scalar};
use crate::source::locate::Locator;

/// More than these are not told: whoever fixes twenty looks again, and each costs a search in the text.
const MAX_ERRORS: usize = 20;

/// What is wrong with one file.
pub(in crate::source) struct Report<'a> {
    pub(in crate::source) file: &'a Path,
    text: &'a str,
    locator: OnceCell<Locator>,
    pub(in crate::source) errors: Vec<SourceError>,
    pub(in crate::source) warnings: Vec<SourceError>,
    /// Stands in for an error that is one too many.
    surplus: SourceError,
}

impl<'a> Report<'a> {
    pub(in crate::source) fn new(file: &'a Path, text: &'a str) -> Self {
        Self {
            file,
            text,
            locator: OnceCell::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
            surplus: SourceError::of_file(file, ""),
        }
    }

    /// Where the value at `path` stands, or the key of what is there of it.
    pub(in crate::source) fn place(&self, path: &[&str]) -> Position {
        let locator = self.locator.get_or_init(|| Locator::new(self.text));
        let mut place = locator.find(path);
        if let (["services", _, rest @ ..], true) = (path, place.found < path.len()) {
            // What a service does not say itself may come from `defaults`.
            let defaults: Vec<&str> = std::iter::once("defaults").chain(rest.iter().copied()).collect();
            let other = locator.find(&defaults);
            if !rest.is_empty() && other.found == defaults.len() {
                place = other;
                place.found = path.len();
            }
        }
        // The value when it stands beside its key; a map below its key is better found by the key.
        if place.found == path.len() && place.value.line == place.key.line { place.value } else { place.key }
    }

    /// Whether no further error is told.
    pub(in crate::source) const fn is_full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }

    /// One error at `path`.
    pub(in crate::source) fn error(&mut self, path: &[&str], what: impl Into<String>) -> &mut SourceError {
        if self.is_full() {
            return &mut self.surplus;
        }
        let at = Some(self.place(path));
        let error = SourceError { file: self.file.to_owned(), at, what: what.into(), expected: None, hint: None };
        let index = self.errors.len();
        self.errors.push(error);
        &mut self.errors[index]
    }

    /// One warning at `path`.
    pub(in crate::source) fn warn(&mut self, path: &[&str], what: impl Into<String>, hint: &str) {
        if self.warnings.len() >= MAX_ERRORS {
            return;
        }
        let at = Some(self.place(path));
        let hint = Some(hint.to_owned());
        self.warnings.push(SourceError { file: self.file.to_owned(), at, what: what.into(), expected: None, hint });
    }
}

/// A report that speaks of one part of a file.
pub(in crate::source) struct Scope<'r, 'a> {
    pub(in crate::source) report: &'r mut Report<'a>,
    /// What stands before every path.
    pub(in crate::source) prefix: &'r [&'r str],
    /// The service's name.
    pub(in crate::source) service: &'r str,
}

impl Scope<'_, '_> {
    /// One error at `path` of this part.
    pub(in crate::source) fn error(&mut self, path: &[&str], what: impl Into<String>) -> &mut SourceError {
        let path: Vec<&str> = self.prefix.iter().chain(path).copied().collect();
        self.report.error(&path, what)
    }

    /// One error with what would be right.
    pub(in crate::source) fn expected(
        &mut self,
        path: &[&str],
        what: impl Into<String>,
        expected: &str,
    ) -> &mut SourceError {
        let error = self.error(path, what);
        error.expected = Some(expected.to_owned());
        error
    }

    /// One warning at `path` of this part.
    pub(in crate::source) fn warn(&mut self, path: &[&str], what: impl Into<String>, hint: &str) {
        let path: Vec<&str> = self.prefix.iter().chain(path).copied().collect();
        self.report.warn(&path, what, hint);
    }

    /// Reads a scalar; none when it is left out or wrong (then it is reported).
    pub(in crate::source) fn take<S: Scalar, T>(
        &mut self,
        path: &[&str],
        given: &Given<S>,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = given.get()?.as_ref();
        let value = read(text);
        if value.is_none() {
            let what = format!("`{}`: found `{}`", path.last().unwrap_or(&""), shown(text));
            self.expected(path, what, S::EXPECTED);
        }
        value
    }

    /// Refuses a key whose capability comes later.
    pub(in crate::source) fn later(&mut self, path: &[&str], given: &Given<Later>) {
        if given.is_given() {
            self.error(path, format!("`{}` is not available yet", path.join("."))).hint =
                Some("remove it; this version of holdfast cannot do it".to_owned());
        }
    }
}
