//! What is no damage keeps its mirror: a fetch that fails, a commit that cannot be read, a clean-up that hangs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use holdfast::git::{Mirror, Remote};
use holdfast::ports::{Source as _, SourceUpdate};

use crate::bed::{Bed, Watching, accepted, rejected, service, unreadable};
use crate::program::Program;

/// A file in the mirror that is gone when it was made anew.
struct Mark(PathBuf);

impl Mark {
    fn new(bed: &Bed) -> Self {
        let mark = Self(bed.mirror().join("mark"));
        fs::write(&mark.0, "").unwrap();
        mark
    }

    fn assert_there(&self, what: &str) {
        assert!(self.0.exists(), "{what}: the mirror was made anew");
    }
}

fn good_ref(bed: &Bed) -> String {
    fs::read_to_string(bed.mirror().join("refs/holdfast/good")).unwrap_or_default().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_the_other_side_fails_is_an_outage_and_costs_no_mirror() {
    let (bed, first) = Bed::published();
    let source = bed.source();
    accepted(source.read().await);
    let mark = Mark::new(&bed);
    // The server has lost a file of the new commit: it answers the question, and its pack breaks off.
    let second = bed.publish("2");
    let blob = bed.git(&["rev-parse", "HEAD:prod/api.yaml"]);
    let (lost, away) = (bed.server().join("objects").join(&blob[..2]).join(&blob[2..]), bed.path("away"));
    fs::rename(&lost, &away).unwrap();
    for _ in 0..2 {
        unreadable(source.read().await);
        mark.assert_there("a broken pack");
    }
    bed.assert_in_force_alone(&first).await;
    fs::rename(&away, &lost).unwrap();
    assert_eq!(accepted(source.read().await).revision.0, second);
    // The branch goes away between question and fetch.
    bed.at_server(&["update-ref", "-d", "refs/heads/main"]);
    let settings = &bed.settings;
    let remote = Remote { url: settings.url.clone(), branch: "main".to_owned(), access: settings.access.clone() };
    let error = Mirror::new(&bed.state(), remote).fetch(&second).await.unwrap_err();
    assert!(error.said.contains("couldn't find remote ref"), "{error}");
    mark.assert_there("a branch that is gone");
}

/// Puts a commit object with these bytes onto the branch, past every check of a push.
fn publish_raw(bed: &Bed, raw: &[u8]) -> String {
    let id = bed.git_reading(&["hash-object", "-w", "-t", "commit", "--literally", "--stdin"], raw);
    bed.git(&["push", "--quiet", "--force", "origin", &format!("{id}:refs/heads/main")]);
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_cannot_be_read_is_refused_and_costs_no_mirror() {
    let (bed, good) = Bed::published();
    let source = bed.source();
    accepted(source.read().await);
    let mark = Mark::new(&bed);
    let tree = bed.git(&["rev-parse", "HEAD^{tree}"]);
    let who = "Ann <ann@acme.example> 1700000000 +0000";
    let head = format!("tree {tree}\nparent {good}\n");
    let large = format!("{head}author {who}\ncommitter {who}\n\n{}", "m".repeat(70 << 20));
    let nobody = format!("{head}committer {who}\n\nm\n");
    let names = {
        let blob = bed.git_reading(&["hash-object", "-w", "--stdin"], b"x");
        let blob: Vec<u8> = (0..20).map(|at| u8::from_str_radix(&blob[2 * at..2 * at + 2], 16).unwrap()).collect();
        let entry = |number: u32| [format!("100644 {number:010}\0").as_bytes(), &blob].concat();
        let folder: Vec<u8> = (0..450_000).flat_map(entry).collect();
        let folder = bed.git_reading(&["hash-object", "-w", "-t", "tree", "--stdin"], &folder);
        bed.git_reading(&["mktree"], format!("040000 tree {folder}\tprod\n").as_bytes())
    };
    let names = format!("tree {names}\nparent {good}\nauthor {who}\ncommitter {who}\n\nnames\n");
    for (what, raw, said) in [
        ("a message of 70 MiB", large, "its message and headers have 70 MiB"),
        ("no author", nobody, "it has no author line"),
        ("names without end", names, "the list of its names has 16 MiB"),
    ] {
        let id = publish_raw(&bed, raw.as_bytes());
        for _ in 0..2 {
            let update = source.read().await;
            let SourceUpdate::Rejected { revision, why, .. } = &update else { panic!("{what}: {update:?}") };
            assert!(why.contains(said), "{what}: {why}");
            assert_eq!(revision.as_ref().map(|it| it.0.as_str()), Some(id.as_str()), "{what}");
            mark.assert_there(what);
        }
        bed.assert_in_force_alone(&good).await;
    }
    // On top of the last one.
    bed.git(&["reset", "--quiet", "--soft", "origin/main"]);
    bed.git(&["read-tree", "--empty"]);
    let next = bed.publish("2");
    assert_eq!(accepted(source.read().await).revision.0, next);
    mark.assert_there("the next commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_made_anew_knows_the_good_commit_again_at_once() {
    let (bed, _) = Bed::published();
    let good = bed.publish("2");
    let source = bed.source();
    accepted(source.read().await);
    assert_eq!(good_ref(&bed), good);
    bed.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    bed.publish("rewritten");
    bed.write("prod/api.yaml", service("api", "3"));
    fs::remove_dir_all(bed.mirror()).unwrap();
    assert!(rejected(source.read().await).contains("rewound"));
    assert_ne!(good_ref(&bed), good, "it is not known there");
    // The good commit comes back as part of a history that is refused for something else.
    bed.git(&["reset", "--quiet", "--hard", &good]);
    bed.write("prod/api.yaml", "]");
    bed.publish_all("broken");
    fs::remove_dir_all(bed.mirror()).unwrap();
    assert!(!rejected(source.read().await).contains("rewound"));
    assert_eq!(good_ref(&bed), good);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_now_is_not_lost() {
    let (bed, _) = Bed::published();
    let good = bed.publish("2");
    accepted(bed.source().read().await);
    bed.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    let rewritten = bed.publish("rewritten");
    let source = bed.source();
    rejected(source.read().await);
    source.accept_rewind(&rewritten[..10], "ann").await.unwrap();
    let kept = fs::read(bed.record()).unwrap();
    // Reading it fails, as with EIO or EMFILE.
    let away = bed.path("away.json");
    fs::rename(bed.record(), &away).unwrap();
    fs::create_dir(bed.record()).unwrap();
    let source = bed.source();
    let mut watching = Watching::new(&source);
    let why = unreadable(watching.next().await);
    assert!(why.contains("last-good.json"), "{why}");
    fs::remove_dir(bed.record()).unwrap();
    fs::rename(&away, bed.record()).unwrap();
    assert_eq!(fs::read(bed.record()).unwrap(), kept);
    // It is read again, and what it says is in force; the rewind that was accepted is.
    source.look_again();
    assert_eq!(accepted(watching.next().await).revision.0, good);
    assert_eq!(accepted(watching.next().await).revision.0, rewritten);
}

#[test]
fn a_clean_up_that_hangs_or_fails_is_in_nobodys_way() {
    for (what, does) in [("hangs", "exec sleep 300"), ("fails", "exit 1")] {
        let (bed, first) = Bed::published();
        let (bin, count) = (bed.path("bin"), bed.path("count"));
        fs::create_dir(&bin).unwrap();
        let path = std::env::var("PATH").unwrap();
        let script = format!(
            "#!/bin/sh\nPATH={path}\nfor arg; do [ \"$arg\" = gc ] && {{ echo gc >> {}; {does}; }}; done\nexec git \"$@\"\n",
            count.display()
        );
        fs::write(bin.join("git"), script).unwrap();
        fs::set_permissions(bin.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
        let mut program = Program::new(&bed);
        program.env("PATH", format!("{}:{path}", bin.display()));
        program.start();
        program.until_in_force(&first);
        program.until("the clean-up", |_| count.exists());
        let began = std::time::Instant::now();
        for tag in ["2", "3", "4"] {
            let id = bed.publish(tag);
            program.until_in_force(&id);
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(40), "{what}: {:?}", began.elapsed());
        assert_eq!(fs::read_to_string(&count).unwrap(), "gc\n", "{what}");
    }
}
