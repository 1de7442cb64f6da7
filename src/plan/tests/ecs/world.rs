//! A world with an account in it: a plan's steps change it at once, ECS takes its time.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::aws::{Aws, EcsService, Key};
use crate::model::colour::Group;
use crate::model::desired::{Service, SourceRevision, Strategy};
use crate::model::ecs::{AlbTraffic, Ecs};
use crate::model::image::{Digest, Repository, Tag};
use crate::model::memory::Memory;
use crate::model::snapshot::{Fact, PlatformSeen, RegistryImage, Snapshot, TagSeen};
use crate::plan::step::{Step, revision};
use crate::plan::{Plan, check, display, plan, plan_removal};
use crate::ports::StepError;

/// One round of the scheduler.
pub(super) const ROUND: Duration = Duration::from_secs(2);
pub(super) const RULE: &str = "arn:rule";

pub(super) fn digest_of(tag: &str) -> Digest {
    crate::plan::tests::world::digest_of(tag)
}

#[expect(clippy::unnecessary_wraps, reason = "the signature the account asks for")]
fn resolve(_: &Repository, tag: &Tag) -> Option<Digest> {
    Some(digest_of(tag.as_str()))
}

/// The account, the memory and the file.
#[derive(Clone)]
pub(super) struct World {
    pub(super) service: Service,
    pub(super) memory: Memory,
    pub(super) aws: Aws,
    pub(super) registry: Fact<()>,
    pub(super) account: Option<Fact<String>>,
    pub(super) images: Option<Fact<Vec<RegistryImage>>>,
    pub(super) tags: Option<Fact<Vec<TagSeen>>>,
    pub(super) gone: bool,
    pub(super) acknowledged: bool,
    pub(super) log: Vec<String>,
    /// Everything since the beginning: for a failure.
    pub(super) story: Vec<String>,
}

/// `plog-api` as the file of the design has it.
pub(super) fn rolling(tag: &str, replicas: u32) -> Service {
    let mut service = crate::plan::tests::world::service(tag, replicas);
    service.nginx = None;
    service.docker.port = None;
    service.rollout.strategy = Strategy::Rolling;
    service.ecs = Some(Ecs {
        cluster: "plog".to_owned(),
        services: BTreeMap::from([(Group::Only, "api".to_owned())]),
        family: None,
        container: Some("app".to_owned()),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        containers: BTreeMap::new(),
        base: None,
        create: None,
        external_replicas: false,
        region: None,
        account: None,
    });
    service
}

/// Two colours behind one rule.
pub(super) fn colours(tag: &str, replicas: u32) -> Service {
    let mut service = rolling(tag, replicas);
    service.rollout.strategy = Strategy::BlueGreen;
    let both =
        |blue: &str, green: &str| BTreeMap::from([(Group::Blue, blue.to_owned()), (Group::Green, green.to_owned())]);
    if let Some(ecs) = &mut service.ecs {
        ecs.services = both("api", "api-green");
    }
    service.alb = Some(AlbTraffic { rule: RULE.to_owned(), target_groups: both("tg/blue", "tg/green"), region: None });
    service
}

pub(super) fn key(name: &str) -> Key {
    ("plog".to_owned(), name.to_owned())
}

impl World {
    pub(super) fn new(service: Service) -> Self {
        let now = "2026-01-05T09:00:00Z".parse().unwrap();
        let mut world = Self {
            service,
            memory: Memory::default(),
            aws: Aws::new(now, ROUND, resolve),
            registry: Fact::Seen(()),
            account: None,
            images: None,
            tags: None,
            gone: false,
            acknowledged: false,
            log: Vec::new(),
            story: Vec::new(),
        };
        world.aws.bad = ["bad", "worse"].map(digest_of).into();
        world.aws.exist(&world.service);
        world
    }

    /// Adopted, `tag` rolled out, at rest; what happened before is forgotten.
    pub(super) fn settled(service: Service) -> Self {
        let mut world = Self::new(service);
        world.run();
        assert!(world.plan().is_settled(), "{:#?}\n{}", world.plan(), world.story.join("\n"));
        world
    }

    pub(super) fn now(&self) -> Timestamp {
        self.aws.now
    }

    pub(super) fn ecs(&mut self) -> &mut Ecs {
        self.service.ecs.as_mut().unwrap()
    }

    pub(super) fn tag(&mut self, tag: &str) {
        self.service.tag.tag = Tag::new(tag).unwrap();
    }

    pub(super) fn after(&mut self, seconds: u64) {
        let now = self.now() + Duration::from_secs(seconds);
        self.pass(now);
    }

    /// Time passes; what ECS ends meanwhile is told.
    fn pass(&mut self, until: Timestamp) {
        while let Some((due, key)) = self.aws.next().filter(|(due, _)| *due <= until) {
            let ends =
                |it: &EcsService| it.deployments.first().map(|it| (it.id.clone(), it.rollout, it.definition.clone()));
            let before = self.aws.services.get(&key).and_then(ends);
            self.aws.advance(due);
            let after = self.aws.services.get(&key).and_then(ends);
            if before != after {
                let words = after.map_or("gone".to_owned(), |(id, rollout, definition)| {
                    format!("{id} of {} {rollout:?}", revision(&definition))
                });
                self.log.push(format!("  ~ {}: {words}", key.1));
            }
        }
        self.aws.advance(until);
    }

    pub(super) fn of(&self, name: &str) -> &EcsService {
        self.aws.services.get(&key(name)).unwrap_or_else(|| panic!("no {name}"))
    }

    /// `family:revision name` of a service, and how many tasks it runs.
    pub(super) fn runs(&self, name: &str) -> (String, u32) {
        let it = self.of(name);
        (revision(it.definition()).to_owned(), it.running())
    }

    pub(super) fn weights(&self) -> Vec<(String, u16)> {
        let rule = self.aws.rules.get(RULE).cloned().unwrap_or_default();
        rule.into_iter().filter(|(_, weight)| *weight > 0).collect()
    }

    /// Calls that changed something, since the last time it was asked.
    pub(super) fn calls(&mut self) -> Vec<String> {
        std::mem::take(&mut self.aws.calls)
    }

    /// Healthy tasks that requests reach.
    pub(super) fn serving(&self) -> u32 {
        match &self.service.alb {
            None => self.aws.services.get(&key("api")).map_or(0, EcsService::running),
            Some(_) => self.weights().iter().map(|(arn, _)| self.aws.healthy_targets(arn)).sum(),
        }
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        let image = match (&self.registry, &self.service.tag.digest) {
            (_, Some(pinned)) => Fact::Seen(pinned.clone()),
            (Fact::Seen(()), None) => Fact::Seen(digest_of(self.service.tag.tag.as_str())),
            (Fact::Absent, None) => Fact::Absent,
            (Fact::Unreadable(why), None) => Fact::Unreadable(why.clone()),
        };
        let place = match self.memory.committed.as_ref().and_then(|it| it.place.clone()).filter(|_| self.gone) {
            Some(place) => place,
            None => self.service.ecs.as_ref().unwrap().place(),
        };
        let service = (!self.gone).then_some(&self.service);
        let ecs = self.aws.look(&place, service, &self.memory);
        let alb = service.and_then(|it| it.alb.clone()).map(|alb| self.aws.balance(&alb));
        Snapshot {
            image,
            env_file: None,
            aws_account: self.account.clone(),
            platform: PlatformSeen::nothing(),
            nginx: None,
            ecs: Some(ecs),
            alb,
            // Asked once after each commit.
            repository: self.images.clone().filter(|_| {
                let committed = self.memory.committed.as_ref().map(|it| it.at);
                self.memory.attempt.is_none() && committed.is_some() && self.memory.cleaned_after != committed
            }),
            tags: self.tags.clone(),
            source_closed: None,
        }
    }

    pub(super) fn plan(&mut self) -> Plan {
        let snapshot = self.snapshot();
        self.plan_on(&snapshot)
    }

    /// The plan on another look; it must not be refused.
    pub(super) fn plan_on(&self, snapshot: &Snapshot) -> Plan {
        match self.verified(snapshot) {
            Ok(made) => made,
            Err(refused) => {
                let (why, made) = *refused;
                let made = display::show("api", &made);
                panic!("{why}\n{made}\n{}\n{}", self.story.join("\n"), self.log.join("\n"))
            }
        }
    }

    /// The plan on a look that may be older than the world, or why it is refused.
    pub(super) fn verified(&self, snapshot: &Snapshot) -> Result<Plan, Box<(String, Plan)>> {
        let at = SourceRevision("r1".to_owned());
        let made = if self.gone {
            plan_removal(&self.service.name, snapshot, &self.memory, self.acknowledged, self.now())
        } else {
            plan(&self.service, snapshot, &self.memory, &at, self.now())
        };
        let service = (!self.gone).then_some(&self.service);
        match check::verify(&made, service, snapshot, &self.memory, self.acknowledged) {
            Ok(()) => Ok(made),
            Err(why) => Err(Box::new((why, made))),
        }
    }

    /// Takes the steps of `made` until one fails; whether anything was to be done.
    pub(super) fn take(&mut self, made: &Plan) -> bool {
        for planned in made.steps() {
            self.log.push(format!("{}  because {}", planned.step, planned.because));
            if let Err(error) = self.apply(&planned.step) {
                self.log.push(format!("  failed: {error}"));
                return true;
            }
        }
        !made.stages.is_empty()
    }

    pub(super) fn turn(&mut self) -> bool {
        let made = self.plan();
        self.take(&made)
    }

    pub(super) fn apply(&mut self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::Remember(change) => self.memory.apply(change),
            Step::Ecs(step) => drop(self.aws.perform(step)?),
            Step::Alb(step) => drop(self.aws.weigh(step)),
            Step::Registry(step) => self.aws.calls.push(step.to_string()),
            Step::Source(step) => self.service.tag = step.to.clone(),
            Step::Platform(_) | Step::Traffic(_) => panic!("this world has no Docker host: {step}"),
        }
        Ok(())
    }

    /// Turns, and the rounds of ECS between them, until neither has anything left to do; then says what waits.
    pub(super) fn run(&mut self) -> String {
        self.run_for(Duration::from_secs(3600))
    }

    /// The same, for at most so long: what is held for longer, stays held.
    pub(super) fn run_for(&mut self, limit: Duration) -> String {
        let end = self.now() + limit;
        let mut idle = 0;
        for _ in 0..400 {
            if self.turn() {
                idle = 0;
                continue;
            }
            let made = self.plan();
            idle += 1;
            // A crash loop that nobody ends goes on for ever: after a while only what we wait for matters.
            let round = self.aws.next().map(|(due, _)| due).filter(|_| idle < 30);
            let ours = made.next_look.filter(|at| *at > self.now());
            match round.into_iter().chain(ours).min().filter(|next| *next <= end) {
                Some(next) => self.pass(next),
                None => return self.rests(&made),
            }
        }
        panic!("never at rest:\n{}\n{}", self.story.join("\n"), self.log.join("\n"));
    }

    fn rests(&mut self, made: &Plan) -> String {
        self.log.extend(made.holds.iter().map(|it| format!("! {}: {it}", it.reason())));
        self.story.push(format!("-- {}", self.now()));
        self.story.extend(self.log.clone());
        std::mem::take(&mut self.log).join("\n")
    }

    /// Turns and rounds until `until` holds.
    pub(super) fn run_until(&mut self, until: impl Fn(&Self) -> bool) {
        for _ in 0..400 {
            if until(self) {
                return;
            }
            if !self.turn() {
                self.after(1);
            }
        }
        panic!("it never came to it:\n{}\n{}", self.story.join("\n"), self.log.join("\n"));
    }

    /// The names of everything that waits now.
    pub(super) fn holds(&mut self) -> Vec<&'static str> {
        self.plan().holds.iter().map(crate::plan::hold::Hold::reason).collect()
    }
}
