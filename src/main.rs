//! The program: exit code and error chain only.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match holdfast::cli::main(std::env::args_os()) {
        Ok(exit) => ExitCode::from(exit.code()),
        // Somebody closed our output (`holdfast status | head -1`): they have what they wanted.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            let mut text = format!("error: {failure}\n");
            let mut cause = failure.source();
            while let Some(error) = cause {
                text.push_str(&format!("  because: {error}\n"));
                cause = error.source();
            }
            if let Some(hint) = failure.hint() {
                text.push_str(&format!("hint: {hint}\n"));
            }
            // With stderr closed there is nobody left to tell.
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::from(holdfast::cli::Exit::Error.code())
        }
    }
}
