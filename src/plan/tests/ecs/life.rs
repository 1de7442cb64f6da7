//! A life of a service on ECS, watched: what may happen to it, and what must never be in the account.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::aws::{EcsService, Key};
use super::world::{RULE, World, colours, digest_of, key, rolling};
use crate::model::colour::{Colour, Group};
use crate::model::desired::{Order, Strategy as Way};
use crate::model::ecs::tags;
use crate::model::memory::{Memory, MemoryChange, Pin};
use crate::model::snapshot::{Fact, Snapshot};
use crate::plan::Plan;
use crate::plan::step::{EcsStep, Step};
use serde_json::json;

const TAGS: [&str; 6] = ["v1", "v2", "v3", "initial", "bad", "worse"];

#[derive(Debug, Clone)]
pub(super) enum Happening {
    Tag(usize),
    Replicas(u32),
    Env(Option<u8>),
    Colour(Option<bool>),
    Scaled(bool, u32),
    Edited(bool, u8),
    Chosen(bool, usize),
    Configured(bool),
    Weighed(u16, u16),
    Deregistered(usize),
    TaskLost(bool),
    Alarm(bool),
    Registry(bool),
    RolledBack,
    Restart,
    LoseMemory,
    /// The process dies after so many steps of the next plan; the last one may have had its effect all the same.
    Crash(usize, bool),
    /// A plan from a look that saw only a part.
    Partial(u8),
    /// A plan from what ECS said a while ago.
    Stale,
    Remember,
    Wait(u64),
    Turns(u8),
}

pub(super) fn happening() -> impl Strategy<Value = Happening> {
    use Happening as H;
    prop_oneof![
        5 => (0usize..6).prop_map(H::Tag),
        2 => (0u32..4).prop_map(H::Replicas),
        1 => proptest::option::of(0u8..2).prop_map(H::Env),
        1 => proptest::option::of(any::<bool>()).prop_map(H::Colour),
        1 => (any::<bool>(), 0u32..5).prop_map(|(green, n)| H::Scaled(green, n)),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(green, n)| H::Edited(green, n)),
        1 => (any::<bool>(), 0usize..8).prop_map(|(green, n)| H::Chosen(green, n)),
        1 => any::<bool>().prop_map(H::Configured),
        1 => (0u16..3, 0u16..3).prop_map(|(blue, green)| H::Weighed(blue, green)),
        1 => (0usize..8).prop_map(H::Deregistered),
        1 => any::<bool>().prop_map(H::TaskLost),
        1 => any::<bool>().prop_map(H::Alarm),
        1 => any::<bool>().prop_map(H::Registry),
        1 => Just(H::RolledBack),
        1 => Just(H::Restart),
        1 => Just(H::LoseMemory),
        3 => (0usize..6, any::<bool>()).prop_map(|(n, effect)| H::Crash(n, effect)),
        2 => (0u8..6).prop_map(H::Partial),
        2 => Just(H::Stale),
        1 => Just(H::Remember),
        4 => (1u64..40).prop_map(H::Wait),
        1 => (60u64..900).prop_map(H::Wait),
        8 => (1u8..8).prop_map(H::Turns),
    ]
}

/// A world that is watched.
pub(super) struct Life {
    pub(super) world: World,
    /// What was seen a while ago.
    before: Option<Snapshot>,
    bystander: EcsService,
}

fn other() -> Key {
    key("other")
}

impl Life {
    pub(super) fn new(mut world: World) -> Self {
        let mut bystander = world.of("api").clone();
        bystander.name = "other".to_owned();
        bystander.tags = BTreeMap::from([(tags::CONTROLLER.to_owned(), "somebody".to_owned())]);
        bystander.body.clear();
        world.aws.services.insert(other(), bystander.clone());
        Self { world, before: None, bystander }
    }

    fn name(&self, green: bool) -> Key {
        let green = green && self.world.aws.services.contains_key(&key("api-green"));
        key(if green { "api-green" } else { "api" })
    }

    fn weight(&self, target: &str) -> u16 {
        let Some(alb) = &self.world.service.alb else { return 1 };
        let services = &self.world.service.ecs.as_ref().unwrap().services;
        let group = services.iter().find(|(_, name)| *name == target).map(|(group, _)| *group).unwrap();
        self.world.aws.rules.get(RULE).and_then(|rule| rule.get(&alb.target_groups[&group])).copied().unwrap_or(0)
    }

    /// Takes one step and looks at what became of the account.
    fn step(&mut self, step: &Step) -> Result<(), String> {
        // A hand-made split over both colours is put back to one: no fewer than either had alone.
        let serving = match &self.world.service.alb {
            None => self.world.serving(),
            Some(_) => {
                let alone = self.world.weights().into_iter().map(|(arn, _)| self.world.aws.healthy_targets(&arn));
                alone.max().unwrap_or(0)
            }
        };
        let services: Vec<Key> = self.world.aws.services.keys().cloned().collect();
        let wanted = self.world.service.replicas;
        let exempt = wanted == 0 || self.world.service.rollout.order == Order::StopFirst;
        if let Step::Ecs(EcsStep::Update(update)) = step
            && let (Some(desired), Some(at)) = (update.desired, self.world.aws.services.get(&key(&update.target.name)))
            && !exempt
            && desired < at.desired.min(wanted)
            && self.weight(&update.target.name) > 0
        {
            return Err(format!("S1: {step} while requests go there"));
        }
        let done = self.world.apply(step);
        self.world.log.push(format!("{step}{}", done.err().map(|it| format!("  failed: {it}")).unwrap_or_default()));
        let now = self.world.serving();
        if matches!(step, Step::Alb(_)) && !exempt && serving > 0 && now < serving.min(wanted) {
            return Err(format!("S1: {step}: {serving} serving before, {now} after"));
        }
        if !services.iter().all(|it| self.world.aws.services.contains_key(it)) {
            return Err(format!("S5: {step} deleted a service in the file"));
        }
        let it = &self.world.aws.services[&other()];
        let same = it.desired == self.bystander.desired && it.definition() == self.bystander.definition();
        if !same || it.tags != self.bystander.tags {
            return Err(format!("S3: {step} touched somebody else's service"));
        }
        self.one_revision_a_release()
    }

    /// S7.
    fn one_revision_a_release(&self) -> Result<(), String> {
        let mut known = BTreeMap::new();
        for (arn, (definition, active)) in &self.world.aws.definitions {
            let Some(release) = definition.tags.get(tags::RELEASE).filter(|_| *active) else { continue };
            if let Some(other) = known.insert((release.clone(), definition.content.sha256()), arn) {
                return Err(format!("S7: {other} and {arn} are both {release}"));
            }
        }
        Ok(())
    }

    /// Takes the plan, but at most `limit` steps; a step that fails ends the turn.
    fn take(&mut self, plan: &Plan, limit: usize) -> Result<(), String> {
        for planned in plan.steps().take(limit) {
            let failed = self.world.log.len();
            self.step(&planned.step)?;
            if self.world.log[failed].contains("failed: ") {
                break;
            }
        }
        Ok(())
    }

    fn partial(&mut self, which: u8) -> Snapshot {
        let mut snapshot = self.world.snapshot();
        let why = || "a partial page".to_owned();
        let ecs = snapshot.ecs.as_mut().unwrap();
        match which {
            0 => drop(ecs.services.first_entry().map(|mut it| it.insert(Fact::Unreadable(why())))),
            1 => drop(ecs.services.last_entry().map(|mut it| it.insert(Fact::Unreadable(why())))),
            2 => ecs.base = ecs.base.as_ref().map(|_| Fact::Unreadable(why())),
            3 => snapshot.image = Fact::Unreadable(why()),
            4 => {
                for it in snapshot.alb.iter_mut().flat_map(|alb| alb.targets.values_mut()) {
                    *it = Fact::Unreadable(why());
                }
            }
            _ => snapshot.alb.iter_mut().for_each(|alb| alb.weights = Fact::Unreadable(why())),
        }
        snapshot
    }

    /// What somebody, or nobody, does.
    pub(super) fn happen(&mut self, it: &Happening) -> Result<(), String> {
        use Happening as H;
        match it {
            H::Crash(steps, effect) => {
                let plan = self.world.plan();
                self.take(&plan, *steps)?;
                if let Some(last) =
                    plan.steps().nth(*steps).filter(|it| *effect && !matches!(it.step, Step::Remember(_)))
                {
                    self.step(&last.step)?;
                }
                self.world.aws.restart();
            }
            H::Partial(which) => {
                let snapshot = self.partial(*which);
                let plan = self.world.plan_on(&snapshot);
                self.take(&plan, usize::MAX)?;
            }
            H::Stale => {
                if let Some(mut before) = self.before.clone() {
                    let now = self.world.snapshot();
                    (before.image, before.alb) = (now.image, now.alb);
                    // One that is refused does nothing, and the next look is a newer one.
                    if let Ok(plan) = self.world.verified(&before) {
                        self.take(&plan, usize::MAX)?;
                    }
                }
            }
            H::Remember => self.before = Some(self.world.snapshot()),
            H::Turns(n) => {
                for _ in 0..*n {
                    let plan = self.world.plan();
                    self.take(&plan, usize::MAX)?;
                    self.world.after(1);
                }
            }
            H::Wait(seconds) => self.world.after(*seconds),
            H::Restart => self.world.aws.restart(),
            H::LoseMemory => {
                self.world.memory = Memory::default();
                self.world.aws.restart();
            }
            other => self.somebody(other),
        }
        Ok(())
    }

    fn somebody(&mut self, it: &Happening) {
        use Happening as H;
        let world = &mut self.world;
        match it {
            H::Tag(n) => world.tag(TAGS[*n]),
            H::Replicas(n) => world.service.replicas = *n,
            H::Env(value) => {
                world.ecs().env = BTreeMap::from([("A".to_owned(), value.map(|it| it.to_string()))]);
            }
            H::Colour(it) if world.service.rollout.strategy == Way::BlueGreen => {
                world.service.active_colour = it.map(|green| if green { Colour::Green } else { Colour::Blue });
            }
            H::Registry(up) => {
                world.registry = if *up { Fact::Seen(()) } else { Fact::Unreadable("503".to_owned()) };
            }
            H::RolledBack => {
                if let (Some(committed), Some(to)) = (&world.memory.committed, &world.memory.previous) {
                    let (from, to, at) = (committed.release.hash(), to.release.clone(), world.now());
                    let pin = Pin { to, from, from_tag: "x".to_owned(), by: "ana".to_owned(), at };
                    world.memory.apply(&MemoryChange::Pin(Box::new(pin)));
                }
            }
            H::Weighed(blue, green) if world.service.alb.is_some() => {
                world.aws.edit_weights(RULE, &[("tg/blue", *blue), ("tg/green", *green)]);
            }
            H::Deregistered(n) => {
                let all: Vec<String> = world.aws.definitions.keys().cloned().collect();
                world.aws.deregister(&all[n % all.len()]);
            }
            _ => self.console(it),
        }
    }

    fn console(&mut self, it: &Happening) {
        use Happening as H;
        let all: Vec<String> = self.world.aws.definitions.keys().cloned().collect();
        let api = self.name(false);
        match it {
            H::Scaled(green, n) => {
                let at = self.name(*green);
                self.world.aws.edit(&at, |it| it.desired = *n);
            }
            H::Edited(green, n) => {
                let at = self.name(*green);
                self.world.aws.edit_definition(&at, &format!("HAND{n}_{}", all.len()));
            }
            H::Chosen(green, n) => {
                let at = self.name(*green);
                self.world.aws.choose(&at, &all[n % all.len()]);
            }
            H::Configured(breaker) => {
                let on = json!({"deploymentCircuitBreaker": {"enable": true, "rollback": true}});
                self.world.aws.edit(&api, |it| it.configuration = if *breaker { on } else { json!({}) });
            }
            H::TaskLost(green) => {
                let at = self.name(*green);
                self.world.aws.lose_task(&at);
            }
            H::Alarm(on) => {
                let alarms = if *on { vec!["5xx".to_owned()] } else { Vec::new() };
                self.world.aws.edit(&api, |it| it.alarming = Some(alarms));
            }
            _ => {}
        }
    }

    /// Faults stop, everything may come to rest.
    pub(super) fn rest(&mut self, tag: &str) -> Result<(), String> {
        self.world.registry = Fact::Seen(());
        self.world.tag(tag);
        for service in self.world.aws.services.values_mut() {
            service.alarming = None;
        }
        for _ in 0..6 {
            self.world.run();
            self.world.after(1000);
        }
        self.world.run();
        self.one_revision_a_release()
    }

    pub(super) fn told(&self) -> String {
        format!("{}\n{}", self.world.story.join("\n"), self.world.log.join("\n"))
    }

    /// The release the serving group runs, by its image.
    pub(super) fn serves(&mut self, tag: &str) -> bool {
        let serving = self.world.plan().view.serving;
        let name = if serving == Some(Group::Green) { "api-green" } else { "api" };
        let definition = self.world.aws.definition(self.world.of(name).definition());
        let content = &definition.seen().unwrap().content;
        let image = content.image("app").unwrap_or_default();
        image.ends_with(&digest_of(tag).to_string()) || image.ends_with(&format!(":{tag}"))
    }
}

pub(super) fn any_life(way: u8) -> World {
    let mut world = match way {
        0..3 => World::new(rolling("initial", 2)),
        _ => World::new(colours("initial", 2)),
    };
    if way == 2 {
        world.service.rollout.order = Order::StopFirst;
    }
    world
}
