//! What is under `deploy/` for AWS and GitHub: the policy, the templates, the workflows and the script that bumps a tag.
//! Here without any linter; with HOLDFAST_TEST_AWS=1 also `scripts/check-deploy.sh`, which brings them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

type Actions = BTreeSet<String>;

const WORKFLOWS: [&str; 2] = ["deploy/github/plog-back.yml", "deploy/github/dangdangwalk.yml"];

/// Statements that AWS lets nobody narrow to a resource. A condition narrows each but the first, which reveals nothing.
const ON_EVERY_RESOURCE: [&str; 5] = ["ListTasks", "ReadAlarms", "ReadLoadBalancers", "ReadTaskDefinitions", "WhoAmI"];

/// What a `sed` line of deploy/README.md fills.
const PLACEHOLDERS: [&str; 10] = [
    "ACCOUNT",
    "CLUSTER",
    "CONTROLLER",
    "EXECUTION_ROLE",
    "FAMILY",
    "LOAD_BALANCER",
    "QUEUE",
    "REGION",
    "REPOSITORY",
    "TASK_ROLE",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn statements() -> Vec<Value> {
    let policy: Value = serde_json::from_str(&text("deploy/iam/holdfast-ecs.json")).unwrap();
    assert_eq!(policy["Version"], "2012-10-17");
    policy["Statement"].as_array().unwrap().clone()
}

fn actions(statement: &Value) -> Actions {
    statement["Action"].as_array().unwrap().iter().map(|action| action.as_str().unwrap().to_owned()).collect()
}

fn by_sid() -> BTreeMap<String, Actions> {
    let all = statements();
    let found: BTreeMap<_, _> = all.iter().map(|it| (it["Sid"].as_str().unwrap().to_owned(), actions(it))).collect();
    assert_eq!(found.len(), all.len(), "two statements have one name");
    found
}

/// `deploy/iam/actions.txt`: an action and what it is for, a line each.
fn listed() -> Actions {
    let lines = text("deploy/iam/actions.txt");
    let listed: Vec<_> = lines
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').unwrap_or_else(|| panic!("no reason: {line}")).0.to_owned())
        .collect();
    assert!(listed.is_sorted(), "{listed:?}");
    listed.into_iter().collect()
}

/// The lines of a YAML block below `head`, up to the next line that is not deeper.
fn block(text: &str, head: &str) -> String {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines().skip_while(|line| line.trim_end() != head);
    let first = lines.next().unwrap_or_else(|| panic!("there is no line {head:?}"));
    let inside = lines.take_while(|line| line.trim().is_empty() || depth(line) > depth(first));
    inside.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_policy_allows_what_is_listed_and_nothing_else() {
    let allowed: Actions = by_sid().into_values().flatten().collect();
    assert_eq!(allowed, listed());
}

#[test]
fn every_statement_of_the_policy_is_as_narrow_as_aws_lets_it_be() {
    for statement in statements() {
        let sid = statement["Sid"].as_str().unwrap();
        assert_eq!(statement["Effect"], "Allow", "{sid}");
        for action in actions(&statement) {
            assert!(!action.contains('*'), "{sid}: {action}");
        }
        if statement["Resource"] == "*" {
            assert!(ON_EVERY_RESOURCE.contains(&sid), "{sid} is not narrowed to a resource");
            assert!(sid == "WhoAmI" || statement["Condition"].is_object(), "{sid} is not narrowed by a condition");
        } else {
            assert!(!ON_EVERY_RESOURCE.contains(&sid), "{sid} is narrowed by now");
            for resource in statement["Resource"].as_array().unwrap() {
                let resource = resource.as_str().unwrap();
                assert!(resource.starts_with("arn:aws:") && resource.contains("ACCOUNT"), "{sid}: {resource}");
            }
        }
    }
}

#[test]
fn roles_are_passed_to_tasks_only_and_only_what_is_ours_is_deleted() {
    let all = statements();
    let statement = |sid: &str| all.iter().find(|it| it["Sid"] == sid).unwrap_or_else(|| panic!("no {sid}"));
    assert_eq!(
        statement("PassTaskRoles")["Condition"]["StringEquals"]["iam:PassedToService"],
        "ecs-tasks.amazonaws.com"
    );
    assert_eq!(
        statement("DeleteOwnServices")["Condition"]["StringEquals"]["aws:ResourceTag/holdfast:controller"],
        "CONTROLLER"
    );
    // Optional things stand alone, so that they can be left out.
    assert_eq!(by_sid()["CleanUpImages"], Actions::from(["ecr:BatchDeleteImage".to_owned()]));
    assert!(by_sid()["EventQueue"].iter().all(|action| action.starts_with("sqs:")));
}

#[test]
fn the_readme_fills_every_placeholder_of_the_policy() {
    let policy = text("deploy/iam/holdfast-ecs.json");
    let words = policy.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let shouted: BTreeSet<_> = words
        .filter(|word| word.len() > 2 && !word.contains(|c: char| !(c.is_ascii_uppercase() || c == '_')))
        .collect();
    assert_eq!(shouted, PLACEHOLDERS.into());
    let readme = text("deploy/README.md");
    for placeholder in PLACEHOLDERS {
        assert!(readme.contains(&format!("s|{placeholder}|")), "deploy/README.md does not fill {placeholder}");
    }
}

#[test]
fn the_template_of_the_controller_has_the_statements_of_the_policy() {
    let template = text("deploy/cloudformation/holdfast.yaml");
    let policy = block(&template, "  ControllerPolicy:");
    let mut found = BTreeMap::new();
    let mut sid = String::new();
    for line in policy.lines().map(|line| line.trim().trim_start_matches("- ")) {
        if let Some(name) = line.strip_prefix("Sid: ") {
            name.clone_into(&mut sid);
        } else if let Some(list) = line.strip_prefix("Action: ") {
            let list = list.strip_prefix('[').and_then(|list| list.strip_suffix(']'));
            let list = list.unwrap_or_else(|| panic!("{sid}: write the actions as [a, b]"));
            found.insert(sid.clone(), list.split(", ").map(str::to_owned).collect::<Actions>());
        }
    }
    assert_eq!(found, by_sid());
}

#[test]
fn the_controller_is_never_two_and_nothing_connects_to_it() {
    let template = text("deploy/cloudformation/holdfast.yaml");
    let service = block(&template, "  Service:");
    for line in ["DesiredCount: 1", "MinimumHealthyPercent: 0", "MaximumPercent: 100"] {
        assert!(service.lines().any(|it| it.trim() == line), "the service does not say {line}");
    }
    assert!(service.contains("AvailabilityZoneRebalancing: DISABLED"), "a rebalancing would start a second one");
    assert!(!block(&template, "  ControllerSecurityGroup:").contains("SecurityGroupIngress"));
    for event in ["ECS Service Action", "ECS Deployment State Change", "ECS Task State Change"] {
        assert!(block(&template, "  EventRule:").contains(event), "{event}");
    }
}

#[test]
fn the_image_and_the_template_agree_on_the_user() {
    let dockerfile = text("deploy/Dockerfile");
    let last = dockerfile.rsplit("\nFROM ").next().unwrap();
    for words in ["ca-certificates", " git ", "USER 10001:10001", "ENTRYPOINT [\"/usr/local/bin/holdfast\"]"] {
        assert!(last.contains(words), "the final image lacks {words:?}");
    }
    let template = text("deploy/cloudformation/holdfast.yaml");
    assert!(template.contains("User: \"10001:10001\""));
    assert_eq!(template.matches("OwnerUid: \"10001\"").count(), 2);
    // Nothing but what is named reaches the build, so no secret does.
    let ignored = text("deploy/Dockerfile.dockerignore");
    assert_eq!(ignored.lines().find(|line| !line.starts_with('#')), Some("*"));
}

#[test]
fn the_workflows_hold_no_key_and_deploy_nothing() {
    for file in WORKFLOWS {
        let workflow = text(file);
        for word in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "aws-access-key-id", "aws ecs", "ecs-deploy", "sed "]
        {
            assert!(!workflow.contains(word), "{file} has {word}");
        }
        for word in ["id-token: write", "role-to-assume:", "concurrency:", "cancel-in-progress: false", "bump-tag.sh"] {
            assert!(workflow.contains(word), "{file} lacks {word}");
        }
        let uses: Vec<_> = workflow.lines().filter_map(|line| line.split_once("uses: ")).collect();
        assert!(uses.iter().any(|(_, action)| *action == "aws-actions/configure-aws-credentials@v4"), "{file}");
        for (_, action) in uses {
            let version = action.split_once("@v").unwrap_or_else(|| panic!("{file}: {action}")).1;
            assert!(version.parse::<u32>().is_ok(), "{file}: {action} is not pinned by its major tag");
        }
    }
}

#[test]
fn the_role_of_github_is_for_one_branch_and_one_repository() {
    let role = block(&text("deploy/iam/github-oidc.yaml"), "  PushRole:");
    assert!(role.contains("repo:${GitHubOwner}/${GitHubRepository}:ref:refs/heads/${GitHubBranch}"));
    assert!(!role.contains("StringLike"), "the subject is equal, not like");
    let resources: Vec<_> = role.lines().filter(|line| line.trim() == "Resource: \"*\"").collect();
    assert_eq!(resources.len(), 1, "only the login is for every resource");
    for word in ["ecs:", "iam:", "ecr:BatchDeleteImage"] {
        assert!(!role.contains(word), "it may {word}");
    }
}

#[test]
fn the_linters_find_nothing() {
    if std::env::var_os("HOLDFAST_TEST_AWS").is_none_or(|value| value != "1") {
        eprintln!("skipped: HOLDFAST_TEST_AWS is not 1");
        return;
    }
    // The first run installs the linters.
    let output =
        Command::new(root().join("scripts/check-deploy.sh")).timeout(Duration::from_secs(480)).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}

/// `bump-tag.sh` at work: a bare repository, and checkouts of it.
struct Bump {
    dir: TempDir,
}

const PLOG: &str = "\
# Who changes this: CI.
services:
  plog-web:
    image: registry.example/web
    tag: \"2024.11.22\"

  plog-api:                    # behind the load balancer
    image: registry.example/plog-back
    tag: \"2024.11.22\"          # the line CI bumps
    preview:
      tag: next
    ecs:
      containers:
        log-router: {image: registry.example/router, tag: \"2\"}
      env:
        tag: of the application
";

impl Bump {
    fn new(file: &str) -> Self {
        let bump = Self { dir: tempfile::tempdir().unwrap() };
        bump.git(".", &["init", "--quiet", "--bare", "--initial-branch=main", "origin.git"]);
        bump.clone_into("first");
        std::fs::create_dir_all(bump.dir.path().join("first/desired-state/prod")).unwrap();
        bump.write("first", "plog.yaml", file);
        bump.push("first", "start");
        bump.clone_into("ci");
        bump
    }

    fn clone_into(&self, name: &str) {
        self.git(".", &["clone", "--quiet", "origin.git", name]);
        self.git(name, &["symbolic-ref", "HEAD", "refs/heads/main"]);
    }

    fn path(&self, checkout: &str, file: &str) -> PathBuf {
        self.dir.path().join(checkout).join("desired-state/prod").join(file)
    }

    fn write(&self, checkout: &str, file: &str, text: &str) {
        std::fs::write(self.path(checkout, file), text).unwrap();
    }

    fn push(&self, checkout: &str, message: &str) {
        self.git(checkout, &["add", "."]);
        self.git(checkout, &["commit", "--quiet", "-m", message]);
        self.git(checkout, &["push", "--quiet", "origin", "main"]);
    }

    /// A command that knows no settings of whoever runs the tests, and no `holdfast` unless `more` has one.
    fn command(&self, program: &str, folder: &str, more: Option<&Path>) -> Command {
        let mut command = Command::new(program);
        let path = more.map_or_else(String::new, |folder| format!("{}:", folder.display()));
        command.current_dir(self.dir.path().join(folder)).env_clear().timeout(Duration::from_secs(60));
        command.env("PATH", format!("{path}/usr/bin:/bin")).env("HOME", self.dir.path());
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "CI").env(format!("GIT_{who}_EMAIL"), "ci@example.org");
        }
        command
    }

    fn git(&self, folder: &str, args: &[&str]) -> String {
        let output = self.command("git", folder, None).args(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn run(&self, more: Option<&Path>, args: &[&str]) -> (bool, String) {
        let script = root().join("deploy/github/bump-tag.sh");
        let mut command = self.command(script.to_str().unwrap(), "ci", more);
        let output = command.env("GITHUB_OUTPUT", self.dir.path().join("output")).args(args).output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.success(), said)
    }

    /// The file as whoever reads the repository sees it.
    fn served(&self, file: &str) -> String {
        self.git("origin.git", &["show", &format!("main:desired-state/prod/{file}")])
    }

    fn commits(&self) -> usize {
        self.git("origin.git", &["rev-list", "main"]).lines().count()
    }
}

const TO_3F2A1B9: [&str; 3] = ["plog-api", "3f2a1b9", "desired-state/prod"];

fn with_tag(tag: &str) -> String {
    PLOG.replace("tag: \"2024.11.22\"          # the", &format!("tag: \"{tag}\"          # the"))
}

#[test]
fn a_bump_changes_the_tag_of_its_service_and_nothing_else() {
    let bump = Bump::new(PLOG);
    let (fine, said) = bump.run(None, &TO_3F2A1B9);
    assert!(fine && said.contains("plog-api: tag 3f2a1b9 pushed as "), "{said}");
    assert_eq!(bump.served("plog.yaml"), with_tag("3f2a1b9"));
    let (fine, said) = bump.run(None, &TO_3F2A1B9);
    assert!(fine && said.contains("is there already"), "{said}");
    assert_eq!(bump.commits(), 2);
    // The commit to wait for, both times.
    let id = bump.git("origin.git", &["rev-parse", "main"]);
    let output = std::fs::read_to_string(bump.dir.path().join("output")).unwrap();
    assert_eq!(output, format!("commit={id}").repeat(2));
}

#[test]
fn a_bump_is_made_again_on_what_somebody_else_pushed() {
    let bump = Bump::new(PLOG);
    let theirs = PLOG
        .replace("image: registry.example/web\n    tag: \"2024.11.22\"", "image: registry.example/web\n    tag: \"7\"");
    bump.write("first", "plog.yaml", &theirs);
    bump.push("first", "plog-web: tag 7");
    let (fine, said) = bump.run(None, &TO_3F2A1B9);
    assert!(fine && said.contains("the push was refused, try 1"), "{said}");
    let both = bump.served("plog.yaml");
    assert!(both.contains("tag: \"7\"") && both.contains("tag: \"3f2a1b9\" "), "{both}");
    assert_eq!(bump.commits(), 3, "one commit each, no merge");
}

#[test]
fn a_bump_reads_every_usual_way_to_write_a_tag() {
    for (written, becomes) in [
        ("    tag: 1.10", "    tag: \"2\""),
        ("    tag: 'a'   # b", "    tag: \"2\"   # b"),
        ("    \"tag\":   3f2a1b9@sha256:0123  ", "    \"tag\": \"2\"  "),
    ] {
        let file = format!("services:\n  api:\n    image: x\n{written}\n  other: {{image: y, tag: z}}\n");
        let bump = Bump::new(&file);
        let (fine, said) = bump.run(None, &["api", "2", "desired-state/prod"]);
        assert!(fine, "{written}: {said}");
        assert_eq!(bump.served("plog.yaml"), file.replace(written, becomes));
    }
}

#[test]
fn a_bump_refuses_what_it_does_not_understand() {
    for (file, args, said_so) in [
        ("services:\n  api: {image: x, tag: a}\n", ["api", "b", "desired-state/prod"], "could not be edited"),
        ("services:\n  api:\n    tag: &t a\n", ["api", "b", "desired-state/prod"], "could not be edited"),
        ("services:\n  api:\n    tag: >-\n      a\n", ["api", "b", "desired-state/prod"], "could not be edited"),
        ("services:\n  api:\n    image: x\n", ["api", "b", "desired-state/prod"], "could not be edited"),
        (
            "x-old:\n  api:\n    tag: a\nservices:\n",
            ["api", "b", "desired-state/prod"],
            "no file of desired-state/prod has",
        ),
        (PLOG, ["plog-api", "a b", "desired-state/prod"], "not a tag"),
        (PLOG, ["plog-api", "$(id)", "desired-state/prod"], "not a tag"),
        (PLOG, ["plog api", "b", "desired-state/prod"], "not the name of a service"),
        (PLOG, ["plog-api", "b", "desired-state/dev"], "there is no folder"),
    ] {
        let bump = Bump::new(file);
        let (fine, said) = bump.run(None, &args);
        assert!(!fine && said.contains(said_so), "{args:?}: {said}");
        assert_eq!(bump.served("plog.yaml"), file);
    }
}

#[test]
fn a_bump_takes_holdfast_where_it_is_installed() {
    let bump =
        Bump::new("services:\n  api: {image: registry.example/api, tag: \"1\", docker: {port: 80}}   # one line\n");
    let program = Path::new(env!("CARGO_BIN_EXE_holdfast"));
    let (fine, said) = bump.run(Some(program.parent().unwrap()), &["api", "1.10", "desired-state/prod"]);
    assert!(fine && said.contains("pushed as"), "{said}");
    let served = bump.served("plog.yaml");
    assert!(served.contains("1.10") && served.contains("# one line"), "{served}");
    assert_eq!(bump.git("origin.git", &["log", "-1", "--format=%s", "main"]), "api: tag 1 -> 1.10\n");
}
