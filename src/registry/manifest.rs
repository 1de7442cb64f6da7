//! Manifests: which are asked for, and the digest in or of an answer.

use crate::model::hash::sha256_hex;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use crate::model::image::Digest;

/// Indexes first: the digest of a multi-platform image is that of its index, on every platform.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// The specification asks registries for at least this much room, and nobody writes larger ones.
pub(super) const LARGEST: usize = 4 << 20;

/// `Docker-Content-Digest`, when it is there and a digest.
pub(super) fn digest_in(headers: &HeaderMap) -> Option<Digest> {
    Digest::new(headers.get("docker-content-digest")?.to_str().ok()?).ok()
}

/// The digest of `body`, when it is a manifest at all: a proxy's friendly page with status 200 is none.
pub(super) fn digest_of(body: &[u8]) -> Option<Digest> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Manifest {
        schema_version: u32,
    }
    let manifest: Manifest = serde_json::from_slice(body).ok()?;
    if manifest.schema_version != 2 {
        return None;
    }
    Digest::new(&format!("sha256:{}", sha256_hex(body))).ok()
}

/// Whether the body of a 404 says that the tag or the repository is unknown.
pub(super) fn says_unknown(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Reply {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        code: String,
    }
    serde_json::from_slice::<Reply>(body).is_ok_and(|reply| {
        reply.errors.iter().any(|entry| matches!(entry.code.as_str(), "MANIFEST_UNKNOWN" | "NAME_UNKNOWN"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_manifest_has_a_digest() {
        let digest = digest_of(br#"{"schemaVersion":2}"#).unwrap();
        assert_eq!(digest.as_str(), "sha256:bafebd36189ad3688b7b3915ea55d461e0bfcfbdde11e54b0a123999fb6be50f");
        for body in ["", "<html>", "{}", r#"{"schemaVersion":1}"#, "[]"] {
            assert_eq!(digest_of(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn unknown_is_only_what_the_registry_says_is_unknown() {
        assert!(says_unknown(br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"x"}]}"#));
        assert!(says_unknown(br#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#));
        for body in
            ["", "not found", r#"{"errors":[{"code":"DENIED"}]}"#, r#"{"errors":[]}"#, r#"{"code":"NAME_UNKNOWN"}"#]
        {
            assert!(!says_unknown(body.as_bytes()), "{body}");
        }
    }
}
