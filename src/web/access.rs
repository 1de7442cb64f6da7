//! Who may write, and which host names are answered to.

use std::net::IpAddr;

use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest as _, Sha256};

use super::answer::Failure;
use crate::model::secret::Secret;

/// Who may give commands on one listener.
#[derive(Debug, Clone)]
pub enum Access {
    /// Nobody: there is no token file.
    ReadOnly,
    /// Who sends this as `Authorization: Bearer`.
    Token(Secret<String>),
    /// Everybody who can open it: a socket with mode 0600.
    Local,
}

impl Access {
    /// Whether a request with `headers` may change something; returns who it is from, as far as that is known.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<&'static str, Failure> {
        match self {
            Self::Local => Ok("a local user"),
            Self::ReadOnly => Err(Failure::new(
                StatusCode::FORBIDDEN,
                "writing over HTTP is switched off",
                "set `tokenFile` in holdfast.yaml, or use the `holdfast` command on the host",
            )),
            Self::Token(token) => {
                let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
                let sent = sent.and_then(|value| value.split_once(' '));
                match sent {
                    Some((scheme, sent)) if scheme.eq_ignore_ascii_case("bearer") && same(sent.trim(), token) => {
                        Ok("a holder of the token")
                    }
                    _ => Err(Failure::new(
                        StatusCode::UNAUTHORIZED,
                        "the token is missing or wrong",
                        "send `Authorization: Bearer TOKEN` with the content of `tokenFile`",
                    )),
                }
            }
        }
    }
}

/// Compares in a time that tells nothing: hashes of equal length, every byte looked at. An empty token fits nobody.
pub(super) fn same(sent: &str, token: &Secret<String>) -> bool {
    let token = token.reveal().trim();
    let (a, b) = (Sha256::digest(sent), Sha256::digest(token));
    let difference = a.iter().zip(b.iter()).fold(0, |difference, (a, b)| difference | (a ^ b));
    difference == 0 && !token.is_empty()
}

/// Whether `host` (with or without a port) is this machine's own loopback. Another name that leads here is a page of
/// somebody else's in a browser of ours (DNS rebinding).
pub(super) fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_loopback_are_answered_to() {
        for good in ["localhost", "LOCALHOST:7400", "127.0.0.1", "127.0.0.1:7400", "127.8.0.1:1", "[::1]:7400", "[::1]"]
        {
            assert!(is_loopback_host(good), "{good}");
        }
        for bad in
            ["evil.example", "evil.example:7400", "localhost.evil.example", "10.0.0.1:7400", "127.0.0.1.nip.io", ""]
        {
            assert!(!is_loopback_host(bad), "{bad}");
        }
    }

    #[test]
    fn an_empty_token_fits_nobody() {
        assert!(same("secret", &Secret::new("secret\n".into())));
        assert!(!same("", &Secret::new("\n".into())));
        assert!(!same("secre", &Secret::new("secret".into())));
    }
}
