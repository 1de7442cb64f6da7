//! Bad input about services on ECS, by theme.

use std::path::{Path, PathBuf};

use holdfast::source::error::in_words;
use holdfast::source::{self, FileText, HostRules};
use jiff::Timestamp;

use crate::{cases, rules, with};

const RULE: &str = "arn:aws:elasticloadbalancing:r:1:listener-rule/app/x/1/2/3";
const BLUE: &str = "arn:aws:elasticloadbalancing:r:1:targetgroup/blue/1";
const GREEN: &str = "arn:aws:elasticloadbalancing:r:1:targetgroup/green/1";
const GOOD: &str = "ecs: {cluster: c, service: s}";
const COLOURS: &str = "services: {blue: a, green: b}";

/// A good rolling service with `more` in its `ecs:`.
fn ecs(more: &str) -> String {
    format!("ecs: {{cluster: c, service: s, {more}}}")
}

/// `ecs:` with these services behind a load balancer, and `more` under the service.
fn balanced(services: &str, more: &str) -> String {
    let groups = format!("{{blue: \"{BLUE}\", green: \"{GREEN}\"}}");
    format!("ecs: {{cluster: c, {services}}}\ntraffic: {{alb: {{rule: \"{RULE}\", targetGroups: {groups}}}}}\n{more}")
}

/// A service with its own ECS services behind the one rule, as it stands in a file.
pub(crate) fn balanced_as(name: &str) -> String {
    let lines = balanced(&format!("services: {{blue: {name}-blue, green: {name}-green}}"), "");
    lines.lines().map(|line| format!("    {line}\n")).collect()
}

/// Every message.
pub(crate) fn words() -> String {
    [services(), task_definitions(), clean_up(), load_balancers(), canaries(), unnamed()].concat()
}

fn services() -> String {
    cases(&[
        ("ecs without a value", "ecs:"),
        ("cluster missing", "ecs: {service: s}"),
        ("cluster of another kind", "ecs: {cluster: \"arn:aws:ecs:r:1:service/c/s\", service: s}"),
        ("service missing", "ecs: {cluster: c}"),
        ("service with a space", "ecs: {cluster: c, service: my service}"),
        ("services of colours when rolling", "ecs: {cluster: c, services: {blue: a, green: b}}"),
        ("unknown key", &ecs("taskDefintion: a.json")),
        ("docker and ecs", &format!("docker: {{port: 80}}\n{GOOD}")),
        (
            "nginx and ecs",
            &format!("{GOOD}\ntraffic: {{nginx: {{file: /etc/nginx/a}}}}\nrollout: {{strategy: rolling}}"),
        ),
        ("blueGreen without a load balancer", &format!("{GOOD}\nrollout: {{strategy: blueGreen}}")),
        ("external on Docker", "replicas: external"),
        ("created on FARGATE without subnets", &ecs("create: {launchType: FARGATE}")),
        ("launch type", &ecs("create: {launchType: fargate, subnets: [a]}")),
        ("target group by its name", &ecs("create: {targetGroup: tg}")),
        ("port by its name", &ecs("create: {port: http}")),
    ])
}

fn task_definitions() -> String {
    let mut words = cases(&[
        ("variable name", &ecs("env: {\"A B\": x}")),
        ("secret that is no ARN", &ecs("secrets: {DB_PASSWORD: hunter2}")),
        ("secret that is another ARN", &ecs("secrets: {DB_PASSWORD: \"arn:aws:s3:::bucket\"}")),
        ("the service's container once more", &ecs("container: app, containers: {app: {image: x, tag: v1}}")),
        ("sidecar without an image", &ecs("containers: {log: {tag: v1}}")),
        ("sidecar without a tag", &ecs("containers: {log: {image: x}}")),
    ]);
    for (name, file) in [
        ("task definition missing", "app.json"),
        ("task definition elsewhere", "../app.json"),
        ("task definition in YAML", "app.yaml"),
        ("task definition that is no JSON", "torn.json"),
        ("task definition of nothing", "empty.json"),
    ] {
        let text = with(&ecs(&format!("taskDefinition: {file}")));
        words.push_str(&told(
            name,
            &[("a.yaml", &text), ("torn.json", "{\"family\": \"a"), ("empty.json", "{}")],
            &rules(),
        ));
    }
    words
}

fn clean_up() -> String {
    cases(&[
        ("clean-up without soleOwner", &format!("{GOOD}\necr: {{keep: 10}}")),
        ("clean-up with other owners", &format!("{GOOD}\necr: {{keep: 10, soleOwner: false}}")),
        ("clean-up without a number", &format!("{GOOD}\necr: {{soleOwner: true}}")),
        ("clean-up of everything", &format!("{GOOD}\necr: {{keep: 0, soleOwner: true}}")),
    ])
}

fn load_balancers() -> String {
    let replaced = |from: &str, to: &str| balanced(COLOURS, "").replace(from, to);
    let rule_only = format!("ecs: {{cluster: c, {COLOURS}}}\ntraffic: {{alb: {{rule: \"{RULE}\"}}}}");
    let on_docker = balanced("", "docker: {port: 80}").replace("ecs: {cluster: c, }\n", "");
    cases(&[
        ("load balancer on Docker", &on_docker),
        ("load balancer when rolling", &balanced("service: s", "rollout: {strategy: rolling}")),
        ("load balancer of nothing", &format!("{GOOD}\ntraffic: {{alb: {{}}}}")),
        ("one service for two colours", &balanced("service: s", "")),
        ("no service of either colour", &balanced("family: f", "")),
        ("one colour", &balanced("services: {blue: a}", "")),
        ("two services equal", &balanced("services: {blue: a, green: a}", "")),
        ("rule of another kind", &replaced(RULE, BLUE)),
        ("rule by its priority", &replaced(RULE, "10")),
        ("target groups missing", &rule_only),
        ("two target groups equal", &replaced(GREEN, BLUE)),
        ("target group by name", &replaced(GREEN, "green")),
        ("target group to create with", &balanced(&format!("{COLOURS}, create: {{targetGroup: \"{BLUE}\"}}"), "")),
        ("external with two colours", &balanced(COLOURS, "replicas: external")),
        ("stopFirst with two colours", &balanced(COLOURS, "rollout: {order: stopFirst}")),
    ])
}

fn canaries() -> String {
    let canary = |steps: &str| balanced(COLOURS, &format!("rollout: {{canary: {steps}}}"));
    let nginx = "docker: {port: 80}\ntraffic: {nginx: {file: /etc/nginx/a}}\n";
    cases(&[
        ("canary behind nginx", &format!("{nginx}rollout: {{canary: [{{weight: 10, for: 1m}}]}}")),
        ("canary without a load balancer", &format!("{GOOD}\nrollout: {{canary: [{{weight: 10, for: 1m}}]}}")),
        ("canary that goes back", &canary("[{weight: 50, for: 1m}, {weight: 10, for: 1m}]")),
        ("canary of everything", &canary("[{weight: 100, for: 1m}]")),
        ("canary without a time", &canary("[{weight: 10}]")),
        ("canary with a bare number", &canary("[{weight: 10, for: 60}]")),
        ("canary that is no list", &canary("{weight: 10, for: 1m}")),
    ])
}

/// The name of the controller is the mark in the account, so the default one is not enough.
fn unnamed() -> String {
    let rules = HostRules { named: false, ..rules() };
    told("controller without a name", &[("a.yaml", &with(GOOD))], &rules)
}

fn told(name: &str, files: &[(&str, &str)], rules: &HostRules) -> String {
    let files: Vec<FileText> =
        files.iter().map(|(path, text)| FileText { path: PathBuf::from(path), text: (*text).to_owned() }).collect();
    let revision = holdfast::model::desired::SourceRevision("r".to_owned());
    match source::parse(Path::new("desired-state"), &files, rules, &revision, Timestamp::UNIX_EPOCH) {
        Ok(state) => panic!("{name} was accepted: {state:?}"),
        Err(errors) => format!("## {name}\n{}\n\n", in_words(&errors)),
    }
}
