//! What the AWS clients share: how they are built, and their errors in words.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};

use super::words::chain;
use crate::model::snapshot::Why;

/// Finding credentials included: the chain may end at an instance's metadata service.
const OPERATION: Duration = Duration::from_secs(10);

/// The usual AWS settings (environment, profiles, roles, `AWS_ENDPOINT_URL`), with `region` when given, and without
/// the SDK's own retries: the controller owns retry.
pub(super) async fn config(region: Option<&str>) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().operation_timeout(OPERATION).build());
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    loader.load().await
}

/// Why `action` (`sts:GetCallerIdentity`) failed. AWS's own message names the caller and never a secret.
pub(super) fn why<E, R>(action: &str, error: &SdkError<E, R>) -> Why
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
        "; hint: set AWS_REGION, or `region` of the registry in holdfast.yaml"
    } else {
        ""
    }
}
