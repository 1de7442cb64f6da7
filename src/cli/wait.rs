//! `holdfast wait`: for CI, until a source revision serves.

use std::path::Path;
use std::time::Duration;

use clap::Args;

use crate::model::event::HistoryEntry;
use crate::model::names::ServiceName;
use crate::model::status::{Phase, ServiceStatus, SourceStatus, Status};

use super::client::Client;
use super::failure::{Exit, Failure};
use super::stream::Patience;
use super::{Surroundings, duration, out, status};

/// Arguments of `wait`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0 it serves, 3 it was rejected, rolled back or quarantined, 4 the time is over, 1 on an error.

Examples:
  holdfast wait dangdang-api --source-revision \"$(git rev-parse HEAD)\"
  holdfast wait dangdang-api --source-revision 3f2a1b9 --timeout 5m"
)]
pub(crate) struct WaitArgs {
    /// Which service.
    #[arg(value_parser = ServiceName::new)]
    service: ServiceName,
    /// A commit id or content digest (see `holdfast status -o json`); a prefix of 7 characters will do.
    #[arg(long, value_name = "R", value_parser = revision)]
    source_revision: String,
    /// Give up after this long.
    #[arg(long, default_value = "10m", value_parser = duration)]
    timeout: Duration,
}

fn revision(text: &str) -> Result<String, String> {
    if text.len() < 7 {
        return Err("at least 7 characters are needed".to_owned());
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || c == ':') {
        return Err("a commit id or content digest has only letters and digits".to_owned());
    }
    Ok(text.to_ascii_lowercase())
}

/// What a look at the status says about a revision.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It serves in full.
    Serves,
    /// It is below this revision, which serves in full.
    Below(String),
    /// A newer revision took its place and serves in full.
    Superseded(String),
    /// Rejected, rolled back or quarantined, and why.
    Failed(String),
    /// Not yet, and what is going on.
    NotYet(String),
}

/// Waits for the revision.
///
/// # Errors
/// When no controller answers, or the revision is in force and has no such service.
pub(crate) async fn run(args: &WaitArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let state_dir = around.state_dir()?;
    let client = Client::connect(&state_dir).await?;
    match tokio::time::timeout(args.timeout, until(args, client, &state_dir)).await {
        Ok(ended) => ended,
        Err(_) => {
            out::remark(format!("{}: {} did not serve in time", args.service, args.source_revision));
            Ok(Exit::Timeout)
        }
    }
}

/// Looks at every event until there is a verdict. A controller that restarts meanwhile is waited for.
async fn until(args: &WaitArgs, mut client: Client, state_dir: &Path) -> Result<Exit, Failure> {
    let mut progress = Progress { said: String::new(), in_force_once: false };
    let mut patience = Patience::default();
    loop {
        // The stream first: no change falls between the look and the wait.
        if let Ok(mut stream) = client.stream(None).await {
            loop {
                let Ok(status) = client.get::<Status>("/api/v1/services", &[]).await else { break };
                patience.reset();
                let mut verdict = judge(&status, &args.service, &args.source_revision, &mut progress.in_force_once)?;
                if matches!(verdict, Verdict::Below(_) | Verdict::Superseded(_)) {
                    // The newer one may be the way back from it.
                    let history = format!("/api/v1/services/{}/history", args.service);
                    let Ok(entries) = client.get::<Vec<HistoryEntry>>(&history, &[]).await else { break };
                    if let Some(why) = failed_before(&entries, &args.source_revision) {
                        verdict = Verdict::Failed(why);
                    }
                }
                if let Some(exit) = progress.tell(args, verdict)? {
                    return Ok(exit);
                }
                if stream.next().await.is_none() {
                    break;
                }
            }
        }
        client = loop {
            patience.wait().await;
            if let Ok(client) = Client::connect(state_dir).await {
                break client;
            }
        };
    }
}

struct Progress {
    said: String,
    in_force_once: bool,
}

impl Progress {
    fn tell(&mut self, args: &WaitArgs, verdict: Verdict) -> Result<Option<Exit>, Failure> {
        let WaitArgs { service, source_revision, timeout: _ } = args;
        let (text, exit) = match verdict {
            Verdict::Serves => (format!("{service} serves {source_revision}"), Exit::Fine),
            Verdict::Below(newer) => {
                (format!("{service} serves {source_revision}, as a part of {}", status::short(&newer)), Exit::Fine)
            }
            Verdict::Superseded(by) => (format!("{source_revision} was superseded; {service} serves {by}"), Exit::Fine),
            Verdict::Failed(why) => (format!("{service} does not serve {source_revision}: {why}"), Exit::RolledBack),
            Verdict::NotYet(now) => {
                if self.said != now {
                    out::remark(format!("{service}: {now}"));
                    self.said = now;
                }
                return Ok(None);
            }
        };
        out::line(text)?;
        Ok(Some(exit))
    }
}

/// Pure: what `status` says about `wanted`.
fn judge(status: &Status, name: &ServiceName, wanted: &str, in_force_once: &mut bool) -> Result<Verdict, Failure> {
    let SourceStatus { revision, includes, rejected, error, .. } = &status.source;
    let is_wanted = |revision: &Option<String>| revision.as_deref().is_some_and(|it| matches(it, wanted));
    // Commits that were pushed together are in force together, with the newest of them.
    let included = includes.iter().any(|older| matches(older, wanted));
    let in_force = is_wanted(revision) || included;
    *in_force_once |= in_force;
    if is_wanted(rejected) && !in_force {
        return Ok(Verdict::Failed(format!("it is rejected: {}", error.as_deref().unwrap_or("no reason was given"))));
    }
    let Some(service) = status.services.iter().find(|service| service.name == *name) else {
        if in_force {
            let known: Vec<String> = status.services.iter().map(|service| service.name.to_string()).collect();
            return Err(status::unknown_service(name, &known));
        }
        return Ok(Verdict::NotYet(waiting_for_source(status, wanted)));
    };
    let serves_newest = service.revision.is_some() && service.revision == *revision;
    if is_wanted(&service.revision) {
        return Ok(Verdict::Serves);
    }
    if let (true, true, Some(newer)) = (included, serves_newest, &service.revision) {
        return Ok(Verdict::Below(newer.clone()));
    }
    if !in_force && !*in_force_once {
        return Ok(Verdict::NotYet(waiting_for_source(status, wanted)));
    }
    // Until its turn, phase and holds speak of what was in force before.
    if service.as_of.is_some() && service.as_of != *revision && !is_wanted(&service.as_of) {
        return Ok(Verdict::NotYet("in force, and looked at next".to_owned()));
    }
    if let Some(why) = failed(service) {
        return Ok(Verdict::Failed(why));
    }
    match &service.revision {
        Some(serves) if !in_force && serves_newest => Ok(Verdict::Superseded(serves.clone())),
        _ => Ok(Verdict::NotYet(under_way(service))),
    }
}

/// Pure: why the release that `wanted` asked for failed, if its last try did.
fn failed_before(newest_first: &[HistoryEntry], wanted: &str) -> Option<String> {
    let entry = newest_first.iter().find(|entry| matches(&entry.revision, wanted))?;
    let why = entry.outcome.strip_prefix("failed")?.trim_start_matches(": ");
    Some(format!("{} failed, and a newer revision took its place: {why}", entry.tag))
}

/// `sha256:` before a digest is not typed by people.
fn matches(revision: &str, wanted: &str) -> bool {
    revision.starts_with(wanted) || revision.strip_prefix("sha256:").is_some_and(|hex| hex.starts_with(wanted))
}

fn waiting_for_source(status: &Status, wanted: &str) -> String {
    let source = &status.source;
    match (&source.error, &source.revision) {
        (Some(error), _) => format!("{}: {error}", status::trouble(source)),
        (None, Some(revision)) => {
            format!("{wanted} is not in force yet; {} is", status::short(revision))
        }
        (None, None) => "the controller has no desired state yet".to_owned(),
    }
}

fn failed(service: &ServiceStatus) -> Option<String> {
    let held = service.holds.iter().find(|hold| matches!(hold.reason.as_str(), "Quarantined" | "RolledBack"));
    if let Some(hold) = held {
        return Some(hold.message.clone());
    }
    let release = service.desired.release.as_ref()?;
    if let Some(why) = service.quarantined.get(release) {
        return Some(format!("quarantined: {why}"));
    }
    (service.phase == Phase::Failed).then(|| under_way(service))
}

fn under_way(service: &ServiceStatus) -> String {
    match service.holds.first() {
        Some(hold) => hold.message.clone(),
        None if service.stage.is_empty() => format!("{:?}", service.phase).to_lowercase(),
        None => service.stage.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(source: &str, serves: Option<&str>, hold: Option<&str>) -> Status {
        let holds: Vec<_> = hold
            .iter()
            .map(
                |reason| serde_json::json!({"reason": reason, "message": "it failed", "since": "2024-11-22T08:00:00Z"}),
            )
            .collect();
        let service = serde_json::json!({
            "name": "api", "platform": "docker", "phase": "Progressing", "stage": "starting green",
            "desired": {"tag": "2", "digest": null, "release": "v1:2"}, "serving": null, "activeColour": null,
            "colours": {}, "holds": holds, "rolledBackFrom": null, "quarantined": {}, "pin": null,
            "lastChange": null, "nextLook": null, "revision": serves,
        });
        serde_json::from_value(serde_json::json!({
            "schemaVersion": 1, "controller": "a", "source": {"revision": source, "age": 1, "error": null},
            "services": [service],
        }))
        .unwrap()
    }

    fn verdict(status: &Status, seen: &mut bool) -> Verdict {
        judge(status, &ServiceName::new("api").unwrap(), "aaaaaaa", seen).unwrap()
    }

    #[test]
    fn it_waits_for_the_source_then_for_the_rollout_then_it_serves() {
        let mut seen = false;
        assert!(matches!(verdict(&status("bbbbbbbbb", Some("bbbbbbbbb"), None), &mut seen), Verdict::NotYet(_)));
        let rolling = status("aaaaaaaaa", Some("bbbbbbbbb"), None);
        assert_eq!(verdict(&rolling, &mut seen), Verdict::NotYet("starting green".into()));
        assert_eq!(verdict(&status("aaaaaaaaa", Some("aaaaaaaaa"), None), &mut seen), Verdict::Serves);
    }

    #[test]
    fn an_older_failure_is_not_taken_for_this_revision() {
        let before = status("bbbbbbbbb", None, Some("Quarantined"));
        assert!(matches!(verdict(&before, &mut false), Verdict::NotYet(_)));
        for reason in ["Quarantined", "RolledBack"] {
            let after = status("aaaaaaaaa", None, Some(reason));
            assert_eq!(verdict(&after, &mut false), Verdict::Failed("it failed".into()));
        }
    }

    #[test]
    fn a_failure_counts_once_the_service_was_looked_at_with_this_revision() {
        let mut status = status("aaaaaaaaa", None, Some("Quarantined"));
        status.services[0].as_of = Some("bbbbbbbbb".into());
        assert_eq!(verdict(&status, &mut false), Verdict::NotYet("in force, and looked at next".into()));
        status.services[0].as_of = Some("aaaaaaaaa".into());
        assert_eq!(verdict(&status, &mut false), Verdict::Failed("it failed".into()));
    }

    #[test]
    fn a_newer_revision_that_serves_ends_the_wait_only_when_this_one_was_in_force() {
        let newer = status("ccccccccc", Some("ccccccccc"), None);
        assert!(matches!(verdict(&newer, &mut false), Verdict::NotYet(_)));
        assert_eq!(verdict(&newer, &mut true), Verdict::Superseded("ccccccccc".into()));
    }

    #[test]
    fn a_commit_that_came_with_newer_ones_serves_with_the_newest() {
        let mut together = status("ccccccccc", Some("bbbbbbbbb"), None);
        together.source.includes = vec!["aaaaaaaaa".into(), "999999999".into()];
        let mut seen = false;
        assert_eq!(verdict(&together, &mut seen), Verdict::NotYet("starting green".into()));
        assert!(seen, "it is in force");
        together.services[0].revision = Some("ccccccccc".into());
        assert_eq!(verdict(&together, &mut false), Verdict::Below("ccccccccc".into()));
        // It failed as a part of them.
        let mut failed = status("ccccccccc", Some("bbbbbbbbb"), Some("Quarantined"));
        failed.source.includes = vec!["aaaaaaaaa".into()];
        assert_eq!(verdict(&failed, &mut false), Verdict::Failed("it failed".into()));
        // Others that came along say nothing about this one.
        together.source.includes = vec!["999999999".into()];
        assert!(matches!(verdict(&together, &mut false), Verdict::NotYet(_)));
    }

    #[test]
    fn one_that_failed_before_a_newer_one_led_back_did_not_serve() {
        let entry = |revision: &str, outcome: &str| HistoryEntry {
            started_at: jiff::Timestamp::UNIX_EPOCH,
            ended_at: None,
            tag: "2".into(),
            release: "v1:2".into(),
            digest: String::new(),
            revision: revision.into(),
            commit: None,
            why: String::new(),
            outcome: outcome.into(),
        };
        let failed = entry("aaaaaaaaa", "failed: it answered 503");
        let why = "2 failed, and a newer revision took its place: it answered 503";
        let before = |entries: &[HistoryEntry]| failed_before(entries, "aaaaaaa");
        assert_eq!(before(&[entry("ccccccccc", "serving"), failed.clone()]).as_deref(), Some(why));
        // Tried once more, and it served.
        assert_eq!(before(&[entry("aaaaaaaaa", "replaced"), failed]), None);
        // Never tried alone, or somebody else's failure.
        assert_eq!(before(&[entry("bbbbbbbbb", "failed: x")]), None);
        assert_eq!(before(&[entry("aaaaaaaaa", "superseded")]), None);
    }

    #[test]
    fn a_rejected_revision_fails_at_once_and_another_one_is_only_told() {
        let mut status = status("bbbbbbbbb", Some("bbbbbbbbb"), None);
        status.source.error = Some("api.yaml:3:5: unknown key `tga`".into());
        let waits = |status: &Status| match verdict(status, &mut false) {
            Verdict::NotYet(now) => now,
            other => panic!("{other:?}"),
        };
        assert!(waits(&status).starts_with("the source cannot be read: api.yaml:3:5"), "{}", waits(&status));
        status.source.rejected = Some("ccccccccc".into());
        assert!(waits(&status).starts_with("the newest edit (ccccccccc) is rejected: api.yaml:3:5"));
        status.source.rejected = Some("aaaaaaaaa".into());
        let why = "it is rejected: api.yaml:3:5: unknown key `tga`";
        assert_eq!(verdict(&status, &mut false), Verdict::Failed(why.into()));
        // Also of a service that is new with it, or when nothing is in force yet.
        status.services.clear();
        assert_eq!(verdict(&status, &mut false), Verdict::Failed(why.into()));
        status.source.revision = None;
        assert_eq!(verdict(&status, &mut false), Verdict::Failed(why.into()));
    }

    #[test]
    fn a_service_the_revision_does_not_have_is_an_error_with_the_nearest_name() {
        let name = ServiceName::new("apj").unwrap();
        let error = judge(&status("aaaaaaaaa", None, None), &name, "aaaaaaa", &mut false).unwrap_err();
        assert_eq!(error.hint(), Some("did you mean `api`?"));
    }

    #[test]
    fn short_revisions_are_refused() {
        assert!(revision("abcdef").is_err());
        assert!(revision("../../x").is_err());
        assert_eq!(revision("ABCDEF0").as_deref(), Ok("abcdef0"));
    }
}
