//! The same by the program itself: settings, start, end.

use std::time::Duration;

use serde_json::json;

use super::TOKEN;
use super::host::{Host, within};

#[test]
fn a_repository_that_cannot_be_derived_is_said_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let settings = "git:\n  url: file:///nowhere/x.git\n  allow: [file]\n  status: {host: github, tokenFile: token}\n";
    std::fs::write(dir.path().join("holdfast.yaml"), settings).unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.current_dir(dir.path()).env_clear().timeout(Duration::from_secs(60));
    let output = command
        .args(["run", "--config", "holdfast.yaml", "--state-dir", "state", "--listen", "none"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in
        ["could not tell the host of the commits", "does not say what", "hint: write it as `git.status.repository`"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn the_program_tells_of_a_commit_it_rejects() {
    let host = Host::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (work, path) = (dir.path().join("work"), std::env::var_os("PATH").unwrap());
    std::fs::create_dir_all(&work).unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    std::fs::write(work.join("api.yaml"), "services: {api: {imagee: x}}\n").unwrap();
    std::fs::write(dir.path().join("token"), TOKEN).unwrap();
    let git = |arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.current_dir(&work).env_clear().env("PATH", &path).env("HOME", dir.path());
        let output =
            git.args(["-c", "user.name=Ann", "-c", "user.email=ann@localhost"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "a mistake"]);
    let (id, url) = (git(&["rev-parse", "HEAD"]), format!("file://{}", work.display()));
    let status = format!("{{host: github, api: \"{}\", repository: a/b, tokenFile: token}}", host.address);
    // One controller of a name and an engine: another test may be one on the same engine.
    let controller = format!("told-{}", std::process::id());
    let settings = format!("controller: {controller}\ngit:\n  url: {url}\n  allow: [file]\n  status: {status}\n");
    std::fs::write(dir.path().join("holdfast.yaml"), settings).unwrap();
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_holdfast"));
    program.current_dir(dir.path()).env_clear().env("PATH", &path).env("HOME", dir.path()).kill_on_drop(true);
    program.args(["run", "--config", "holdfast.yaml", "--state-dir", "state", "--listen", "none"]);
    let program = program.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    host.until("it is told", |it| !it.asked().is_empty()).await;
    let asked = host.asked().remove(0);
    assert_eq!(asked.path, format!("/repos/a/b/statuses/{id}"));
    assert_eq!(
        (&asked.body["state"], &asked.body["context"]),
        (&json!("failure"), &json!(format!("holdfast/{controller}")))
    );
    let description = asked.body["description"].as_str().unwrap();
    assert!(description.starts_with("rejected: api.yaml:1:"), "{description}");
    let pid = rustix::process::Pid::from_raw(program.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = within(20, program.wait_with_output()).await.expect("it stops").unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !text.contains(TOKEN), "{text}");
}
