//! What the disk does to the mirror and to the record of the last good commit.

use std::fs;
use std::path::{Path, PathBuf};

use holdfast::ports::Source as _;

use crate::bed::{Bed, PATIENCE, Watching, accepted, rejected, tags, unreadable};

/// The packs of a mirror; there is at least one.
fn packs(mirror: &Path) -> Vec<PathBuf> {
    let folder = mirror.join("objects/pack");
    let all = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let packs: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|it| it == "pack")).collect();
    assert!(!packs.is_empty());
    packs
}

fn truncated(file: &Path) {
    let content = fs::read(file).unwrap();
    fs::remove_file(file).unwrap();
    fs::write(file, &content[..content.len() / 2]).unwrap();
}

fn garbage(file: &Path) {
    let mut content = fs::read(file).unwrap();
    let end = content.len() - 20;
    content[12..end].fill(0xa5);
    fs::remove_file(file).unwrap();
    fs::write(file, content).unwrap();
}

fn loose(mirror: &Path, id: &str) -> PathBuf {
    mirror.join("objects").join(&id[..2]).join(&id[2..])
}

type Damage = fn(&Path, &str);

/// Of a mirror whose good commit is the second argument.
const DAMAGES: [(&str, Damage); 21] = [
    ("HEAD is gone", |it, _| fs::remove_file(it.join("HEAD")).unwrap()),
    ("HEAD is empty", |it, _| fs::write(it.join("HEAD"), "").unwrap()),
    ("HEAD is rubbish", |it, _| fs::write(it.join("HEAD"), "\0\0\0").unwrap()),
    ("config is gone", |it, _| fs::remove_file(it.join("config")).unwrap()),
    ("config is rubbish", |it, _| fs::write(it.join("config"), "[[[").unwrap()),
    ("a pack is cut", |it, _| packs(it).iter().for_each(|it| truncated(it))),
    ("a pack is garbage", |it, _| packs(it).iter().for_each(|it| garbage(it))),
    ("a pack is gone", |it, _| packs(it).iter().for_each(|it| fs::remove_file(it).unwrap())),
    ("an index is cut", |it, _| packs(it).iter().for_each(|it| truncated(&it.with_extension("idx")))),
    ("the ref is empty", |it, _| fs::write(it.join("refs/holdfast/head"), "").unwrap()),
    ("both refs are empty", |it, _| {
        fs::write(it.join("refs/holdfast/head"), "").unwrap();
        fs::write(it.join("refs/holdfast/good"), "\0\0").unwrap();
    }),
    ("the ref names what is not there", |it, _| {
        fs::write(it.join("refs/holdfast/head"), format!("{}\n", "1".repeat(40))).unwrap();
    }),
    ("the refs are a file", |it, _| {
        fs::remove_dir_all(it.join("refs/holdfast")).unwrap();
        fs::write(it.join("refs/holdfast"), "x").unwrap();
    }),
    ("objects/ is gone", |it, _| fs::remove_dir_all(it.join("objects")).unwrap()),
    ("shallow is rubbish", |it, _| fs::write(it.join("shallow"), "rubbish\n").unwrap()),
    ("shallow is gone", |it, _| fs::remove_file(it.join("shallow")).unwrap()),
    ("shallow is empty", |it, _| fs::write(it.join("shallow"), "").unwrap()),
    ("packed-refs is rubbish", |it, _| fs::write(it.join("packed-refs"), "\0\0\0\n").unwrap()),
    ("the commit is cut", |it, id| {
        // It is loose or in a pack.
        if loose(it, id).exists() { truncated(&loose(it, id)) } else { packs(it).iter().for_each(|it| truncated(it)) }
    }),
    ("the mirror is a file", |it, _| {
        fs::remove_dir_all(it).unwrap();
        fs::write(it, "x").unwrap();
    }),
    ("locks are left", |it, _| {
        for lock in ["HEAD.lock", "config.lock", "shallow.lock", "packed-refs.lock", "refs/holdfast/head.lock"] {
            fs::write(it.join(lock), "").unwrap();
        }
        fs::write(it.join("objects/pack/tmp_pack_x"), "half").unwrap();
        fs::write(it.join("objects/pack/.tmp-7-pack-x.pack"), "half").unwrap();
        fs::write(it.join("gc.pid"), "1 elsewhere").unwrap();
    }),
];

/// A bed with two good commits and a mirror that keeps them in packs.
async fn with_a_mirror() -> (Bed, String) {
    let bed = Bed::new();
    for number in 0..120 {
        bed.write(&format!("elsewhere/{number}"), format!("{number}\n"));
    }
    bed.publish("1");
    accepted(bed.source().read().await);
    for number in 0..120 {
        bed.write(&format!("elsewhere/{number}"), format!("{number} again\n"));
    }
    let good = bed.publish("2");
    let mut watching = Watching::new(&bed.source());
    watching.until_accepted(&good).await;
    // Behind the report it is kept from clean-ups.
    let kept = bed.mirror().join("refs/holdfast/good");
    let give_up = std::time::Instant::now() + PATIENCE;
    while !fs::read_to_string(&kept).is_ok_and(|it| it.trim() == good) {
        assert!(std::time::Instant::now() < give_up, "it is not kept");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    (bed, good)
}

fn copied(from: &Path, to: &Path) {
    let _ = fs::remove_file(to);
    let _ = fs::remove_dir_all(to);
    let args = ["-a", &from.display().to_string(), &to.display().to_string()].map(str::to_owned);
    assert!(std::process::Command::new("cp").args(args).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_mirror_is_made_anew_and_meanwhile_the_record_is_in_force() {
    let (bed, good) = with_a_mirror().await;
    let (state, whole, mirror) = (bed.path("state"), bed.path("whole"), bed.mirror());
    let next = bed.commit_tag("3");
    copied(&state, &whole);
    for (name, damage) in DAMAGES {
        println!("{name}");
        copied(&whole, &state);
        damage(&mirror, &good);
        // Nobody answers: the record alone.
        bed.assert_in_force_alone(&good).await;
        // Nothing new, then something new.
        bed.git(&["push", "--quiet", "--force", "origin", &format!("{good}:refs/heads/main")]);
        let source = bed.source();
        assert_eq!(accepted(source.read().await).revision.0, good, "{name}");
        bed.push();
        let state = accepted(source.read().await);
        assert_eq!((state.revision.0.as_str(), tags(&state).as_str()), (next.as_str(), "api 3"), "{name}");
        let left = fs::read_dir(mirror.join("objects/pack")).unwrap().flatten();
        let is_half = |name: &str| name.starts_with("tmp_") || name.starts_with(".tmp-");
        assert!(left.map(|it| it.file_name()).all(|it| !is_half(&it.to_string_lossy())), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_mirror_does_not_let_a_rewind_through() {
    let (bed, good) = with_a_mirror().await;
    let (state, whole, mirror) = (bed.path("state"), bed.path("whole"), bed.mirror());
    copied(&state, &whole);
    bed.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    bed.publish("rewritten");
    for (name, damage) in DAMAGES {
        copied(&whole, &state);
        damage(&mirror, &good);
        let why = rejected(bed.source().read().await);
        assert!(why.contains("rewound or rewritten"), "{name}: {why}");
        bed.assert_in_force_alone(&good).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_record_is_rebuilt_from_the_mirror() {
    let (bed, good) = with_a_mirror().await;
    let text = fs::read(bed.record()).unwrap();
    let rewritten = {
        bed.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
        bed.publish("rewritten")
    };
    for damaged in [&text[..text.len() / 2], b"", b"\0\0\0\0", b"{\"version\":99}"] {
        fs::write(bed.record(), damaged).unwrap();
        // With nobody to ask, the files are in the mirror.
        bed.assert_in_force_alone(&good).await;
        // And what it was still guards against a rewind.
        fs::write(bed.record(), damaged).unwrap();
        let source = bed.source();
        let why = rejected(source.read().await);
        assert!(why.contains("rewound or rewritten"), "{why}");
    }
    let source = bed.source();
    rejected(source.read().await);
    source.accept_rewind(&rewritten, "ann").await.unwrap();
    assert_eq!(accepted(source.read().await).revision.0, rewritten);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_another_branch_or_folder_is_no_measure() {
    let (mut bed, good) = with_a_mirror().await;
    bed.git(&["checkout", "--quiet", "--orphan", "env/blue"]);
    bed.settings.branch = "env/blue".to_owned();
    let other = bed.publish("blue");
    // Nobody answers: nothing of the other branch is taken for this one's.
    assert_eq!(bed.in_force_alone().await, None);
    assert_eq!(accepted(bed.source().read().await).revision.0, other);
    bed.assert_in_force_alone(&other).await;
    assert_ne!(good, other);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_place_for_its_record_no_commit_is_taken() {
    let (bed, good) = with_a_mirror().await;
    let source = bed.source();
    accepted(source.read().await);
    // A folder in the way of the new record: what is not kept is not enforced.
    let beside = bed.record().with_extension("new");
    fs::create_dir(&beside).unwrap();
    let next = bed.publish("3");
    let why = unreadable(source.read().await);
    assert!(why.contains("cannot be kept") && why.contains("last-good"), "{why}");
    bed.assert_in_force_alone(&good).await;
    fs::remove_dir(&beside).unwrap();
    // No space is left.
    std::os::unix::fs::symlink("/dev/full", &beside).unwrap();
    let why = unreadable(source.read().await);
    assert!(why.contains("cannot be kept") && why.contains("No space left"), "{why}");
    bed.assert_in_force_alone(&good).await;
    fs::remove_file(&beside).unwrap();
    assert_eq!(accepted(source.read().await).revision.0, next);
    bed.assert_in_force_alone(&next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_state_folder_nothing_is_taken_and_it_is_said() {
    let (bed, id) = Bed::published();
    fs::write(bed.path("state"), "in the way").unwrap();
    let source = bed.source();
    let why = unreadable(source.read().await);
    assert!(why.contains("state/git"), "{why}");
    fs::remove_file(bed.path("state")).unwrap();
    assert_eq!(accepted(source.read().await).revision.0, id);
}
