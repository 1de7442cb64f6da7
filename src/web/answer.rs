//! What was done as JSON, `{message}`, and failures, `{error, hint}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::controller::{CommandError, CommandErrorKind};

/// What was done.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    message: String,
}

impl Done {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// What went wrong, and what to do about it.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    error: String,
    hint: String,
    /// Seconds after which it may be tried again, where that is known.
    later: Option<u32>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    hint: &'a str,
}

impl Failure {
    pub(super) fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: hint.into(), later: None }
    }

    /// To be tried again after so many seconds.
    pub(super) fn later(self, seconds: u32) -> Self {
        Self { later: Some(seconds), ..self }
    }

    #[cfg(test)]
    pub(super) const fn status(&self) -> StatusCode {
        self.status
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
        let Self { status, error, hint, later } = self;
        let mut response = (status, Json(Body { error: &error, hint: &hint })).into_response();
        if let Some(seconds) = later {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
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
