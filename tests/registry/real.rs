//! The same against a real registry and an ECR, where they are asked for.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use holdfast::model::desired::AwsGuard;
use holdfast::model::image::Repository;
use holdfast::model::snapshot::Fact;
use holdfast::ports::{Account as _, Registry as _, WallClock};
use holdfast::registry::{Images, ImagesOptions, Kind, RegistryRule, Sts};

use super::push::{free_port, push};
use super::stub::{Hand, PASSWORD, USER, anonymous, tag, why, with_password};

/// Killed with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wanted(gate: &str) -> bool {
    let wanted = std::env::var_os(gate).is_some_and(|value| value == "1");
    if !wanted {
        println!("skipped: {gate}=1 is not set");
    }
    wanted
}

/// `s3cret-canary`, by bcrypt: the only hash the registry reads.
const HTPASSWD: &str = "ann:$2b$04$SxTKp8wf/T8ZRx8NDPYeIeXqS/uivoeKgWAHcA3J7eGueanlgi45u\n";

async fn start_registry(dir: &Path, locked: bool) -> (Process, String) {
    let port = free_port();
    let root = dir.display();
    std::fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
    let auth = if locked {
        format!("auth:\n  htpasswd:\n    realm: canary\n    path: {root}/htpasswd\n")
    } else {
        String::new()
    };
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {root}/data}}\nhttp:\n  addr: \
         127.0.0.1:{port}\n{auth}"
    );
    std::fs::write(dir.join("config.yml"), config).unwrap();
    let child = Command::new("docker-registry")
        .arg("serve")
        .arg(dir.join("config.yml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = Process(child);
    listening(port).await;
    (process, format!("127.0.0.1:{port}"))
}

async fn listening(port: u16) {
    let connected = async {
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), connected).await.unwrap();
}

#[tokio::test]
async fn a_real_registry_with_passwords() {
    if !wanted("HOLDFAST_TEST_REGISTRY") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (_process, host) = start_registry(dir.path(), true).await;
    let pushed = push(&format!("http://{host}"), "team/app", "1", "one", Some((USER, PASSWORD))).await;
    let repository = Repository::new(&format!("{host}/team/app")).unwrap();
    let clock = Hand::new();
    let (images, _dir) = with_password(&host, PASSWORD, &clock);
    assert_eq!(images.resolve(&repository, &tag("1"), Duration::ZERO).await, Fact::Seen(pushed.clone()));
    assert_eq!(images.resolve(&repository, &tag("2"), Duration::ZERO).await, Fact::Absent);
    let nobody = Repository::new(&format!("{host}/team/other")).unwrap();
    assert_eq!(images.resolve(&nobody, &tag("1"), Duration::ZERO).await, Fact::Absent);
    // A tag that moves is another digest.
    let moved = push(&format!("http://{host}"), "team/app", "1", "two", Some((USER, PASSWORD))).await;
    assert_ne!(moved, pushed);
    assert_eq!(images.resolve(&repository, &tag("1"), Duration::ZERO).await, Fact::Seen(moved));
    push(&format!("http://{host}"), "team/app", "1.10.0", "three", Some((USER, PASSWORD))).await;
    let listed = images.tags(&repository, Duration::ZERO).await;
    assert_eq!(super::tags::names(&listed), ["1", "1.10.0"]);
    assert_eq!(images.tags(&nobody, Duration::ZERO).await, Fact::Absent);
    // Who is not let in learns nothing.
    let (images, _dir) = with_password(&host, "wrong-canary", &clock);
    let fact = images.resolve(&repository, &tag("1"), Duration::ZERO).await;
    assert!(why(&fact).contains("refused the credentials for `team/app` (401)"), "{fact:?}");
    let fact = anonymous(&clock).resolve(&repository, &tag("1"), Duration::ZERO).await;
    assert!(why(&fact).contains("does not show `team/app` to everybody (401)"), "{fact:?}");
}

#[tokio::test]
async fn a_real_registry_for_everybody() {
    if !wanted("HOLDFAST_TEST_REGISTRY") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (process, host) = start_registry(dir.path(), false).await;
    let pushed = push(&format!("http://{host}"), "app", "1", "one", None).await;
    let repository = Repository::new(&format!("{host}/app")).unwrap();
    let images = anonymous(&Hand::new());
    assert_eq!(images.resolve(&repository, &tag("1"), Duration::ZERO).await, Fact::Seen(pushed));
    assert_eq!(images.resolve(&repository, &tag("2"), Duration::ZERO).await, Fact::Absent);
    drop(process);
    let fact = images.resolve(&repository, &tag("1"), Duration::ZERO).await;
    assert!(why(&fact).contains("could not be asked"), "{fact:?}");
}

/// AWS settings come from the environment, which a running test cannot change: so it runs itself again.
#[tokio::test]
async fn an_ecr_in_ministack() {
    if !wanted("HOLDFAST_TEST_AWS") {
        return;
    }
    let port = free_port();
    let program = std::env::var_os("HOLDFAST_MINISTACK").unwrap_or_else(|| "ministack".into());
    let child = Command::new(program)
        .env("MINISTACK_REGION", "ap-northeast-2")
        .env("GATEWAY_PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _process = Process(child);
    listening(port).await;
    let done = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "real::inside_ministack", "--ignored", "--nocapture"])
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test-canary")
        .env("HOLDFAST_TEST_HOST", format!("127.0.0.1:{port}"))
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "run by an_ecr_in_ministack, with its environment"]
async fn inside_ministack() {
    let host = std::env::var("HOLDFAST_TEST_HOST").unwrap();
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("ap-northeast-2"))
        .load()
        .await;
    aws_sdk_ecr::Client::new(&config).create_repository().repository_name("app").send().await.unwrap();
    let rule = RegistryRule {
        host: host.clone(),
        kind: Some(Kind::Ecr),
        region: Some("ap-northeast-2".to_owned()),
        auth: None,
    };
    let images = Images::new(ImagesOptions {
        registries: vec![rule],
        clock: std::sync::Arc::new(WallClock),
        aws: holdfast::aws::Shared::new(100),
    });
    let repository = Repository::new(&format!("{host}/app")).unwrap();
    let credentials = images.credentials(&repository).await.unwrap().unwrap();
    assert_eq!(credentials.username, "AWS");
    let login = Some(("AWS", credentials.password.reveal().as_str()));
    let pushed = push(&format!("http://{host}"), "app", "1", "one", login).await;
    assert_eq!(images.resolve(&repository, &tag("1"), Duration::ZERO).await, Fact::Seen(pushed));
    assert_eq!(images.resolve(&repository, &tag("2"), Duration::ZERO).await, Fact::Absent);
    push(&format!("http://{host}"), "app", "1.10.0", "two", login).await;
    let listed = images.tags(&repository, Duration::ZERO).await;
    assert_eq!(super::tags::names(&listed), ["1", "1.10.0"]);
    assert!(listed.seen().unwrap().iter().all(|it| it.pushed_at.is_some()), "{listed:?}");
    let nobody = Repository::new(&format!("{host}/other")).unwrap();
    assert_eq!(images.tags(&nobody, Duration::ZERO).await, Fact::Absent);

    let sts = Sts::new(std::sync::Arc::new(WallClock), holdfast::aws::identity::Identities::new());
    let guard = AwsGuard { account: None, region: Some("ap-northeast-2".to_owned()) };
    assert_eq!(sts.account(&guard).await, Fact::Seen("000000000000".to_owned()));
}
