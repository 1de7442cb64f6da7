//! What a commit may lack or hold, and what is said then: the last good one stays in force.

use std::os::unix::fs::symlink;

use holdfast::ports::Source as _;

use crate::bed::{Bed, accepted, rejected, service, tags};
use crate::outage::noise;

const MIB: usize = 1 << 20;

/// Pushes what `change` makes of the checkout and tells why it is refused; the good one stays, and a repair is taken.
async fn refused(change: impl FnOnce(&Bed)) -> String {
    let (bed, good) = Bed::published();
    let source = bed.source();
    accepted(source.read().await);
    change(&bed);
    let bad = bed.publish_all("a change");
    let why = rejected(source.read().await);
    bed.assert_in_force_alone(&good).await;
    // Said by a fresh start as well.
    assert_eq!(rejected(bed.source().read().await), why);
    bed.git(&["revert", "--no-edit", &bad]);
    bed.push();
    let state = accepted(source.read().await);
    assert_eq!((state.revision.0.as_str(), tags(&state).as_str()), (bed.head().as_str(), "api 1"));
    assert_eq!(state.includes, [bad]);
    bed.plain(&why)
}

fn remove(bed: &Bed, path: &str) {
    bed.git(&["rm", "-r", "--quiet", path]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_gone_or_something_else_is_refused_with_its_reason() {
    let mut said = String::new();
    let mut tell = |name: &str, why: String| said += &format!("{name}: {why}\n");
    tell(
        "removed",
        refused(|bed| {
            bed.write("README.md", "x");
            remove(bed, "prod");
        })
        .await,
    );
    tell(
        "a file",
        refused(|bed| {
            remove(bed, "prod");
            bed.write("prod", "services: {}\n");
        })
        .await,
    );
    tell(
        "a link",
        refused(|bed| {
            bed.git(&["mv", "prod", "elsewhere"]);
            symlink("elsewhere", bed.checkout().join("prod")).unwrap();
        })
        .await,
    );
    tell(
        "a submodule",
        refused(|bed| {
            remove(bed, "prod");
            let head = bed.head();
            bed.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},prod")]);
            // `add --all` would take it out again.
            std::fs::create_dir_all(bed.checkout().join("prod")).unwrap();
            bed.write(".gitmodules", "[submodule \"prod\"]\n\tpath = prod\n\turl = ../evil\n");
        })
        .await,
    );
    tell(
        "without a file",
        refused(|bed| {
            remove(bed, "prod");
            bed.write("prod/.gitkeep", "");
            bed.write("prod/README.md", "x");
        })
        .await,
    );
    insta::assert_snapshot!(said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_be_read_or_says_nothing_is_refused_whole() {
    let mut said = String::new();
    let mut tell = |name: &str, why: String| said += &format!("{name}: {why}\n");
    tell("no YAML", refused(|bed| bed.write("prod/api.yaml", "services: [\n")).await);
    tell("an unknown key", refused(|bed| bed.write("prod/api.yaml", "services: {api: {imagee: x}}\n")).await);
    tell("empty", refused(|bed| bed.write("prod/api.yaml", "")).await);
    tell("no text", refused(|bed| bed.write("prod/api.yaml", [0xff, 0xfe, 0x00])).await);
    tell("no services", refused(|bed| bed.write("prod/api.yaml", "services: {}\n")).await);
    tell("twice", refused(|bed| bed.write("prod/b.yaml", service("api", "2"))).await);
    tell("half a merge", refused(|bed| bed.write("prod/api.yaml", "<<<<<<< HEAD\nservices: {}\n=======\n")).await);
    tell("a link", refused(|bed| symlink("/etc/passwd", bed.checkout().join("prod/b.yaml")).unwrap()).await);
    tell("a folder", refused(|bed| bed.write("prod/b.yaml/c.yaml", service("b", "1"))).await);
    tell(
        "a pointer of Git LFS",
        refused(|bed| {
            bed.write("prod/api.yaml", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n");
        })
        .await,
    );
    insta::assert_snapshot!(said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_is_gone_removes_nothing_and_may_come_back() {
    let (bed, good) = Bed::published();
    let source = bed.source();
    accepted(source.read().await);
    bed.at_server(&["update-ref", "-d", "refs/heads/main"]);
    insta::assert_snapshot!(rejected(source.read().await));
    bed.assert_in_force_alone(&good).await;
    bed.push();
    assert_eq!(accepted(source.read().await).revision.0, good);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_file_is_never_read_and_one_elsewhere_does_not_matter() {
    let (bed, good) = Bed::published();
    let source = bed.source();
    accepted(source.read().await);
    // 200 MiB of one letter: a small pack, and much memory for whoever unpacks it.
    bed.write("prod/huge.yaml", vec![b'#'; 200 * MIB]);
    bed.publish_all("a huge file");
    let why = rejected(source.read().await);
    assert!(why.contains("prod/huge.yaml") && why.contains("larger than 1 MiB"), "{why}");
    bed.assert_in_force_alone(&good).await;
    bed.git(&["mv", "prod/huge.yaml", "huge.yaml"]);
    bed.write("prod/huge.json", vec![b'#'; 2 * MIB]);
    let moved = bed.publish_all("it is elsewhere");
    assert_eq!(accepted(source.read().await).revision.0, moved);
    assert!(std::fs::metadata(bed.record()).unwrap().len() < 4000);
}

/// Commits these files on top of the branch, without a checkout.
fn import(bed: &Bed, subject: &str, files: impl Iterator<Item = (String, String)>) -> String {
    let mut stream = format!(
        "commit refs/heads/main\ncommitter Ann <ann@acme.example> 1700000000 +0000\ndata {}\n{subject}\nfrom \
         refs/heads/main^0\n",
        subject.len()
    );
    for (path, text) in files {
        stream += &format!("M 100644 inline {path}\ndata {}\n{text}\n", text.len());
    }
    bed.run(&["-C", &bed.server().display().to_string(), "fast-import", "--quiet"], stream.as_bytes());
    bed.at_server(&["rev-parse", "refs/heads/main"])
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_files_elsewhere_do_not_matter_and_too_many_here_are_refused() {
    let (bed, _) = Bed::published();
    let elsewhere = |number| (format!("elsewhere/{}/{number}.yaml", number % 100), format!("a: {number}\n"));
    let id = import(&bed, "10,000 files", (0..10_000).map(elsewhere));
    let source = bed.source();
    let state = accepted(source.read().await);
    assert_eq!((state.revision.0.as_str(), tags(&state).as_str()), (id.as_str(), "api 1"));
    let here = |number| (format!("prod/{number}.yaml"), service(&format!("s{number}"), "1"));
    import(&bed, "too many", (0..1001).map(here));
    let why = rejected(source.read().await);
    assert!(why.contains("1002 files") && why.contains("more than a desired state has"), "{why}");
    bed.assert_in_force_alone(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_files_are_refused_before_they_are_read() {
    let (bed, good) = Bed::published();
    let source = bed.source();
    accepted(source.read().await);
    for number in 0..40 {
        bed.write(&format!("prod/{number}.json"), noise(MIB - 1));
    }
    bed.publish_all("40 MiB");
    let why = rejected(source.read().await);
    assert!(why.contains("40 MiB"), "{why}");
    bed.assert_in_force_alone(&good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_one_file_and_a_task_definition_beside_it_are_read() {
    let mut bed = Bed::new();
    bed.settings.path = String::new();
    bed.write("api.yaml", service("api", "1"));
    bed.write("web.yml", service("web", "2"));
    bed.write("README.md", "services: {}\n");
    bed.write(".hidden.yaml", "]");
    bed.write("sub/other.yaml", "]");
    bed.publish_all("both");
    assert_eq!(tags(&accepted(bed.source().read().await)), "api 1, web 2");
    bed.settings.path = "web.yml".to_owned();
    assert_eq!(tags(&accepted(bed.source().read().await)), "web 2");
    bed.settings.path = "README.md".to_owned();
    println!("{}", rejected(bed.source().read().await));
    let task = r#"{"family":"plog","containerDefinitions":[{"name":"plog","image":"x"}]}"#;
    bed.write("ecs/task.json", task);
    bed.write(
        "ecs/plog.yaml",
        "services:\n  plog:\n    image: registry.example/plog\n    tag: \"1\"\n    ecs:\n      cluster: c\n      service: \
         plog\n      container: plog\n      taskDefinition: task.json\n",
    );
    bed.publish_all("ecs");
    for path in ["ecs", "ecs/plog.yaml"] {
        path.clone_into(&mut bed.settings.path);
        let state = accepted(bed.source().read().await);
        assert_eq!(tags(&state), "plog 1");
        let after = bed.in_force_alone().await.expect("it is kept with its task definition");
        assert_eq!(after.services, state.services);
    }
    bed.git(&["rm", "--quiet", "ecs/task.json"]);
    bed.publish_all("without it");
    let why = rejected(bed.source().read().await);
    assert!(why.contains("task.json"), "{why}");
}
