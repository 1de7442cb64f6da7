//! The running controller, over `stateDir/control.sock`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::stream::Stream;

/// An answer of the controller takes no longer than this (streams apart).
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the controller of this host.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

/// What a verb sends along.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Order<'a> {
    /// The unix user.
    pub(crate) by: &'a str,
}

/// What the controller says to an order.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    /// What was done, for people.
    pub(crate) message: Option<String>,
    /// Why not.
    pub(crate) error: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Client {
    /// Finds the controller that keeps its state in `state_dir`.
    ///
    /// # Errors
    /// When none runs there or its socket may not be used, each with a hint.
    pub(crate) async fn connect(state_dir: &Path) -> Result<Self, Failure> {
        let socket = state_dir.join("control.sock");
        // A first connection tells the reasons apart, which an HTTP error would blur.
        if let Err(error) = tokio::net::UnixStream::connect(&socket).await {
            return Err(unreachable(&socket, error));
        }
        let http = reqwest::Client::builder()
            .unix_socket(socket.as_path())
            .no_proxy()
            .build()
            .map_err(|error| Failure::new("could not set up the HTTP client").because(error))?;
        Ok(Self { http, socket })
    }

    /// GET `path` as JSON.
    ///
    /// # Errors
    /// When the controller does not answer, or answers with an error.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Failure> {
        let response = self.send(Method::GET, path, query, None).await?;
        let text = self.body(response).await?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::new(format!("the controller's answer to {path} is not understood"))
                .because(error)
                .try_this("the controller that runs may be of another version: restart it")
        })
    }

    /// POST an order; returns what the controller says.
    ///
    /// # Errors
    /// When the controller does not answer, or refuses.
    pub(crate) async fn order(&self, path: &str, order: &impl Serialize) -> Result<Answer, Failure> {
        let body =
            serde_json::to_vec(order).map_err(|error| Failure::new("could not write the order").because(error))?;
        let response = self.send(Method::POST, path, &[], Some(body)).await?;
        let text = self.body(response).await?;
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Follows the events after id `after`.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub(crate) async fn stream(&self, after: Option<u64>) -> Result<Stream, Failure> {
        let mut request = self.http.get(url("/api/v1/events/stream", &[])).header("accept", "text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after.to_string());
        }
        let response = request.send().await.map_err(|error| self.lost(error))?;
        if !response.status().is_success() {
            return Err(refused(response.status().as_u16(), &response.text().await.unwrap_or_default()));
        }
        Ok(Stream::new(response))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Response, Failure> {
        let mut request = self.http.request(method, url(path, query)).timeout(PATIENCE);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        request.send().await.map_err(|error| self.lost(error))
    }

    async fn body(&self, response: Response) -> Result<String, Failure> {
        let status = response.status();
        let text = response.text().await.map_err(|error| self.lost(error))?;
        if status.is_success() { Ok(text) } else { Err(refused(status.as_u16(), &text)) }
    }

    fn lost(&self, error: reqwest::Error) -> Failure {
        Failure::new(format!("the controller at {} did not answer", self.socket.display()))
            .because(error.without_url())
            .try_this("look at its log; `holdfast run` starts it")
    }
}

fn url(path: &str, query: &[(&str, &str)]) -> String {
    let mut url = format!("http://holdfast{path}");
    for (index, (key, value)) in query.iter().enumerate() {
        url.push(if index == 0 { '?' } else { '&' });
        url.push_str(key);
        url.push('=');
        url.push_str(value);
    }
    url
}

fn unreachable(socket: &Path, error: io::Error) -> Failure {
    let at = socket.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::new(format!("the controller's socket {at} may not be used by you"))
            .because(error)
            .try_this("it belongs to the user the controller runs as: use sudo, or run the verb as that user"),
        _ => Failure::new(format!("no controller answers at {at}"))
            .because(error)
            .try_this("start one with `holdfast run`, or name its folder with --state-dir or --config"),
    }
}

fn refused(status: u16, text: &str) -> Failure {
    let answer: Answer = serde_json::from_str(text).unwrap_or_default();
    let plain = || match text.trim() {
        "" => format!("the controller answered with HTTP status {status}"),
        text => text.to_owned(),
    };
    let failure = Failure::new(answer.error.unwrap_or_else(plain));
    match answer.hint {
        Some(hint) => failure.try_this(hint),
        None => failure,
    }
}
