//! An account of one's own at the emulator, and a world that reconciles it.

use std::collections::BTreeMap;
use std::future::Future;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_ecs::types as ecs;
use serde_json::Value;

use crate::support::engine::{run, try_run};
use crate::support::until;
use crate::support::world::World;

const REGION: &str = "ap-northeast-2";

/// The emulator of this test binary: ended when the binary is.
fn emulator() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(|| {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let program = std::env::var("HOLDFAST_MINISTACK").unwrap_or_else(|_| "/usr/local/bin/ministack".to_owned());
        let python = std::path::Path::new(&program).with_file_name("python3");
        let program = format!("{}' '{}/scripts/emulator.py", python.display(), env!("CARGO_MANIFEST_DIR"));
        let log = std::env::temp_dir().join(format!("hf-ministack-{port}.log"));
        // Nothing in this process outlives all tests and ends with it: a shell in the background waits for its end.
        let script = format!(
            "('{program}' >{log} 2>&1 & emulator=$!; tail --pid={} -f /dev/null; kill $emulator; wait; rm -f {log}; \
             ids=$(docker ps -aq --filter label=ministack.instance=$(hostname):{port}); \
             [ -z \"$ids\" ] || docker rm -f $ids) &",
            std::process::id(),
            log = log.display(),
        );
        Command::new("setsid")
            .args(["sh", "-c", &script])
            .env("MINISTACK_REGION", REGION)
            .env("GATEWAY_PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("the emulator starts");
        until("the emulator to listen", 30, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        port
    })
}

/// A cluster, a family and a repository that no other test shares, and the world that reconciles them.
pub(crate) struct Bed {
    pub(crate) world: World,
    pub(crate) port: u16,
    pub(crate) cluster: String,
    pub(crate) family: String,
    pub(crate) repository: String,
    pub(crate) ecs: aws_sdk_ecs::Client,
    pub(crate) elb: aws_sdk_elasticloadbalancingv2::Client,
    pub(crate) ecr: aws_sdk_ecr::Client,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) cloudwatch: aws_sdk_cloudwatch::Client,
    runtime: tokio::runtime::Runtime,
}

/// Two target groups, a load balancer and the rule between them.
pub(crate) struct Balancer {
    pub(crate) name: String,
    pub(crate) blue: String,
    pub(crate) green: String,
    pub(crate) rule: String,
    pub(crate) listener: String,
}

impl Bed {
    /// A bed with a running cluster and images `v1`, `v2`, `v3`, `bad` and `crash`; none when these tests are off.
    pub(crate) fn new(name: &str) -> Option<Self> {
        Self::with_images(name, &["v1", "v2", "v3", "bad", "crash"])
    }

    /// The same with only these images pushed.
    pub(crate) fn with_images(name: &str, tags: &[&str]) -> Option<Self> {
        if std::env::var_os("HOLDFAST_TEST_AWS").is_none_or(|value| value != "1") {
            println!("skipped: HOLDFAST_TEST_AWS=1 is not set");
            return None;
        }
        let mut world = World::without_nginx(name)?;
        let port = emulator();
        let host = format!("localhost:{port}");
        world.settings.push(format!("registries: [{{host: \"{host}\", kind: ecr, region: {REGION}}}]"));
        world.env = [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("HOLDFAST_LOG", "info,holdfast::aws=debug".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = runtime.block_on(
            aws_config::defaults(BehaviorVersion::latest())
                .region(Region::new(REGION))
                .endpoint_url(format!("http://127.0.0.1:{port}"))
                .credentials_provider(aws_sdk_ecs::config::Credentials::new("test", "test", None, None, "test"))
                .load(),
        );
        let unique = world.service.clone();
        let bed = Self {
            port,
            cluster: format!("cluster-{unique}"),
            family: format!("family-{unique}"),
            repository: format!("{host}/{unique}"),
            ecs: aws_sdk_ecs::Client::new(&config),
            elb: aws_sdk_elasticloadbalancingv2::Client::new(&config),
            ecr: aws_sdk_ecr::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
            cloudwatch: aws_sdk_cloudwatch::Client::new(&config),
            runtime,
            world,
        };
        bed.wait(bed.ecr.create_repository().repository_name(&unique).send()).unwrap();
        bed.wait(bed.ecs.create_cluster().cluster_name(&bed.cluster).send()).unwrap();
        for tag in tags {
            bed.push(tag, tag);
        }
        Some(bed)
    }

    /// Runs a call to its end.
    pub(crate) fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    /// Pushes the app of version `version` as `tag`.
    pub(crate) fn push(&self, version: &str, tag: &str) {
        let name = format!("{}:{tag}", self.repository);
        run("docker", &["tag", &format!("holdfast-test:{version}"), &name]);
        run("docker", &["push", "-q", &name]);
        let _ = try_run("docker", &["rmi", &name]);
    }

    /// The task definition somebody registered by hand: `v1` by tag, a label and a variable nobody asks for.
    pub(crate) fn register(&self, image: &str) -> String {
        self.register_with(image, |container| container)
    }

    /// The same with something changed.
    pub(crate) fn register_with(
        &self,
        image: &str,
        change: impl FnOnce(ecs::builders::ContainerDefinitionBuilder) -> ecs::builders::ContainerDefinitionBuilder,
    ) -> String {
        let container = ecs::ContainerDefinition::builder()
            .name("app")
            .image(image)
            .memory(64)
            .essential(true)
            .port_mappings(ecs::PortMapping::builder().container_port(8080).host_port(0).build())
            .environment(ecs::KeyValuePair::builder().name("KEPT").value("yes").build())
            .docker_labels("kept", "too");
        let call = self.ecs.register_task_definition().family(&self.family).network_mode(ecs::NetworkMode::Bridge);
        let reply = self.wait(call.container_definitions(change(container).build()).send()).unwrap();
        reply.task_definition().unwrap().task_definition_arn().unwrap().to_owned()
    }

    /// A service made by hand; its tasks run when this returns.
    pub(crate) fn create(&self, name: &str, task_definition: &str, count: i32, breaker: bool) {
        self.create_in(name, task_definition, count, breaker, None);
    }

    pub(crate) fn create_in(
        &self,
        name: &str,
        task_definition: &str,
        count: i32,
        breaker: bool,
        target_group: Option<&str>,
    ) {
        let breaker = ecs::DeploymentCircuitBreaker::builder().enable(breaker).rollback(breaker).build();
        let configuration = ecs::DeploymentConfiguration::builder()
            .deployment_circuit_breaker(breaker)
            .maximum_percent(200)
            .minimum_healthy_percent(100)
            .build();
        let mut call = self
            .ecs
            .create_service()
            .cluster(&self.cluster)
            .service_name(name)
            .task_definition(task_definition)
            .desired_count(count)
            .deployment_configuration(configuration);
        if let Some(arn) = target_group {
            let balancer =
                ecs::LoadBalancer::builder().target_group_arn(arn).container_name("app").container_port(8080).build();
            call = call.load_balancers(balancer);
        }
        self.wait(call.send()).unwrap();
        until("the tasks to run", 60, || self.service(name).running_count() == count);
    }

    /// The service as ECS describes it.
    pub(crate) fn service(&self, name: &str) -> ecs::Service {
        let call = self.ecs.describe_services().cluster(&self.cluster).services(name).include(ecs::ServiceField::Tags);
        let reply = self.wait(call.send()).unwrap();
        reply.services().first().cloned().unwrap_or_else(|| ecs::Service::builder().build())
    }

    /// Its tags.
    pub(crate) fn tags(&self, name: &str) -> BTreeMap<String, String> {
        let text = |it: Option<&str>| it.unwrap_or_default().to_owned();
        self.service(name).tags().iter().map(|it| (text(it.key()), text(it.value()))).collect()
    }

    /// The task definition it is set to.
    pub(crate) fn definition(&self, name: &str) -> ecs::TaskDefinition {
        let arn = self.service(name).task_definition().unwrap_or_default().to_owned();
        let reply = self.wait(self.ecs.describe_task_definition().task_definition(arn).send()).unwrap();
        reply.task_definition().cloned().unwrap()
    }

    /// How many revisions the family has.
    pub(crate) fn revisions(&self) -> usize {
        let reply = self.wait(self.ecs.list_task_definitions().family_prefix(&self.family).send()).unwrap();
        reply.task_definition_arns().len()
    }

    /// Ids of the running tasks, sorted.
    pub(crate) fn tasks(&self, name: &str) -> Vec<String> {
        let call = self.ecs.list_tasks().cluster(&self.cluster).service_name(name);
        let mut arns = self.wait(call.send()).unwrap().task_arns().to_vec();
        arns.sort();
        arns
    }

    /// A load balancer whose rule sends everything to blue.
    pub(crate) fn balancer(&self) -> Balancer {
        use aws_sdk_elasticloadbalancingv2::types as elb;
        let unique = self.world.service.rsplit('-').next().unwrap().to_owned();
        let name = format!("lb-{unique}");
        let reply = self.wait(self.elb.create_load_balancer().name(&name).subnets("subnet-1").send()).unwrap();
        let balancer = reply.load_balancers()[0].load_balancer_arn().unwrap().to_owned();
        let group = |colour: &str| {
            let call = self
                .elb
                .create_target_group()
                .name(format!("tg-{unique}-{colour}"))
                .protocol(elb::ProtocolEnum::Http)
                .port(8080)
                .vpc_id("vpc-1")
                .target_type(elb::TargetTypeEnum::Ip);
            let reply = self.wait(call.send()).unwrap();
            reply.target_groups()[0].target_group_arn().unwrap().to_owned()
        };
        let (blue, green) = (group("blue"), group("green"));
        let tuple = |arn: &str, weight| elb::TargetGroupTuple::builder().target_group_arn(arn).weight(weight).build();
        let sticky = elb::TargetGroupStickinessConfig::builder().enabled(false).duration_seconds(77).build();
        let forward = elb::ForwardActionConfig::builder()
            .target_groups(tuple(&blue, 1))
            .target_groups(tuple(&green, 0))
            .target_group_stickiness_config(sticky)
            .build();
        let action = elb::Action::builder().r#type(elb::ActionTypeEnum::Forward).forward_config(forward).build();
        let call = self
            .elb
            .create_listener()
            .load_balancer_arn(balancer)
            .protocol(elb::ProtocolEnum::Http)
            .port(80)
            .default_actions(action.clone());
        let listener = self.wait(call.send()).unwrap().listeners()[0].listener_arn().unwrap().to_owned();
        let any = elb::RuleCondition::builder().field("path-pattern").values("/*").build();
        let call = self.elb.create_rule().listener_arn(&listener).priority(10).conditions(any).actions(action);
        let rule = self.wait(call.send()).unwrap().rules()[0].rule_arn().unwrap().to_owned();
        Balancer { name, blue, green, rule, listener }
    }

    /// The weights of the rule (or of the listener's default rule): blue, green.
    pub(crate) fn weights(&self, balancer: &Balancer) -> (i32, i32) {
        let actions = if balancer.rule.contains(":listener/") {
            let reply = self.wait(self.elb.describe_listeners().listener_arns(&balancer.rule).send()).unwrap();
            reply.listeners()[0].default_actions().to_vec()
        } else {
            let reply = self.wait(self.elb.describe_rules().rule_arns(&balancer.rule).send()).unwrap();
            reply.rules()[0].actions().to_vec()
        };
        let forward = actions.iter().find_map(|it| it.forward_config()).cloned().unwrap();
        let weight = |arn: &str| {
            let tuple = forward.target_groups().iter().find(|it| it.target_group_arn() == Some(arn));
            tuple.and_then(aws_sdk_elasticloadbalancingv2::types::TargetGroupTuple::weight).unwrap_or(-1)
        };
        (weight(&balancer.blue), weight(&balancer.green))
    }

    /// A rolling service of the desired state.
    pub(crate) fn rolling(&self, tag: &str, replicas: &str, more: &str) -> String {
        format!(
            "services:\n  {name}:\n    image: {image}\n    tag: {tag}\n    replicas: {replicas}\n    ecs:\n      \
             cluster: {cluster}\n      service: {name}\n      family: {family}\n      env: {{SPRING_PROFILES_ACTIVE: dev}}\n{more}",
            name = self.world.service,
            image = self.repository,
            cluster = self.cluster,
            family = self.family,
        )
    }

    /// A blue/green service of the desired state.
    pub(crate) fn blue_green(&self, balancer: &Balancer, tag: &str, more: &str) -> String {
        format!(
            "services:\n  {name}:\n    image: {image}\n    tag: {tag}\n    replicas: 2\n    ecs:\n      cluster: {cluster}\n      \
             services: {{blue: {name}, green: {name}-green}}\n      family: {family}\n    traffic:\n      alb: {{rule: \
             \"{rule}\", targetGroups: {{blue: \"{blue}\", green: \"{green}\"}}}}\n    rollout:\n      strategy: blueGreen\n      \
             drain: 1s\n{more}",
            name = self.world.service,
            image = self.repository,
            cluster = self.cluster,
            family = self.family,
            rule = balancer.rule,
            blue = balancer.blue,
            green = balancer.green,
        )
    }

    /// A service that runs `v1` twice by hand, adopted.
    pub(crate) fn adopted(name: &str, breaker: bool) -> Option<Self> {
        Self::new(name)?.adopt(breaker)
    }

    /// Makes a service that runs `v1` twice, and adopts it.
    pub(crate) fn adopt(self, breaker: bool) -> Option<Self> {
        let mut bed = self;
        let definition = bed.register(&format!("{}:v1", bed.repository));
        let service = bed.world.service.clone();
        bed.create(&service, &definition, 2, breaker);
        bed.world.write_text(&bed.rolling("v1", "2", ""));
        bed.world.start();
        bed.world.until("v1 to be adopted and its variable put in", 60, |_, seen| {
            seen["phase"] == "Settled" && seen["serving"]["tag"] == "v1"
        });
        Some(bed)
    }

    /// Actions of AWS the controller asked for, once each.
    pub(crate) fn actions(&self) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for line in self.world.log().lines() {
            if let Some((_, rest)) = line.split_once("action=") {
                *found.entry(rest.split_whitespace().next().unwrap_or_default().to_owned()).or_default() += 1;
            }
        }
        found
    }
}

/// Fails the test whose controller asked for more than the policy of deploy/ allows.
fn assert_allowed(actions: &BTreeMap<String, usize>) {
    let allowed = include_str!("../../deploy/iam/actions.txt");
    let allowed =
        allowed.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_whitespace().next());
    let allowed: Vec<&str> = allowed.collect();
    for action in actions.keys() {
        assert!(allowed.contains(&action.as_str()), "{action} is not in deploy/iam/actions.txt");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.world.kill9();
        if !std::thread::panicking() {
            assert_allowed(&self.actions());
        }
        let Ok(reply) = self.wait(self.ecs.list_services().cluster(&self.cluster).send()) else { return };
        for arn in reply.service_arns() {
            let call = self.ecs.delete_service().cluster(&self.cluster).service(arn).force(true);
            // What is left goes with the emulator.
            let _ = self.wait(call.send());
        }
    }
}

/// Whether the status has a hold of this name; its sentence.
pub(crate) fn hold(seen: &Value, reason: &str) -> Option<String> {
    let holds = seen["holds"].as_array()?;
    let found = holds.iter().find(|hold| hold["reason"] == reason)?;
    Some(found["message"].as_str().unwrap_or_default().to_owned())
}
