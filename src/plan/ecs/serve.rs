//! A group's target as steps: its task definition registered, then one `UpdateService` that says all that differs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::model::colour::Group;
use crate::model::desired::{DriftField, Order};
use crate::model::ecs::seen::{Owner, RolloutState, ServiceSeen};
use crate::model::ecs::task_definition::sorted_keys;
use crate::model::ecs::{EcsLive, tags};
use crate::model::memory::{MemoryChange, Quarantine};
use crate::model::release::Release;
use crate::model::snapshot::Fact;
use crate::plan::drift;
use crate::plan::hold::{Hold, after};
use crate::plan::step::ecs::Update;
use crate::plan::step::{EcsStep, PlannedStep, Step};

use super::{Facts, Lowered, create, group, release};

/// How long a circuit breaker that rolls back is left to do so before Holdfast does.
const BREAKER_PATIENCE: Duration = Duration::from_secs(10);

/// How long after its failure a release in the service is what our rollout left there, and nobody's edit.
const JUST_FAILED: Duration = Duration::from_secs(120);

/// Makes `group` run `replicas` tasks of `release`.
pub(super) fn run(facts: &Facts<'_>, group: Group, release: &Release, replicas: u32, out: &mut Lowered) {
    let Some(seen) = facts.of(group) else {
        create::create(facts, group, release, replicas, out);
        return;
    };
    let mut update = Wanted { facts, group, seen, release, because: None, repairs: Vec::new(), update: None };
    let held = out.holds.len();
    update.task_definition(out);
    // What else differs goes with the task definition that is being registered: one update a release. And no task of
    // another release is started for a colour that does not serve.
    if !out.register.is_empty() || (out.holds.len() > held && facts.serving != Some(group)) {
        return;
    }
    update.desired(replicas, out);
    update.configuration(out);
    update.finish(out);
    await_tasks(facts, group, seen, release, replicas, out);
}

/// No tasks for a group no request reaches any more.
pub(super) fn scale_to_zero(facts: &Facts<'_>, group: Group, out: &mut Lowered) {
    let Some(seen) = facts.of(group).filter(|it| it.desired > 0) else { return };
    let weight = |group| facts.alb.and_then(|alb| alb.weights.seen()).and_then(|it| it.get(&group).copied());
    if facts.service.alb.is_some() && weight(group).is_none_or(|weight| weight > 0) {
        return;
    }
    let since = facts.memory.switch.as_ref().and_then(|it| it.confirmed.as_ref()).map_or(facts.now, |it| it.at);
    let until = after(since, facts.service.rollout.drain);
    let was_switched_from = facts.memory.switch.as_ref().is_some_and(|it| it.from == Some(group));
    if was_switched_from && until > facts.now {
        out.holds.push(Hold::DrainingColour { group, until });
        return;
    }
    let update = Update {
        target: facts.target(group),
        seen: seen.task_definition.clone(),
        task_definition: None,
        again: false,
        desired: Some(0),
        deployment_configuration: None,
    };
    let because = format!("no request goes to {group} any more");
    out.act.push(PlannedStep { step: Step::Ecs(EcsStep::Update(Box::new(update))), because });
}

/// The one update a service needs, as it is put together.
struct Wanted<'f> {
    facts: &'f Facts<'f>,
    group: Group,
    seen: &'f ServiceSeen,
    release: &'f Release,
    because: Option<String>,
    repairs: Vec<(DriftField, String)>,
    update: Option<Update>,
}

impl Wanted<'_> {
    fn update(&mut self) -> &mut Update {
        let (facts, group, seen) = (self.facts, self.group, self.seen);
        self.update.get_or_insert_with(|| Update {
            target: facts.target(group),
            seen: seen.task_definition.clone(),
            task_definition: None,
            again: false,
            desired: None,
            deployment_configuration: None,
        })
    }

    fn say(&mut self, because: impl Into<String>) {
        let because = because.into();
        self.because = Some(match self.because.take() {
            Some(before) => format!("{before}; {because}"),
            None => because,
        });
    }

    fn task_definition(&mut self, out: &mut Lowered) {
        let (facts, seen) = (self.facts, self.seen);
        let hash = self.release.hash();
        if group::runs(facts, seen, self.release) {
            if group::failed_before(facts, self.group, seen, &hash) {
                self.update().again = true;
                self.say("its deployment failed before, and it is tried once more");
            }
            return;
        }
        let because = match self.is_drift() {
            true => {
                let what = format!(
                    "{} is set to {}, which nobody here asked for{}",
                    seen.name,
                    crate::plan::step::revision(&seen.task_definition),
                    self.what_differs()
                );
                match drift::repair(facts.service, facts.memory, DriftField::TaskDefinition, &what, facts.now) {
                    Ok(()) => self.repairs.push((DriftField::TaskDefinition, what.clone())),
                    Err(hold) => return out.holds.extend(hold),
                }
                what
            }
            false => facts.wanted.because.clone(),
        };
        if let Some(hold) = self.goes_back_by_itself().or_else(|| alarming(seen)) {
            out.holds.push(hold);
            return;
        }
        let Some(arn) = facts.arn_of(&hash) else {
            register(facts, self.release, &because, out);
            return;
        };
        self.update().task_definition = Some(arn.to_owned());
        self.say(because);
    }

    /// The circuit breaker has ended our deployment and is about to go back: two that go back at once are one too many.
    fn goes_back_by_itself(&self) -> Option<Hold> {
        let failed = self.seen.primary().is_some_and(|it| it.rollout == RolloutState::Failed);
        let last = self.facts.memory.quarantined.values().map(|it| it.at).max()?;
        let deadline = after(last, BREAKER_PATIENCE);
        (failed && self.seen.breaker.rollback && self.facts.now < deadline).then(|| Hold::AwaitingHealth {
            group: self.group,
            healthy: self.seen.running.min(self.facts.service.replicas),
            wanted: self.facts.service.replicas,
            last: Some("the circuit breaker goes back by itself".to_owned()),
            deadline,
        })
    }

    /// Neither the file nor a rollout of ours put the service where it is.
    fn is_drift(&self) -> bool {
        let (memory, hash) = (self.facts.memory, self.release.hash());
        let committed = memory.committed.as_ref().is_some_and(|it| it.group == self.group && it.release.hash() == hash);
        let other = group::release_of(self.facts, self.seen);
        let ours = other.is_some_and(|other| {
            let just_failed = |it: &Quarantine| after(it.at, JUST_FAILED) > self.facts.now;
            memory.quarantined.get(&other).is_some_and(just_failed)
                || memory.attempt.as_ref().is_some_and(|it| it.release.hash() == other)
        });
        committed && !ours
    }

    fn what_differs(&self) -> String {
        let arn = self.facts.known(&self.release.hash());
        let ours = self.facts.seen.base.as_ref().and_then(Fact::seen).filter(|it| Some(it.arn.as_str()) == arn);
        match (ours, self.seen.definition.seen()) {
            (Some(ours), Some(theirs)) => {
                let differences = ours.content.differences(&theirs.content);
                if differences.is_empty() { String::new() } else { format!(" ({})", differences.join(", ")) }
            }
            _ => String::new(),
        }
    }

    fn desired(&mut self, replicas: u32, out: &mut Lowered) {
        let (facts, seen) = (self.facts, self.seen);
        if facts.ecs.external_replicas || seen.daemon || seen.desired == replicas {
            return;
        }
        let applied = facts.memory.ecs_live.as_ref().and_then(|live| live.replicas);
        let is_drift = facts.serving == Some(self.group) && applied == Some(replicas) && facts.memory.attempt.is_none();
        let what = format!("{} wants {} tasks, the file {replicas}", seen.name, seen.desired);
        if is_drift {
            match drift::repair(facts.service, facts.memory, DriftField::Replicas, &what, facts.now) {
                Ok(()) => self.repairs.push((DriftField::Replicas, what.clone())),
                Err(hold) => return out.holds.extend(hold),
            }
        }
        self.update().desired = Some(replicas);
        self.say(if is_drift { what } else { format!("the file asks for {replicas} replicas") });
    }

    fn configuration(&mut self, out: &mut Lowered) {
        let (facts, seen) = (self.facts, self.seen);
        let Some(wanted) = wanted_configuration(facts, seen) else { return };
        if wanted == seen.deployment_configuration {
            return;
        }
        let applied = facts.memory.ecs_live.as_ref().is_some_and(|live| live.deployment_configuration == wanted);
        let what = format!("the deployment configuration of {} was changed", seen.name);
        if applied {
            match drift::repair(facts.service, facts.memory, DriftField::DeploymentConfiguration, &what, facts.now) {
                Ok(()) => self.repairs.push((DriftField::DeploymentConfiguration, what.clone())),
                Err(hold) => return out.holds.extend(hold),
            }
        }
        self.update().deployment_configuration = Some(wanted);
        self.say(match (applied, facts.service.rollout.order) {
            (true, _) => what,
            (false, Order::StopFirst) => "`order: stopFirst` lets no two tasks overlap".to_owned(),
            (false, Order::StartFirst) => "tasks may overlap again".to_owned(),
        });
    }

    fn finish(self, out: &mut Lowered) {
        let Some(update) = self.update else { return };
        let because = self.because.unwrap_or_else(|| self.facts.wanted.because.clone());
        for (field, what) in self.repairs {
            let repair = Step::Remember(MemoryChange::Repair(field, self.facts.now));
            out.remember.push(PlannedStep { step: repair, because: what });
        }
        let wanted = service_tags(self.facts, self.group, self.release);
        let tagged =
            self.seen.owner == Owner::Us && wanted.iter().all(|(key, value)| self.seen.tags.get(key) == Some(value));
        if !tagged {
            let (target, arn) = (self.facts.target(self.group), self.seen.arn.clone());
            let step = Step::Ecs(EcsStep::Tag { target, arn, tags: wanted });
            out.tag.push(PlannedStep { step, because: because.clone() });
        }
        out.act.push(PlannedStep { step: Step::Ecs(EcsStep::Update(Box::new(update))), because });
    }
}

/// ECS ignores an alarm that is active when a deployment begins, so none is begun then.
fn alarming(seen: &ServiceSeen) -> Option<Hold> {
    match &seen.alarming {
        Fact::Seen(alarms) if !alarms.is_empty() => Some(Hold::AlarmActive { alarms: alarms.clone() }),
        Fact::Unreadable(why) => {
            Some(Hold::EcsUnreadable { what: "the alarms of its deployments".to_owned(), why: why.clone() })
        }
        Fact::Seen(_) | Fact::Absent => None,
    }
}

/// Registers the task definition of `release`; the step that needs it comes with the next look.
pub(super) fn register(facts: &Facts<'_>, release: &Release, because: &str, out: &mut Lowered) {
    let (hash, realm) = (release.hash(), facts.realm());
    let service = facts.service.name.clone();
    let because = because.to_owned();
    let made = release::of_file(facts.service, facts.ecs, facts.snapshot, facts.memory).ok();
    let step = match (made.filter(|made| made.release.hash() == hash), facts.known(&hash)) {
        (Some(made), _) => EcsStep::Register {
            realm,
            tags: definition_tags(facts, release, made.base.as_deref()),
            service,
            release: hash,
            definition: made.definition,
        },
        (None, Some(from)) => EcsStep::RegisterAgain { realm, service, release: hash, from: from.to_owned() },
        (None, None) => {
            let why = format!("the task definition of {} ({hash}) is not known any more", release.tag);
            out.holds.push(Hold::TaskDefinitionUnusable { why });
            return;
        }
    };
    out.register.push(PlannedStep { step: Step::Ecs(step), because });
}

fn definition_tags(facts: &Facts<'_>, release: &Release, base: Option<&str>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::from([
        (tags::SERVICE.to_owned(), facts.service.name.to_string()),
        (tags::RELEASE.to_owned(), release.hash().to_string()),
        (tags::TAG.to_owned(), release.tag.to_string()),
    ]);
    found.extend(base.map(|base| (tags::BASE.to_owned(), base.to_owned())));
    found
}

/// The tags of an ECS service that is set to `release`, the controller's own apart.
pub(super) fn service_tags(facts: &Facts<'_>, group: Group, release: &Release) -> BTreeMap<String, String> {
    let memory = facts.memory;
    let hash = release.hash();
    let mut found = BTreeMap::from([
        (tags::SERVICE.to_owned(), facts.service.name.to_string()),
        (tags::COLOUR.to_owned(), group.to_string()),
        (tags::RELEASE.to_owned(), hash.to_string()),
    ]);
    let base = facts.seen.base.as_ref().and_then(Fact::seen).map(|it| it.arn.clone());
    let base = memory.base.clone().or(base).filter(|_| facts.ecs.base.is_none());
    found.extend(base.map(|base| (tags::BASE.to_owned(), base)));
    let before = memory.committed.as_ref().map(|it| it.release.hash()).filter(|it| *it != hash);
    found.extend(before.map(|it| (tags::PREVIOUS.to_owned(), it.to_string())));
    let failed = memory.quarantined.iter().max_by_key(|(_, it)| it.at).map(|(hash, _)| hash.to_string());
    found.extend(failed.map(|it| (tags::FAILED.to_owned(), it)));
    found
}

/// As last seen in force, with `stopFirst` put in; none while neither says anything.
fn wanted_configuration(facts: &Facts<'_>, seen: &ServiceSeen) -> Option<String> {
    let live = facts.memory.ecs_live.as_ref();
    let applied = live.map(|live| live.overlapping.as_ref().unwrap_or(&live.deployment_configuration));
    if facts.service.rollout.order != Order::StopFirst {
        return applied.filter(|_| facts.serving.is_some()).cloned();
    }
    let base = applied.unwrap_or(&seen.deployment_configuration);
    let mut value: Value = serde_json::from_str(base).unwrap_or_else(|_| json!({}));
    value["minimumHealthyPercent"] = json!(0);
    value["maximumPercent"] = json!(100);
    Some(sorted_keys(&value).to_string())
}

/// What the service had before `order: stopFirst`, to go back to; ECS's own defaults where nobody knows.
fn overlapping(facts: &Facts<'_>, in_force: &str) -> Option<String> {
    if facts.service.rollout.order != Order::StopFirst {
        return None;
    }
    let known = facts.memory.ecs_live.as_ref();
    let before = known.map(|live| live.overlapping.clone().unwrap_or_else(|| live.deployment_configuration.clone()));
    before.or_else(|| {
        let mut value: Value = serde_json::from_str(in_force).ok()?;
        let map = value.as_object_mut()?;
        map.remove("minimumHealthyPercent");
        map.remove("maximumPercent");
        Some(sorted_keys(&value).to_string())
    })
}

/// The tags say which release failed last: where ECS went back by itself, no update of ours tells them.
pub(super) fn note_failed(facts: &Facts<'_>, out: &mut Lowered) {
    let newest = facts.memory.quarantined.iter().max_by_key(|(_, it)| it.at).map(|(hash, _)| hash.to_string());
    let ours = facts.ecs.services.keys().filter_map(|group| Some((*group, facts.of(*group)?)));
    let ours: Vec<_> = ours.filter(|(_, seen)| seen.owner == Owner::Us).collect();
    let Some(failed) = newest.filter(|_| out.tag.is_empty() && out.register.is_empty()) else { return };
    if ours.iter().any(|(_, seen)| seen.tags.get(tags::FAILED) == Some(&failed)) {
        return;
    }
    let Some((group, seen)) = ours.first() else { return };
    let (target, arn) = (facts.target(*group), seen.arn.clone());
    let step = EcsStep::Tag { target, arn, tags: BTreeMap::from([(tags::FAILED.to_owned(), failed)]) };
    out.tag.push(PlannedStep { step: Step::Ecs(step), because: "its rollout failed".to_owned() });
}

/// Why a group is not there yet.
fn await_tasks(
    facts: &Facts<'_>,
    group: Group,
    seen: &ServiceSeen,
    release: &Release,
    replicas: u32,
    out: &mut Lowered,
) {
    use crate::plan::rollout::Progress;
    let summary = group::summarise(facts, group, Some(release));
    let Progress::Converging { begun: true, last, deadline } = summary.progress else { return };
    let wanted = group::wanted_count(facts, seen, replicas);
    let steady = facts.alb.and_then(|_| group::steady_from(facts, seen)).filter(|from| *from > facts.now);
    if let Some(until) = steady {
        out.holds.push(Hold::Steadying { group, until });
        return;
    }
    // Tasks of the release on its way, not those it replaces.
    let begun = seen.primary().map_or(0, |it| it.running);
    let healthy = summary.healthy.min(begun).min(wanted);
    out.holds.push(Hold::AwaitingHealth { group, healthy, wanted, last, deadline });
}

/// The live fields, once everything is as the file says.
pub(super) fn live_seen(facts: &Facts<'_>) -> Option<(MemoryChange, String)> {
    let memory = facts.memory;
    let committed = memory.committed.as_ref()?;
    let seen = facts.of(committed.group)?;
    if memory.attempt.is_some() || !memory.quarantined.is_empty() || seen.is_deploying() {
        return None;
    }
    let replicas = (!facts.ecs.external_replicas && !seen.daemon).then_some(facts.service.replicas);
    if replicas.is_some_and(|replicas| replicas != seen.desired) {
        return None;
    }
    let known = memory.ecs_live.as_ref().map(|live| live.deployment_configuration.clone());
    let deployment_configuration = match wanted_configuration(facts, seen) {
        Some(wanted) if wanted == seen.deployment_configuration => wanted,
        _ => known.unwrap_or_else(|| seen.deployment_configuration.clone()),
    };
    let overlapping = overlapping(facts, &deployment_configuration);
    let live = EcsLive { replicas, deployment_configuration, overlapping };
    (memory.ecs_live.as_ref() != Some(&live))
        .then(|| (MemoryChange::ApplyEcsLive(live), "it was seen in force".to_owned()))
}
