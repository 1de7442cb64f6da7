//! Tests of the store: durable, and clear about what is lost, damaged, unwritable or full.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::*;
use crate::model::event::EventKind;
use crate::model::memory::Paused;
use crate::model::release::ReleaseHash;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

fn pause(by: &str) -> MemoryChange {
    MemoryChange::Pause(Paused { by: by.to_owned(), at: at(0) })
}

fn event(message: &str, service: Option<&str>) -> Event {
    Event {
        id: 0,
        at: at(0),
        service: service.map(name),
        kind: EventKind::Step,
        message: message.to_owned(),
        because: None,
    }
}

fn entry(second: i64, outcome: &str) -> HistoryEntry {
    HistoryEntry {
        started_at: at(second),
        ended_at: None,
        tag: "1".to_owned(),
        release: "v1:00".to_owned(),
        digest: "sha256:00".to_owned(),
        revision: "r".to_owned(),
        commit: None,
        why: "the file asks for it".to_owned(),
        outcome: outcome.to_owned(),
    }
}

fn raw(dir: &Path, sql: &str) {
    Connection::open(dir.join("holdfast.db")).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn memory_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path()).unwrap();
    let told = store.remember(&name("api"), &pause("ann")).await.unwrap();
    let told_again = store.remember(&name("api"), &pause("ann")).await.unwrap();
    store.remember(&name("worker"), &MemoryChange::Promote(ReleaseHash("v1:1".to_owned()))).await.unwrap();
    drop(store);
    let loaded = Sqlite::open(dir.path()).unwrap().load().await.unwrap();
    assert_eq!(told, told_again);
    assert_eq!(loaded[&name("api")], told);
    assert_eq!(loaded[&name("worker")].promoted, Some(ReleaseHash("v1:1".to_owned())));
}

#[tokio::test]
async fn forgetting_leaves_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path()).unwrap();
    store.remember(&name("api"), &pause("ann")).await.unwrap();
    store.history_put(&name("api"), entry(1, "serving")).await.unwrap();
    assert_eq!(store.remember(&name("api"), &MemoryChange::Forget).await.unwrap(), Memory::default());
    assert!(store.load().await.unwrap().is_empty());
    assert_eq!(store.history(&name("api"), 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_reader_sees_what_a_running_controller_wrote_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let reader = Sqlite::read_only(dir.path()).unwrap();
    assert!(reader.load().await.unwrap().is_empty());
    assert!(reader.events(None, 0, 5).await.unwrap().is_empty());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    let writer = Sqlite::open(dir.path()).unwrap();
    let reader = Sqlite::read_only(dir.path()).unwrap();
    writer.remember(&name("api"), &pause("ann")).await.unwrap();
    assert_eq!(reader.load().await.unwrap().len(), 1);
    assert!(reader.remember(&name("api"), &pause("bob")).await.is_err());
    assert_eq!(writer.load().await.unwrap()[&name("api")].paused.as_ref().unwrap().by, "ann");
}

#[tokio::test]
async fn a_reader_after_a_controller_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("100 %?#");
    let writer = Sqlite::open(&state).unwrap();
    writer.remember(&name("api"), &pause("ann")).await.unwrap();
    drop(writer);
    let files = || std::fs::read_dir(&state).unwrap().count();
    assert_eq!(files(), 1);
    let reader = Sqlite::read_only(&state).unwrap();
    assert_eq!(reader.load().await.unwrap().len(), 1);
    assert_eq!(files(), 1);
}

#[tokio::test]
async fn nobody_else_may_read_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&dir.path().join("state")).unwrap();
    store.remember(&name("api"), &pause("ann")).await.unwrap();
    let mut seen = 0;
    for file in std::fs::read_dir(dir.path().join("state")).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
        seen += 1;
    }
    assert_eq!(seen, 3, "database, log, index");
    assert_eq!(std::fs::metadata(dir.path().join("state")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_damaged_row_names_its_service_and_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path()).unwrap();
    store.remember(&name("api"), &pause("ann")).await.unwrap();
    store.remember(&name("worker"), &pause("bob")).await.unwrap();
    raw(dir.path(), "UPDATE memory SET document = '{\"paused\": 7}' WHERE service = 'api'");
    assert_eq!(store.load().await.unwrap().keys().collect::<Vec<_>>(), [&name("worker")]);
    let unreadable = store.unreadable().await.unwrap();
    assert_eq!(unreadable.keys().collect::<Vec<_>>(), ["api"]);
    assert!(unreadable["api"].contains("`api`") && unreadable["api"].contains("hint: "), "{unreadable:?}");
    // It is not overwritten by the next change, but a removal may end it.
    let why = store.remember(&name("api"), &MemoryChange::Resume).await.unwrap_err();
    assert!(why.contains("`api`"), "{why}");
    store.remember(&name("api"), &MemoryChange::Forget).await.unwrap();
    assert!(store.unreadable().await.unwrap().is_empty());
}

#[tokio::test]
async fn unknown_fields_are_tolerated() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path()).unwrap();
    raw(dir.path(), "INSERT INTO memory VALUES ('api', '{\"removal_approved\": true, \"fromTomorrow\": [1]}')");
    assert!(store.load().await.unwrap()[&name("api")].removal_approved);
}

#[tokio::test]
async fn a_damaged_file_is_said_to_be_damaged() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("holdfast.db"), "this is not a database at all, it is text".repeat(40)).unwrap();
    for why in [Sqlite::open(dir.path()).unwrap_err(), Sqlite::read_only(dir.path()).unwrap_err()] {
        assert!(why.contains("holdfast.db is damaged") && why.contains("hint: "), "{why}");
    }
}

#[tokio::test]
async fn a_file_cut_in_the_middle_is_said_to_be_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path()).unwrap();
    raw(
        dir.path(),
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) \
         INSERT INTO memory SELECT 'api-' || i, '{\"images\": [' || printf('%200s', '') || ']}' FROM n",
    );
    assert_eq!(store.load().await.unwrap().len(), 400);
    drop(store);
    let path = dir.path().join("holdfast.db");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let why = Sqlite::open(dir.path()).unwrap_err();
    assert!(why.contains("is damaged") && why.contains("hint: "), "{why}");
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Sqlite::open(dir.path()).unwrap());
    raw(dir.path(), "UPDATE schema_version SET version = 2");
    for why in [Sqlite::open(dir.path()).unwrap_err(), Sqlite::read_only(dir.path()).unwrap_err()] {
        assert!(why.contains("newer holdfast (tables of version 2") && why.contains("hint: "), "{why}");
    }
}

#[test]
fn an_unwritable_folder_is_named_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    // A file where the folder should be: root may write into a folder of mode 0500, so that would show nothing.
    let why = Sqlite::open(&dir.path().join("file/state")).unwrap_err();
    assert!(why.contains("file/state") && why.contains("`stateDir`"), "{why}");
    std::fs::create_dir_all(dir.path().join("taken/holdfast.db")).unwrap();
    let why = Sqlite::open(&dir.path().join("taken")).unwrap_err();
    assert!(why.contains("taken") && why.contains("`stateDir`"), "{why}");
}

#[tokio::test]
async fn a_full_disk_is_named_and_nothing_is_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path()).unwrap();
    store.remember(&name("api"), &pause("ann")).await.unwrap();
    {
        let connection = store.file.connection.as_ref().unwrap().lock().unwrap();
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0)).unwrap();
    }
    let why = store.remember(&name("worker"), &pause(&"x".repeat(100_000))).await.unwrap_err();
    assert!(why.contains("is full") && why.contains("hint: "), "{why}");
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.keys().collect::<Vec<_>>(), [&name("api")]);
    // What fits is still written.
    store.remember(&name("api"), &MemoryChange::Resume).await.unwrap();
}

#[tokio::test]
async fn events_rise_and_the_newest_ten_thousand_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path()).unwrap();
    raw(
        dir.path(),
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10005) \
         INSERT INTO events (service, document) SELECT 'old', '{}' FROM n",
    );
    let first = store.record(event("first", Some("api"))).await.unwrap();
    let second = store.record(event("second", None)).await.unwrap();
    assert_eq!((first.id, second.id), (10_006, 10_007));
    let connection = Connection::open(dir.path().join("holdfast.db")).unwrap();
    let (count, oldest): (i64, i64) =
        connection.query_row("SELECT count(*), min(id) FROM events", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!((count, oldest), (10_000, 8));
    // Documents that cannot be read hide no other event.
    let messages = |events: Vec<Event>| events.into_iter().map(|event| event.message).collect::<Vec<_>>();
    assert_eq!(messages(store.events(None, 0, 10).await.unwrap()), ["first", "second"]);
    assert_eq!(messages(store.events(None, first.id, 10).await.unwrap()), ["second"]);
    assert_eq!(messages(store.events(Some(&name("api")), 0, 10).await.unwrap()), ["first"]);
}

#[tokio::test]
async fn history_is_updated_by_start_and_release_and_comes_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path()).unwrap();
    store.history_put(&name("api"), entry(1, "under way")).await.unwrap();
    store.history_put(&name("api"), entry(2, "under way")).await.unwrap();
    store.history_put(&name("api"), entry(1, "replaced")).await.unwrap();
    store.history_put(&name("worker"), entry(3, "serving")).await.unwrap();
    let outcomes: Vec<_> = store.history(&name("api"), 10).await.unwrap().into_iter().map(|e| e.outcome).collect();
    assert_eq!(outcomes, ["under way", "replaced"]);
    assert_eq!(store.history(&name("api"), 1).await.unwrap()[0].started_at, at(2));
}

#[tokio::test]
async fn history_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path()).unwrap();
    raw(
        dir.path(),
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600) \
         INSERT INTO history SELECT 'api', i, 'r', '{}' FROM n",
    );
    store.history_put(&name("api"), entry(2, "serving")).await.unwrap();
    let connection = Connection::open(dir.path().join("holdfast.db")).unwrap();
    let count: i64 = connection.query_row("SELECT count(*) FROM history", [], |row| row.get(0)).unwrap();
    assert_eq!(count, HISTORY_KEPT);
}

#[tokio::test]
async fn what_a_rollout_remembers_does_not_hang_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path()).unwrap();
    let median = async |change: &dyn Fn(i64) -> MemoryChange| {
        let mut times = Vec::new();
        for n in 0..100 {
            let before = Instant::now();
            store.remember(&name("api"), &change(n)).await.unwrap();
            times.push(before.elapsed());
        }
        times.sort();
        (times[50], times[95])
    };
    let light = median(&|n| MemoryChange::Loss(at(n))).await;
    // How fast a disk says that it wrote is the disk's own business: shown, not required.
    let heavy = median(&|n| pause(&format!("ann {n}"))).await;
    println!("remember, median and 95th: {light:?}; through to the disk: {heavy:?}");
    assert!(light.0 < Duration::from_secs(5), "{light:?}");
}
