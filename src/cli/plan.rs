//! `holdfast plan`: what `run` would do now, and why.

mod json;
mod markdown;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::controller::observe::{Look, observe};
use crate::model::desired::{DesiredState, Service};
use crate::model::memory::Memory;
use crate::model::names::ServiceName;
use crate::model::snapshot::{Fact, Health, Replica, ReplicaState, Snapshot};
use crate::plan::Plan;
use crate::plan::hold::Hold;
use crate::plan::step::Step;
use crate::ports::{Edges, Wake, Wakes};

use super::desired::{self, Desired, DesiredArgs};
use super::difference::{self, Difference};
use super::failure::{Exit, Failure};
use super::{Surroundings, edges, out, run};

/// How long the first probes of running replicas may take: `run` would hear them at once, a verdict needs
/// `successes` good answers, 10 ms apart at first.
const PROBES: Duration = Duration::from_secs(3);

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 nothing to do, 2 there are changes, 1 an error. What only waits
(a hold) is shown and is no change.

Examples:
  holdfast plan desired-state/prod
  holdfast plan --commit 3f2a1b9c0d12e4f5a6b7c8d9e0f1a2b3c4d5e6f7
  holdfast plan -o json | jq '.services[].steps'")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    desired: DesiredArgs,
    /// Only this service.
    #[arg(long, value_parser = ServiceName::new)]
    service: Option<ServiceName>,
    /// How it is written.
    #[arg(long, short, value_enum, default_value_t)]
    output: PlanFormat,
}

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum PlanFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For a comment on a pull request; a failure is written so too.
    Markdown,
}

/// What is shown.
struct Shown<'a> {
    controller: &'a str,
    desired: &'a Desired,
    services: &'a [Planned],
}

/// One service and what would be done for it.
struct Planned {
    name: ServiceName,
    plan: Plan,
    differences: Vec<Difference>,
}

impl Planned {
    /// What is only remembered changes nothing anybody could see: an adoption is no change.
    fn changes(&self) -> bool {
        self.plan.steps().any(|it| !matches!(it.step, Step::Remember(_)))
    }
}

/// Looks at the world, decides, and shows it. Nothing is written anywhere.
///
/// # Errors
/// When the desired state cannot be read or is not valid, or the memory cannot be read.
pub(crate) async fn run(args: &PlanArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let ended = desired::until_interrupted(plan(args, around)).await;
    if let (PlanFormat::Markdown, Err(failure)) = (args.output, &ended)
        && !failure.is_broken_pipe()
    {
        let controller = edges::settings(around).map(|it| it.controller.to_string()).unwrap_or_default();
        out::print(markdown::failure(&controller, failure))?;
    }
    ended
}

async fn plan(args: &PlanArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let mut settings = edges::settings(around)?;
    let read = desired::look(&args.desired, &mut settings).await?;
    let desired = read.valid()?;
    let (wakes, woken) = Wakes::channel();
    let edges = edges::build_read_only(&settings, &wakes)?;
    let memories =
        edges.store.load().await.map_err(|why| Failure::from_words("could not read the durable memory", &why))?;
    let unreadable =
        edges.store.unreadable().await.map_err(|why| Failure::from_words("could not read the durable memory", &why))?;
    let mut names = everything(desired, &memories, &edges).await;
    if let Some(only) = &args.service {
        if !names.contains(only) {
            let known: Vec<String> = names.iter().map(ToString::to_string).collect();
            return Err(super::status::unknown_service(only, &known));
        }
        names.retain(|name| name == only);
    }
    let snapshots = look(&edges, desired, &memories, &names, woken).await;
    let now = edges.clock.now();
    let nothing = Memory::default();
    let planned: Vec<Planned> = snapshots
        .iter()
        .map(|(name, snapshot)| {
            let memory = memories.get(name).unwrap_or(&nothing);
            let service = desired.services.get(name);
            let plan = match unreadable.get(name.as_str()) {
                Some(why) => Plan::waiting(vec![Hold::MemoryUnreadable { why: why.clone() }]),
                None => decide(desired, name, snapshot, memory, now),
            };
            let differences = difference::between(service, &plan, memory, snapshot);
            Planned { name: name.clone(), plan, differences }
        })
        .collect();
    let shown = Shown { controller: settings.controller.as_str(), desired: &read, services: &planned };
    match args.output {
        PlanFormat::Json => out::json(&json::render(&shown))?,
        PlanFormat::Text => out::print(text::render(&shown, out::colour()))?,
        PlanFormat::Markdown => out::print(markdown::render(&shown))?,
    }
    Ok(if planned.iter().any(Planned::changes) { Exit::Unsettled } else { Exit::Fine })
}

/// Services of the file, of the memory and of the engine.
async fn everything(
    desired: &DesiredState,
    memories: &BTreeMap<ServiceName, Memory>,
    edges: &Edges,
) -> BTreeSet<ServiceName> {
    let mut names: BTreeSet<ServiceName> = desired.services.keys().cloned().collect();
    let forgotten = Memory::default();
    names.extend(memories.iter().filter(|(_, memory)| **memory != forgotten).map(|(name, _)| name.clone()));
    match edges.platform.owned().await {
        Fact::Seen(owned) => names.extend(owned),
        Fact::Absent => {}
        // With every service on ECS there need not be an engine.
        Fact::Unreadable(_) if desired.services.values().all(|service| service.ecs.is_some()) => {}
        Fact::Unreadable(why) => out::remark(format!("warning: which containers are ours is not known: {why}")),
    }
    names
}

/// Looks at every service; twice where replicas run whose health nobody has asked for yet.
async fn look(
    edges: &Edges,
    desired: &DesiredState,
    memories: &BTreeMap<ServiceName, Memory>,
    names: &BTreeSet<ServiceName>,
    mut woken: UnboundedReceiver<Wake>,
) -> BTreeMap<ServiceName, Snapshot> {
    let nothing = Memory::default();
    let end = Instant::now() + PROBES;
    let mut snapshots = BTreeMap::new();
    let mut open = names.clone();
    loop {
        let looks = open.iter().map(|name| async {
            let service = desired.services.get(name);
            let memory = memories.get(name).unwrap_or(&nothing);
            let look = Look { name, service, memory, max_age: PROBES, settled: false };
            (name.clone(), observe(edges, look).await)
        });
        snapshots.extend(futures_util::future::join_all(looks).await);
        open.retain(|name| snapshots.get(name).is_some_and(|seen| undecided(desired.services.get(name), seen)));
        let woke = match open.is_empty() {
            true => return snapshots,
            false => tokio::time::timeout_at(end, woken.recv()).await,
        };
        if !matches!(woke, Ok(Some(_))) {
            return snapshots;
        }
    }
}

/// Whether a verdict on a running replica is still to come.
fn undecided(service: Option<&Service>, seen: &Snapshot) -> bool {
    let waits =
        |replica: &Replica| replica.state == ReplicaState::Running && matches!(replica.health, Health::Unknown { .. });
    service.is_some() && seen.platform.replicas.seen().is_some_and(|replicas| replicas.iter().any(waits))
}

fn decide(
    desired: &DesiredState,
    name: &ServiceName,
    snapshot: &Snapshot,
    memory: &Memory,
    now: jiff::Timestamp,
) -> Plan {
    let planner = run::planner();
    let service = desired.services.get(name);
    let acknowledged = service.is_none() && (desired.acknowledged.contains(name) || memory.removal_approved);
    let mut plan = match service {
        Some(service) => (planner.plan)(service, snapshot, memory, &desired.revision, now),
        None => (planner.plan_removal)(name, snapshot, memory, acknowledged, now),
    };
    if let Err(invariant) = (planner.verify)(&plan, service, snapshot, memory, acknowledged) {
        plan.stages.clear();
        plan.holds.push(Hold::PlanRefused { invariant });
    }
    plan
}
