//! The controller on fake edges and a toy planner: what holds whatever is planned.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, helpers outside `#[test]` functions too"
)]

mod fakes;

use std::sync::Arc;
use std::time::Duration;

use fakes::*;
use holdfast::controller::{CommandErrorKind, Controller, OnceEnd, RunError, Verb};
use holdfast::model::desired::{Promote, SourceRevision};
use holdfast::model::event::EventKind;
use holdfast::model::status::Phase;
use holdfast::ports::{SourceUpdate, StepError, Wakes};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

fn rejected(why: &str) -> SourceUpdate {
    SourceUpdate::Rejected { revision: Some(SourceRevision("bad".into())), commit: None, why: why.into() }
}

#[tokio::test(start_paused = true)]
async fn an_edit_becomes_containers_and_the_revision_that_serves() {
    let it = start(state("r1", [service("api", "one", 2)], &[]));
    it.settled("api").await;
    assert_eq!(it.world.names(), ["api-1", "api-2"]);
    let status = it.service("api").unwrap();
    assert_eq!((status.revision.as_deref(), status.serving.unwrap().tag.as_str()), (Some("r1"), "one"));
    assert_eq!((status.colours["only"].running, status.colours["only"].healthy), (2, 2));
    assert_eq!(it.handle.ready(), Ok(()));

    it.edit(state("r2", [service("api", "two", 1)], &[]));
    it.until("r2 serves", |it| it.service("api").unwrap().revision.as_deref() == Some("r2")).await;
    assert_eq!(it.world.names(), ["api-1"]);
    let outcomes: Vec<_> = it.world.history.lock().unwrap()[&name("api")]
        .iter()
        .map(|entry| (entry.tag.clone(), entry.outcome.clone()))
        .collect();
    assert_eq!(outcomes, [("two".into(), "serving".into()), ("one".into(), "replaced".into())]);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_revision_accepted_during_a_look_does_not_serve_when_the_look_ends() {
    let it = start(state("r1", [service("api", "one", 1)], &[]));
    it.settled("api").await;
    let (look, step) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    *it.world.look_gate.lock().unwrap() = Some(Arc::clone(&look));
    *it.world.gate.lock().unwrap() = Some(Arc::clone(&step));
    it.wakes.wake(Some(&name("api")), "docker: start api-1");
    it.world.looking.notified().await;
    it.edit(state("r2", [service("api", "two", 1)], &[]));
    it.until("r2 in force", |it| it.handle.status().source.revision.as_deref() == Some("r2")).await;
    // The look of r1 ends and finds nothing to do; the turn of r2 stands before its first step.
    *it.world.look_gate.lock().unwrap() = None;
    look.notify_one();
    it.world.entered.notified().await;
    let status = it.service("api").unwrap();
    assert_eq!((status.revision.as_deref(), status.as_of.as_deref()), (Some("r1"), Some("r1")));
    *it.world.gate.lock().unwrap() = None;
    step.notify_one();
    it.until("r2 serves", |it| it.service("api").unwrap().revision.as_deref() == Some("r2")).await;
    assert_eq!(it.service("api").unwrap().as_of.as_deref(), Some("r2"));
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_settled_service_takes_no_step_and_says_nothing_over_100_resyncs() {
    let it = start(state("r1", [service("api", "one", 2)], &[]));
    it.settled("api").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (mutations, said, looks) = (it.world.mutations(), it.world.messages(), it.world.looks("api"));
    let mut changes = it.handle.changes();
    changes.borrow_and_update();
    tokio::time::sleep(RESYNC * 100).await;
    assert_eq!(it.world.mutations(), mutations);
    assert_eq!(it.world.messages(), said);
    assert!(!changes.has_changed().unwrap(), "the status moved");
    let looked = it.world.looks("api") - looks;
    assert!((99..=101).contains(&looked), "looked {looked} times in 100 resyncs");
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_edit_asks_the_registry_afresh_and_the_sweep_does_too() {
    let it = start(state("r1", [service("api", "one", 1)], &[]));
    it.settled("api").await;
    let first = it.world.resolves.lock().unwrap()[0];
    assert_eq!(first, Duration::ZERO);
    tokio::time::sleep(RESYNC * 2).await;
    let last = *it.world.resolves.lock().unwrap().last().unwrap();
    assert!(Duration::ZERO < last && last < RESYNC, "{last:?}");
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn drift_is_repaired_when_the_platform_wakes_the_service() {
    let it = start(state("r1", [service("api", "one", 2)], &[]));
    it.settled("api").await;
    it.world.lose("api-1");
    it.wakes.wake(Some(&name("api")), "docker: die api-1");
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(it.world.names(), ["api-2", "api-1"]);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_look_step_or_plan_panics_never_stops_another() {
    let world = Arc::new(World::default());
    world.panicking_looks.lock().unwrap().insert(name("blind"));
    world.panics.lock().unwrap().insert("clumsy-1".into());
    let services =
        [service("blind", "one", 1), service("clumsy", "one", 1), service("mad", "boom", 1), service("well", "one", 2)];
    let it = start_with(world, state("r1", services, &[]), false);
    it.settled("well").await;
    it.until("all looked at", |it| it.handle.ready().is_ok()).await;
    for (service, said) in [("blind", "blew up"), ("clumsy", "blew up"), ("mad", "the planner blew up")] {
        let status = it.service(service).unwrap();
        assert_eq!(status.holds[0].reason, "StepFailed", "{service}");
        assert!(status.holds[0].message.contains(said), "{}", status.holds[0].message);
    }
    // It goes on by itself once the fault is gone.
    it.world.panicking_looks.lock().unwrap().clear();
    it.world.panics.lock().unwrap().clear();
    it.settled("blind").await;
    it.settled("clumsy").await;
    it.edit(state("r2", [service("mad", "two", 1), service("well", "two", 1)], &["blind", "clumsy"]));
    it.settled("mad").await;
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rejected_edit_keeps_the_last_good_state_and_deletes_nothing() {
    let it = start(state("r1", [service("api", "one", 2)], &[]));
    it.settled("api").await;
    it.edit(rejected("prod.yaml:3:5: expected a number"));
    it.until("the reason shows", |it| it.handle.status().source.error.is_some()).await;
    // Still enforced: drift is repaired as before.
    it.world.lose("api-2");
    tokio::time::sleep(RESYNC * 2).await;
    assert_eq!(it.world.names(), ["api-1", "api-2"]);
    assert_eq!(it.handle.status().source.revision.as_deref(), Some("r1"));
    let said = it.world.kinds().iter().filter(|kind| **kind == EventKind::Rejected).count();
    assert_eq!(said, 1);
    it.edit(state("r1", [service("api", "one", 2)], &[]));
    it.until("the reason goes", |it| it.handle.status().source.error.is_none()).await;
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_good_state_nothing_is_ready_and_nothing_is_removed() {
    let world = Arc::new(World::default());
    let before = start_with(Arc::clone(&world), state("r1", [service("api", "one", 1)], &[]), false);
    before.settled("api").await;
    before.stop().await;
    let mutations = world.mutations();
    let it = start_with(Arc::clone(&world), rejected("the folder is empty"), false);
    tokio::time::sleep(RESYNC * 10).await;
    assert_eq!(world.mutations(), mutations);
    assert!(it.handle.ready().unwrap_err().contains("the folder is empty"));
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_leaves_the_file_stays_until_it_is_acknowledged() {
    let it = start(state("r1", [service("api", "one", 1), service("old", "one", 1)], &[]));
    it.settled("old").await;
    it.edit(state("r2", [service("api", "one", 1)], &[]));
    it.until("held", |it| it.holds("old") == ["RemovalNotAcknowledged"]).await;
    tokio::time::sleep(RESYNC * 5).await;
    assert_eq!(it.world.names(), ["api-1", "old-1"]);
    it.edit(state("r3", [service("api", "one", 1)], &["old"]));
    it.until("gone", |it| it.service("old").is_none()).await;
    assert_eq!(it.world.names(), ["api-1"]);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_person_may_approve_a_removal_but_not_of_what_is_in_the_file() {
    let it = start(state("r1", [service("old", "one", 1)], &[]));
    it.settled("old").await;
    let refused = it.handle.command("old", Verb::Remove, "ann", None).await.unwrap_err();
    assert_eq!(refused.kind, CommandErrorKind::Refused);
    it.edit(state("r2", [], &[]));
    it.until("held", |it| it.holds("old") == ["RemovalNotAcknowledged"]).await;
    it.handle.command("old", Verb::Remove, "ann", None).await.unwrap();
    it.until("gone", |it| it.service("old").is_none()).await;
    assert!(it.world.names().is_empty());
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_approval_is_withdrawn_when_the_service_comes_back() {
    let it = start(state("r1", [service("old", "one", 1)], &[]));
    it.settled("old").await;
    it.edit(state("r2", [], &[]));
    it.until("held", |it| it.holds("old") == ["RemovalNotAcknowledged"]).await;
    // Approved while the engine refuses to remove it; then the service returns to the file, and leaves again.
    it.world.failures.lock().unwrap().insert("old-1".into(), StepError::transient("the engine is busy"));
    it.handle.command("old", Verb::Remove, "ann", None).await.unwrap();
    it.until("failing", |it| it.holds("old") == ["StepFailed"]).await;
    it.edit(state("r3", [service("old", "one", 1)], &[]));
    it.settled("old").await;
    it.world.failures.lock().unwrap().clear();
    it.edit(state("r4", [], &[]));
    it.until("held again", |it| it.holds("old") == ["RemovalNotAcknowledged"]).await;
    tokio::time::sleep(RESYNC * 3).await;
    assert_eq!(it.world.names(), ["old-1"]);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn containers_of_ours_that_nobody_remembers_are_held_and_not_removed() {
    let world = Arc::new(World::default());
    let first = start_with(Arc::clone(&world), state("r1", [service("lost", "one", 1)], &[]), false);
    first.settled("lost").await;
    first.stop().await;
    world.memory.lock().unwrap().clear();
    *world.unowned.lock().unwrap() = true;
    let it = start_with(Arc::clone(&world), state("r2", [service("api", "one", 1)], &[]), false);
    it.settled("api").await;
    assert!(it.service("lost").is_none(), "an unreadable platform names nothing");
    *world.unowned.lock().unwrap() = false;
    it.until("found", |it| it.holds("lost") == ["RemovalNotAcknowledged"]).await;
    assert!(world.names().contains(&"lost-1".to_owned()));
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_step_is_tried_again_with_backoff_and_wakes_do_not_hurry_it() {
    let world = Arc::new(World::default());
    world.failures.lock().unwrap().insert("api-1".into(), StepError::refused("no such image"));
    let it = start_with(world, state("r1", [service("api", "one", 1), service("other", "one", 1)], &[]), false);
    it.until("failing", |it| it.holds("api") == ["StepFailed"]).await;
    it.settled("other").await;
    let tried = it.world.mutations();
    for _ in 0..50 {
        it.wakes.wake(Some(&name("api")), "docker: create api-1");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(it.world.mutations(), tried, "a wake is no reason to retry early");
    let since = it.service("api").unwrap().holds[0].since;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let tried = it.world.mutations() - tried;
    assert!((5..400).contains(&tried), "{tried} attempts in an hour");
    assert_eq!(it.service("api").unwrap().holds[0].since, since, "it is the same hold all along");
    // An edit is a reason.
    it.world.failures.lock().unwrap().clear();
    it.edit(state("r2", [service("api", "two", 1), service("other", "one", 1)], &[]));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(it.phase("api"), Some(Phase::Settled));
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stale_plan_is_made_again_at_once_but_not_for_ever() {
    let world = Arc::new(World::default());
    world.failures.lock().unwrap().insert("api-1".into(), StepError::stale("it is gone"));
    let it = start_with(world, state("r1", [service("api", "one", 1)], &[]), false);
    it.until("backing off", |it| it.holds("api") == ["StepFailed"]).await;
    assert_eq!(it.world.mutations(), 6, "five at once, then the one that backs off");
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_breaks_an_invariant_is_not_carried_out() {
    let it = start(state("r1", [service("api", "illegal", 1)], &[]));
    it.until("refused", |it| it.holds("api") == ["PlanRefused"]).await;
    tokio::time::sleep(RESYNC * 3).await;
    assert_eq!(it.world.mutations(), 0);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_detect_steps_are_counted_and_not_taken() {
    let it = start_with(Arc::new(World::default()), state("r1", [service("api", "one", 3)], &[]), true);
    it.until("held", |it| it.holds("api") == ["DetectOnly"]).await;
    assert!(it.service("api").unwrap().holds[0].message.contains("3 steps"));
    assert_eq!((it.world.mutations(), it.world.memory.lock().unwrap().len()), (0, 0));
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_waits_for_the_stage_and_begins_no_other() {
    let world = Arc::new(World::default());
    let gate = Arc::new(Notify::new());
    *world.gate.lock().unwrap() = Some(Arc::clone(&gate));
    let it = start_with(Arc::clone(&world), state("r1", [service("api", "one", 1)], &[]), false);
    world.entered.notified().await;
    it.shutdown.cancel();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!it.task.is_finished(), "a step was left half done");
    gate.notify_one();
    it.task.await.unwrap();
    assert_eq!(world.names(), ["api-1"]);
    let memory = world.memory.lock().unwrap().get(&name("api")).cloned().unwrap_or_default();
    assert!(memory.committed.is_none(), "the next turn began after the stop");
    assert_eq!(world.kinds().last(), Some(&EventKind::Controller), "the last events are stored");
}

#[tokio::test(start_paused = true)]
async fn an_edit_in_the_middle_of_a_turn_ends_it_before_the_next_stage() {
    let world = Arc::new(World::default());
    let it = start_with(Arc::clone(&world), state("r1", [service("api", "one", 1)], &[]), false);
    it.settled("api").await;
    let gate = Arc::new(Notify::new());
    *world.gate.lock().unwrap() = Some(Arc::clone(&gate));
    // Two stages: the old container goes, the new one comes.
    it.edit(state("r2", [service("api", "two", 1)], &[]));
    world.entered.notified().await;
    it.edit(state("r3", [service("api", "three", 1)], &[]));
    tokio::time::sleep(Duration::from_millis(5)).await;
    *world.gate.lock().unwrap() = None;
    gate.notify_one();
    it.until("r3 serves", |it| it.service("api").unwrap().revision.as_deref() == Some("r3")).await;
    assert!(!world.messages().iter().any(|said| said.contains("of two")), "{:#?}", world.messages());
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pause_survives_a_restart_and_resume_ends_it() {
    let world = Arc::new(World::default());
    let it = start_with(Arc::clone(&world), state("r1", [service("api", "one", 1)], &[]), false);
    it.settled("api").await;
    it.handle.command("api", Verb::Pause, "ann", None).await.unwrap();
    it.until("paused", |it| it.phase("api") == Some(Phase::Paused)).await;
    it.stop().await;
    world.lose("api-1");
    let it = start_with(Arc::clone(&world), state("r1", [service("api", "one", 1)], &[]), false);
    tokio::time::sleep(RESYNC * 3).await;
    assert_eq!((it.phase("api"), world.names().len()), (Some(Phase::Paused), 0));
    it.handle.command("api", Verb::Resume, "ann", None).await.unwrap();
    it.settled("api").await;
    assert_eq!(world.names(), ["api-1"]);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_memory_nobody_understands_stops_its_service_alone_until_it_is_mended() {
    let world = Arc::new(World::default());
    world.unreadable.lock().unwrap().insert("api".into(), "row 7 is damaged".into());
    let it =
        start_with(Arc::clone(&world), state("r1", [service("api", "one", 1), service("web", "one", 1)], &[]), false);
    it.settled("web").await;
    it.until("it is held", |it| it.service("api").unwrap().holds.iter().any(|hold| hold.reason == "MemoryUnreadable"))
        .await;
    assert_eq!(it.world.names(), ["web-1"]);
    it.world.unreadable.lock().unwrap().clear();
    it.settled("api").await;
    assert_eq!(it.world.names(), ["api-1", "web-1"]);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn rollback_goes_to_the_previous_release_and_retry_comes_back() {
    let it = start(state("r1", [service("api", "one", 1)], &[]));
    it.settled("api").await;
    let first = it.handle.command("api", Verb::Rollback, "ann", None).await.unwrap_err();
    assert_eq!(first.kind, CommandErrorKind::Refused);
    it.edit(state("r2", [service("api", "two", 1)], &[]));
    it.until("two serves", |it| it.service("api").unwrap().revision.as_deref() == Some("r2")).await;
    let said = it.handle.command("api", Verb::Rollback, "ann", None).await.unwrap();
    assert_eq!(said, "api: back from two to one");
    let serves = |it: &Running, tag: &str| it.service("api").unwrap().serving.unwrap().tag == tag;
    it.until("one serves", |it| serves(it, "one")).await;
    let status = it.service("api").unwrap();
    assert_eq!((status.rolled_back_from.as_deref(), status.pin.as_deref()), (Some("two"), Some("one")));
    assert_eq!(status.quarantined.len(), 1);
    let again = it.handle.command("api", Verb::Rollback, "ann", None).await.unwrap_err();
    assert_eq!(again.kind, CommandErrorKind::Refused);
    it.handle.command("api", Verb::Retry, "ann", None).await.unwrap();
    it.until("two serves again", |it| serves(it, "two")).await;
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn promote_releases_exactly_what_waits() {
    let mut manual = service("api", "one", 1);
    manual.rollout.promote = Promote::Manual;
    let it = start(state("r1", [manual], &[]));
    it.until("waiting", |it| it.holds("api") == ["AwaitingPromotion"]).await;
    let other = it.handle.command("api", Verb::Promote, "ann", Some("two")).await.unwrap_err();
    assert_eq!(other.kind, CommandErrorKind::Refused);
    it.handle.command("api", Verb::Promote, "ann", Some("one")).await.unwrap();
    it.settled("api").await;
    let nothing = it.handle.command("api", Verb::Promote, "ann", None).await.unwrap_err();
    assert_eq!(nothing.kind, CommandErrorKind::Refused);
    let unknown = it.handle.command("apl", Verb::Pause, "ann", None).await.unwrap_err();
    assert_eq!(unknown.kind, CommandErrorKind::NotFound);
    assert!(unknown.hint.contains("`api`"), "{}", unknown.hint);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quarantine_quotes_the_last_words_of_the_failed_replica() {
    let world = Arc::new(World::default());
    world.unhealthy.lock().unwrap().insert("api-1".into());
    let it = start_with(world, state("r1", [service("api", "one", 1)], &[]), false);
    it.until("failed", |it| it.phase("api") == Some(Phase::Failed)).await;
    let said = it.world.messages();
    assert!(said.iter().any(|line| line.contains("quarantine") && line.contains("panic: no database")), "{said:#?}");
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn once_ends_settled_held_or_rejected() {
    for (tag, end) in [("one", Ok(OnceEnd::Settled)), ("illegal", Ok(OnceEnd::Unsettled { rolled_back: false }))] {
        let world = Arc::new(World::default());
        let (_edits, source) = source(vec![state("r1", [service("api", tag, 2), service("other", "one", 1)], &[])]);
        let controller = Controller::new(edges(&world), source, options(false));
        let once = controller.run_once(Wakes::channel(), CancellationToken::new());
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), once).await.unwrap(), end, "{tag}");
        assert!(world.names().contains(&"other-1".to_owned()));
    }
    let (_edits, source) = source(vec![rejected("no file")]);
    let controller = Controller::new(edges(&Arc::default()), source, options(false));
    let once = controller.run_once(Wakes::channel(), CancellationToken::new()).await;
    assert_eq!(once, Err(RunError::Rejected("no file".into())));
}

#[tokio::test(start_paused = true)]
async fn metrics_tell_phases_steps_and_the_revision() {
    let it = start(state("r1", [service("api", "one", 2)], &[]));
    assert!(it.handle.status().services.is_empty(), "a status before the first look is no panic");
    it.settled("api").await;
    let text = it.handle.metrics();
    for line in [
        "holdfast_services{phase=\"Settled\"} 1",
        "holdfast_steps_total{kind=\"run\",result=\"changed\"} 2",
        "holdfast_source_revision{revision=\"r1\"} 1",
        "holdfast_source_trouble{kind=\"rejected\"} 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    it.edit(rejected("no"));
    it.until("the edit to be rejected", |it| it.handle.status().source.error.is_some()).await;
    assert!(it.handle.metrics().contains("holdfast_source_trouble{kind=\"rejected\"} 1"));
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_no_rejection_and_is_told_once() {
    let it = start(state("r1", [service("api", "one", 1)], &[]));
    it.settled("api").await;
    it.edit(rejected("no such key"));
    it.until("rejected", |it| it.handle.status().source.rejected.is_some()).await;
    for _ in 0..3 {
        it.edit(SourceUpdate::Unreadable("no route".into()));
        it.until("unreadable", |it| it.handle.status().source.unreadable).await;
        let source = it.handle.status().source;
        assert_eq!(source.rejected.as_deref(), Some("bad"), "whoever waits for it still learns that");
        assert!(source.error.is_some_and(|why| why.contains("no such key") && why.contains("no route")));
        it.edit(rejected("no such key"));
        it.until("read again", |it| !it.handle.status().source.unreadable).await;
    }
    let told = it.world.messages().iter().filter(|line| line.contains("rejected, the last good one stays")).count();
    assert_eq!(told, 1);
    it.edit(state("r2", [service("api", "one", 1)], &[]));
    it.until("accepted", |it| it.handle.status().source.error.is_none()).await;
    it.stop().await;
}
