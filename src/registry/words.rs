//! What went wrong at a registry, in words that hold no credential, token or text of the other side.

use reqwest::StatusCode;

use crate::model::snapshot::Why;
use crate::model::words::chain;

/// Of one request, its body included.
pub(super) const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Why a request to `whom` had no answer.
pub(super) fn transport(whom: &str, error: reqwest::Error) -> Why {
    if error.is_timeout() {
        return format!("{whom} did not answer within {} s", TIMEOUT.as_secs());
    }
    // A URL may carry a token in its query.
    format!("{whom} could not be asked: {}", chain(&error.without_url()))
}

/// Why `status` is no answer to a question about `path`.
pub(super) fn refusal(whom: &str, path: &str, status: StatusCode, with_credentials: bool) -> Why {
    match (status.as_u16(), with_credentials) {
        (401 | 403, true) => format!(
            "{whom} refused the credentials for `{path}` ({}); hint: may they read this repository, and are they current?",
            status.as_u16()
        ),
        (401 | 403, false) => format!(
            "{whom} does not show `{path}` to everybody ({}); hint: `registries: [{{host: {whom}, auth: {{dockerConfig: \
             /root/.docker/config.json}}}}]` in holdfast.yaml",
            status.as_u16()
        ),
        (code, _) => format!("{whom} answered {code}{}", reason(status)),
    }
}

fn reason(status: StatusCode) -> String {
    status.canonical_reason().map_or_else(String::new, |reason| format!(" ({})", reason.to_ascii_lowercase()))
}
