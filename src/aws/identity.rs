//! Which account the credentials in use belong to: by STS, again whenever the credentials change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_config::Region;
use aws_sdk_sts::Client;
use tokio::sync::OnceCell;

use super::raw::Raw;
use crate::model::snapshot::Why;

const ACTION: &str = "sts:GetCallerIdentity";

/// Accounts by access key id. A key belongs to one account for as long as it exists.
#[derive(Debug, Default)]
pub struct Identities {
    known: Mutex<HashMap<String, String>>,
    clients: Mutex<HashMap<Option<String>, Arc<OnceCell<Client>>>>,
}

/// Access keys of roles change every hour: more than these are of the past.
const KEPT: usize = 64;

impl Identities {
    /// Nothing is asked, and no credentials are looked for, before the first question.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The account of an access key id that STS has confirmed.
    pub fn account_of(&self, access_key: &str) -> Option<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(access_key).cloned()
    }

    /// Asks STS with the credentials in use.
    ///
    /// # Errors
    /// When STS does not say.
    pub async fn ask(&self, region: Option<&str>) -> Result<String, Why> {
        let cell = {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(clients.entry(region.map(str::to_owned)).or_default())
        };
        let client = cell.get_or_init(|| client(region)).await;
        tracing::debug!(target: "holdfast::aws", action = ACTION, region, "call");
        let raw = Raw::reading();
        let sent = client.get_caller_identity().customize().interceptor(raw.clone()).send().await;
        let reply = sent.map_err(|error| super::why(ACTION, &error))?;
        let account = reply.account().ok_or_else(|| format!("{ACTION} answered without an account"))?.to_owned();
        if let Some(key) = raw.access_key() {
            self.remember(&key, &account);
        }
        Ok(account)
    }

    /// STS said so.
    pub(super) fn remember(&self, access_key: &str, account: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(access_key.to_owned(), account.to_owned());
    }
}

async fn client(region: Option<&str>) -> Client {
    let config = super::config(region).await;
    // Every region's STS knows every account; without any setting this one is asked.
    let region = config.region().cloned().unwrap_or_else(|| Region::from_static("us-east-1"));
    Client::from_conf(aws_sdk_sts::config::Builder::from(&config).region(region).build())
}
