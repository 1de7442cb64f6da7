//! The AWS account of the credentials in use, by STS: the guard against a change that reaches the wrong account.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::Region;
use aws_sdk_sts::Client;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::aws;
use crate::model::desired::AwsGuard;
use crate::model::snapshot::{Fact, Why};
use crate::ports::{Account, Clock};

const ACTION: &str = "sts:GetCallerIdentity";
/// Credentials of a role change about every hour, the account behind them hardly ever.
const GOOD_FOR: Duration = Duration::from_secs(5 * 60);

/// Asks STS, and remembers a good answer for five minutes.
pub struct Sts {
    clock: Arc<dyn Clock>,
    regions: Mutex<HashMap<Option<String>, Arc<Place>>>,
}

#[derive(Default)]
struct Place {
    client: OnceCell<Client>,
    /// Held while STS is asked, so that many services ask once.
    known: tokio::sync::Mutex<Option<(String, Timestamp)>>,
}

impl Sts {
    /// Nothing is asked, and no credentials are looked for, before the first question.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, regions: Mutex::default() }
    }

    async fn ask(&self, region: Option<&str>) -> Result<String, Why> {
        let place = {
            let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(regions.entry(region.map(str::to_owned)).or_default())
        };
        let mut known = place.known.lock().await;
        let now = self.clock.now();
        if let Some((account, until)) = known.as_ref()
            && now < *until
        {
            return Ok(account.clone());
        }
        // A good answer that is too old is no answer: the credentials may be another account's by now.
        *known = None;
        let client = place.client.get_or_init(|| client(region)).await;
        let reply = client.get_caller_identity().send().await.map_err(|error| aws::why(ACTION, &error))?;
        let account = reply.account().ok_or_else(|| format!("{ACTION} answered without an account"))?.to_owned();
        *known = Some((account.clone(), now.saturating_add(GOOD_FOR).unwrap_or(now)));
        Ok(account)
    }
}

async fn client(region: Option<&str>) -> Client {
    let config = aws::config(region).await;
    // Every region's STS knows every account; without any setting this one is asked.
    let region = config.region().cloned().unwrap_or_else(|| Region::from_static("us-east-1"));
    Client::from_conf(aws_sdk_sts::config::Builder::from(&config).region(region).build())
}

#[async_trait]
impl Account for Sts {
    async fn account(&self, guard: &AwsGuard) -> Fact<String> {
        match self.ask(guard.region.as_deref()).await {
            Ok(account) => Fact::Seen(account),
            Err(why) => Fact::Unreadable(why),
        }
    }
}
