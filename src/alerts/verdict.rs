//! What a status means for the commits it speaks of. Pure.

use crate::git::names::is_object_id;
use crate::model::status::{Phase, ServiceStatus, Status, Version};
use crate::model::words::counted;

/// What became of a commit, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A service of it is on its way, or waits for something.
    Pending,
    /// Every service serves it in full; a drain or a bake may remain.
    Success,
    /// A service of it was quarantined, rolled back or failed.
    Failure,
    /// It never came into force.
    Rejected,
    /// Another commit took its place before it was finished.
    Superseded,
}

/// What is told of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The object id in full.
    pub commit: String,
    /// In one word.
    pub state: State,
    /// One line for people, not yet cut to what the host takes.
    pub description: String,
}

/// What `status` says: of the commit in force first, then of the one that was rejected.
pub fn verdict(status: &Status) -> Vec<Told> {
    let in_force = in_force(status);
    let rejected = rejected(status).filter(|it| in_force.as_ref().is_none_or(|other| other.commit != it.commit));
    in_force.into_iter().chain(rejected).collect()
}

/// The last word on a commit whose place `by` took before it was finished.
pub fn superseded(commit: &str, by: &str) -> Told {
    let by = by.get(..12).unwrap_or(by);
    Told { commit: commit.to_owned(), state: State::Superseded, description: format!("superseded by {by}") }
}

fn in_force(status: &Status) -> Option<Told> {
    let (commit, revision) = (status.source.commit.as_ref()?, status.source.revision.as_deref()?);
    let told = |state, description| Some(Told { commit: commit.id.clone(), state, description });
    let (leaving, in_file): (Vec<_>, Vec<_>) = status.services.iter().partition(|it| is_leaving(it));
    // What was found about an older commit says nothing of this one.
    let failed: Vec<_> = in_file.iter().filter(|it| it.as_of.as_deref() == Some(revision)).filter_map(failed).collect();
    if let Some(first) = failed.first() {
        let more = match failed.len() - 1 {
            0 => String::new(),
            others => format!("{} failed; ", counted(others + 1, "service")),
        };
        return told(State::Failure, format!("{more}{first}"));
    }
    let waiting: Vec<_> = in_file.iter().filter(|it| it.revision.as_deref() != Some(revision)).copied().collect();
    let serving = in_file.len() - waiting.len();
    let (kept, going): (Vec<_>, Vec<_>) = leaving.into_iter().partition(|it| is_held(it, "RemovalNotAcknowledged"));
    // What waits for a person first: the rest gets there by itself.
    let stuck = |it: &&&ServiceStatus| !matches!(it.phase, Phase::Progressing | Phase::Settled);
    let named = waiting.iter().find(stuck).or_else(|| waiting.first()).or_else(|| going.first());
    if let Some(service) = named {
        let count = match in_file.len() {
            0 | 1 => String::new(),
            all => format!("{serving} of {all} services serve it; "),
        };
        return told(State::Pending, format!("{count}{}: {}", service.name, under_way(service, revision)));
    }
    let mut description = match serving {
        0 => "no service of this controller is in it".to_owned(),
        1 => "1 service serves it".to_owned(),
        many => format!("{} serve it", counted(many, "service")),
    };
    // Whoever leaves it running may mean to: that does not keep every later commit waiting.
    for service in kept {
        description.push_str(&format!("; {} still runs, its removal is not acknowledged", service.name));
    }
    told(State::Success, description)
}

fn rejected(status: &Status) -> Option<Told> {
    let commit = status.source.rejected.as_ref().filter(|it| is_object_id(it))?;
    let why = status.source.error.as_deref().and_then(|error| error.lines().find(|line| !line.trim().is_empty()));
    let description = format!("rejected: {}", why.unwrap_or("no reason is known").trim());
    Some(Told { commit: commit.clone(), state: State::Rejected, description })
}

/// No longer in the file: nothing is desired of it.
fn is_leaving(service: &ServiceStatus) -> bool {
    service.desired == Version::default()
}

fn is_held(service: &ServiceStatus, reason: &str) -> bool {
    service.holds.iter().any(|hold| hold.reason == reason)
}

fn failed(service: &&ServiceStatus) -> Option<String> {
    let name = &service.name;
    let held = service.holds.iter().find(|hold| matches!(hold.reason.as_str(), "Quarantined" | "RolledBack"));
    if let Some(hold) = held {
        return Some(format!("{name}: {}", hold.message));
    }
    if let Some(why) = service.desired.release.as_ref().and_then(|release| service.quarantined.get(release)) {
        return Some(format!("{name}: quarantined: {why}"));
    }
    (service.phase == Phase::Failed).then(|| format!("{name}: {}", words(service)))
}

fn under_way(service: &ServiceStatus, revision: &str) -> String {
    let stale = service.as_of.as_deref() != Some(revision);
    match service.phase {
        // A turn about this commit says what it does before it ends.
        Phase::Progressing if stale && !service.stage.is_empty() => service.stage.clone(),
        Phase::Unknown => words(service),
        _ if stale => "being looked at".to_owned(),
        _ => words(service),
    }
}

/// Of holds that stand beside a rollout and keep none waiting.
const ASIDE: [&str; 4] = ["FollowUnreadable", "TagSkipped", "NoTagFits", "SourceClosed"];

fn words(service: &ServiceStatus) -> String {
    match service.holds.iter().find(|hold| !ASIDE.contains(&hold.reason.as_str())) {
        Some(hold) => hold.message.clone(),
        None if service.stage.is_empty() => format!("{:?}", service.phase).to_lowercase(),
        None => service.stage.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    /// A service of the file: its phase, what it serves in full, what was looked at, what holds it.
    fn service(name: &str, phase: &str, serves: &str, as_of: &str, hold: &str) -> serde_json::Value {
        let hold =
            serde_json::json!({"reason": hold, "message": format!("{hold} it is"), "since": "2024-11-22T08:00:00Z"});
        let holds = if hold["reason"] == "" { vec![] } else { vec![hold] };
        serde_json::json!({
            "name": name, "platform": "docker", "phase": phase, "stage": "starting green",
            "desired": {"tag": "2", "digest": null, "release": "v1:2"}, "serving": null, "activeColour": null,
            "colours": {}, "holds": holds, "rolledBackFrom": null, "quarantined": {}, "pin": null,
            "lastChange": null, "nextLook": null, "revision": serves, "asOf": as_of,
        })
    }

    fn leaving(name: &str, hold: &str) -> serde_json::Value {
        let mut service = service(name, "Holding", A, B, hold);
        service["desired"] = serde_json::json!({"tag": "", "digest": null, "release": null});
        service
    }

    /// Commit B is in force.
    fn status(services: &[serde_json::Value]) -> Status {
        let commit = serde_json::json!({"id": B, "author": "Ann", "subject": "s", "at": "2024-11-22T08:00:00Z"});
        serde_json::from_value(serde_json::json!({
            "schemaVersion": 1, "controller": "web-1", "services": services,
            "source": {"revision": B, "age": 1, "error": null, "commit": commit},
        }))
        .unwrap()
    }

    fn told(services: &[serde_json::Value]) -> (State, String) {
        let mut told = verdict(&status(services));
        assert_eq!((told.len(), told[0].commit.as_str()), (1, B));
        let Told { state, description, .. } = told.remove(0);
        (state, description)
    }

    #[test]
    fn the_verdict_on_the_commit_in_force() {
        let served = service("one", "Settled", B, B, "");
        let baking = service("two", "Progressing", B, B, "Baking");
        let rolling = service("three", "Progressing", A, B, "AwaitingHealth");
        let table = [
            (vec![], State::Success, "no service of this controller is in it"),
            (vec![&served], State::Success, "1 service serves it"),
            (vec![&served, &baking], State::Success, "2 services serve it"),
            (vec![&served, &baking, &rolling], State::Pending, "2 of 3 services serve it; three: AwaitingHealth it is"),
        ];
        for (services, state, description) in table {
            let services: Vec<_> = services.into_iter().cloned().collect();
            assert_eq!(told(&services), (state, description.to_owned()));
        }
    }

    #[test]
    fn one_service_in_every_state_it_can_be_in() {
        let table = [
            (service("api", "Progressing", A, B, ""), State::Pending, "api: starting green"),
            (service("api", "Paused", A, B, "Paused"), State::Pending, "api: Paused it is"),
            (service("api", "Holding", A, B, "AwaitingPromotion"), State::Pending, "api: AwaitingPromotion it is"),
            (service("api", "Unknown", A, A, "PlatformUnreadable"), State::Pending, "api: PlatformUnreadable it is"),
            (service("api", "Failed", A, B, "Quarantined"), State::Failure, "api: Quarantined it is"),
            (service("api", "Degraded", A, B, "RolledBack"), State::Failure, "api: RolledBack it is"),
            (service("api", "Failed", A, B, "Failing"), State::Failure, "api: Failing it is"),
            // It served, and failed while the old colour was still warm.
            (service("api", "Failed", B, B, "Quarantined"), State::Failure, "api: Quarantined it is"),
            // What the last commit left behind is no verdict on this one.
            (service("api", "Failed", A, A, "Quarantined"), State::Pending, "api: being looked at"),
            (service("api", "Settled", A, A, ""), State::Pending, "api: being looked at"),
            (service("api", "Progressing", A, A, ""), State::Pending, "api: starting green"),
        ];
        for (service, state, description) in table {
            assert_eq!(told(std::slice::from_ref(&service)), (state, description.to_owned()), "{service}");
        }
        let mut quarantined = service("api", "Progressing", A, B, "");
        quarantined["quarantined"] = serde_json::json!({"v1:2": "it crashed"});
        assert_eq!(told(&[quarantined]), (State::Failure, "api: quarantined: it crashed".into()));
    }

    #[test]
    fn what_stands_aside_of_a_rollout_is_not_why_it_waits() {
        let hold = |reason: &str| serde_json::json!({"reason": reason, "message": format!("{reason} it is"), "since": "2024-11-22T08:00:00Z"});
        let mut held = service("api", "Holding", A, B, "");
        held["holds"] = ASIDE.iter().copied().chain(["AwaitingPromotion"]).map(hold).collect();
        assert_eq!(told(&[held]), (State::Pending, "api: AwaitingPromotion it is".into()));
        let mut alone = service("api", "Progressing", A, B, "");
        alone["holds"] = ASIDE.iter().copied().map(hold).collect();
        assert_eq!(told(&[alone]), (State::Pending, "api: starting green".into()));
    }

    /// What stands aside is named as the planner names it.
    #[test]
    fn the_names_of_what_stands_aside_are_those_of_the_holds() {
        use crate::plan::hold::Hold;
        let why = String::new;
        let all = [
            Hold::FollowUnreadable { why: why() },
            Hold::TagSkipped { tag: why(), below: None, why: why() },
            Hold::NoTagFits { policy: why(), why: why() },
            Hold::SourceClosed { tag: None, why: why() },
        ];
        assert!(all.iter().all(Hold::is_aside));
        assert_eq!(all.each_ref().map(Hold::reason), ASIDE);
    }

    #[test]
    fn the_one_that_waits_for_a_person_is_named_and_failures_are_counted() {
        let rolling = service("a", "Progressing", A, B, "AwaitingHealth");
        let held = service("b", "Holding", A, B, "AwaitingPromotion");
        let text = "0 of 2 services serve it; b: AwaitingPromotion it is";
        assert_eq!(told(&[rolling, held]), (State::Pending, text.into()));
        let failed = |name| service(name, "Failed", A, B, "Quarantined");
        let text = "2 services failed; a: Quarantined it is";
        assert_eq!(told(&[failed("a"), failed("b")]), (State::Failure, text.into()));
    }

    #[test]
    fn a_removal_is_waited_for_only_when_it_is_acknowledged() {
        let served = service("api", "Settled", B, B, "");
        let text = "api-old: starting green";
        assert_eq!(told(&[served.clone(), leaving("api-old", "")]), (State::Pending, text.into()));
        let text = "1 service serves it; old still runs, its removal is not acknowledged";
        assert_eq!(told(&[served, leaving("old", "RemovalNotAcknowledged")]), (State::Success, text.into()));
    }

    #[test]
    fn a_rejected_commit_is_told_with_the_first_line_of_the_error() {
        let mut status = status(&[service("api", "Settled", B, B, "")]);
        status.source.rejected = Some(A.into());
        status.source.error = Some("\nprod.yaml:3:5: expected a number\nand more".into());
        let told = verdict(&status);
        assert_eq!((told[0].commit.as_str(), told[0].state), (B, State::Success));
        let description = "rejected: prod.yaml:3:5: expected a number".to_owned();
        assert_eq!(told[1], Told { commit: A.into(), state: State::Rejected, description });
        // Neither the digest of a folder nor the commit in force.
        for other in ["sha256:1234", B] {
            status.source.rejected = Some(other.into());
            assert_eq!(verdict(&status).len(), 1, "{other}");
        }
        status.source.commit = None;
        status.source.rejected = None;
        assert_eq!(verdict(&status), []);
    }
}
