//! Edits change their target and nothing else.

use super::*;

const FILE: &str = "# top\nservices:\n  # the api\n  hello:\n    image: app   # image\n    tag: v1   # the line CI bumps\n    \
    docker:\n      port: 8080\n      env: {A: '1', B: two}\n  other: {image: x, tag: \"1.10\"}\n";

fn edit(text: &str, service: &str, key: &str, value: &str) -> Result<String, EditError> {
    set(text, service, &[(key.to_owned(), value.to_owned())])
}

#[test]
fn only_the_value_changes() {
    assert_eq!(edit(FILE, "hello", "tag", "v2"), Ok(FILE.replace("tag: v1 ", "tag: v2 ")));
    assert_eq!(edit(FILE, "hello", "tag", "1.10"), Ok(FILE.replace("tag: v1 ", "tag: 1.10 ")));
    assert_eq!(edit(FILE, "other", "tag", "1.20"), Ok(FILE.replace("\"1.10\"", "\"1.20\"")));
    assert_eq!(edit(FILE, "hello", "docker.env.A", "2"), Ok(FILE.replace("A: '1'", "A: '2'")));
    assert_eq!(edit(FILE, "hello", "docker.port", "9090"), Ok(FILE.replace("8080", "9090")));
}

#[test]
fn line_ends_and_a_missing_last_one_are_kept() {
    let windows = FILE.replace('\n', "\r\n");
    assert_eq!(edit(&windows, "hello", "tag", "v2"), Ok(windows.replace("tag: v1 ", "tag: v2 ")));
    let bare = "services:\n  a:\n    image: x\n    tag: v1";
    assert_eq!(edit(bare, "a", "tag", "v2").as_deref(), Ok("services:\n  a:\n    image: x\n    tag: v2"));
}

#[test]
fn what_is_missing_is_added() {
    for (service, key, value) in [
        ("hello", "replicas", "3"),
        ("hello", "docker.pull", "never"),
        ("hello", "docker.env.C.D", "x y"),
        ("hello", "rollout.drain", "5s"),
        ("other", "replicas", "2"),
        ("other", "docker.resources.memory", "64MiB"),
    ] {
        let edited = edit(FILE, service, key, value).unwrap_or_else(|e| unreachable!("{key}: {e}"));
        assert!(edited.contains("# the line CI bumps") && edited.contains("# top"), "{edited}");
        for line in FILE.lines().filter(|line| !line.contains("other:") && !line.contains("env:")) {
            assert!(edited.contains(line), "{key}: {line} is missing in\n{edited}");
        }
    }
}

#[test]
fn an_empty_value_removes_the_key() {
    assert_eq!(edit(FILE, "hello", "docker.port", ""), Ok(FILE.replace("      port: 8080\n", "")));
    let one = "services:\n  a:\n    image: x\n    tag: v1\n    docker:\n      port: 1\n";
    assert_eq!(edit(one, "a", "docker.port", "").as_deref(), Ok("services:\n  a:\n    image: x\n    tag: v1\n"));
    assert!(matches!(edit(FILE, "hello", "replica", ""), Err(EditError::NotThere { .. })));
}

#[test]
fn what_is_unknown_gets_a_hint() {
    let told = |result: Result<String, EditError>| result.unwrap_or_else(|error| error.to_string());
    assert!(told(edit(FILE, "helo", "tag", "v2")).contains("did you mean `hello`?"));
    assert!(told(edit(FILE, "hello", "replica", "2")).contains("did you mean `replicas`?"));
    assert!(told(edit(FILE, "hello", "docker", "2")).contains("is a map or a list"));
    assert!(told(edit(FILE, "hello", "replicas", "1001")).contains("expected a number from 0 to 1000"));
    assert!(told(edit(FILE, "hello", "preview", "x")).contains("not available yet"));
    assert!(matches!(edit(FILE, "hello", "a b", "2"), Err(EditError::NotAKey(_))));
    assert!(matches!(edit(FILE, "hello", "tag", "null").as_deref(), Ok(text) if text.contains("tag: \"null\"")));
}

#[test]
fn an_anchor_used_elsewhere_is_not_changed_behind_the_readers_back() {
    let text = "services:\n  a: {image: x, tag: &t v1}\n  b: {image: y, tag: *t}\n";
    if let Ok(edited) = edit(text, "b", "tag", "v2") {
        assert_eq!(edited, text.replace("*t", "v2"));
    }
    if let Ok(edited) = edit(text, "a", "tag", "v2") {
        unreachable!("changed both:\n{edited}");
    }
}
