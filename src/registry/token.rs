//! Bearer tokens, as the distribution specification's token service gives them out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{RequestBuilder, Url};
use serde::Deserialize;

use crate::model::secret::Secret;
use crate::model::snapshot::Why;
use crate::ports::Credentials;

/// Tokens name every layer of access they give; real ones have a few KiB.
pub(super) const LARGEST: usize = 256 << 10;

/// What a token is for: the registry and the path at it.
pub(super) type Scope = (String, String);

/// Tokens that are still good.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<Scope, (Secret<String>, Timestamp)>>);

impl Tokens {
    pub(super) fn get(&self, scope: &Scope, now: Timestamp) -> Option<Secret<String>> {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, (_, until)| now < *until);
        tokens.get(scope).map(|(token, _)| token.clone())
    }

    pub(super) fn keep(&self, scope: &Scope, grant: &Grant, now: Timestamp) {
        let until = now.saturating_add(grant.good_for).unwrap_or(now);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(scope.clone(), (grant.token.clone(), until));
    }

    pub(super) fn forget(&self, scope: &Scope) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(scope);
    }
}

/// What the token service gave.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) token: Secret<String>,
    good_for: Duration,
}

/// The question for the token service at `realm`. A registry reached by HTTPS may not send us, and perhaps a password,
/// to a service that is not.
pub(super) fn url(
    realm: &str,
    service: Option<&str>,
    scope: Option<&str>,
    path: &str,
    plain_allowed: bool,
) -> Result<Url, Why> {
    let mut url = Url::parse(realm).map_err(|_| "its token service has no valid address".to_owned())?;
    if url.scheme() != "https" && !(plain_allowed && url.scheme() == "http") {
        return Err("its token service is not reached by https".to_owned());
    }
    let own = format!("repository:{path}:pull");
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope.unwrap_or(&own));
    }
    Ok(url)
}

/// With the password, when there is one.
pub(super) fn signed(request: RequestBuilder, credentials: Option<&Credentials>) -> RequestBuilder {
    match credentials {
        Some(it) => request.basic_auth(&it.username, Some(it.password.reveal())),
        None => request,
    }
}

/// The token in the answer of the service.
pub(super) fn read(body: &[u8]) -> Option<Grant> {
    #[derive(Deserialize)]
    struct Reply {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    let Reply { token, access_token, expires_in } = serde_json::from_slice(body).ok()?;
    let token = token.or(access_token).filter(|token| !token.is_empty())?;
    // The specification's default. A tenth is left for the way; a day is longer than any service means.
    let seconds = expires_in.unwrap_or(60).min(86_400);
    Some(Grant { token: Secret::new(token), good_for: Duration::from_secs(seconds - seconds / 10) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_sent_in_plain_text() {
        assert!(url("https://auth.example/token", None, None, "a/b", false).is_ok());
        assert!(url("http://auth.example/token", None, None, "a/b", false).is_err());
        assert!(url("http://127.0.0.1:5001/token", None, None, "a/b", true).is_ok());
        assert!(url("file:///etc/passwd", None, None, "a/b", true).is_err());
        assert!(url("no address", None, None, "a/b", true).is_err());
    }

    #[test]
    fn the_scope_is_the_registrys_or_our_own() {
        let text = |scope| url("https://a.example/t?x=1", Some("s p"), scope, "a/b", false).unwrap().to_string();
        assert_eq!(text(None), "https://a.example/t?x=1&service=s+p&scope=repository%3Aa%2Fb%3Apull");
        assert_eq!(text(Some("other")), "https://a.example/t?x=1&service=s+p&scope=other");
    }

    #[test]
    fn a_token_is_kept_a_little_shorter_than_it_is_good() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let later = |seconds: i64| now + jiff::SignedDuration::from_secs(seconds);
        let scope = ("h".to_owned(), "p".to_owned());
        let tokens = Tokens::default();
        tokens.keep(&scope, &read(br#"{"access_token": "t", "expires_in": 300}"#).unwrap(), now);
        assert_eq!(tokens.get(&scope, later(269)), Some(Secret::new("t".to_owned())));
        assert_eq!(tokens.get(&scope, later(270)), None);
        tokens.keep(&scope, &read(br#"{"token": "t"}"#).unwrap(), now);
        tokens.forget(&scope);
        assert_eq!(tokens.get(&scope, now), None);
        for body in ["", "{}", r#"{"token": ""}"#, r#"{"token": 1}"#] {
            assert!(read(body.as_bytes()).is_none(), "{body}");
        }
    }
}
