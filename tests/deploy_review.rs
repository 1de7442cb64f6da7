//! What is under `deploy/` for reviews and for knowing what became of a commit: the workflow that comments a plan, its
//! scripts at work, and the policy that only reads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn statements(file: &str) -> Vec<Value> {
    let policy: Value = serde_json::from_str(&text(file)).unwrap();
    assert_eq!(policy["Version"], "2012-10-17");
    policy["Statement"].as_array().unwrap().clone()
}

#[test]
fn the_policy_of_plan_is_what_only_reads_of_the_controllers() {
    let reads = |action: &Value| {
        let verb = action.as_str().unwrap().split_once(':').unwrap().1;
        ["BatchGet", "Describe", "Get", "List"].iter().any(|word| verb.starts_with(word))
    };
    let only_reads = |it: &Value| it["Action"].as_array().unwrap().iter().all(reads);
    let expected: Vec<Value> = statements("deploy/iam/holdfast-ecs.json").into_iter().filter(only_reads).collect();
    assert!(expected.len() > 5);
    assert_eq!(statements("deploy/iam/holdfast-plan.json"), expected);
}

#[test]
fn the_workflow_of_plan_may_little_and_gives_a_fork_nothing() {
    let workflow = text("deploy/github/plan.yml");
    // `pull_request_target` would run with secrets beside the code of strangers.
    assert!(workflow.contains("\n  pull_request:\n") && !workflow.contains("pull_request_target"));
    assert!(workflow.contains("\npermissions: {}\n"));
    let jobs: Vec<&str> = workflow.split_once("\njobs:\n").unwrap().1.split("\n    steps:\n").collect();
    assert_eq!(jobs.len(), 3, "the heads of two jobs, and what follows");
    for head in &jobs[..2] {
        let guard = "github.event.pull_request.head.repo.full_name == github.repository";
        assert!(head.contains(guard), "a fork's pull request is not left out: {head}");
        assert!(head.contains("contents: read") && head.contains("pull-requests: write"));
    }
    assert_eq!(workflow.matches(": write").count(), 3, "two comments and one token for AWS");
    let actions = workflow.lines().filter_map(|line| line.split_once("uses: "));
    for (_, action) in actions {
        let version = action.split_once("@v").unwrap_or_else(|| panic!("{action}")).1;
        assert!(version.parse::<u32>().is_ok(), "{action} is not pinned by its major tag");
    }
    assert_eq!(workflow.matches("persist-credentials: false").count(), workflow.matches("actions/checkout@").count());
}

#[test]
fn the_role_of_plan_is_for_pull_requests_of_one_repository() {
    let role = text("deploy/iam/github-plan.yaml");
    assert!(role.contains("repo:${GitHubOwner}/${GitHubRepository}:pull_request\""));
    assert!(!role.contains("StringLike"), "the subject is equal, not like");
    for word in ["ecs:", "iam:Pass", "ecr:Put", "ecr:BatchDelete", "ecr:Initiate"] {
        assert!(!role.contains(word), "it may {word}");
    }
}

#[test]
fn the_workflows_wait_for_the_commit_that_was_pushed() {
    for (file, service) in [("dangdangwalk", "dangdang-api"), ("plog-back", "plog-api")] {
        let workflow = text(&format!("deploy/github/{file}.yml"));
        for words in [
            format!(".github/bump-tag.sh {service} "),
            "commit: ${{ steps.bump.outputs.commit }}".into(),
            "needs.bump.outputs.commit }}".into(),
        ] {
            assert!(workflow.contains(&words), "{file} lacks {words}");
        }
    }
    // The words the controller uses.
    let context = "format!(\"holdfast/{controller}\")";
    let told = std::fs::read_dir(root().join("src/alerts")).unwrap().map(|entry| entry.unwrap().path());
    let told: String = told.filter_map(|file| std::fs::read_to_string(file).ok()).collect();
    assert!(told.contains(context) && text("deploy/github/plog-back.yml").contains("CONTEXT: holdfast/${{ vars"));
}

/// A folder with programs that stand in for others.
struct Stage {
    dir: TempDir,
}

impl Stage {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program `name` that runs `script`.
    fn program(&self, name: &str, script: &str) {
        std::fs::write(self.path(name), format!("#!/bin/bash\n{script}\n")).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, script: &str, args: &[&str], env: &[(&str, &str)]) -> (i32, String) {
        let mut command = Command::new(root().join("deploy/github").join(script));
        command.env_clear().env("PATH", format!("{}:/usr/bin:/bin", self.dir.path().display()));
        command.current_dir(self.dir.path()).timeout(Duration::from_secs(30));
        let output = command.args(args).envs(env.iter().copied()).output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code().unwrap(), said)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

/// As `gh`: a list of comments asked for with `--jq` (jq's own work), and what else it was told.
const GH: &str = r#"
for arg; do [ "$arg" != --jq ] || { cat known; exit; }; done
echo "$@" >> told
"#;

#[test]
fn a_plan_is_one_comment_that_is_kept_up_to_date() {
    const ENV: [(&str, &str); 2] = [("GITHUB_REPOSITORY", "acme/deploy"), ("PULL_REQUEST", "7")];
    let stage = Stage::new();
    stage.program("gh", GH);
    std::fs::write(stage.path("plan.md"), "<!-- holdfast plan prod -->\n### Holdfast: nothing changes\n").unwrap();
    std::fs::write(stage.path("known"), "").unwrap();
    let (code, said) = stage.run("plan-comment.sh", &["plan.md"], &ENV);
    assert_eq!(code, 0, "{said}");
    let post = "api --silent --method POST repos/acme/deploy/issues/7/comments -F body=@plan.md\n";
    assert_eq!(stage.read("told"), post);
    std::fs::write(stage.path("known"), "41\n42\n").unwrap();
    stage.run("plan-comment.sh", &["plan.md"], &ENV);
    let patch = "api --silent --method PATCH repos/acme/deploy/issues/comments/41 -F body=@plan.md\n";
    assert_eq!(stage.read("told"), format!("{post}{patch}"));
    // What is no plan is not posted: an empty file, or an error of ssh.
    for bad in ["", "Connection refused\n"] {
        std::fs::write(stage.path("plan.md"), bad).unwrap();
        assert_eq!(stage.run("plan-comment.sh", &["plan.md"], &ENV).0, 1, "{bad}");
    }
    assert_eq!(stage.read("told"), format!("{post}{patch}"));
}

#[test]
fn over_ssh_a_key_can_do_its_one_thing() {
    let id = "3f2a1b9c".repeat(5);
    let stage = Stage::new();
    stage.program("holdfast", "echo \"$@\"; exit 2");
    let asked = |args: &[&str], commit: &str| stage.run("over-ssh.sh", args, &[("SSH_ORIGINAL_COMMAND", commit)]);
    assert_eq!(asked(&["plan"], &id), (2, format!("plan --commit {id} -o markdown\n")));
    let wait = format!("wait api --source-revision {id} --timeout 10m\n");
    assert_eq!(asked(&["wait", "api"], &id), (2, wait));
    for bad in ["", "main", "3f2a1b9", "-o json", &format!("{id} --git x"), &format!("{id}\nid"), "$(id)"] {
        let (code, said) = asked(&["plan"], bad);
        assert!(code == 1 && said.contains("the id of a commit"), "{bad}: {said}");
    }
    assert_eq!(asked(&[], &id).0, 1);
    assert_ne!(asked(&["wait"], &id).0, 2, "without a service nothing is run");
}

#[test]
fn the_marker_is_the_one_the_program_writes() {
    let script = text("deploy/github/plan-comment.sh");
    assert!(script.contains("'<!-- holdfast plan '*' -->'"));
    let dir = tempfile::tempdir().unwrap();
    let mut plan = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    plan.current_dir(dir.path()).env_clear().env("PATH", "/usr/bin:/bin").timeout(Duration::from_secs(60));
    let output = plan.args(["plan", "nowhere", "--controller", "prod", "-o", "markdown"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let first = String::from_utf8(output.stdout).unwrap();
    assert_eq!(first.lines().next(), Some("<!-- holdfast plan prod -->"));
    assert!(!Path::new(&dir.path().join("state")).exists());
}
