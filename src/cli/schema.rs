//! `holdfast schema`: the JSON Schema of the desired state, for editors.

use super::failure::{Exit, Failure};
use super::{edges, out};

/// Prints the schema.
///
/// # Errors
/// When the output is closed.
pub(crate) fn run() -> Result<Exit, Failure> {
    out::json(&edges::json_schema())?;
    Ok(Exit::Fine)
}
