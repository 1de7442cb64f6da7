//! Passwords from `auths` of a docker `config.json`. Credential helpers and identity tokens are not supported.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use super::rule::same_host;
use crate::model::secret::Secret;
use crate::model::snapshot::Why;
use crate::ports::Credentials;

/// A real one has a few hundred bytes a registry.
const LONGEST: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

/// The credentials for `host` in the file at `path`, read afresh: a `docker login` counts at once.
pub(super) async fn read(path: &Path, host: &str) -> Result<Credentials, Why> {
    let place = path.display();
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(|error| format!("{place} cannot be read: {error}"))?;
    file.take(LONGEST).read_to_end(&mut bytes).await.map_err(|error| format!("{place} cannot be read: {error}"))?;
    // The parser's own words may quote the file; only the place is said.
    let config: Config = serde_json::from_slice(&bytes).map_err(|error| {
        format!("{place} is not a docker config.json (line {} column {})", error.line(), error.column())
    })?;
    if let Some((_, entry)) = config.auths.iter().find(|(key, _)| same_host(host_of(key), host))
        && let Some((username, password)) = entry.pair()
    {
        return Ok(Credentials { username, password: Secret::new(password), host: host.to_owned() });
    }
    let helper = config.cred_helpers.keys().any(|key| same_host(host_of(key), host)) || config.creds_store.is_some();
    Err(if helper {
        format!(
            "{place} leaves {host} to a credential helper, which holdfast does not run; hint: `docker login` with a \
             config.json without `credsStore` and `credHelpers` (for ECR: `kind: ecr`)"
        )
    } else {
        format!("{place} has no user name and password for {host}; hint: `docker login {host}`")
    })
}

impl Entry {
    fn pair(&self) -> Option<(String, String)> {
        if let (Some(username), Some(password)) = (&self.username, &self.password) {
            return Some((username.clone(), password.clone()));
        }
        let decoded = STANDARD.decode(self.auth.as_ref()?.trim()).ok()?;
        let (username, password) = str::from_utf8(&decoded).ok()?.split_once(':')?;
        // Some versions of docker end the password with NUL bytes.
        let password = password.trim_end_matches('\0');
        (!password.is_empty()).then(|| (username.to_owned(), password.to_owned()))
    }
}

/// The host in a key: `https://index.docker.io/v1/` and `ghcr.io` are both written.
fn host_of(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    key.split('/').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn from(text: &str, host: &str) -> Result<(String, String), Why> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        read(&path, host).await.map(|it| (it.username, it.password.reveal().clone()))
    }

    #[tokio::test]
    async fn names_and_passwords_are_found() {
        let text = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "YW5uOnM6M2NyZXQ="},
            "ghcr.io": {"username": "bob", "password": "pw"},
            "localhost:5000": {"auth": "YW5uOnB3AAA="}}, "credHelpers": {"other.example": "x"}}"#;
        assert_eq!(from(text, "docker.io").await, Ok(("ann".to_owned(), "s:3cret".to_owned())));
        assert_eq!(from(text, "ghcr.io").await, Ok(("bob".to_owned(), "pw".to_owned())));
        assert_eq!(from(text, "localhost:5000").await, Ok(("ann".to_owned(), "pw".to_owned())));
        assert!(from(text, "other.example").await.unwrap_err().contains("credential helper"));
        assert!(from(text, "quay.io").await.unwrap_err().contains("no user name and password for quay.io"));
    }

    #[tokio::test]
    async fn no_message_quotes_the_file() {
        for text in [
            r#"{"auths": {"ghcr.io": {"auth": "CANARY"}}}"#,
            r#"{"auths": {"ghcr.io": "CANARY"}}"#,
            r#"{"auths": {"ghcr.io": {"auth": "CANARY"#,
            r#"{"auths": {"ghcr.io": {"identitytoken": "CANARY"}}, "credsStore": "CANARY"}"#,
        ] {
            let why = from(text, "ghcr.io").await.unwrap_err();
            assert!(!why.contains("CANARY"), "{why}");
            assert!(why.contains("config.json"), "{why}");
        }
        let why = read(Path::new("/nowhere/config.json"), "ghcr.io").await.unwrap_err();
        assert!(why.contains("/nowhere/config.json cannot be read"), "{why}");
    }
}
