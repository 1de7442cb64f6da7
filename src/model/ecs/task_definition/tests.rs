//! What is a difference between task definitions, and what is none.

use super::*;

fn of(value: &Value) -> TaskDefinition {
    TaskDefinition::new(value).unwrap()
}

/// As the console shows it: everything spelled out, in another order, with what ECS adds.
fn described() -> Value {
    json!({"taskDefinition": {
        "taskDefinitionArn": "arn:aws:ecs:ap-northeast-2:1:task-definition/plog-back-task-family:7",
        "family": "plog-back-task-family", "revision": 7, "status": "ACTIVE",
        "requiresAttributes": [{"name": "ecs.capability.x"}], "compatibilities": ["EC2", "FARGATE"],
        "registeredAt": 1.5, "registeredBy": "arn:aws:iam::1:root", "taskRoleArn": "", "pidMode": null,
        "networkMode": "awsvpc", "cpu": "256", "memory": "1024", "volumes": [], "placementConstraints": [],
        "requiresCompatibilities": ["FARGATE"], "ephemeralStorage": null, "whatComesNext": {"a": [1]},
        "containerDefinitions": [{
            "name": "plog-back", "image": "ecr.example/plog-back:1", "cpu": 0, "essential": true,
            "portMappings": [{"containerPort": 8080, "hostPort": 8080, "protocol": "tcp"}],
            "environment": [{"name": "B", "value": ""}, {"name": "A", "value": "1"}],
            "command": ["java", "", "-jar"], "mountPoints": [], "volumesFrom": [],
            "healthCheck": {"command": ["CMD", "true"], "interval": 30, "timeout": 5, "retries": 3},
        }],
    }})
}

/// The same by hand: short, and in another order.
fn by_hand() -> Value {
    json!({
        "family": "plog-back-task-family", "networkMode": "awsvpc", "cpu": "0.25 vCPU", "memory": "1 GB",
        "requiresCompatibilities": ["FARGATE"], "whatComesNext": {"a": [1]},
        "containerDefinitions": [{
            "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": ""}],
            "name": "plog-back", "image": "ecr.example/plog-back:1", "portMappings": [{"containerPort": 8080}],
            "command": ["java", "", "-jar"], "healthCheck": {"command": ["CMD", "true"]},
        }],
    })
}

#[test]
fn defaults_order_and_spelling_are_no_difference() {
    assert_eq!(of(&described()).differences(&of(&by_hand())), Vec::<String>::new());
    assert_eq!(of(&described()).sha256(), of(&by_hand()).sha256());
}

#[test]
fn order_of_arguments_is_a_difference_and_so_is_an_unknown_field() {
    let mut other = by_hand();
    other["containerDefinitions"][0]["command"] = json!(["java", "-jar", ""]);
    other["whatComesNext"] = json!({"a": [2]});
    let found = of(&by_hand()).differences(&of(&other));
    assert_eq!(found, ["container plog-back: command changed", "whatComesNext changed"]);
}

#[test]
fn values_of_variables_are_not_told() {
    let mut other = by_hand();
    other["cpu"] = json!("512");
    other["containerDefinitions"][0]["environment"] =
        json!([{"name": "A", "value": "s3cret"}, {"name": "C", "value": "x"}]);
    let found = of(&by_hand()).differences(&of(&other));
    assert_eq!(
        found,
        [
            "container plog-back: env A changed",
            "container plog-back: env B removed",
            "container plog-back: env C added",
            "cpu: 256 -> 512",
        ]
    );
}

#[test]
fn rendering_changes_what_is_named_and_carries_the_rest() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let inserts = Inserts {
        container: "plog-back",
        image: format!("ecr.example/plog-back@{digest}"),
        env: BTreeMap::from([("SPRING_PROFILES_ACTIVE".into(), Some("dev".into())), ("B".into(), None)]),
        secrets: BTreeMap::from([("A".into(), Some("arn:secret".into()))]),
        containers: BTreeMap::new(),
    };
    let made = of(&described()).with("plog-back-task-family", &inserts);
    let request = Value::Object(made.request());
    let container = &request["containerDefinitions"][0];
    assert_eq!(container["environment"], json!([{"name": "SPRING_PROFILES_ACTIVE", "value": "dev"}]));
    assert_eq!(container["secrets"], json!([{"name": "A", "valueFrom": "arn:secret"}]));
    assert_eq!(container["command"], json!(["java", "", "-jar"]));
    assert_eq!(request["whatComesNext"], json!({"a": [1]}));
    assert_eq!(request.get("revision"), None);
    assert_eq!(request.get("taskRoleArn"), None);
}

#[test]
fn an_adopted_tag_is_the_digest_its_tasks_run() {
    let digest = Digest::new(&format!("sha256:{}", "a".repeat(64))).unwrap();
    let repository = Repository::new("ecr.example/plog-back").unwrap();
    let repositories = BTreeMap::from([("plog-back", &repository)]);
    let digests = BTreeMap::from([("plog-back".to_owned(), digest.clone())]);
    let pinned = of(&described()).pinned(&repositories, &digests);
    assert_eq!(pinned.image("plog-back"), Some(format!("{repository}@{digest}").as_str()));
    let other = Repository::new("ecr.example/other").unwrap();
    let pinned = of(&described()).pinned(&BTreeMap::from([("plog-back", &other)]), &digests);
    assert_eq!(pinned.image("plog-back"), Some("ecr.example/plog-back:1"));
}

#[test]
fn what_is_no_task_definition_says_why() {
    for (value, why) in [
        (json!([]), "it is not a JSON object"),
        (json!({"family": "x"}), "it has no `containerDefinitions`"),
        (json!({"containerDefinitions": []}), "it has no container"),
        (json!({"containerDefinitions": [{"image": "x"}]}), "a container of it has no `name`"),
    ] {
        assert_eq!(TaskDefinition::new(&value), Err(why));
    }
}

#[test]
fn images_are_taken_apart() {
    let digest = format!("sha256:{}", "a".repeat(64));
    for image in ["localhost:4566/app:1", "localhost:4566/app"] {
        assert_eq!(repository_of(image), Repository::new("localhost:4566/app").ok());
        assert_eq!(digest_of(image), None);
    }
    let image = format!("localhost:4566/app:1@{digest}");
    assert_eq!(digest_of(&image), Digest::new(&digest).ok());
    assert_eq!(tag_of(&image), Some("1"));
    assert_eq!(tag_of("localhost:4566/app"), None);
}

#[test]
fn what_is_a_default_is_sent_as_it_came() {
    let base = json!({"family": "x", "containerDefinitions": [
        {"name": "a", "image": "i", "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}]}]});
    let made = of(&base).with("x", &Inserts { container: "a", image: "j".into(), ..Inserts::default() });
    let ports = &Value::Object(made.request())["containerDefinitions"][0]["portMappings"];
    assert_eq!(*ports, json!([{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}]));
}
