//! A world small enough to read: containers, one nginx, and the memory; a plan's steps change it at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::colour::{Colour, Group};
use crate::model::desired::{
    Docker, Drift, NginxTraffic, OnFailure, Order, PortRange, Promote, Publish, Pull, Resources, Restart, Rollout,
    Service, SourceRevision, Strategy,
};
use crate::model::image::{Digest, Repository, Tag, TagSpec};
use crate::model::memory::Memory;
use crate::model::names::{ServiceName, container_name};
use crate::model::snapshot::*;
use crate::plan::step::{PlatformStep, Step, TrafficStep};
use crate::plan::{Plan, check, plan, plan_removal};

/// The world and the file.
pub(crate) struct World {
    pub(crate) service: Service,
    pub(crate) memory: Memory,
    pub(crate) now: Timestamp,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) strangers: Vec<Stranger>,
    pub(crate) replaced: Vec<Replaced>,
    pub(crate) file: Option<(String, Vec<String>)>,
    pub(crate) included: bool,
    pub(crate) nginx_runs: bool,
    pub(crate) generation: i64,
    pub(crate) leaving: bool,
    pub(crate) loaded: bool,
    pub(crate) registry: Fact<()>,
    /// What the tag of the file resolves to in place of its own digest: it was pushed again.
    pub(crate) moved: Option<Digest>,
    /// What the registry lists.
    pub(crate) tags: Option<Fact<Vec<TagSeen>>>,
    /// Why the desired state cannot be written to.
    pub(crate) closed: Option<String>,
    /// Tags whose replicas answer badly.
    pub(crate) bad_tags: BTreeSet<String>,
    pub(crate) gone: bool,
    pub(crate) acknowledged: bool,
    next_id: u32,
    /// Every step taken, as people read it.
    pub(crate) log: Vec<String>,
    /// The same, never taken: for a failure.
    pub(crate) story: Vec<String>,
}

pub(crate) fn digest_of(tag: &str) -> Digest {
    let hex: String = tag.bytes().cycle().take(32).map(|b| format!("{b:02x}")).collect();
    Digest::new(&format!("sha256:{hex}")).unwrap()
}

pub(crate) fn service(tag: &str, replicas: u32) -> Service {
    Service {
        name: ServiceName::new("api").unwrap(),
        file: PathBuf::from("prod/api.yaml"),
        image: Repository::new("registry.example/api").unwrap(),
        tag: TagSpec { tag: Tag::new(tag).unwrap(), digest: None },
        replicas,
        active_colour: None,
        docker: Docker {
            pull: Pull::Always,
            port: Some(8080),
            publish: Publish::default(),
            env: BTreeMap::new(),
            env_file: None,
            volumes: Vec::new(),
            logging: None,
            command: Vec::new(),
            restart: Restart::UnlessStopped,
            resources: Resources::default(),
            init: false,
            stop_timeout: Duration::from_secs(10),
            keep_images: 3,
            replaces: BTreeSet::new(),
        },
        ecs: None,
        health: Health_::default_for_tests(),
        nginx: Some(NginxTraffic { file: PathBuf::from("/etc/nginx/holdfast/api.servers") }),
        alb: None,
        rollout: Rollout {
            strategy: Strategy::BlueGreen,
            order: Order::StartFirst,
            promote: Promote::Auto,
            canary: Vec::new(),
            drain: Duration::from_secs(10),
            bake: Duration::from_secs(60),
            on_failure: OnFailure::Rollback,
            progress_deadline: Duration::from_secs(600),
        },
        drift: Drift::default(),
        aws: None,
        ecr_keep: None,
        follow: None,
    }
}

/// `tags`, each pushed a minute after the one before.
pub(crate) fn listed(tags: &[&str]) -> Vec<TagSeen> {
    let pushed = |minute: usize| Timestamp::from_second(i64::try_from(60 * minute).unwrap()).unwrap();
    let seen = |(n, tag): (usize, &&str)| TagSeen { tag: Tag::new(tag).unwrap(), pushed_at: Some(pushed(n)) };
    tags.iter().enumerate().map(seen).collect()
}

struct Health_;
impl Health_ {
    fn default_for_tests() -> crate::model::desired::Health {
        crate::model::desired::Health {
            check: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            successes: 2,
            failures: 3,
            deadline: Duration::from_secs(120),
        }
    }
}

impl World {
    pub(crate) fn new(service: Service) -> Self {
        Self {
            service,
            memory: Memory::default(),
            now: "2026-01-05T09:00:00Z".parse().unwrap(),
            replicas: Vec::new(),
            strangers: Vec::new(),
            replaced: Vec::new(),
            file: None,
            included: true,
            nginx_runs: true,
            generation: 1,
            leaving: false,
            loaded: true,
            registry: Fact::Seen(()),
            moved: None,
            tags: None,
            closed: None,
            bad_tags: BTreeSet::new(),
            gone: false,
            acknowledged: false,
            next_id: 0,
            log: Vec::new(),
            story: Vec::new(),
        }
    }

    pub(crate) fn tag(&mut self, tag: &str) {
        self.service.tag.tag = Tag::new(tag).unwrap();
    }

    pub(crate) fn after(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    pub(crate) fn replica(&mut self, name: &str) -> &mut Replica {
        self.replicas.iter_mut().find(|it| it.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    pub(crate) fn servers(&self) -> Vec<String> {
        self.file.as_ref().map(|(_, servers)| servers.clone()).unwrap_or_default()
    }

    /// Names of the replicas nginx sends requests to.
    pub(crate) fn serving(&self) -> Vec<String> {
        let servers = self.servers();
        let address = |it: &Replica| it.port.map(|port| format!("127.0.0.1:{port}"));
        self.replicas
            .iter()
            .filter(|it| address(it).is_some_and(|a| servers.contains(&a)))
            .map(|it| it.name.clone())
            .collect()
    }

    fn workers(&self) -> BTreeSet<Worker> {
        let pid = u32::try_from(100 + self.generation).unwrap();
        BTreeSet::from([Worker { pid, started_ms: self.generation }])
    }

    fn resolved(&self, registry: &Fact<()>) -> Fact<Digest> {
        match registry {
            Fact::Seen(()) => {
                Fact::Seen(self.moved.clone().unwrap_or_else(|| digest_of(self.service.tag.tag.as_str())))
            }
            Fact::Absent => Fact::Absent,
            Fact::Unreadable(why) => Fact::Unreadable(why.clone()),
        }
    }

    /// The registry lists these tags, each pushed a minute after the one before.
    pub(crate) fn lists(&mut self, tags: &[&str]) {
        self.tags = Some(Fact::Seen(listed(tags)));
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let file = match &self.file {
            None => Fact::Absent,
            Some((text, servers)) => Fact::Seen(ServersFile {
                sha256: crate::model::hash::sha256_hex(text),
                servers: servers.clone(),
                changed_at: self.now,
            }),
        };
        let leaving = if self.leaving { BTreeSet::from([Worker { pid: 99, started_ms: 0 }]) } else { BTreeSet::new() };
        let taken: BTreeSet<u16> = self.replicas.iter().filter_map(|it| it.port).collect();
        let ports = |group: Group| {
            let range = self.service.docker.publish.of(group).unwrap_or(PortRange { first: 20000, last: 20999 });
            let offset = if group == Group::Green && range.first == 20000 { 100 } else { 0 };
            (range.first + offset..=range.last)
                .filter(|port| !taken.contains(port))
                .take(self.service.replicas as usize + 1)
                .collect::<Vec<_>>()
        };
        Snapshot {
            image: match (&self.registry, &self.service.tag.digest) {
                (_, Some(pinned)) => Fact::Seen(pinned.clone()),
                (registry, None) => self.resolved(registry),
            },
            env_file: None,
            aws_account: None,
            platform: PlatformSeen {
                replicas: Fact::Seen(self.replicas.clone()),
                strangers: self.strangers.clone(),
                replaced: self.replaced.clone(),
                free_ports: [Group::Only, Group::Blue, Group::Green].map(|g| (g, ports(g))).into(),
                local_images: BTreeSet::new(),
                kept_images: Vec::new(),
            },
            nginx: self.service.nginx.as_ref().map(|_| NginxSeen {
                file,
                processes: if self.nginx_runs {
                    Fact::Seen(NginxProcesses { workers: self.workers(), leaving })
                } else {
                    Fact::Absent
                },
                included: Fact::Seen(self.included),
                loaded: self.loaded,
            }),
            ecs: None,
            alb: None,
            repository: None,
            tags: self.tags.clone(),
            source_closed: self.closed.clone(),
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        let snapshot = self.snapshot();
        let revision = SourceRevision("r1".to_owned());
        let made = if self.gone {
            plan_removal(&self.service.name, &snapshot, &self.memory, self.acknowledged, self.now)
        } else {
            plan(&self.service, &snapshot, &self.memory, &revision, self.now)
        };
        let service = (!self.gone).then_some(&self.service);
        if let Err(why) = check::verify(&made, service, &snapshot, &self.memory, self.acknowledged) {
            panic!("{why}\n{}\n{}", crate::plan::display::show("api", &made), self.log.join("\n"));
        }
        made
    }

    /// One turn; false when there was nothing to do.
    pub(crate) fn turn(&mut self) -> bool {
        let made = self.plan();
        for stage in &made.stages {
            for planned in stage {
                self.log.push(format!("{}  because {}", planned.step, planned.because));
                self.apply(&planned.step);
            }
        }
        !made.stages.is_empty()
    }

    /// Turns until nothing is left to do; then says what waits.
    pub(crate) fn run(&mut self) -> String {
        for _ in 0..60 {
            if !self.turn() {
                let holds: Vec<String> =
                    self.plan().holds.iter().map(|it| format!("! {}: {it}", it.reason())).collect();
                self.log.extend(holds);
                self.story.push(format!("-- {}", self.now));
                self.story.extend(self.log.clone());
                return std::mem::take(&mut self.log).join("\n");
            }
            self.probe();
        }
        panic!("never at rest:\n{}", self.log.join("\n"));
    }

    /// Probes answer, old workers leave.
    pub(crate) fn probe(&mut self) {
        self.after(1);
        self.leaving = false;
        let now = self.now;
        for it in &mut self.replicas {
            let tag_is_bad = self.bad_tags.iter().any(|tag| Some(digest_of(tag)) == it.digest);
            if it.state == ReplicaState::Running && matches!(it.health, Health::Unknown { .. }) {
                it.health = if tag_is_bad {
                    Health::Unhealthy(now, "GET / answered 500".to_owned())
                } else {
                    Health::Healthy(now)
                };
            }
        }
    }

    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Ecs(_) | Step::Alb(_) | Step::Registry(_) => panic!("this world has no AWS: {step}"),
            Step::Source(step) => self.service.tag = step.to.clone(),
            Step::Remember(change) => self.memory.apply(change),
            Step::Traffic(step) => {
                let text = TrafficStep::render(&step.service, &step.servers);
                self.file = Some((text, step.servers.iter().map(ToString::to_string).collect()));
                self.loaded = step.reload;
                if step.reload {
                    self.generation += 1;
                    self.leaving = true;
                }
            }
            Step::Platform(step) => self.apply_platform(step),
        }
    }

    fn apply_platform(&mut self, step: &PlatformStep) {
        match step {
            PlatformStep::Run(run) => {
                self.next_id += 1;
                self.replicas.push(Replica {
                    id: format!("id{}", self.next_id),
                    name: run.name.clone(),
                    group: run.group,
                    slot: run.slot,
                    release: run.hash.clone(),
                    digest: Some(run.release.digest.clone()),
                    state: ReplicaState::Running,
                    started_at: Some(self.now),
                    restart_count: 0,
                    port: run.host_port,
                    port_bound: true,
                    address: None,
                    restart: run.restart,
                    resources: run.resources,
                    volumes: run.release.volumes.clone(),
                    health: Health::unasked(self.now),
                    has_healthcheck: false,
                });
            }
            PlatformStep::Remove { target, .. } => self.replicas.retain(|it| it.id != target.id),
            PlatformStep::Retire { id, .. } => self.replaced.retain(|it| it.id != *id),
            PlatformStep::Unpause { target } => {
                self.replicas
                    .iter_mut()
                    .filter(|it| it.id == target.id)
                    .for_each(|it| it.state = ReplicaState::Running);
            }
            PlatformStep::Update { target, restart, resources } => {
                for it in self.replicas.iter_mut().filter(|it| it.id == target.id) {
                    it.restart = *restart;
                    it.resources = *resources;
                }
            }
            PlatformStep::Pull { .. } | PlatformStep::RemoveImage { .. } => {}
        }
    }

    /// A settled service of one tag.
    pub(crate) fn settled(tag: &str, replicas: u32) -> Self {
        let mut world = Self::new(service(tag, replicas));
        world.run();
        assert!(world.plan().is_settled(), "{:?}", world.plan());
        world
    }

    pub(crate) fn declared(&mut self, colour: Colour) {
        self.service.active_colour = Some(colour);
    }
}

/// The name of a replica of `api`.
pub(crate) fn name(group: Group, slot: u32) -> String {
    container_name(&ServiceName::new("api").unwrap(), group, slot)
}
