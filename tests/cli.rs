//! The program as people and CI call it: output, exit codes, hints. No engine is needed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use assert_cmd::Command;
use tempfile::TempDir;

const GOOD: &str = "\
services:
  api:
    image: registry.example/api   # who builds it: CI
    tag: \"1.10\"                    # the line CI bumps
    replicas: 2
    docker:
      port: 8080
";

/// The program in `dir`, without the settings of whoever runs the tests.
fn holdfast(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("TERM", "xterm");
    command.timeout(std::time::Duration::from_secs(60));
    command
}

fn with(file: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("state")).unwrap();
    fs::create_dir(dir.path().join("desired")).unwrap();
    fs::write(dir.path().join("desired/api.yaml"), file).unwrap();
    dir
}

struct Ended {
    code: i32,
    out: String,
    err: String,
}

fn run(dir: &Path, args: &[&str]) -> Ended {
    let output = holdfast(dir).args(args).output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn help_fits_80_columns_and_names_every_verb() {
    let dir = with(GOOD);
    let help = run(dir.path(), &["--help"]);
    assert_eq!(help.code, 0);
    for verb in [
        "run",
        "plan",
        "check",
        "status",
        "wait",
        "logs",
        "history",
        "set",
        "promote",
        "rollback",
        "retry",
        "pause",
        "resume",
        "reconcile",
        "remove",
        "adopt",
        "import",
        "schema",
        "completions",
    ] {
        assert!(help.out.lines().any(|line| line.trim_start().starts_with(verb)), "{verb} is missing:\n{}", help.out);
        let of_verb = run(dir.path(), &[verb, "--help"]);
        assert_eq!(of_verb.code, 0, "{verb}");
        for line in of_verb.out.lines().chain(help.out.lines()) {
            assert!(line.chars().count() <= 80, "{verb}: {line}");
        }
    }
}

#[test]
fn a_typing_error_is_exit_1_and_not_the_2_of_changes() {
    let dir = with(GOOD);
    let ended = run(dir.path(), &["statsu"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("status"), "{}", ended.err);
    assert_eq!(run(dir.path(), &["wait", "api", "--source-revision", "abc"]).code, 1);
}

#[test]
fn without_a_controller_the_hint_says_how_to_start_one() {
    let dir = with(GOOD);
    for verb in [
        vec!["status"],
        vec!["logs"],
        vec!["history", "api"],
        vec!["rollback", "api"],
        vec!["wait", "api", "--source-revision", "abcdef0"],
    ] {
        let ended = run(dir.path(), &[vec!["--state-dir", "state"], verb].concat());
        assert_eq!(ended.code, 1);
        assert!(ended.err.starts_with("error: no controller answers at state/control.sock\n"), "{}", ended.err);
        assert!(ended.err.contains("\nhint: start one with `holdfast run`"), "{}", ended.err);
        assert_eq!(ended.out, "");
    }
}

#[test]
fn check_says_yes_or_says_where() {
    let dir = with(GOOD);
    let good = run(dir.path(), &["check", "desired", "--files-only"]);
    assert_eq!((good.code, good.out.as_str()), (0, "desired: 1 service: api\n"), "{}", good.err);
    let dir = with(&GOOD.replace("replicas", "replcias"));
    let bad = run(dir.path(), &["check", "desired", "--files-only"]);
    assert_eq!(bad.code, 1);
    assert!(bad.err.contains("api.yaml:5:5") && bad.err.contains("`replicas`"), "{}", bad.err);
    let nowhere = run(dir.path(), &["check", "nowhere", "--files-only"]);
    assert_eq!(nowhere.code, 1);
    assert!(nowhere.err.contains("nowhere"), "{}", nowhere.err);
}

#[test]
fn run_does_not_wait_for_a_folder_that_is_not_there() {
    let dir = with(GOOD);
    let ended = run(dir.path(), &["run", "nowhere", "--sandbox", "--state-dir", "state"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("hint: name its folder as PATH"), "{}", ended.err);
}

#[test]
fn an_unwritable_state_folder_and_an_open_listener_are_refused() {
    let dir = with(GOOD);
    fs::write(dir.path().join("file"), "").unwrap();
    let ended = run(dir.path(), &["run", "desired", "--sandbox", "--listen", "none", "--state-dir", "file/state"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("file/state") && ended.err.contains("\nhint: "), "{}", ended.err);
    let ended = run(dir.path(), &["run", "desired", "--sandbox", "--listen", "0.0.0.0:0", "--state-dir", "state"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("--insecure"), "{}", ended.err);
}

/// What `check` warns of in a folder whose service needs everything; paths of the test are left out.
fn warnings(dir: &TempDir, settings: &str, more: &str) -> String {
    fs::write(dir.path().join("desired/api.yaml"), format!("{GOOD}{more}")).unwrap();
    fs::write(dir.path().join("holdfast.yaml"), settings.replace("DIR", &dir.path().display().to_string())).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.current_dir(dir.path()).env_clear().env("PATH", "/usr/bin:/bin").args(["check", "desired"]);
    if rustix::process::getuid().is_root() {
        // Permissions mean nothing to root.
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "a warning is no error");
    String::from_utf8(output.stderr).unwrap().replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn what_only_the_host_can_tell_is_a_warning_with_a_hint() {
    let dir = with(GOOD);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(dir.path().join("closed.sock")).unwrap();
    fs::set_permissions(dir.path().join("closed.sock"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::write(dir.path().join("stale.sock"), "").unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("left.sock")).unwrap());
    fs::set_permissions(dir.path().join("left.sock"), fs::Permissions::from_mode(0o777)).unwrap();
    let engine = |name: &str| format!("docker: unix://DIR/{name}\nenvRoot: DIR/env\n");
    let nginx = "    traffic: {nginx: {file: /tmp/holdfast-test/api.servers}}\n";
    let told = [
        ("Docker is not installed", warnings(&dir, &engine("none.sock"), "")),
        ("Docker is not running", warnings(&dir, &engine("left.sock"), "")),
        ("no permission on its socket", warnings(&dir, &engine("closed.sock"), "")),
        ("no env file", warnings(&dir, &engine("none.sock"), "      envFile: .env.prod\n")),
        (
            "nginx is not installed",
            warnings(&dir, &format!("{}nginx: {{binary: no-such-nginx}}\n", engine("none.sock")), nginx),
        ),
    ];
    drop(socket);
    let told: Vec<String> = told.iter().map(|(what, words)| format!("## {what}\n{words}")).collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn why_it_does_not_start_is_said_with_a_hint() {
    let dir = with(GOOD);
    fs::write(dir.path().join("file"), "").unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::write(dir.path().join("blank.yaml"), "").unwrap();
    let base = ["--sandbox", "--listen", "none"];
    let told: Vec<String> = [
        ("an unwritable state folder", vec!["desired", "--state-dir", "file/state"]),
        ("no folder", vec!["nowhere", "--state-dir", "state"]),
        ("an empty folder", vec!["empty", "--once", "--state-dir", "state"]),
        ("an empty file", vec!["blank.yaml", "--once", "--state-dir", "state"]),
        ("an open listener", vec!["desired", "--state-dir", "state", "--listen", "0.0.0.0:1"]),
    ]
    .into_iter()
    .map(|(what, args)| {
        let base = if args.contains(&"--listen") { &base[..1] } else { &base[..] };
        let ended = run(dir.path(), &[&["run"][..], base, &args].concat());
        assert_eq!(ended.code, 1, "{what}: {}", ended.out);
        format!("## {what}\n{}", ended.err)
    })
    .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_sandbox_settles_once_and_says_what_it_did() {
    let dir = with(GOOD);
    let args = ["run", "desired", "--sandbox", "--once", "--listen", "none", "--state-dir", "state"];
    let ended = run(dir.path(), &args);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("api  ") && ended.out.contains("because"), "{}", ended.out);
    assert!(!ended.out.contains('\x1b'), "no colour without a terminal: {}", ended.out);
    assert!(!dir.path().join("state/control.sock").exists(), "the socket is taken away at the end");
}

const ECS: &str = "\
services:
  plog-api:
    image: 123456789012.dkr.ecr.ap-northeast-2.amazonaws.com/plog-back
    tag: \"2024.11.22\"
    replicas: 2
    ecs: {cluster: plog-cluster, service: plog-api, container: plog-back, env: {SPRING_PROFILES_ACTIVE: dev}}
    rollout: {strategy: rolling}
";

#[test]
fn a_sandbox_has_ecs_and_adopts_what_the_file_names() {
    let dir = with(ECS);
    let args = ["run", "desired", "--sandbox", "--once", "--listen=none", "--state-dir=state"];
    let ended = run(dir.path(), &args);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("controller"), "its marks need a name: {}", ended.err);
    let ended = run(dir.path(), &[&args[..], &["--controller=demo"]].concat());
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    for told in ["commit initial", "plog-api:1 -> plog-api:2 (rolls tasks)", "settled: 2024.11.22"] {
        assert!(ended.out.contains(told), "no `{told}` in {}", ended.out);
    }
    fs::write(dir.path().join("desired/api.yaml"), ECS.replace("\"2024.11.22\"", "crash-1")).unwrap();
    let ended = run(dir.path(), &[&args[..], &["--controller=demo"]].concat());
    assert_eq!(ended.code, 2, "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("Quarantined"), "{}", ended.out);
}

#[test]
fn a_sandbox_has_a_load_balancer_with_two_colours() {
    let arn = "arn:aws:elasticloadbalancing:ap-northeast-2:123456789012";
    let traffic = format!(
        "traffic: {{alb: {{rule: \"{arn}:listener-rule/app/plog/1/2/3\", \
         targetGroups: {{blue: \"{arn}:targetgroup/blue/1\", green: \"{arn}:targetgroup/green/1\"}}}}}}\n    \
         rollout: {{bake: 1s, drain: 1s}}"
    );
    let file = ECS.replace("rollout: {strategy: rolling}", &traffic);
    let dir = with(&file.replace("service: plog-api,", "services: {blue: plog-api, green: plog-api-green},"));
    let args = ["run", "desired", "--sandbox", "--once", "--listen=none", "--state-dir=state", "--controller=demo"];
    let ended = run(dir.path(), &args);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    for told in ["create plog-cluster/plog-api-green", "send requests to blue 0 %, green 100 %", "Baking"] {
        assert!(ended.out.contains(told), "no `{told}` in {}", ended.out);
    }
}

#[test]
fn the_tour_runs_to_its_end_without_docker() {
    // Its name is the controller's id; the tour itself makes the folder and takes it away.
    let home = format!("/tmp/hf-tour-sandbox-{}", std::process::id());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/demo.sh");
    let mut tour = Command::new(script);
    tour.arg("--sandbox").env("HOLDFAST_BIN", env!("CARGO_BIN_EXE_holdfast")).env("HOLDFAST_DEMO_HOME", &home);
    let output = tour.timeout(std::time::Duration::from_secs(120)).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(told.matches('✓').count(), 3, "{told}");
    assert!(!told.contains("warning"), "{told}");
    assert!(!Path::new(&home).exists(), "the folder is left");
}

#[test]
fn a_bad_tag_in_the_sandbox_ends_unsettled() {
    let dir =
        with(&GOOD.replace("\"1.10\" ", "bad-1  ").replace("port: 8080", "port: 8080\n    health: {deadline: 1s}"));
    let args = ["run", "desired", "--sandbox", "--once", "--listen", "none", "--state-dir", "state"];
    let ended = run(dir.path(), &args);
    assert_eq!(ended.code, 2, "{}{}", ended.out, ended.err);
}

#[test]
fn the_json_log_is_json() {
    let dir = with(GOOD);
    let args = ["run", "desired", "--sandbox", "--once", "--listen=none", "--state-dir=state", "--log-format=json"];
    let ended = run(dir.path(), &args);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    let lines: Vec<serde_json::Value> = ended.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.iter().all(|line| line["message"].is_string()), "{lines:?}");
    let run = lines.iter().find(|line| line["message"].as_str().unwrap_or_default().starts_with("run api-")).unwrap();
    assert_eq!((run["service"].as_str(), run["kind"].as_str()), (Some("api"), Some("step")), "{run}");
    assert_eq!(run["because"], "the file asks for tag 1.10");
}

#[test]
fn set_changes_one_value_and_keeps_the_rest() {
    let dir = with(GOOD);
    let ended = run(dir.path(), &["set", "api", "tag=1.20", "replicas=3", "--path", "desired"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(ended.out, "api: tag 1.10 -> 1.20, replicas 2 -> 3 (desired/api.yaml)\n");
    let text = fs::read_to_string(dir.path().join("desired/api.yaml")).unwrap();
    assert_eq!(text, GOOD.replace("\"1.10\"", "\"1.20\"").replace("replicas: 2", "replicas: 3"));
    let again = run(dir.path(), &["set", "api", "tag=1.20", "--path", "desired"]);
    assert_eq!((again.code, again.out.as_str()), (0, "api: already so in desired/api.yaml\n"));
}

#[test]
fn set_refuses_what_would_be_wrong_and_leaves_the_file() {
    let dir = with(GOOD);
    for bad in ["replicas=-1", "replicsa=2", "tag=a b", "nokey"] {
        let ended = run(dir.path(), &["set", "api", bad, "--path", "desired"]);
        assert_eq!(ended.code, 1, "{bad}: {}", ended.out);
        assert_eq!(fs::read_to_string(dir.path().join("desired/api.yaml")).unwrap(), GOOD, "{bad}");
    }
    let ended = run(dir.path(), &["set", "apj", "tag=2", "--path", "desired"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("did you mean `api`?"), "{}", ended.err);
}

#[test]
fn with_git_a_checkout_is_what_is_edited_and_has_to_be_named() {
    let dir = with(GOOD);
    let git = "git: {url: \"git@github.com:acme/deploy.git\", path: desired}\n";
    fs::write(dir.path().join("holdfast.yaml"), format!("source: desired\n{git}")).unwrap();
    for verb in [vec!["set", "api", "tag=2"], vec!["rollback", "api", "--commit"]] {
        let ended = run(dir.path(), &verb);
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{verb:?}");
        let hint = "on the branch main of git@github.com:acme/deploy.git\n  because: a checkout of it can be edited, and \
                    none is named\nhint: in a checkout add `--path desired --commit --push`\n";
        assert!(ended.err.ends_with(hint), "{}", ended.err);
    }
    assert_eq!(run(dir.path(), &["set", "api", "tag=2", "--path", "desired"]).code, 0);
}

#[test]
fn set_commits_only_the_file() {
    let dir = with(GOOD);
    let git = |args: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"];
        let output =
            std::process::Command::new("git").current_dir(dir.path()).args(identity).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "-q"]);
    git(&["add", "desired"]);
    git(&["commit", "-q", "-m", "start"]);
    fs::write(dir.path().join("other"), "staged by somebody").unwrap();
    git(&["add", "other"]);
    let mut set = holdfast(dir.path());
    for (key, value) in [("AUTHOR", "t"), ("COMMITTER", "t")] {
        set.env(format!("GIT_{key}_NAME"), value).env(format!("GIT_{key}_EMAIL"), "t@t");
    }
    set.args(["set", "api", "tag=3f2a1b9", "--path", "desired", "--commit"]).assert().success();
    assert_eq!(git(&["log", "-1", "--format=%s"]), "api: tag 1.10 -> 3f2a1b9\n");
    assert_eq!(git(&["show", "--name-only", "--format="]), "desired/api.yaml\n");
    assert_eq!(git(&["status", "--short"]), "A  other\n?? state/\n".replace("?? state/\n", ""));
}

#[test]
fn the_schema_and_the_completions_come_out_whole() {
    let dir = with(GOOD);
    let schema: serde_json::Value = serde_json::from_str(&run(dir.path(), &["schema"]).out).unwrap();
    assert!(schema["properties"]["services"].is_object());
    for shell in ["bash", "zsh", "fish"] {
        let script = run(dir.path(), &["completions", shell]);
        assert!(script.code == 0 && script.out.contains("reconcile"), "{shell}");
    }
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let dir = with(GOOD);
    let command = format!("{} schema | head -c 1; exit ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_holdfast"));
    let output = Command::new("bash").current_dir(dir.path()).args(["-c", &command]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
