//! Questions to a registry of the distribution specification; the one here: which digest has this tag?

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{ACCEPT, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};

use super::challenge::Challenge;
use super::login::Logins;
use super::token::{self, Scope, Tokens};
use super::{manifest, rule, words};
use crate::model::image::{Digest, Repository, Tag};
use crate::model::snapshot::{Fact, Why};
use crate::ports::Clock;

/// After a 429 that does not say how long.
const QUIET: Duration = Duration::from_secs(30);
/// No registry silences us longer, whatever it says.
const LONGEST_QUIET: Duration = Duration::from_secs(3600);

/// Asks registries, and remembers how each wants to be asked.
pub(super) struct Oci {
    clock: Arc<dyn Clock>,
    http: Result<Clients, Why>,
    challenges: Mutex<HashMap<Scope, Challenge>>,
    tokens: Tokens,
    quiet: Mutex<HashMap<String, Timestamp>>,
}

struct Clients {
    /// Through the proxy of the environment, if there is one.
    outside: Client,
    /// A proxy's `localhost` is another one.
    loopback: Client,
}

impl Clients {
    fn new() -> Result<Self, Why> {
        let builder = || {
            Client::builder()
                .timeout(words::TIMEOUT)
                .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
                .redirect(Policy::custom(|attempt| {
                    let from_https = attempt.previous().iter().any(|url| url.scheme() == "https");
                    let allowed = match attempt.url().scheme() {
                        "https" => true,
                        "http" => !from_https,
                        _ => false,
                    };
                    if attempt.previous().len() > 3 || !allowed { attempt.stop() } else { attempt.follow() }
                }))
        };
        let words = |error: reqwest::Error| format!("no https client: {}", crate::model::words::chain(&error));
        Ok(Self { outside: builder().build().map_err(words)?, loopback: builder().no_proxy().build().map_err(words)? })
    }
}

/// What is asked, and of whom.
pub(super) struct Question<'a> {
    pub(super) url: String,
    pub(super) accept: &'static str,
    pub(super) scope: Scope,
    pub(super) logins: &'a Logins,
}

/// An answer, and whether it was given to somebody with a password.
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) known_to_it: bool,
}

impl Oci {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            http: Clients::new(),
            challenges: Mutex::default(),
            tokens: Tokens::default(),
            quiet: Mutex::default(),
        }
    }

    /// The digest of `tag`.
    pub(super) async fn resolve(&self, repository: &Repository, tag: &Tag, logins: &Logins) -> Fact<Digest> {
        let scope = (repository.host().to_owned(), repository.path());
        let url = format!("{}/v2/{}/manifests/{tag}", rule::base(&scope.0), scope.1);
        match self.digest(&Question { url, accept: manifest::ACCEPT, scope, logins }).await {
            Ok(fact) => fact,
            Err(why) => Fact::Unreadable(why),
        }
    }

    async fn digest(&self, question: &Question<'_>) -> Result<Fact<Digest>, Why> {
        let (host, path) = &question.scope;
        let head = self.answer(Method::HEAD, question).await?;
        match head.response.status() {
            StatusCode::OK => {
                if let Some(digest) = manifest::digest_in(head.response.headers()) {
                    return Ok(Fact::Seen(digest));
                }
            }
            // A HEAD has no body to say what is not found; some registries do not know HEAD.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {}
            other => return Err(words::refusal(host, path, other, head.known_to_it)),
        }
        let get = self.answer(Method::GET, question).await?;
        let (status, named) = (get.response.status(), manifest::digest_in(get.response.headers()));
        match status {
            StatusCode::OK => {
                let body = body(host, get.response, manifest::LARGEST).await?;
                match (manifest::digest_of(&body), named) {
                    (Some(digest), Some(named)) if digest != named => {
                        Err(format!("{host} sent another manifest of `{path}` than the digest it names"))
                    }
                    (Some(digest), _) => Ok(Fact::Seen(digest)),
                    (None, _) => Err(format!("{host} answered for `{path}` with something that is no manifest")),
                }
            }
            StatusCode::NOT_FOUND => {
                if get.known_to_it || manifest::says_unknown(&body(host, get.response, manifest::LARGEST).await?) {
                    Ok(Fact::Absent)
                } else {
                    Err(format!(
                        "{host} answered 404 (not found) without saying that the tag is unknown; hint: is it a registry, \
                         and may everybody read `{path}`?"
                    ))
                }
            }
            other => Err(words::refusal(host, path, other, get.known_to_it)),
        }
    }

    /// Asks; when the registry wants to know who asks, asks once more with what it wants.
    pub(super) async fn answer(&self, method: Method, question: &Question<'_>) -> Result<Answer, Why> {
        let (host, _) = &question.scope;
        let request = || -> Result<RequestBuilder, Why> {
            let client = self.client(host)?;
            Ok(client.request(method.clone(), &question.url).header(ACCEPT, question.accept))
        };
        let (signed, known_to_it) = self.sign(request()?, question).await?;
        let response = self.send(host, signed).await?;
        // ECR says 403 when a token has expired.
        let always = question.logins.always(host);
        let expired = always && response.status() == StatusCode::FORBIDDEN;
        if response.status() != StatusCode::UNAUTHORIZED && !expired {
            return Ok(Answer { response, known_to_it });
        }
        // What was kept is too old, or nothing was known yet.
        self.tokens.forget(&question.scope);
        if known_to_it {
            question.logins.forget(host).await;
        }
        match Challenge::read(response.headers()) {
            Some(challenge) => {
                let mut challenges = self.challenges.lock().unwrap_or_else(PoisonError::into_inner);
                challenges.insert(question.scope.clone(), challenge);
            }
            None if always => {}
            None => return Ok(Answer { response, known_to_it }),
        }
        let (signed, known_to_it) = self.sign(request()?, question).await?;
        Ok(Answer { response: self.send(host, signed).await?, known_to_it })
    }

    /// Adds what the registry wants, as far as that is known; the flag says whether a password was behind it.
    async fn sign(&self, request: RequestBuilder, question: &Question<'_>) -> Result<(RequestBuilder, bool), Why> {
        let (host, path) = &question.scope;
        let known = self.challenges.lock().unwrap_or_else(PoisonError::into_inner).get(&question.scope).cloned();
        let challenge = match known {
            Some(challenge) => challenge,
            None if question.logins.always(host) => Challenge::Basic,
            None => return Ok((request, false)),
        };
        let credentials = question.logins.credentials(host).await?;
        let known_to_it = credentials.is_some();
        let Challenge::Bearer { realm, service, scope } = challenge else {
            return Ok((token::signed(request, credentials.as_ref()), known_to_it));
        };
        if let Some(kept) = self.tokens.get(&question.scope, self.clock.now()) {
            return Ok((request.bearer_auth(kept.reveal()), known_to_it));
        }
        let url = token::url(&realm, service.as_deref(), scope.as_deref(), path, rule::is_loopback(host))
            .map_err(|why| format!("{host} cannot be asked for `{path}`: {why}"))?;
        // The token service decides for itself whether it is reached through a proxy.
        let client = self.client(url.host_str().unwrap_or(host))?;
        let response = self.send(host, token::signed(client.get(url), credentials.as_ref())).await?;
        if response.status() != StatusCode::OK {
            return Err(words::refusal(host, path, response.status(), known_to_it));
        }
        let grant = token::read(&body(host, response, token::LARGEST).await?)
            .ok_or_else(|| format!("the token service of {host} answered without a token"))?;
        self.tokens.keep(&question.scope, &grant, self.clock.now());
        Ok((request.bearer_auth(grant.token.reveal()), known_to_it))
    }

    fn client(&self, host: &str) -> Result<&Client, Why> {
        let clients = self.http.as_ref().map_err(Clone::clone)?;
        Ok(if rule::is_loopback(host) { &clients.loopback } else { &clients.outside })
    }

    /// Sends, unless the registry asked for quiet; and hears when it does.
    async fn send(&self, host: &str, request: RequestBuilder) -> Result<Response, Why> {
        let now = self.clock.now();
        let quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied();
        if let Some(until) = quiet
            && now < until
        {
            return Err(format!("{host} asked to be left alone until {}", until.strftime("%H:%M:%S UTC")));
        }
        let response = request.send().await.map_err(|error| words::transport(host, error))?;
        if let Some(pause) = pause(response.status(), response.headers(), now) {
            let until = now.saturating_add(pause).unwrap_or(now);
            self.quiet.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), until);
        }
        Ok(response)
    }
}

/// How long not to ask again: what `Retry-After` says (seconds or a date) on a 429 or 503.
fn pause(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let without = match status {
        StatusCode::TOO_MANY_REQUESTS => Some(QUIET),
        StatusCode::SERVICE_UNAVAILABLE => None,
        _ => return None,
    };
    let Some(text) = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) else {
        return without;
    };
    let pause = match text.trim().parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => rfc2822::parse(text.trim())
            .ok()
            .map(|date| Duration::try_from(date.timestamp().duration_since(now)).unwrap_or_default()),
    };
    pause.or(without).map(|pause| pause.min(LONGEST_QUIET))
}

/// The body, refused when it is longer than `largest`.
pub(super) async fn body(host: &str, response: Response, largest: usize) -> Result<Vec<u8>, Why> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(|error| words::transport(host, error))?);
        if body.len() > largest {
            return Err(format!("{host} answered with more than {} KiB", largest >> 10));
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn a_registry_says_how_long_it_wants_quiet() {
        let now = "2015-10-21T07:27:00Z".parse::<Timestamp>().unwrap();
        let pause = |status, text: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(text) = text {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            }
            pause(status, &headers, now).map(|pause| pause.as_secs())
        };
        let too_many = StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(pause(too_many, Some("120")), Some(120));
        assert_eq!(pause(too_many, Some("Wed, 21 Oct 2015 07:28:00 GMT")), Some(60));
        assert_eq!(pause(too_many, Some("Wed, 21 Oct 2015 07:20:00 GMT")), Some(0));
        assert_eq!(pause(too_many, Some("999999999")), Some(3600));
        assert_eq!(pause(too_many, Some("soon")), Some(30));
        assert_eq!(pause(too_many, None), Some(30));
        assert_eq!(pause(StatusCode::SERVICE_UNAVAILABLE, Some("5")), Some(5));
        assert_eq!(pause(StatusCode::SERVICE_UNAVAILABLE, None), None);
        assert_eq!(pause(StatusCode::OK, Some("5")), None);
    }
}
