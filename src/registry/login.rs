//! The credentials for a host, wherever they come from.

use std::sync::Arc;

use super::docker_config;
use super::ecr::{Ecr, EcrApi};
use super::rule::{RegistryRule, Way, way};
use crate::aws::Shared;
use crate::model::snapshot::Why;
use crate::ports::{Clock, Credentials};

/// Every registry's way in.
pub(super) struct Logins {
    rules: Vec<RegistryRule>,
    ecr: Ecr,
    aws: Shared,
}

impl Logins {
    pub(super) fn new(rules: Vec<RegistryRule>, clock: Arc<dyn Clock>, aws: Shared) -> Self {
        Self { rules, ecr: Ecr::new(clock), aws }
    }

    /// The credentials for `host`; none: anonymous.
    pub(super) async fn credentials(&self, host: &str) -> Result<Option<Credentials>, Why> {
        match way(&self.rules, host) {
            Way::Anonymous => Ok(None),
            Way::DockerConfig(path) => docker_config::read(&path, host).await.map(Some),
            Way::Ecr { region } => {
                let login = self.ecr.login(region.as_deref()).await.map_err(|why| format!("{host}: {why}"))?;
                let (username, password) = (login.username, login.password);
                Ok(Some(Credentials { username, password, host: host.to_owned() }))
            }
        }
    }

    /// The API of the ECR at `host`; none where it is no ECR.
    pub(super) async fn ecr(&self, host: &str) -> Option<EcrApi> {
        match way(&self.rules, host) {
            Way::Ecr { region } => {
                let client = self.ecr.client(region.as_deref()).await;
                Some(EcrApi { client, region, aws: self.aws.clone() })
            }
            Way::Anonymous | Way::DockerConfig(_) => None,
        }
    }

    /// Whether `host` always wants a password, so that asking without one is a wasted question.
    pub(super) fn always(&self, host: &str) -> bool {
        matches!(way(&self.rules, host), Way::Ecr { .. })
    }

    /// The registry at `host` refused what it was given: what is kept is asked for afresh next time.
    pub(super) async fn forget(&self, host: &str) {
        if let Way::Ecr { region } = way(&self.rules, host) {
            self.ecr.forget(region.as_deref()).await;
        }
    }
}
