//! Failures as JSON: `{error, hint}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::controller::{CommandError, CommandErrorKind};

/// What went wrong, and what to do about it.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    error: String,
    hint: String,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    hint: &'a str,
}

impl Failure {
    pub(super) fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: hint.into() }
    }

    pub(super) fn not_found(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error, hint)
    }

    pub(super) fn unavailable(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error, "try again in a moment, and look at the controller's log")
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self { status, error, hint } = self;
        (status, Json(Body { error: &error, hint: &hint })).into_response()
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        let CommandError { message, hint, kind } = error;
        let status = match kind {
            CommandErrorKind::NotFound => StatusCode::NOT_FOUND,
            CommandErrorKind::Refused => StatusCode::CONFLICT,
            CommandErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, message, hint)
    }
}
