//! The AWS account of the credentials in use, by STS: the guard against a change that reaches the wrong account.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::aws::identity::Identities;
use crate::model::desired::AwsGuard;
use crate::model::snapshot::{Fact, Why};
use crate::ports::{Account, Clock};

/// Credentials of a role change about every hour, the account behind them hardly ever. Whoever writes checks the very
/// key a write is signed with once more.
const GOOD_FOR: Duration = Duration::from_secs(5 * 60);

/// Asks STS, and remembers a good answer for five minutes.
pub struct Sts {
    clock: Arc<dyn Clock>,
    identities: Arc<Identities>,
    regions: Mutex<HashMap<Option<String>, Arc<Place>>>,
}

/// Held while STS is asked, so that many services ask once.
type Place = tokio::sync::Mutex<Option<(String, Timestamp)>>;

impl Sts {
    /// Nothing is asked, and no credentials are looked for, before the first question.
    pub fn new(clock: Arc<dyn Clock>, identities: Arc<Identities>) -> Self {
        Self { clock, identities, regions: Mutex::default() }
    }

    async fn ask(&self, region: Option<&str>) -> Result<String, Why> {
        let place = {
            let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(regions.entry(region.map(str::to_owned)).or_default())
        };
        let mut known = place.lock().await;
        let now = self.clock.now();
        if let Some((account, until)) = known.as_ref()
            && now < *until
        {
            return Ok(account.clone());
        }
        // A good answer that is too old is no answer: the credentials may be another account's by now.
        *known = None;
        let account = self.identities.ask(region).await?;
        *known = Some((account.clone(), now.saturating_add(GOOD_FOR).unwrap_or(now)));
        Ok(account)
    }
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
