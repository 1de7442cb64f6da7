//! Every way an editor or a deploy writes a file is seen.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::model::names::ControllerId;
use crate::ports::WallClock;

fn file(tag: &str) -> String {
    format!("services:\n  a:\n    image: app\n    tag: {tag}\n")
}

fn folder(path: &Path) -> Folder {
    let controller = ControllerId::new("default").unwrap_or_else(|e| unreachable!("{e}"));
    Folder::new(path.to_owned(), HostRules { controller, named: true, mounts: Vec::new() }, Arc::new(WallClock))
}

/// The tag of the one service, or the words of the rejection.
fn told(update: &SourceUpdate) -> String {
    match update {
        SourceUpdate::Accepted(state) => {
            state.services.values().map(|service| service.tag.to_string()).collect::<Vec<_>>().join(",")
        }
        SourceUpdate::Rejected { why, .. } | SourceUpdate::Unreadable(why) => why.clone(),
        SourceUpdate::Unchanged => "unchanged".to_owned(),
    }
}

/// A watch whose poll never comes: what is seen was seen by an event.
fn watched(path: &Path) -> Receiver<SourceUpdate> {
    let (sender, receiver) = mpsc::channel(16);
    let folder = Folder { poll: Duration::from_secs(3600), ..folder(path) };
    tokio::spawn(async move { folder.watch(sender).await });
    receiver
}

async fn next(updates: &mut Receiver<SourceUpdate>) -> String {
    match tokio::time::timeout(Duration::from_secs(20), updates.recv()).await {
        Ok(Some(update)) => told(&update),
        other => unreachable!("no update: {other:?}"),
    }
}

/// The first update that says `wanted`; ones before it may be rejections of a half-written file.
async fn until(updates: &mut Receiver<SourceUpdate>, wanted: &str) {
    let began = Instant::now();
    loop {
        let update = next(updates).await;
        if update == wanted {
            println!("{wanted}: seen after {:?}", began.elapsed());
            return;
        }
        assert!(update.contains("empty") || update.contains("no such"), "{update}");
    }
}

#[tokio::test]
async fn only_plain_yaml_children_are_read() -> io::Result<()> {
    let dir = TempDir::new()?;
    fs::write(dir.path().join("a.yaml"), file("v1"))?;
    fs::write(dir.path().join(".a.yaml"), "not ours")?;
    fs::write(dir.path().join("a.yaml~"), "not ours")?;
    fs::write(dir.path().join("notes.txt"), "not ours")?;
    fs::create_dir(dir.path().join("sub"))?;
    fs::write(dir.path().join("sub/b.yaml"), "not ours")?;
    assert_eq!(told(&folder(dir.path()).read().await), "v1");
    assert_eq!(told(&folder(&dir.path().join("a.yaml")).read().await), "v1");
    Ok(())
}

#[tokio::test]
async fn nothing_outside_the_folder_is_read() -> io::Result<()> {
    let dir = TempDir::new()?;
    let root = dir.path().join("root");
    fs::create_dir(&root)?;
    fs::write(dir.path().join("outside.yaml"), file("v1"))?;
    symlink(dir.path().join("outside.yaml"), root.join("a.yaml"))?;
    assert!(told(&folder(&root).read().await).contains("a link that leaves the folder"));
    fs::remove_file(root.join("a.yaml"))?;
    symlink("../outside.yaml", root.join("a.yaml"))?;
    assert!(told(&folder(&root).read().await).contains("a link that leaves the folder"));
    fs::remove_file(root.join("a.yaml"))?;
    fs::create_dir(root.join("a.yaml"))?;
    assert!(told(&folder(&root).read().await).contains("not a regular file"));
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_or_empty_is_rejected() -> io::Result<()> {
    let dir = TempDir::new()?;
    assert!(told(&folder(&dir.path().join("no")).read().await).contains("no such folder"));
    assert!(told(&folder(dir.path()).read().await).contains("no desired-state file"));
    fs::write(dir.path().join("a.yaml"), "")?;
    assert!(told(&folder(dir.path()).read().await).contains("the file is empty"));
    fs::write(dir.path().join("a.yaml"), [0xff, 0xfe])?;
    assert!(told(&folder(dir.path()).read().await).contains("not UTF-8"));
    fs::write(dir.path().join("a.yaml"), "x".repeat(2 << 20))?;
    assert!(told(&folder(dir.path()).read().await).contains("larger than 1 MiB"));
    Ok(())
}

#[tokio::test]
async fn every_way_to_save_is_seen_by_event() -> io::Result<()> {
    let dir = TempDir::new()?;
    let root = dir.path().join("root");
    fs::create_dir(&root)?;
    let path = root.join("a.yaml");
    fs::write(&path, file("v1"))?;
    let mut updates = watched(&root);
    until(&mut updates, "v1").await;
    // Truncate and write.
    fs::write(&path, file("v2"))?;
    until(&mut updates, "v2").await;
    // Rename over, twice: the second one must not be lost.
    for tag in ["v3", "v4"] {
        fs::write(root.join(".a.yaml.tmp"), file(tag))?;
        fs::rename(root.join(".a.yaml.tmp"), &path)?;
        until(&mut updates, tag).await;
    }
    // A broken edit, and back: the same revision again is told after another one.
    fs::write(&path, "services:\n  a: [")?;
    assert!(next(&mut updates).await.contains("not YAML"));
    fs::write(&path, file("v4"))?;
    until(&mut updates, "v4").await;
    // A new file with a second service.
    fs::write(root.join("b.yml"), file("w1").replace("  a:", "  b:"))?;
    until(&mut updates, "v4,w1").await;
    Ok(())
}

#[tokio::test]
async fn the_swap_of_a_config_map_is_seen_by_event() -> io::Result<()> {
    let dir = TempDir::new()?;
    let root = dir.path().join("root");
    for (version, tag) in [("..1", "v1"), ("..2", "v2")] {
        fs::create_dir_all(root.join(version))?;
        fs::write(root.join(version).join("a.yaml"), file(tag))?;
    }
    symlink("..1", root.join("..data"))?;
    symlink("..data/a.yaml", root.join("a.yaml"))?;
    let mut updates = watched(&root);
    until(&mut updates, "v1").await;
    symlink("..2", root.join("..data_tmp"))?;
    fs::rename(root.join("..data_tmp"), root.join("..data"))?;
    until(&mut updates, "v2").await;
    Ok(())
}

#[tokio::test]
async fn a_folder_that_goes_and_comes_or_is_a_swapped_link_is_seen_by_event() -> io::Result<()> {
    let dir = TempDir::new()?;
    let root = dir.path().join("root");
    fs::create_dir(&root)?;
    fs::write(root.join("a.yaml"), file("v1"))?;
    let mut updates = watched(&root);
    until(&mut updates, "v1").await;
    fs::rename(&root, dir.path().join("old"))?;
    assert!(next(&mut updates).await.contains("no such folder"));
    fs::create_dir(dir.path().join("new"))?;
    fs::write(dir.path().join("new/a.yaml"), file("v2"))?;
    fs::rename(dir.path().join("new"), &root)?;
    until(&mut updates, "v2").await;
    // The new folder is watched too.
    fs::write(root.join("a.yaml"), file("v3"))?;
    until(&mut updates, "v3").await;
    // And a link in its place.
    fs::rename(&root, dir.path().join("older"))?;
    assert!(next(&mut updates).await.contains("no such folder"));
    symlink("old", &root)?;
    until(&mut updates, "v1").await;
    fs::write(dir.path().join("old/a.yaml"), file("v5"))?;
    until(&mut updates, "v5").await;
    Ok(())
}

#[tokio::test]
async fn the_same_state_is_not_told_twice_and_our_own_reads_do_not_wake_us() -> io::Result<()> {
    let dir = TempDir::new()?;
    let path = dir.path().join("a.yaml");
    fs::write(&path, file("v1"))?;
    let mut updates = watched(dir.path());
    until(&mut updates, "v1").await;
    // Touched without a change, then changed: the next word is about the change.
    fs::write(dir.path().join("notes.txt"), "x")?;
    fs::write(dir.path().join("b"), "x")?;
    fs::rename(dir.path().join("b"), dir.path().join("c"))?;
    assert!(tokio::time::timeout(Duration::from_millis(300), updates.recv()).await.is_err());
    fs::write(&path, file("v2"))?;
    until(&mut updates, "v2").await;
    Ok(())
}

#[tokio::test]
async fn without_events_the_poll_sees_it() -> io::Result<()> {
    let dir = TempDir::new()?;
    fs::write(dir.path().join("a.yaml"), file("v1"))?;
    let (sender, mut updates) = mpsc::channel(16);
    let folder = folder(dir.path()).polling_only();
    tokio::spawn(async move { folder.watch(sender).await });
    until(&mut updates, "v1").await;
    fs::write(dir.path().join("a.yaml"), file("v2"))?;
    until(&mut updates, "v2").await;
    Ok(())
}
