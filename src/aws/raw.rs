//! What the typed client leaves out: unknown JSON of a reply, a whole JSON request, and the account guard.
//!
//! The typed client drops fields it does not know, both ways. An interceptor keeps them: it puts the whole body in
//! before the request is signed, and keeps the bytes of the reply.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use serde_json::Value;

use super::identity::Identities;

/// One call, seen whole.
#[derive(Debug, Clone)]
pub struct Raw(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    body: Option<String>,
    guard: Option<Guard>,
    reply: Mutex<Option<Vec<u8>>>,
    access_key: Mutex<Option<String>>,
    unconfirmed: AtomicBool,
}

/// Only credentials of this account may write.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Twelve digits.
    pub account: String,
    /// Who knows which key is whose.
    pub identities: Arc<Identities>,
}

impl Raw {
    fn of(body: Option<&Value>, guard: Option<Guard>) -> Self {
        Self(Arc::new(Inner {
            body: body.map(Value::to_string),
            guard,
            reply: Mutex::default(),
            access_key: Mutex::default(),
            unconfirmed: AtomicBool::new(false),
        }))
    }

    /// A call that reads.
    pub fn reading() -> Self {
        Self::of(None, None)
    }

    /// A call that writes `body` (none: what the typed client makes), by credentials that `guard` allows.
    pub fn writing(body: Option<&Value>, guard: Option<Guard>) -> Self {
        Self::of(body, guard)
    }

    /// The reply as JSON; none when there was none, or none that is JSON.
    pub fn reply(&self) -> Option<Value> {
        let reply = self.0.reply.lock().unwrap_or_else(PoisonError::into_inner);
        reply.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok())
    }

    /// The access key id the call was signed with.
    pub fn access_key(&self) -> Option<String> {
        self.0.access_key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it was not sent because nobody knows whose credentials signed it.
    pub fn is_unconfirmed(&self) -> bool {
        self.0.unconfirmed.load(Ordering::Acquire)
    }
}

#[dyn_dispatch_hint]
impl Intercept for Raw {
    fn name(&self) -> &'static str {
        "Raw"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(body) = &self.0.body else { return Ok(()) };
        let request = context.request_mut();
        request.headers_mut().insert("content-length", body.len().to_string());
        *request.body_mut() = SdkBody::from(body.as_str());
        Ok(())
    }

    fn read_after_signing(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let key = context.request().headers().get("authorization").and_then(access_key).map(str::to_owned);
        self.0.access_key.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&key);
        let Some(guard) = &self.0.guard else { return Ok(()) };
        match key.and_then(|key| guard.identities.account_of(&key)) {
            Some(account) if account == guard.account => Ok(()),
            Some(account) => Err(format!("the credentials belong to AWS account {account}").into()),
            None => {
                self.0.unconfirmed.store(true, Ordering::Release);
                Err("the account of the credentials is not confirmed yet".into())
            }
        }
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let bytes = context.response().body().bytes().map(<[u8]>::to_vec);
        *self.0.reply.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        Ok(())
    }
}

/// `AKID` of `AWS4-HMAC-SHA256 Credential=AKID/20260101/…`.
fn access_key(authorization: &str) -> Option<&str> {
    authorization.split_once("Credential=")?.1.split('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ECS client whose every request counts as one connection here; none is answered.
    async fn client() -> (aws_sdk_ecs::Client, tokio::net::TcpListener) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let config = aws_sdk_ecs::Config::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_sdk_ecs::config::Region::new("ap-northeast-2"))
            .endpoint_url(endpoint)
            .credentials_provider(aws_sdk_ecs::config::Credentials::new("AKIDOTHER", "secret", None, None, "test"))
            .retry_config(aws_config::retry::RetryConfig::disabled())
            .build();
        (aws_sdk_ecs::Client::from_conf(config), listener)
    }

    #[tokio::test]
    async fn a_write_signed_by_unknown_or_other_credentials_is_never_sent() {
        let (client, listener) = client().await;
        let identities = Identities::new();
        let guard = || Some(Guard { account: "111111111111".to_owned(), identities: Arc::clone(&identities) });
        let update = |raw: Raw| client.update_service().service("x").customize().interceptor(raw).send();
        let unknown = Raw::writing(None, guard());
        assert!(update(unknown.clone()).await.is_err());
        assert!(unknown.is_unconfirmed(), "nobody has asked STS about this key");
        identities.remember("AKIDOTHER", "222222222222");
        let other = Raw::writing(None, guard());
        assert!(update(other.clone()).await.is_err());
        assert!(!other.is_unconfirmed());
        assert_eq!(other.access_key().as_deref(), Some("AKIDOTHER"));
        let sent = tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept()).await;
        assert!(sent.is_err(), "not one byte was sent");
        // The right account's request goes out.
        identities.remember("AKIDOTHER", "111111111111");
        let right = tokio::spawn(update(Raw::writing(None, guard())));
        assert!(tokio::time::timeout(std::time::Duration::from_secs(5), listener.accept()).await.is_ok());
        right.abort();
    }

    #[test]
    fn the_key_stands_in_the_signature() {
        let header =
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/ap-northeast-2/ecs/aws4_request, SignedHeaders=host";
        assert_eq!(access_key(header), Some("AKIDEXAMPLE"));
        assert_eq!(access_key("Bearer x"), None);
    }
}
