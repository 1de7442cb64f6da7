//! Puts a small image into a registry by plain HTTP, without an engine.

use holdfast::model::image::Digest;
use reqwest::{Client, RequestBuilder, Url};
use sha2::Digest as _;

/// `sha256:` and the hash of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A port nobody listens on.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Pushes a manifest of one config blob; `marker` makes it another image. Returns its digest.
pub(crate) async fn push(base: &str, path: &str, tag: &str, marker: &str, login: Option<(&str, &str)>) -> Digest {
    let client = Client::new();
    let signed = |request: RequestBuilder| match login {
        Some((user, password)) => request.basic_auth(user, Some(password)),
        None => request,
    };
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Labels":{{"m":"{marker}"}}}},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
    );
    let blob = sha256(config.as_bytes());
    let begun = signed(client.post(format!("{base}/v2/{path}/blobs/uploads/"))).send().await.unwrap();
    assert_eq!(begun.status().as_u16(), 202, "{}", begun.text().await.unwrap());
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    let mut location = Url::parse(base).unwrap().join(&location).unwrap();
    location.query_pairs_mut().append_pair("digest", &blob);
    let size = config.len();
    let put = signed(client.put(location)).header("content-type", "application/octet-stream").body(config);
    let put = put.send().await.unwrap();
    assert_eq!(put.status().as_u16(), 201, "{}", put.text().await.unwrap());
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","size":{size},"digest":"{blob}"}},"layers":[]}}"#
    );
    let digest = sha256(manifest.as_bytes());
    let put = signed(client.put(format!("{base}/v2/{path}/manifests/{tag}"))).header("content-type", kind);
    let put = put.body(manifest).send().await.unwrap();
    assert_eq!(put.status().as_u16(), 201, "{}", put.text().await.unwrap());
    Digest::new(&digest).unwrap()
}
