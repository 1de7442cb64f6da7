//! One call to ECS: within the budget, by the right account, its JSON whole.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_cloudwatch::types::AlarmType;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecs::types::{ServiceField, TaskDefinitionField};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::aws::budget::Bucket;
use crate::aws::raw::Raw;
use crate::aws::{self, CallError, Shared};
use crate::plan::step::ecs::Realm;

/// ECS in every region that is asked for.
pub(super) struct Api {
    aws: Shared,
    regions: Mutex<HashMap<Option<String>, Arc<OnceCell<Clients>>>>,
}

/// The clients of one region.
#[derive(Debug, Clone)]
struct Clients {
    ecs: Client,
    alarms: aws_sdk_cloudwatch::Client,
}

/// What a call answers.
pub(super) type Answer = Result<Value, CallError>;

impl Api {
    pub(super) fn new(aws: Shared) -> Self {
        Self { aws, regions: Mutex::default() }
    }

    async fn clients(&self, region: Option<&str>) -> Clients {
        let cell = {
            let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(regions.entry(region.map(str::to_owned)).or_default())
        };
        let made = cell.get_or_init(|| async {
            let config = aws::config(region).await;
            Clients { ecs: Client::new(&config), alarms: aws_sdk_cloudwatch::Client::new(&config) }
        });
        made.await.clone()
    }

    /// Sends one call; the reply as AWS wrote it.
    async fn send<T, E, F>(
        &self,
        region: Option<&str>,
        bucket: Bucket,
        action: &str,
        raw: &Raw,
        call: impl FnOnce(Clients, Raw) -> F,
    ) -> Answer
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let clients = self.clients(region).await;
        self.aws.budget.take(region, bucket).await;
        tracing::debug!(target: "holdfast::aws", action, region, "call");
        let sent = call(clients, raw.clone()).await;
        let answer = sent.map(|_| raw.reply().unwrap_or(Value::Null)).map_err(|error| aws::classify(action, &error));
        self.aws.judged(region, bucket, answer).await
    }

    /// Sends one write: with credentials of the account the file names, asked for again when they have changed.
    async fn write<T, E, F>(
        &self,
        realm: &Realm,
        bucket: Bucket,
        action: &str,
        body: &Value,
        call: impl Fn(Clients, Raw) -> F,
    ) -> Answer
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let region = realm.region.as_deref();
        let guard = self.aws.guard(realm.account.as_ref());
        let raw = Raw::writing(Some(body), guard.clone());
        let answer = self.send(region, bucket, action, &raw, &call).await;
        if !raw.is_unconfirmed() {
            return answer;
        }
        self.aws.identities.ask(region).await.map_err(CallError::Transient)?;
        self.send(region, bucket, action, &Raw::writing(Some(body), guard), &call).await
    }

    /// At most ten services of one cluster, tags included.
    pub(super) async fn describe_services(&self, region: Option<&str>, cluster: &str, names: &[String]) -> Answer {
        let raw = Raw::reading();
        self.send(region, Bucket::ServiceReads, "ecs:DescribeServices", &raw, |clients, raw| {
            let names = Some(names.to_vec());
            let call = clients.ecs.describe_services().cluster(cluster).set_services(names).include(ServiceField::Tags);
            async move { call.customize().interceptor(raw).send().await }
        })
        .await
    }

    pub(super) async fn describe_definition(&self, region: Option<&str>, arn: &str) -> Answer {
        let raw = Raw::reading();
        self.send(region, Bucket::Definitions, "ecs:DescribeTaskDefinition", &raw, |clients, raw| {
            let call = clients.ecs.describe_task_definition().task_definition(arn).include(TaskDefinitionField::Tags);
            async move { call.customize().interceptor(raw).send().await }
        })
        .await
    }

    /// The newest active revisions of a family, newest first.
    pub(super) async fn newest_definitions(&self, region: Option<&str>, family: &str, count: i32) -> Answer {
        let raw = Raw::reading();
        self.send(region, Bucket::Definitions, "ecs:ListTaskDefinitions", &raw, |clients, raw| {
            let call = clients.ecs.list_task_definitions().family_prefix(family).max_results(count);
            let call = call.sort(aws_sdk_ecs::types::SortOrder::Desc);
            async move { call.customize().interceptor(raw).send().await }
        })
        .await
    }

    /// One page of the tasks of a service.
    pub(super) async fn list_tasks(
        &self,
        region: Option<&str>,
        cluster: &str,
        service: &str,
        stopped: bool,
        token: Option<String>,
    ) -> Answer {
        use aws_sdk_ecs::types::DesiredStatus;
        let raw = Raw::reading();
        let status = if stopped { DesiredStatus::Stopped } else { DesiredStatus::Running };
        self.send(region, Bucket::TaskReads, "ecs:ListTasks", &raw, |clients, raw| {
            let call = clients.ecs.list_tasks().cluster(cluster).service_name(service).desired_status(status);
            let call = call.set_next_token(token);
            async move { call.customize().interceptor(raw).send().await }
        })
        .await
    }

    pub(super) async fn describe_tasks(&self, region: Option<&str>, cluster: &str, arns: Vec<String>) -> Answer {
        let raw = Raw::reading();
        self.send(region, Bucket::TaskReads, "ecs:DescribeTasks", &raw, |clients, raw| {
            let call = clients.ecs.describe_tasks().cluster(cluster).set_tasks(Some(arns));
            async move { call.customize().interceptor(raw).send().await }
        })
        .await
    }

    /// Which of `names` are in ALARM now.
    pub(super) async fn alarming(&self, region: Option<&str>, names: Vec<String>) -> Result<Vec<String>, CallError> {
        let clients = self.clients(region).await;
        self.aws.budget.take(region, Bucket::Alarms).await;
        tracing::debug!(target: "holdfast::aws", action = "cloudwatch:DescribeAlarms", region, "call");
        let state = aws_sdk_cloudwatch::types::StateValue::Alarm;
        // Without its type a composite alarm stays hidden.
        let types = [AlarmType::MetricAlarm, AlarmType::CompositeAlarm].to_vec();
        let call = clients.alarms.describe_alarms().set_alarm_names(Some(names)).set_alarm_types(Some(types));
        let call = call.state_value(state);
        let answer = call.send().await.map_err(|error| aws::classify("cloudwatch:DescribeAlarms", &error));
        let reply = self.aws.judged(region, Bucket::Alarms, answer).await?;
        let plain = reply.metric_alarms().iter().filter_map(|it| it.alarm_name().map(str::to_owned));
        let composite = reply.composite_alarms().iter().filter_map(|it| it.alarm_name().map(str::to_owned));
        Ok(plain.chain(composite).collect())
    }

    pub(super) async fn register(&self, realm: &Realm, body: &Value) -> Answer {
        self.write(realm, Bucket::Register, "ecs:RegisterTaskDefinition", body, |clients, raw| {
            // What is sent is the whole JSON; the typed client only insists on these.
            let container = aws_sdk_ecs::types::ContainerDefinition::builder().build();
            let call = clients.ecs.register_task_definition().family("family").container_definitions(container);
            async move { call.customize().interceptor(raw).send().await }
        })
        .await
    }

    pub(super) async fn update_service(&self, realm: &Realm, body: &Value) -> Answer {
        self.write(realm, Bucket::ServiceWrites, "ecs:UpdateService", body, |clients, raw| {
            let call = clients.ecs.update_service().service("service");
            async move { call.customize().interceptor(raw).send().await }
        })
        .await
    }

    pub(super) async fn create_service(&self, realm: &Realm, body: &Value) -> Answer {
        self.write(realm, Bucket::ServiceWrites, "ecs:CreateService", body, |clients, raw| {
            let call = clients.ecs.create_service().service_name("service");
            async move { call.customize().interceptor(raw).send().await }
        })
        .await
    }

    pub(super) async fn delete_service(&self, realm: &Realm, cluster: &str, service: &str) -> Answer {
        let body = json!({"cluster": cluster, "service": service});
        self.write(realm, Bucket::ServiceWrites, "ecs:DeleteService", &body, |clients, raw| {
            let call = clients.ecs.delete_service().service("service");
            async move { call.customize().interceptor(raw).send().await }
        })
        .await
    }

    pub(super) async fn tag(&self, realm: &Realm, body: &Value) -> Answer {
        self.write(realm, Bucket::TagWrites, "ecs:TagResource", body, |clients, raw| {
            let tag = aws_sdk_ecs::types::Tag::builder().build();
            let call = clients.ecs.tag_resource().resource_arn("arn").tags(tag);
            async move { call.customize().interceptor(raw).send().await }
        })
        .await
    }
}
