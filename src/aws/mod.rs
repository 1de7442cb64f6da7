//! Floor 1: how AWS is asked: settings, errors in words, the budget of calls, the account behind the credentials, and
//! JSON carried through whole.

pub mod budget;
pub mod identity;
pub mod raw;

use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};

use budget::{Bucket, Budget};
use identity::Identities;
use raw::Guard;

use crate::model::snapshot::Why;
use crate::model::words::chain;
use crate::ports::StepError;

/// Finding credentials included: the chain may end at an instance's metadata service.
const OPERATION: Duration = Duration::from_secs(10);

/// The usual AWS settings (environment, profiles, roles, `AWS_ENDPOINT_URL`), with `region` when given, and without
/// the SDK's own retries: the controller owns retry.
pub async fn config(region: Option<&str>) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().operation_timeout(OPERATION).build());
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    loader.load().await
}

/// What every client of one controller shares.
#[derive(Debug, Clone)]
pub struct Shared {
    /// How many calls may be made.
    pub budget: Arc<Budget>,
    /// Whose credentials are in use.
    pub identities: Arc<Identities>,
}

impl Shared {
    /// `percent` of every rate bucket.
    pub fn new(percent: u8) -> Self {
        Self { budget: Arc::new(Budget::new(percent)), identities: Identities::new() }
    }

    /// The guard of a write that only credentials of `account` may make; none: it is not guarded.
    pub fn guard(&self, account: Option<&String>) -> Option<Guard> {
        account.map(|account| Guard { account: account.clone(), identities: Arc::clone(&self.identities) })
    }

    /// Takes in what a call to `bucket` came to: an answer ends the waiting, "slow down" begins it.
    pub async fn judged<T>(
        &self,
        region: Option<&str>,
        bucket: Bucket,
        answer: Result<T, CallError>,
    ) -> Result<T, CallError> {
        match &answer {
            Ok(_) => self.budget.answered(region, bucket).await,
            Err(CallError::Throttled(why)) => {
                let wait = self.budget.slow_down(region, bucket).await;
                tracing::debug!(target: "holdfast::aws", ?wait, "{why}");
            }
            Err(_) => {}
        }
        answer
    }
}

/// Why a call came to nothing, by what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// Too many calls: later.
    Throttled(Why),
    /// It may go better later.
    Transient(Why),
    /// It will go wrong again until somebody changes something.
    Refused {
        /// AWS's code.
        code: String,
        /// In words.
        why: Why,
    },
}

impl CallError {
    /// In words.
    pub fn why(&self) -> &str {
        match self {
            Self::Throttled(why) | Self::Transient(why) | Self::Refused { why, .. } => why,
        }
    }

    /// AWS's code, when it refused.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Throttled(_) | Self::Transient(_) => "",
        }
    }
}

impl From<CallError> for StepError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Throttled(why) => Self::throttled(why),
            CallError::Transient(why) => Self::transient(why),
            CallError::Refused { why, .. } => Self::refused(why),
        }
    }
}

/// Codes by which AWS asks for fewer calls.
const THROTTLED: [&str; 7] = [
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
];
/// What ECS says while another revision of the same family is being registered.
const BUSY_FAMILY: &str = "Too many concurrent attempts to create a new revision";

/// What `error` of `action` (`ecs:UpdateService`) means.
pub fn classify<E, R>(action: &str, error: &SdkError<E, R>) -> CallError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    let words = why(action, error);
    let SdkError::ServiceError(service) = error else { return CallError::Transient(words) };
    let (code, message) = (service.err().code().unwrap_or_default(), service.err().message().unwrap_or_default());
    if THROTTLED.contains(&code) || message.contains(BUSY_FAMILY) {
        return CallError::Throttled(words);
    }
    let servers_fault = ["ServerException", "InternalFailure", "InternalError", "ServiceUnavailable"].contains(&code);
    if code.is_empty() || servers_fault {
        return CallError::Transient(words);
    }
    CallError::Refused { code: code.to_owned(), why: words }
}

/// Why `action` (`sts:GetCallerIdentity`) failed. AWS's own message names the caller and never a secret.
pub fn why<E, R>(action: &str, error: &SdkError<E, R>) -> Why
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    match error {
        SdkError::TimeoutError(_) => format!("{action} had no answer within {} s", OPERATION.as_secs()),
        SdkError::DispatchFailure(failure) => {
            let cause = failure.as_connector_error().map_or_else(|| chain(error), |cause| chain(cause));
            format!("{action} could not be asked: {cause}{}", hint(&cause))
        }
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or("an error without a code");
            let message = service.err().message().map_or_else(String::new, |message| format!(": {message}"));
            let hint = if code.contains("AccessDenied") { format!("; hint: allow `{action}`") } else { String::new() };
            format!("{action} was refused with {code}{message}{hint}")
        }
        other => {
            let cause = chain(other);
            format!("{action} failed: {cause}{}", hint(&cause))
        }
    }
}

fn hint(cause: &str) -> &'static str {
    if cause.contains("credential") || cause.contains("provider") {
        "; hint: credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the instance's role"
    } else if cause.contains("region") {
        "; hint: set AWS_REGION, `aws.region` of the file, or `region` of the registry in holdfast.yaml"
    } else {
        ""
    }
}
