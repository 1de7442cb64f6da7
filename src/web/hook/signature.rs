//! How the hosts of repositories show that a delivery is theirs.
//!
//! | host | header | value |
//! |---|---|---|
//! | GitHub | `X-Hub-Signature-256` | `sha256=` and the HMAC-SHA256 of the body in hex |
//! | Gitea, Forgejo, Gogs | `X-Gitea-Signature`, `X-Forgejo-Signature`, `X-Gogs-Signature` | the same without `sha256=` |
//! | Bitbucket | `X-Hub-Signature` | as GitHub's; GitHub's own header of this name is SHA-1 and refused |
//! | GitLab, signing token (19.0) | `webhook-signature` | `v1,` and the HMAC-SHA256 of `ID.TIMESTAMP.BODY` in base64, by standardwebhooks.com |
//! | GitLab, secret token | `X-Gitlab-Token` | the secret itself |
//!
//! A delivery that is sent again is no harm: it only says "look again". So no time and no id is compared.

use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::model::secret::Secret;
use crate::model::snapshot::Why;
use crate::web::access::same;
use crate::web::answer::Failure;

type HmacSha256 = Hmac<Sha256>;
type Tag = [u8; 32];

/// The best first. Gitea signs with all of these at once, and GitHub with an old SHA-1 beside the good one: the first
/// that is there counts, alone.
const HEX: [(&str, &str); 5] = [
    ("X-Hub-Signature-256", "sha256="),
    ("X-Forgejo-Signature", ""),
    ("X-Gitea-Signature", ""),
    ("X-Gogs-Signature", ""),
    ("X-Hub-Signature", "sha256="),
];

/// What GitLab's signing tokens begin with; base64 follows.
const SIGNING: &str = "whsec_";

/// The secret, ready to be compared with.
pub(super) struct Key {
    secret: Secret<String>,
    mac: HmacSha256,
    /// Of a signing token, the key it stands for.
    signing: Option<HmacSha256>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub(super) fn new(secret: &Secret<String>) -> Result<Self, Why> {
        let text = secret.reveal().trim();
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        let signing = match text.strip_prefix(SIGNING) {
            None => None,
            Some(base64) => {
                let key = STANDARD.decode(base64).ok().filter(|key| !key.is_empty());
                let damaged = || format!("it begins with `{SIGNING}`, and what follows is not base64");
                Some(keyed(&key.ok_or_else(damaged)?)?)
            }
        };
        Ok(Self { secret: Secret::new(text.to_owned()), mac: keyed(text.as_bytes())?, signing })
    }

    /// What `headers` bring as a proof, before a byte of the body is read.
    pub(super) fn proof(&self, headers: &HeaderMap) -> Result<Proof, Failure> {
        if let Some(given) = single(headers, "webhook-signature")? {
            return self.standard(headers, given);
        }
        for (name, before) in HEX {
            let Some(given) = single(headers, name)? else { continue };
            if given.starts_with("sha1=") {
                let hint =
                    "Bitbucket and GitHub sign with SHA-256 where a secret is set; this host is too old for that";
                return Err(refused(format!("`{name}` is SHA-1, which proves nothing today"), hint));
            }
            let tag = given.strip_prefix(before).and_then(from_hex);
            let expected = format!("it is `{before}` and 64 hex digits");
            let tag = tag.ok_or_else(|| refused(format!("`{name}` is no signature"), expected))?;
            return Ok(Proof::Signed { mac: self.mac.clone(), tags: vec![tag] });
        }
        match single(headers, "X-Gitlab-Token")? {
            Some(given) if same(given, &self.secret) => Ok(Proof::Shown),
            Some(_) => Err(refused("the token does not fit", SAME)),
            None => Err(refused("the delivery is not signed", SAME)),
        }
    }

    /// By Standard Webhooks: several signatures while a secret is being changed.
    fn standard(&self, headers: &HeaderMap, given: &str) -> Result<Proof, Failure> {
        let Some(mac) = &self.signing else {
            let hint = format!("put the signing token, which begins with `{SIGNING}`, into `git.webhookSecretFile`");
            return Err(refused("the delivery is signed with a signing token, and none is known here", hint));
        };
        let of = |name| {
            single(headers, name)?.ok_or_else(|| {
                refused(format!("`{name}` is missing, and the signature covers it"), "is a proxy taking it away?")
            })
        };
        let (id, at) = (of("webhook-id")?, of("webhook-timestamp")?);
        let mut mac = mac.clone();
        mac.update(format!("{id}.{at}.").as_bytes());
        let known = given.split_ascii_whitespace().filter_map(|one| one.strip_prefix("v1,"));
        let tags: Vec<Tag> = known.filter_map(|tag| STANDARD.decode(tag).ok()?.try_into().ok()).collect();
        if tags.is_empty() {
            return Err(refused("`webhook-signature` is no signature", "it is `v1,` and a SHA-256 in base64"));
        }
        Ok(Proof::Signed { mac, tags })
    }
}

/// What a delivery is measured by.
#[derive(Debug)]
pub(super) enum Proof {
    /// It comes to one of `tags`.
    Signed {
        /// Over what was read so far.
        mac: HmacSha256,
        /// What was sent.
        tags: Vec<Tag>,
    },
    /// The secret itself came along.
    Shown,
}

impl Proof {
    pub(super) fn update(&mut self, chunk: &[u8]) {
        if let Self::Signed { mac, .. } = self {
            mac.update(chunk);
        }
    }

    /// Whether it is one, once the whole body went through. Compares in a time that tells nothing.
    pub(super) fn holds(self) -> Result<(), Failure> {
        match self {
            Self::Shown => Ok(()),
            Self::Signed { mac, tags } if tags.iter().any(|tag| mac.clone().verify_slice(tag).is_ok()) => Ok(()),
            Self::Signed { .. } => Err(refused("the signature does not fit", SAME)),
        }
    }
}

const SAME: &str = "the secret at the host of the repository must be the content of `git.webhookSecretFile`";

fn refused(what: impl Into<String>, hint: impl Into<String>) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, what, hint)
}

fn keyed(key: &[u8]) -> Result<HmacSha256, Why> {
    HmacSha256::new_from_slice(key).map_err(|error| error.to_string())
}

/// The header `name`: of two nobody knows which one counts.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Failure> {
    let mut all = headers.get_all(name).iter();
    let (first, second) = (all.next(), all.next());
    let Some(first) = first else { return Ok(None) };
    match first.to_str() {
        Ok(text) if second.is_none() => Ok(Some(text)),
        _ => Err(refused(format!("`{name}` is no signature"), "expected one header of plain text")),
    }
}

fn from_hex(text: &str) -> Option<Tag> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut tag = Tag::default();
    for (byte, pair) in tag.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(secret: &str, body: &[u8], headers: &[(&str, &str)]) -> bool {
        let key = Key::new(&Secret::new(secret.to_owned())).unwrap();
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let proof = key.proof(&headers.collect());
        proof.is_ok_and(|mut proof| {
            body.chunks(3).for_each(|chunk| proof.update(chunk));
            proof.holds().is_ok()
        })
    }

    /// From GitHub's "Validating webhook deliveries".
    #[test]
    fn githubs_own_example() {
        let tag = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert!(verdict("It's a Secret to Everybody", b"Hello, World!", &[("x-hub-signature-256", tag)]));
        assert!(verdict("It's a Secret to Everybody\n", b"Hello, World!", &[("x-hub-signature", tag)]));
        assert!(!verdict("It's a Secret to Everybody", b"Hello, World?", &[("x-hub-signature-256", tag)]));
        assert!(!verdict("It's a secret to everybody", b"Hello, World!", &[("x-hub-signature-256", tag)]));
    }

    /// From the specification's reference library (its test of `sign`).
    #[test]
    fn the_example_of_standard_webhooks() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let (id, at) = (("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"), ("webhook-timestamp", "1614265330"));
        let body = br#"{"test": 2432232314}"#;
        let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let signed = |secret: &str, value: &str| verdict(secret, body, &[id, at, ("webhook-signature", value)]);
        assert!(signed(secret, good));
        assert!(signed(secret, &format!("v1,{} v2,x {good}", STANDARD.encode([0; 32]))), "one of several");
        for bad in ["", "v1,", "v1", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", &good[3..], "v1,AAAA"] {
            assert!(!signed(secret, bad), "{bad}");
        }
        assert!(!signed("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", good), "a secret token is no signing token");
        assert!(!verdict(secret, body, &[id, ("webhook-signature", good)]));
        assert!(!verdict(secret, body, &[id, ("webhook-timestamp", "1614265331"), ("webhook-signature", good)]));
    }

    #[test]
    fn the_first_header_counts_alone() {
        let good = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let (secret, body) = ("It's a Secret to Everybody", b"Hello, World!");
        let (bad, full) = (format!("sha256={}", "0".repeat(64)), format!("sha256={good}"));
        let gitea =
            [("x-hub-signature", "sha1=00"), ("x-hub-signature-256", full.as_str()), ("x-gitea-signature", good)];
        assert!(verdict(secret, body, &gitea), "Gitea sends all of them");
        assert!(!verdict(secret, body, &[("x-hub-signature-256", &bad), ("x-gitea-signature", good)]));
        assert!(!verdict(secret, body, &[("x-gitea-signature", &bad), ("x-gitlab-token", secret)]));
    }

    #[test]
    fn a_secret_that_is_none_is_said_at_the_start() {
        for (bad, why) in [("", "empty"), (" \n", "empty"), ("whsec_", "base64"), ("whsec_not base64", "base64")] {
            let error = Key::new(&Secret::new(bad.to_owned())).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
