//! One probe: a question and an answer.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{HOST, HeaderMap, HeaderName, HeaderValue};

use crate::model::desired::Check;
use crate::model::snapshot::Why;
use crate::ports::ProbeTarget;

/// Asks over the network. Cheap to clone: one client for all.
#[derive(Clone)]
pub(super) struct Asker {
    client: Result<reqwest::Client, Why>,
}

impl Asker {
    pub(super) fn new() -> Self {
        // A probe must say what a fresh request would meet: no kept connection, no proxy, nobody else's address.
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .http1_only()
            // Never spoken: no certificate store is read for it.
            .tls_certs_only(std::iter::empty())
            .build();
        Self { client: client.map_err(|error| format!("the HTTP client could not be made: {error}")) }
    }

    /// Whether the answer to `target` is good; why not otherwise.
    pub(super) async fn ask(&self, target: &ProbeTarget) -> Result<(), Why> {
        let limit = target.timeout;
        let answer = match &target.check {
            Check::Http { path, expect, port, host, headers } => {
                let address = address(target, *port)?;
                let request = self.request(address, path, host.as_deref(), headers)?;
                tokio::time::timeout(limit, status(request, *expect)).await
            }
            Check::Tcp { port } => {
                let address = address(target, *port)?;
                tokio::time::timeout(limit, connect(address)).await
            }
            // Both are answered without a question.
            Check::Container | Check::Running(_) => return Ok(()),
        };
        answer.unwrap_or_else(|_| Err(format!("no answer within {}", show(limit))))
    }

    fn request(
        &self,
        address: SocketAddr,
        path: &str,
        host: Option<&str>,
        headers: &std::collections::BTreeMap<String, String>,
    ) -> Result<reqwest::RequestBuilder, Why> {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        let mut given = HeaderMap::new();
        for (name, value) in headers {
            let header = HeaderName::try_from(name).map_err(|_| format!("`{name}` is no header name"))?;
            given.insert(
                header,
                HeaderValue::try_from(value).map_err(|_| format!("the value of header `{name}` is not allowed"))?,
            );
        }
        if let Some(host) = host {
            given.insert(HOST, HeaderValue::try_from(host).map_err(|_| format!("`{host}` is no host"))?);
        }
        // The path starts with `/`, so what follows the address can never become part of it.
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(client.get(format!("http://{address}{path}")).headers(given))
    }
}

/// Where to ask: the container's own address, with the check's port if it names one.
fn address(target: &ProbeTarget, port: Option<u16>) -> Result<SocketAddr, Why> {
    let mut address = target.address.ok_or("the container has no address")?;
    if let Some(port) = port {
        address.set_port(port);
    }
    if address.port() == 0 {
        return Err("no port to ask; hint: write `docker.port` or the check's own `port`".to_owned());
    }
    Ok(address)
}

/// The head is enough: the body is dropped with the connection.
async fn status(request: reqwest::RequestBuilder, (from, to): (u16, u16)) -> Result<(), Why> {
    let response = request.send().await.map_err(|error| reason(&error))?;
    let status = response.status().as_u16();
    if (from..=to).contains(&status) {
        Ok(())
    } else {
        let expected = if from == to { from.to_string() } else { format!("{from}-{to}") };
        Err(format!("answered {status}, expected {expected}"))
    }
}

async fn connect(address: SocketAddr) -> Result<(), Why> {
    match tokio::net::TcpStream::connect(address).await {
        Ok(_) => Ok(()),
        Err(error) => Err(words(&error, &format!("{address}"))),
    }
}

/// The innermost cause, without the address: it is the same in every line and the name is said elsewhere.
fn reason(error: &reqwest::Error) -> Why {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match cause.downcast_ref::<std::io::Error>() {
        Some(error) => words(error, "the port"),
        None => cause.to_string(),
    }
}

fn words(error: &std::io::Error, at: &str) -> Why {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("nothing listens on {at} (connection refused)"),
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof => {
            "the connection was closed without an answer".to_owned()
        }
        _ => error.to_string(),
    }
}

fn show(limit: Duration) -> String {
    if limit.subsec_millis() == 0 { format!("{} s", limit.as_secs()) } else { format!("{} ms", limit.as_millis()) }
}
