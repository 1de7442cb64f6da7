//! The connection: made on first use, made again after a failure, and every failure in words.

use std::error::Error as _;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use bollard::API_DEFAULT_VERSION;
use bollard::Docker as Client;
use bollard::errors::Error;

use crate::model::snapshot::Why;
use crate::ports::StepError;

/// A read that takes longer is a dead daemon, not a busy one: reads take milliseconds.
const READ_LIMIT: Duration = Duration::from_secs(15);
/// Creating and starting may wait for a slow volume or log driver.
const WRITE_LIMIT: Duration = Duration::from_secs(120);

/// One engine, by its address.
pub(super) struct Engine {
    endpoint: String,
    client: Mutex<Option<Client>>,
}

impl Engine {
    pub(super) const fn new(endpoint: String) -> Self {
        Self { endpoint, client: Mutex::new(None) }
    }

    /// Whether the engine shares this host's ports and files.
    pub(super) fn is_local(&self) -> bool {
        self.endpoint.starts_with("unix://")
    }

    /// The client, connected and at a version both sides speak.
    pub(super) async fn client(&self) -> Result<Client, Why> {
        if let Some(client) = lock(&self.client).clone() {
            return Ok(client);
        }
        let limit = WRITE_LIMIT.as_secs();
        let client = if let Some(path) = self.endpoint.strip_prefix("unix://") {
            Client::connect_with_unix(path, limit, API_DEFAULT_VERSION)
        } else if self.endpoint.starts_with("tcp://") || self.endpoint.starts_with("http://") {
            Client::connect_with_http(&self.endpoint, limit, API_DEFAULT_VERSION)
        } else {
            return Err(format!(
                "`{}` is not an address of an engine, expected `unix:///path` or `tcp://host:port`; \
                 hint: set `docker:` in holdfast.yaml",
                self.endpoint
            ));
        };
        let client = client.map_err(|error| self.explain(&error))?.with_request_modifier(url_safe_auth);
        let client = tokio::time::timeout(READ_LIMIT, client.negotiate_version())
            .await
            .map_err(|_| self.silent())?
            .map_err(|error| self.explain(&error))?;
        *lock(&self.client) = Some(client.clone());
        Ok(client)
    }

    /// Forgets the connection: the next use connects and negotiates again.
    pub(super) fn forget(&self) {
        *lock(&self.client) = None;
    }

    /// Does one read; `Ok(None)` is a 404, a positive answer.
    pub(super) async fn read<T, F>(&self, ask: impl FnOnce(Client) -> F) -> Result<Option<T>, Why>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let client = self.client().await?;
        match tokio::time::timeout(READ_LIMIT, ask(client)).await {
            Ok(Ok(value)) => Ok(Some(value)),
            Ok(Err(error)) if status(&error) == Some(404) => Ok(None),
            Ok(Err(error)) => {
                self.forget_if_lost(&error);
                Err(self.explain(&error))
            }
            Err(_) => {
                self.forget();
                Err(self.silent())
            }
        }
    }

    /// Does one write, with `extra` time beside the usual.
    pub(super) async fn write<T, F>(&self, extra: Duration, ask: impl FnOnce(Client) -> F) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let client = self.client().await.map_err(Failed::unanswered)?.with_timeout(WRITE_LIMIT + extra);
        match tokio::time::timeout(WRITE_LIMIT + extra, ask(client)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                self.forget_if_lost(&error);
                Err(Failed { status: status(&error), why: self.explain(&error) })
            }
            Err(_) => Err(Failed::unanswered(self.silent())),
        }
    }

    fn forget_if_lost(&self, error: &Error) {
        if status(error).is_none() {
            self.forget();
        }
    }

    fn silent(&self) -> Why {
        format!("the engine at {} did not answer in time", self.endpoint)
    }

    /// `error` for people, with a hint where one helps.
    pub(super) fn explain(&self, error: &Error) -> Why {
        if let Error::DockerResponseServerError { status_code, message } = error {
            return format!("the engine answered {status_code}: {}", message.trim());
        }
        let at = &self.endpoint;
        if let Error::SocketNotFoundError(_) = error {
            return format!(
                "there is no engine at {at}; hint: is Docker installed and running? `systemctl start docker`"
            );
        }
        let chain = chain(error);
        let lower = chain.to_ascii_lowercase();
        if lower.contains("permission denied") {
            return format!("no permission on {at}; hint: run as root or add the user to the group `docker`");
        }
        if lower.contains("connection refused") || lower.contains("no such file") {
            return format!("nothing answers at {at}; hint: is Docker running? `systemctl start docker`");
        }
        format!("the engine at {at} could not be asked: {chain}")
    }
}

/// A write that failed.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    /// The engine's answer; none: it is not known whether the write happened.
    pub(super) status: Option<u16>,
    pub(super) why: Why,
}

impl Failed {
    const fn unanswered(why: Why) -> Self {
        Self { status: None, why }
    }

    /// As a step's error: what the engine refuses for its form will be refused again.
    pub(super) fn into_step(self) -> StepError {
        match self.status {
            Some(400 | 401 | 403 | 406) => StepError::refused(self.why),
            _ => StepError::transient(self.why),
        }
    }
}

fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

/// The engine reads `X-Registry-Auth` as base64url and silently ignores anything else; bollard writes plain base64, which
/// differs as soon as a password has a `?`, `>` or `~` in the wrong place.
fn url_safe_auth(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("x-registry-auth")
        && let Ok(text) = value.to_str()
        && let Ok(mut safe) = text.replace('+', "-").replace('/', "_").parse::<reqwest::header::HeaderValue>()
    {
        safe.set_sensitive(true);
        *value = safe;
    }
    request
}

/// A lock that a panic elsewhere does not poison: what it guards is always whole between two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
