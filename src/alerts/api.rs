//! One request to a host's API, and what its answer means for the next one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::fmt::rfc2822;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::Value;

use crate::model::secret::Secret;
use crate::model::snapshot::Why;
use crate::model::words::{chain, shortened};

/// A host that does not answer in this time is asked again later.
const TIMEOUT: Duration = Duration::from_secs(15);
/// After a 429, or a limit that does not say when it ends: what GitHub asks for.
const QUIET: Duration = Duration::from_secs(60);
/// No host silences us longer, whatever it says.
const LONGEST_QUIET: Duration = Duration::from_secs(3600);
/// A page of deployments has some hundred KiB.
const LARGEST: usize = 2 << 20;
/// Tokens have less than 300 characters, a JSON web token some thousand.
const LARGEST_TOKEN: usize = 8 << 10;

/// Why something was not told.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may go better later.
    Later {
        /// For people.
        why: Why,
        /// Not earlier than in this time, the host says.
        after: Option<Duration>,
    },
    /// It will not go better by itself.
    Refused {
        /// Of HTTP.
        status: StatusCode,
        /// For people.
        why: Why,
    },
}

/// The API of one host.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    base: Url,
    token_file: PathBuf,
    accept: &'static [(&'static str, &'static str)],
}

/// A question below the base.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Each part is encoded as a whole: `a/b` in one of them stays one.
    pub(super) path: Vec<&'a str>,
    pub(super) query: Vec<(&'a str, &'a str)>,
    pub(super) body: Option<Value>,
}

impl Api {
    /// # Errors
    /// When there is no HTTPS here.
    pub(super) fn new(
        base: Url,
        token_file: PathBuf,
        accept: &'static [(&'static str, &'static str)],
    ) -> Result<Self, Why> {
        let builder = Client::builder()
            .timeout(TIMEOUT)
            .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            // A token is for the host it was given for.
            .redirect(Policy::none());
        // A proxy's `localhost` is another one.
        let loopback = matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let builder = if loopback { builder.no_proxy() } else { builder };
        let client = builder.build().map_err(|error| format!("no https client: {}", chain(&error)))?;
        Ok(Self { client, base, token_file, accept })
    }

    /// Asks, and returns what was answered; `null` when that is no JSON.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Value, Trouble> {
        let later = |why| Trouble::Later { why, after: None };
        let token = token(&self.token_file).await.map_err(later)?;
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(&ask.path);
        }
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&ask.query);
        }
        let mut request = self.client.request(ask.method, url).bearer_auth(token.reveal());
        for (name, value) in self.accept {
            request = request.header(*name, *value);
        }
        if let Some(body) = &ask.body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| later(transport(error)))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = body(response).await.map_err(later)?;
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(body);
        }
        let message = message(&body).replace(token.reveal().as_str(), "(secret)");
        Err(trouble(status, &headers, &message))
    }
}

/// What is always sent to GitHub.
pub(super) const GITHUB: &[(&str, &str)] =
    &[("accept", "application/vnd.github+json"), ("x-github-api-version", "2022-11-28")];

async fn token(file: &Path) -> Result<Secret<String>, Why> {
    let shown = file.display();
    let bytes =
        tokio::fs::read(file).await.map_err(|error| format!("the token file {shown} cannot be read: {error}"))?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    let token = text.trim();
    if token.is_empty() || token.len() > LARGEST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("the token file {shown} holds no token: expected one line of plain characters"));
    }
    Ok(Secret::new(token.to_owned()))
}

/// Without the address: it says nothing new, and the chain says what went wrong.
fn transport(error: reqwest::Error) -> Why {
    if error.is_timeout() {
        return format!("no answer within {} s", TIMEOUT.as_secs());
    }
    chain(&error.without_url())
}

async fn body(response: Response) -> Result<Vec<u8>, Why> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(transport)?);
        if body.len() > LARGEST {
            return Err(format!("it answered with more than {} KiB", LARGEST >> 10));
        }
    }
    Ok(body)
}

/// What a host says in its errors, on one line.
fn message(body: &Value) -> String {
    let text = |key| match &body[key] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let plain: String = text("message")
        .or_else(|| text("error"))
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    shortened(&plain, 200)
}

fn trouble(status: StatusCode, headers: &HeaderMap, message: &str) -> Trouble {
    let why = match message {
        "" => format!("it answered {status}"),
        message => format!("it answered {status}: {message}"),
    };
    // GitHub says 403 for a limit too.
    let limited = status == StatusCode::TOO_MANY_REQUESTS
        || (status == StatusCode::FORBIDDEN
            && (headers.contains_key(RETRY_AFTER)
                || text(headers, "x-ratelimit-remaining") == Some("0")
                || message.to_ascii_lowercase().contains("rate limit")));
    if limited {
        return Trouble::Later { why, after: Some(pause(headers).unwrap_or(QUIET)) };
    }
    let by_itself = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_EARLY);
    if status.is_server_error() || by_itself {
        return Trouble::Later { why, after: pause(headers) };
    }
    let hint = match status {
        StatusCode::UNAUTHORIZED => "; hint: is the token of `git.status.tokenFile` still good?",
        StatusCode::FORBIDDEN => {
            "; hint: may the token of `git.status.tokenFile` write commit statuses (and deployments)?"
        }
        StatusCode::NOT_FOUND => {
            "; hint: does the token of `git.status.tokenFile` see the repository, and is `git.status.repository` right?"
        }
        status if status.is_redirection() => {
            "; hint: write the new address as `git.status.api` or `git.status.repository`"
        }
        _ => "",
    };
    Trouble::Refused { status, why: format!("{why}{hint}") }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
}

/// How long not to ask again: `Retry-After` (seconds or a date), else the end of the limit. Moments are compared with
/// the host's own clock.
fn pause(headers: &HeaderMap) -> Option<Duration> {
    let date = |text: &str| Some(rfc2822::parse(text).ok()?.timestamp());
    let now = text(headers, DATE.as_str()).and_then(date);
    let until = |at: jiff::Timestamp| Some(Duration::try_from(at.duration_since(now?)).unwrap_or_default());
    let told = text(headers, RETRY_AFTER.as_str()).and_then(|text| match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => date(text).and_then(until),
    });
    let reset = || {
        text(headers, "x-ratelimit-remaining").filter(|left| *left == "0")?;
        let at = text(headers, "x-ratelimit-reset")?.parse().ok()?;
        jiff::Timestamp::from_second(at).ok().and_then(until)
    };
    told.or_else(reset).map(|pause| pause.min(LONGEST_QUIET))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    /// Seconds to wait; `Ok(None)`: our own backoff; `Err`: never again.
    fn after(status: u16, message: &str, all: &[(&'static str, &'static str)]) -> Result<Option<u64>, String> {
        match trouble(StatusCode::from_u16(status).unwrap(), &headers(all), message) {
            Trouble::Later { after, .. } => Ok(after.map(|it| it.as_secs())),
            Trouble::Refused { why, .. } => Err(why),
        }
    }

    #[test]
    fn a_limit_is_waited_out_as_the_host_says() {
        let date = ("date", "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(after(429, "", &[("retry-after", "7")]), Ok(Some(7)));
        assert_eq!(after(429, "", &[date, ("retry-after", "Wed, 21 Oct 2015 07:29:00 GMT")]), Ok(Some(60)));
        assert_eq!(after(429, "", &[]), Ok(Some(60)));
        assert_eq!(after(403, "", &[("retry-after", "99999999")]), Ok(Some(3600)));
        let limit = [date, ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1445412510")];
        assert_eq!(after(403, "API rate limit exceeded", &limit), Ok(Some(30)));
        assert_eq!(after(403, "", &limit[1..]), Ok(Some(60)));
        assert_eq!(after(403, "You have exceeded a secondary rate limit", &[]), Ok(Some(60)));
        assert_eq!(after(503, "", &[("retry-after", "5")]), Ok(Some(5)));
        assert_eq!(after(500, "", &[]), Ok(None));
    }

    #[test]
    fn what_stays_as_it_is_is_refused_with_a_hint() {
        for (status, hint) in [(401, "still good"), (403, "write commit statuses"), (404, "see the repo"), (301, "api")]
        {
            let why = after(status, "no", &[("x-ratelimit-remaining", "10")]).unwrap_err();
            assert!(why.contains(": no; hint: ") && why.contains(hint), "{why}");
        }
        assert_eq!(after(422, "", &[]), Err("it answered 422 Unprocessable Entity".into()));
    }

    #[test]
    fn an_error_is_one_short_line() {
        let body = serde_json::json!({"message": format!("a\u{1b}\n{}", "x".repeat(999))});
        assert!(message(&body).starts_with("a xxx") && message(&body).chars().count() == 200);
        assert_eq!(message(&serde_json::json!({"message": {"ref": ["is bad"]}})), r#"{"ref":["is bad"]}"#);
        assert_eq!(message(&Value::Null), "");
    }
}
