//! What wakes a service: a deployment under way is polled, an event queue tells of the rest.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Ecs;
use super::parse::text;
use crate::aws;
use crate::ports::Wakes;

/// How long one question to the queue waits for a message: the longest SQS allows.
const LONG_POLL: i32 = 20;
/// After a queue that could not be asked.
const QUEUE_RETRY: Duration = Duration::from_secs(10);

impl Ecs {
    /// Polls what is being deployed, for ever.
    pub(super) async fn follow_deployments(&self, wakes: &Wakes) {
        loop {
            let (changed, next) = self.sweeps.poll().await;
            for service in changed {
                wakes.wake(Some(&service), "ecs: its deployment moved");
            }
            let moved = self.sweeps.moved.notified();
            match next {
                Some(at) if at > Instant::now() => {
                    tokio::select! { () = moved => {}, () = tokio::time::sleep_until(at) => {} }
                }
                Some(_) => {}
                None => moved.await,
            }
        }
    }

    /// Takes EventBridge events from the queue, for ever; without one, nothing.
    pub(super) async fn follow_queue(&self, wakes: &Wakes) {
        let Some(queue) = &self.queue else { return std::future::pending().await };
        let region = region_of(queue);
        let client = aws_sdk_sqs::Client::new(&aws::config(region.as_deref()).await);
        let mut told = false;
        loop {
            let ask = client.receive_message().queue_url(queue).wait_time_seconds(LONG_POLL).max_number_of_messages(10);
            // The client's own limit is shorter than a long poll.
            let timeouts = aws_sdk_sqs::config::timeout::TimeoutConfig::builder()
                .operation_timeout(Duration::from_secs(u64::from(LONG_POLL.unsigned_abs()) + 10))
                .build();
            let config = aws_sdk_sqs::config::Builder::new().timeout_config(timeouts);
            tracing::debug!(target: "holdfast::aws", action = "sqs:ReceiveMessage", "call");
            match ask.customize().config_override(config).send().await {
                Ok(reply) => {
                    told = false;
                    for message in reply.messages() {
                        self.told(message.body().unwrap_or_default(), wakes);
                        if let Some(receipt) = message.receipt_handle() {
                            tracing::debug!(target: "holdfast::aws", action = "sqs:DeleteMessage", "call");
                            // One that stays is told again, which costs a look.
                            let _ = client.delete_message().queue_url(queue).receipt_handle(receipt).send().await;
                        }
                    }
                }
                Err(error) => {
                    let why = aws::why("sqs:ReceiveMessage", &error);
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!("holdfast  the event queue cannot be read, ECS is only polled: {why}");
                    }
                    tokio::time::sleep(QUEUE_RETRY).await;
                }
            }
        }
    }

    /// One event of EventBridge about ECS.
    fn told(&self, body: &str, wakes: &Wakes) {
        let Ok(event) = serde_json::from_str::<Value>(body) else { return };
        if text(&event, "source") != "aws.ecs" {
            return;
        }
        let empty = Value::Null;
        let detail = event.get("detail").unwrap_or(&empty);
        let resource =
            super::parse::list(&event, "resources").filter_map(Value::as_str).find(|it| it.contains(":service/"));
        let group = text(detail, "group").strip_prefix("service:");
        let arn_cluster = resource.and_then(|arn| arn.split('/').rev().nth(1));
        let cluster = match text(detail, "clusterArn") {
            "" => arn_cluster.unwrap_or_default(),
            arn => arn,
        };
        let Some(name) = group.or(resource) else { return };
        if let Some(service) = self.sweeps.told(cluster, name) {
            wakes.wake(Some(&service), format!("ecs: {}", text(&event, "detail-type")));
        }
    }
}

/// `https://sqs.ap-northeast-2.amazonaws.com/…` names its region.
fn region_of(queue: &str) -> Option<String> {
    let host = queue.split("://").nth(1)?.split('/').next()?;
    let mut parts = host.split('.');
    (parts.next() == Some("sqs")).then(|| parts.next().map(str::to_owned)).flatten()
}

/// Runs both for ever.
pub(super) async fn watch(ecs: &Arc<Ecs>, wakes: Wakes) {
    tokio::join!(ecs.follow_deployments(&wakes), ecs.follow_queue(&wakes));
}

#[cfg(test)]
mod tests {
    use super::region_of;

    #[test]
    fn a_queue_names_its_region() {
        assert_eq!(region_of("https://sqs.ap-northeast-2.amazonaws.com/1/q").as_deref(), Some("ap-northeast-2"));
        assert_eq!(region_of("http://127.0.0.1:4566/000000000000/q"), None);
    }
}
