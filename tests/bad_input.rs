//! Bad input, each with its message in a snapshot; and torn, deep and huge input.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]

#[path = "bad_input/ecs.rs"]
mod ecs;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast::model::desired::{DesiredState, SourceRevision};
use holdfast::model::names::ControllerId;
use holdfast::source::error::in_words;
use holdfast::source::{self, FileText, HostRules};
use jiff::Timestamp;
use proptest::prelude::*;

fn rules() -> HostRules {
    let controller = ControllerId::new("web-1").expect("a good id");
    HostRules { controller, named: true, mounts: vec![PathBuf::from("/srv")] }
}

fn parse(files: &[(&str, &str)]) -> Result<DesiredState, Vec<source::SourceError>> {
    let files: Vec<FileText> =
        files.iter().map(|(path, text)| FileText { path: PathBuf::from(path), text: (*text).to_owned() }).collect();
    let revision = SourceRevision("r".to_owned());
    source::parse(Path::new("desired-state"), &files, &rules(), &revision, Timestamp::UNIX_EPOCH)
}

/// The message of each case under its name, one snapshot a theme.
fn messages(cases: &[(&str, &str)]) -> String {
    let mut words = String::new();
    for (name, text) in cases {
        let told = match parse(&[("a.yaml", text)]) {
            Ok(state) => panic!("{name} was accepted: {state:?}"),
            Err(errors) => in_words(&errors),
        };
        words.push_str(&format!("## {name}\n{told}\n\n"));
    }
    words
}

/// A good service with `more` under it.
fn with(more: &str) -> String {
    let mut text = String::from("services:\n  api:\n    image: app\n    tag: v1\n");
    for line in more.lines() {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

fn cases(cases: &[(&str, &str)]) -> String {
    let texts: Vec<(&str, String)> = cases.iter().map(|(name, more)| (*name, with(more))).collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    messages(&texts)
}

#[test]
fn what_is_no_desired_state() {
    insta::assert_snapshot!(messages(&[
        ("empty file", ""),
        ("comments alone", "# nothing\n\n# here\n"),
        ("not YAML", "services:\n  api: {image: app, tag: v1\n"),
        ("not YAML: tab", "services:\n\tapi:\n"),
        ("not YAML: two values", "services:\n  api: x: y\n"),
        ("text", "hello"),
        ("list", "- a\n- b\n"),
        ("two documents", "services: {a: {image: app, tag: v1}}\n---\nservices: {}\n"),
        ("no services", "aws: {account: \"123456789012\"}\n"),
        ("services without a value", "services:\n"),
        ("services empty", "services: {}\n"),
        ("services a list", "services: [a]\n"),
        ("service without a value", "services:\n  api:\n"),
        ("service a text", "services:\n  api: app:v1\n"),
        ("service name", "services:\n  Api_1: {image: app, tag: v1}\n"),
        ("unknown anchor", "services: {a: *nope}\n"),
    ]));
}

#[test]
fn unknown_and_repeated_keys() {
    insta::assert_snapshot!(messages(&[
        ("unknown top-level key", "service:\n  api: {image: app, tag: v1}\n"),
        ("unknown key", &with("replica: 2")),
        ("unknown key far from all", &with("banana: 2")),
        ("unknown nested key", &with("docker:\n  prot: 80")),
        ("unknown key in flow", &with("health: {http: {pth: /}}")),
        ("unknown key of an empty section", &with("health: {container: {a: 1}}")),
        ("merge key", "x-a: &a {tag: v1}\nservices:\n  api:\n    <<: *a\n    image: app\n"),
        ("key twice", &with("tag: v2")),
        ("top-level key twice", "services: {a: {image: x, tag: v1}}\nservices: {b: {image: x, tag: v1}}\n"),
        (
            "service twice",
            "services:\n  api: {image: a, tag: v1}\n  web: {image: a, tag: v1}\n  api: {image: b, tag: v2}\n"
        ),
        ("variable twice", &with("docker:\n  env:\n    A: 1\n    A: 2")),
        (
            "both spellings",
            &with("activeColour: blue\nactiveColor: blue\ndocker: {port: 80}\ntraffic: {nginx: {file: /etc/nginx/a}}")
        ),
    ]));
}

#[test]
fn image_and_tag() {
    let service = |image: &str, tag: &str| format!("services:\n  api:\n{image}{tag}");
    let image = "    image: app\n";
    insta::assert_snapshot!(messages(&[
        ("no tag", &service(image, "")),
        ("tag without a value", &service(image, "    tag:\n")),
        ("tag null", &service(image, "    tag: null\n")),
        ("tag empty", &service(image, "    tag: ''\n")),
        ("tag with a space", &service(image, "    tag: v 1\n")),
        ("tag a list", &service(image, "    tag: [v1]\n")),
        ("tag with a bad digest", &service(image, "    tag: v1@sha256:12\n")),
        ("no image", &service("", "    tag: v1\n")),
        ("image with its tag", &service("    image: app:v1\n", "    tag: v1\n")),
        ("image with capitals", &service("    image: App\n", "    tag: v1\n")),
        ("image with a digest", &service("    image: app@sha256:12\n", "    tag: v1\n")),
    ]));
}

#[test]
fn values_of_the_wrong_kind() {
    insta::assert_snapshot!(cases(&[
        ("replicas negative", "replicas: -1"),
        ("replicas too many", "replicas: 10000"),
        ("replicas a word", "replicas: two"),
        ("replicas a fraction", "replicas: 1.5"),
        ("replicas a list", "replicas: [1]"),
        ("replicas without a value", "replicas:"),
        ("colour", "activeColour: red"),
        ("duration without a unit", "rollout: {drain: 30}"),
        ("duration in words", "health: {interval: fast}"),
        ("duration zero", "health: {timeout: 0s}"),
        ("stopTimeout of half a second", "docker: {stopTimeout: 500ms}"),
        ("port", "docker: {port: 70000}"),
        ("ports", "docker: {port: 80, publish: 3049-3040}"),
        ("memory", "docker: {resources: {memory: 512MB}}"),
        ("memory too small", "docker: {resources: {memory: 1MiB}}"),
        ("cpus", "docker: {resources: {cpus: half}}"),
        ("init", "docker: {init: yes}"),
        ("restart", "docker: {restart: sometimes}"),
        ("pull", "docker: {pull: missing}"),
        ("docker a text", "docker: image"),
        ("env a list", "docker: {env: [A=1]}"),
        ("several at once", "replicas: -1\nactiveColour: red\ndocker: {port: 0}\nrollout: {drain: 1d}"),
    ]));
}

#[test]
fn names_and_paths() {
    insta::assert_snapshot!(cases(&[
        ("variable name", "docker: {env: {\"A B\": x}}"),
        ("variable without a value", "docker: {env: {A: }}"),
        ("variable value", "docker: {env: {A: \"\\u0007\"}}"),
        ("envFile outside", "docker: {envFile: ../../etc/passwd}"),
        ("envFile absolute", "docker: {envFile: /etc/passwd}"),
        ("volume without a target", "docker: {volumes: [logs]}"),
        ("volume mode", "docker: {volumes: [\"logs:/a:z\"]}"),
        ("volume name", "docker: {volumes: [\"my logs:/a\"]}"),
        ("volume outside the roots", "docker: {volumes: [\"/etc:/a\"]}"),
        ("volume with dots", "docker: {volumes: [\"/srv/../etc:/a\"]}"),
        ("volume of a look-alike root", "docker: {volumes: [\"/srv2:/a\"]}"),
        ("volume target twice", "docker: {volumes: [\"a:/a\", \"b:/a\"]}"),
        ("nginx file relative", "docker: {port: 80}\ntraffic: {nginx: {file: api.servers}}"),
        ("nginx file injection", "docker: {port: 80}\ntraffic: {nginx: {file: \"/etc/nginx/a;}\"}}"),
        ("nginx without a file", "docker: {port: 80}\ntraffic: {nginx: {}}"),
        ("traffic empty", "docker: {port: 80}\ntraffic: {}"),
        ("http path", "docker: {port: 80}\nhealth: {http: {path: \"http://x/\"}}"),
        ("http host", "docker: {port: 80}\nhealth: {http: {path: /, host: \"a b\"}}"),
        ("http header", "docker: {port: 80}\nhealth: {http: {path: /, headers: {\"X\": \"a\\nb\"}}}"),
        ("http statuses", "docker: {port: 80}\nhealth: {http: {path: /, expect: 200-700}}"),
        ("driver", "docker: {logging: {driver: \"json file\"}}"),
        ("logging without a driver", "docker: {logging: {options: {a: b}}}"),
        ("replaces a path", "docker: {replaces: [/api]}"),
        ("replaces our own", "docker: {replaces: [api-blue-1]}"),
        ("ignore", "drift: {ignore: [colour]}"),
    ]));
}

#[test]
fn what_does_not_go_together() {
    let nginx = "docker: {port: 80}\ntraffic: {nginx: {file: /etc/nginx/a}}\n";
    insta::assert_snapshot!(cases(&[
        (
            "publish too small",
            &format!(
                "replicas: 3\n{}",
                nginx.replace("port: 80", "port: 80, publish: {blue: 3040-3041, green: 3030-3039}")
            )
        ),
        ("publish of one range with colours", &nginx.replace("port: 80", "port: 80, publish: 3040-3049")),
        ("publish of colours when rolling", "docker: {port: 80, publish: {blue: 3040}}"),
        (
            "publish with colours that overlap",
            &nginx.replace("port: 80", "port: 80, publish: {blue: 3040-3049, green: 3045-3059}")
        ),
        ("publish without a port", "docker: {publish: 3040}"),
        ("blueGreen without traffic", "docker: {port: 80}\nrollout: {strategy: blueGreen}"),
        ("traffic without a port", "traffic: {nginx: {file: /etc/nginx/a}}"),
        ("rolling with a colour", &format!("activeColour: blue\nrollout: {{strategy: rolling}}\n{nginx}")),
        ("rolling with bake", "rollout: {bake: 1m}"),
        ("two health checks", "docker: {port: 80}\nhealth: {tcp: {}, http: {path: /}}"),
        ("http without a port", "health: {http: {path: /}}"),
    ]));
}

#[test]
fn not_available_yet() {
    insta::assert_snapshot!(cases(&[
        ("preview", "preview: {tag: x}"),
        ("freeze", "rollout: {freeze: [\"Fri 17:00 - Mon 09:00 Asia/Seoul\"]}"),
        ("secrets", "docker: {secrets: {A: \"arn:aws:secretsmanager:x\"}}"),
        ("files", "docker: {files: {/a: \"arn:aws:secretsmanager:x\"}}"),
        ("network", "docker: {network: web}"),
        ("renamedFrom", "renamedFrom: old"),
        ("grpc", "docker: {port: 80}\nhealth: {grpc: {service: x}}"),
        ("schedule", "schedule: daily"),
    ]));
}

#[test]
fn tags_to_follow() {
    insta::assert_snapshot!(cases(&[
        ("nothing", "follow: {}"),
        ("a text", "follow: \">=1.4 <2\""),
        ("a list", "follow: [1.4]"),
        ("both", "follow: {semver: \"~1.4\", regex: \"v.*\"}"),
        ("order alone", "follow: {order: newest}"),
        ("order with semver", "follow: {semver: \"~1.4\", order: newest}"),
        ("order unknown", "follow: {regex: \"v.*\", order: newst}"),
        ("unknown key", "follow: {semvr: \"~1.4\"}"),
        ("no value", "follow: {semver: }"),
        ("bare version", "follow: {semver: 1.4}"),
        ("range not quoted", "follow:\n  semver: >=1.4 <2"),
        ("range not quoted in braces", "follow: {semver: >=1.4 <2}"),
        ("no range", "follow: {semver: newest}"),
        ("half a range", "follow: {semver: \">=1.4 <\"}"),
        ("hyphen", "follow: {semver: \">=1.2 - <1.4\"}"),
        ("expression open", "follow: {regex: \"main-([0-9]+\"}"),
        ("expression escapes", "follow: {regex: \"a)|(b\"}"),
        ("look-ahead", "follow: {regex: \"(?=a)a\"}"),
        ("bomb", "follow: {regex: \"((a{0,1000}){0,1000}){0,1000}\"}"),
        ("endless", &format!("follow: {{regex: \"{}\"}}", "a".repeat(1000))),
        ("local image", "docker: {pull: never}\nfollow: {semver: \"~1.4\"}"),
        ("onFailure", "rollout: {onFailure: revrt}"),
    ]));
}

#[test]
fn tags_to_follow_that_are_good() {
    for good in [
        "follow: {semver: \">=1.4 <2\"}",
        "follow: {semver: \">=1.4, <2 || ^3\"}",
        "follow: {semver: 1.x}",
        "follow: {regex: 'main-[0-9a-f]+-([0-9]+)'}",
        "follow:\n  regex: main-[0-9a-f]+-([0-9]+)\n  order: newest",
        "rollout: {onFailure: revert}",
    ] {
        parse(&[("a.yaml", &with(good))]).unwrap_or_else(|errors| panic!("{good}: {}", in_words(&errors)));
    }
    // A service that says what it follows takes nothing of the defaults' policy.
    let text = "defaults: {follow: {regex: 'v.*', order: newest}}\nservices:\n  a: {image: app, tag: v1}\n  \
        b: {image: app, tag: v1, follow: {semver: \"*\"}}\n";
    let state = parse(&[("a.yaml", text)]).unwrap();
    let policies: Vec<String> = state.services.values().map(|it| it.follow.as_ref().unwrap().to_string()).collect();
    assert_eq!(policies, ["v.* (newest)", "*"]);
}

#[test]
fn ecs_and_load_balancers() {
    insta::assert_snapshot!(ecs::words());
}

#[test]
fn the_top_of_the_file() {
    let good = "services:\n  api: {image: app, tag: v1}\n";
    insta::assert_snapshot!(messages(&[
        ("account", &format!("aws: {{account: 12345}}\n{good}")),
        ("region", &format!("aws: {{region: seoul}}\n{good}")),
        ("guard of nothing", &format!("aws: {{}}\n{good}")),
        ("acknowledge a word", &format!("acknowledge: [old-api]\n{good}")),
        ("acknowledge what is there", &format!("acknowledge: [remove api]\n{good}")),
        ("controllers empty", &format!("controllers: []\n{good}")),
        ("controller id", &format!("controllers: [Web_1]\n{good}")),
        ("for another controller", &format!("controllers: [web-9]\n{good}")),
        ("wrong defaults", &format!("defaults: {{replicas: many}}\n{good}")),
    ]));
}

#[test]
fn what_two_services_share() {
    let service = |name: &str, more: &str| format!("services:\n  {name}:\n    image: app\n    tag: v1\n{more}");
    let shared = |name: &str, one: &str, two: &str| {
        let (one, two) = (service("api", one), service("web", two));
        match parse(&[("a.yaml", &one), ("b.yaml", &two)]) {
            Ok(_) => panic!("{name} was accepted"),
            Err(errors) => format!("## {name}\n{}\n\n", in_words(&errors)),
        }
    };
    let nginx = "    docker: {port: 80}\n    traffic: {nginx: {file: /etc/nginx/a}}\n";
    let mut words = match parse(&[("a.yaml", &service("api", "")), ("b.yaml", &service("api", ""))]) {
        Ok(_) => panic!("one service in two files was accepted"),
        Err(errors) => format!("## service in two files\n{}\n\n", in_words(&errors)),
    };
    words.push_str(&shared("nginx file", nginx, nginx));
    words.push_str(&shared(
        "ports",
        "    docker: {port: 80, publish: 3040-3049}\n",
        "    docker: {port: 80, publish: 3045}\n",
    ));
    words.push_str(&shared("replaces", "    docker: {replaces: [x]}\n", "    docker: {replaces: [x]}\n"));
    let ecs = "    ecs: {cluster: c, service: s}\n";
    words.push_str(&shared("ECS service", ecs, ecs));
    words.push_str(&shared("listener rule", &ecs::balanced_as("a"), &ecs::balanced_as("b")));
    words.push_str(&shared("repository to clean up", "    ecr: {keep: 10, soleOwner: true}\n", ""));
    let (one, two) = (service("api", nginx), service("api-blue", ""));
    let names = parse(&[("a.yaml", &one), ("b.yaml", &two)]).expect_err("both would be api-blue-1");
    words.push_str(&format!("## container names\n{}\n\n", in_words(&names)));
    words.push_str(&format!("## no file at all\n{}\n", in_words(&parse(&[]).expect_err("nothing is there"))));
    insta::assert_snapshot!(words);
}

#[test]
fn a_folder_that_is_not_there_or_empty() {
    let dir = tempfile::tempdir().expect("a folder");
    let told = |path: &Path| {
        let errors = source::check(path, &rules()).errors;
        in_words(&errors).replace(&dir.path().display().to_string(), "DIR")
    };
    insta::assert_snapshot!(format!("{}\n{}", told(dir.path()), told(&dir.path().join("nope"))));
}

#[test]
fn a_canary_in_a_secret_place_is_never_repeated() {
    for more in [
        "docker: {env: {A: \"hunter2\\u0007\"}}",
        "health: {http: {path: /, headers: {X: \"hunter2\\n\"}}}",
        "ecs: {cluster: c, service: s, env: {A: \"hunter2\\u0007\"}}",
        "ecs: {cluster: c, service: s, secrets: {A: hunter2}}",
    ] {
        let told = in_words(&parse(&[("a.yaml", &with(more))]).expect_err("it cannot be a value"));
        assert!(!told.contains("hunter2"), "{told}");
    }
}

fn fixtures() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 20, "{} fixtures", files.len());
    files.into_iter().map(|path| (path.clone(), fs::read(path).expect("a fixture"))).collect()
}

fn names(state: &DesiredState) -> BTreeSet<String> {
    state.services.keys().map(ToString::to_string).collect()
}

#[test]
fn every_fixture_is_read_in_full() {
    for (path, bytes) in fixtures() {
        let text = String::from_utf8(bytes).expect("text");
        let state = parse(&[("a.yaml", &text)]).unwrap_or_else(|e| panic!("{}: {}", path.display(), in_words(&e)));
        assert!(!state.services.is_empty() || !state.acknowledged.is_empty(), "{}", path.display());
    }
    for (folder, services) in [("demo", &["hello"][..]), ("examples", &["dangdang-api", "plog-api"])] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("desired-state").join(folder);
        let state = source::read(&folder, &rules()).unwrap_or_else(|e| panic!("{}", in_words(&e)));
        assert_eq!(names(&state), services.iter().map(|name| (*name).to_owned()).collect());
    }
}

#[test]
fn every_prefix_of_a_file_is_rejected_or_names_services_of_the_whole() {
    let mut accepted = 0;
    let mut tried = 0;
    for (path, bytes) in fixtures() {
        let whole = String::from_utf8(bytes.clone()).expect("text");
        let whole = parse(&[("a.yaml", &whole)]).unwrap_or_else(|e| panic!("{}", in_words(&e)));
        for end in 0..bytes.len() {
            // A cut inside a character is no text and is refused before the parser sees it.
            let Ok(prefix) = std::str::from_utf8(&bytes[..end]) else { continue };
            tried += 1;
            let Ok(state) = parse(&[("a.yaml", prefix)]) else { continue };
            accepted += 1;
            let what = format!("{} cut at {end}", path.display());
            let excused = !whole.acknowledged.is_empty() && whole.services.is_empty();
            assert!(!state.services.is_empty() || excused, "{what}: no service is left");
            // A name may be cut too where it is the last thing; a service has a tag behind it, so it is never last.
            assert!(names(&state).is_subset(&names(&whole)), "{what}: {:?}", names(&state));
        }
    }
    println!("{tried} prefixes, {accepted} accepted");
    assert!(tried > 4000 && accepted > 0, "{tried} {accepted}");
}

#[test]
fn bombs_are_refused_fast() {
    let laughs = {
        let mut text = String::from("x-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
        for level in 1..30 {
            let refs = vec![format!("*a{}", level - 1); 9].join(", ");
            text.push_str(&format!("x-{level}: &a{level} [{refs}]\n"));
        }
        text + "services: {a: {image: x, tag: v1, docker: {command: *a29}}}\n"
    };
    let million = 1_000_000;
    let bombs = [
        ("flow lists", "[".repeat(million)),
        ("flow maps", "{a: ".repeat(million / 4)),
        ("flow lists behind quotes", format!("a: x'{}", "[".repeat(million))),
        ("flow lists in a block with a stray quote", format!("a: |\n  '\nb: {}", "[".repeat(million / 2))),
        ("flow lists on lines", "[\n".repeat(million / 2)),
        ("block lists", "- ".repeat(million / 2)),
        ("complex keys", "? ".repeat(million / 2)),
        ("block lists with tabs", "-\t".repeat(million / 2)),
        ("laughs", laughs),
        ("too large", " ".repeat(2 * million)),
        ("one long word", "a".repeat(million)),
        ("many anchors", "&a ".repeat(million / 3)),
        ("many colons", ": ".repeat(million / 2)),
        ("quotes", "\"".repeat(million)),
        ("many services in error", {
            let services = (0..500).map(|n| format!("  s{n}: {{image: App, tag: v 1}}\n"));
            format!("services:\n{}", services.collect::<String>())
        }),
    ];
    for (name, text) in bombs {
        let began = Instant::now();
        let result = parse(&[("a.yaml", &text)]);
        let took = began.elapsed();
        println!("{name}: {took:?}");
        assert!(result.is_err(), "{name} was accepted");
        // Debug builds on a busy machine; the bomb itself would take minutes or all the memory.
        assert!(took < Duration::from_secs(20), "{name} took {took:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Two bytes of a good file are overwritten: no panic, and never an empty state.
    #[test]
    fn a_damaged_file_never_panics(which in 0_usize..24, at in 0.0_f64..1.0, byte in 0_u8..128, other in 0_u8..128) {
        let fixtures = fixtures();
        let mut bytes = fixtures[which % fixtures.len()].1.clone();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
        let index = (at * (bytes.len() - 2) as f64) as usize;
        (bytes[index], bytes[index + 1]) = (byte, other);
        if let Ok(text) = std::str::from_utf8(&bytes)
            && let Ok(state) = parse(&[("a.yaml", text)])
        {
            prop_assert!(!state.services.is_empty() || !state.acknowledged.is_empty());
        }
    }

    /// Any text at all.
    #[test]
    fn any_text_never_panics(text in "[ -~\n\t\u{ac00}]{0,300}") {
        let _ = parse(&[("a.yaml", &format!("services:\n  a:\n{text}"))]).is_ok();
    }
}

#[test]
fn a_pointer_of_git_lfs_is_told_from_a_file() {
    let told = messages(&[("a pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")]);
    assert!(told.contains("it is a Git LFS pointer") && told.contains("hint: commit the file itself"), "{told}");
}
