//! One call to a load balancer's API, within the budget.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_elasticloadbalancingv2::Client;
use tokio::sync::OnceCell;

use crate::aws::budget::Bucket;
use crate::aws::{self, CallError, Shared};

/// Clients by region.
pub(super) struct Api {
    pub(super) aws: Shared,
    clients: Mutex<HashMap<Option<String>, Arc<OnceCell<Client>>>>,
}

impl Api {
    pub(super) fn new(aws: Shared) -> Self {
        Self { aws, clients: Mutex::default() }
    }

    /// The client, once the budget allows one call.
    pub(super) async fn client(&self, region: Option<&str>) -> Client {
        let cell = {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(clients.entry(region.map(str::to_owned)).or_default())
        };
        let client = cell.get_or_init(|| async { Client::new(&aws::config(region).await) }).await.clone();
        self.aws.budget.take(region, Bucket::Balancer).await;
        client
    }

    pub(super) async fn judged<T>(&self, region: Option<&str>, answer: Result<T, CallError>) -> Result<T, CallError> {
        self.aws.judged(region, Bucket::Balancer, answer).await
    }
}
