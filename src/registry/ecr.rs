//! Passwords of Amazon ECR: one token a region, kept until shortly before its 12 h end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_ecr::Client;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::aws::budget::Bucket;
use crate::aws::{self, CallError, Shared};
use crate::model::secret::Secret;
use crate::model::snapshot::Why;
use crate::ports::Clock;

const ACTION: &str = "ecr:GetAuthorizationToken";
/// Of a token's 12 h.
const RENEW_AFTER: Duration = Duration::from_secs(11 * 3600);
/// And this long before the end AWS names, should that be sooner.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 60);

/// A user name and a password, and how long they are good.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: Secret<String>,
    renew_at: Timestamp,
    expires_at: Timestamp,
}

/// The API of one ECR, within the budget.
#[derive(Clone)]
pub(super) struct EcrApi {
    pub(super) client: Client,
    pub(super) region: Option<String>,
    pub(super) aws: Shared,
}

impl EcrApi {
    /// Waits until one call of `action` may be made.
    pub(super) async fn take(&self, action: &str) {
        self.aws.budget.take(self.region.as_deref(), Bucket::Images).await;
        tracing::debug!(target: "holdfast::aws", action, region = self.region, "call");
    }

    /// Takes in what it came to.
    pub(super) async fn judged<T>(&self, answer: Result<T, CallError>) -> Result<T, CallError> {
        self.aws.judged(self.region.as_deref(), Bucket::Images, answer).await
    }
}

/// Tokens by region.
pub(super) struct Ecr {
    clock: Arc<dyn Clock>,
    regions: Mutex<HashMap<Option<String>, Arc<Region>>>,
}

#[derive(Default)]
struct Region {
    /// Built at the first question: finding credentials may take a while, and most hosts have no ECR.
    client: OnceCell<Client>,
    /// Held while a token is asked for, so that many services ask once.
    login: tokio::sync::Mutex<Option<Login>>,
}

impl Ecr {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, regions: Mutex::default() }
    }

    fn region(&self, region: Option<&str>) -> Arc<Region> {
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(regions.entry(region.map(str::to_owned)).or_default())
    }

    /// The password for `region` (none: of the AWS settings).
    pub(super) async fn login(&self, region: Option<&str>) -> Result<Login, Why> {
        let place = self.region(region);
        let mut kept = place.login.lock().await;
        let now = self.clock.now();
        if let Some(login) = kept.as_ref().filter(|login| now < login.renew_at) {
            return Ok(login.clone());
        }
        let client = place.client.get_or_init(|| async { Client::new(&aws::config(region).await) }).await;
        match ask(client, now).await {
            Ok(login) => Ok(kept.insert(login).clone()),
            // The old one still opens the door; the next question tries again.
            Err(why) => match kept.as_ref().filter(|login| now < login.expires_at) {
                Some(login) => {
                    tracing::warn!(%why, "an ECR token could not be renewed yet");
                    Ok(login.clone())
                }
                None => Err(why),
            },
        }
    }

    /// The client of `region`.
    pub(super) async fn client(&self, region: Option<&str>) -> Client {
        let place = self.region(region);
        place.client.get_or_init(|| async { Client::new(&aws::config(region).await) }).await.clone()
    }

    /// The registry refused the password: the next question gets a fresh one.
    pub(super) async fn forget(&self, region: Option<&str>) {
        *self.region(region).login.lock().await = None;
    }
}

async fn ask(client: &Client, now: Timestamp) -> Result<Login, Why> {
    let reply = client.get_authorization_token().send().await.map_err(|error| aws::why(ACTION, &error))?;
    let data = reply.authorization_data().first().ok_or_else(|| format!("{ACTION} answered without a token"))?;
    let token = data.authorization_token().ok_or_else(|| format!("{ACTION} answered without a token"))?;
    let expires_at = data.expires_at().and_then(|at| Timestamp::from_second(at.secs()).ok());
    let (username, password) =
        decode(token).ok_or_else(|| format!("{ACTION} answered with a token of another kind"))?;
    let (renew_at, expires_at) = terms(now, expires_at);
    Ok(Login { username, password: Secret::new(password), renew_at, expires_at })
}

fn decode(token: &str) -> Option<(String, String)> {
    let decoded = STANDARD.decode(token).ok()?;
    let (username, password) = str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}

/// When to ask for the next one, and when this one ends. `expires_at` is AWS's word; without it 12 h are assumed.
fn terms(now: Timestamp, expires_at: Option<Timestamp>) -> (Timestamp, Timestamp) {
    let expires_at = expires_at.unwrap_or_else(|| now.saturating_add(Duration::from_secs(12 * 3600)).unwrap_or(now));
    let after = now.saturating_add(RENEW_AFTER).unwrap_or(now);
    let before = expires_at.saturating_sub(RENEW_BEFORE).unwrap_or(now);
    (after.min(before), expires_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_well_before_its_end() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let hours = |hours: i64| now + jiff::SignedDuration::from_hours(hours);
        let minutes = |minutes: i64| now + jiff::SignedDuration::from_mins(minutes);
        assert_eq!(terms(now, Some(hours(12))), (hours(11), hours(12)));
        assert_eq!(terms(now, Some(hours(2))), (minutes(90), hours(2)));
        assert_eq!(terms(now, Some(hours(24))), (hours(11), hours(24)));
        assert_eq!(terms(now, None), (hours(11), hours(12)));
        // Shorter than the margin: asked for every time, used while it is good.
        assert_eq!(terms(now, Some(minutes(10))), (minutes(-20), minutes(10)));
    }

    #[test]
    fn a_token_is_a_name_and_a_password() {
        assert_eq!(decode("QVdTOmE6Yg=="), Some(("AWS".to_owned(), "a:b".to_owned())));
        assert_eq!(decode("%%"), None);
        assert_eq!(decode("QVdT"), None);
    }
}
