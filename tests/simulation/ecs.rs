//! ECS and its load balancer.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast::controller::Verb;
use holdfast::model::colour::Group;
use holdfast::model::desired::{CanaryStep, Service, Strategy};
use holdfast::model::ecs::{AlbTraffic, Ecs};
use holdfast::model::status::Phase;
use holdfast::platform::sandbox::Sandbox;

use crate::fakes::{self, name};
use crate::shim::{OUTCOMES, Rules};
use crate::stage::{Act, Happening, Scenario, with_one_fault, without_a_fault};

fn rolling(tag: &str, replicas: u32) -> Service {
    let mut service = fakes::service("api", tag, replicas);
    service.docker.port = None;
    service.rollout.strategy = Strategy::Rolling;
    service.rollout.bake = Duration::from_secs(5);
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

fn traffic() -> AlbTraffic {
    AlbTraffic { rule: "arn:rule".to_owned(), target_groups: both("tg/blue", "tg/green"), region: None }
}

fn both(blue: &str, green: &str) -> BTreeMap<Group, String> {
    BTreeMap::from([(Group::Blue, blue.to_owned()), (Group::Green, green.to_owned())])
}

fn colours(tag: &str, replicas: u32) -> Service {
    let mut service = rolling(tag, replicas);
    service.rollout.strategy = Strategy::BlueGreen;
    service.rollout.drain = Duration::from_secs(2);
    service.ecs.as_mut().unwrap().services = both("api", "api-green");
    service.alb = Some(traffic());
    service
}

/// Another service, so that there is one when `api` left the file.
fn other() -> Service {
    let mut service = rolling("initial", 1);
    service.name = name("other");
    service.ecs.as_mut().unwrap().services = BTreeMap::from([(Group::Only, "other".to_owned())]);
    service
}

fn tasks(sandbox: &Sandbox) -> usize {
    sandbox.ecs_service("plog", "api").map_or(0, |it| it.running as usize)
}

fn targets(sandbox: &Sandbox) -> usize {
    sandbox.alb_serving(&traffic()) as usize
}

/// Every service of the account.
fn services(sandbox: &Sandbox) -> Vec<String> {
    let names = ["api", "api-green", "other"];
    let of = |name: &&str| {
        let it = sandbox.ecs_service("plog", name)?;
        Some(format!("{name} {} {}/{}", it.definition, it.running, it.desired))
    };
    names.iter().filter_map(of).collect()
}

/// The same by tag: how many revisions there are depends on how far a release came that was superseded.
fn services_by_tag(sandbox: &Sandbox) -> Vec<String> {
    let it = sandbox.ecs_service("plog", "api");
    it.map(|it| format!("api {} {}/{}", it.tag, it.running, it.desired)).into_iter().collect()
}

/// What is done once: revisions, deployments, services created and deleted. Tags may be told twice.
fn counted(sandbox: &Sandbox) -> Vec<String> {
    let once = ["RegisterTaskDefinition", "CreateService", "DeleteService", "ModifyRule"];
    let is_counted = |it: &String| once.iter().any(|call| it.starts_with(call)) || it.contains("(rolls tasks)");
    sandbox.ecs_calls().into_iter().filter(is_counted).collect()
}

fn with(mut service: Service, change: impl FnOnce(&mut Service)) -> Service {
    change(&mut service);
    service
}

fn file(service: Service) -> Happening {
    Happening::File(vec![service], Vec::new())
}

fn somebody(act: Act) -> Happening {
    Happening::Somebody(act)
}

fn scenario(
    name: &'static str,
    is_behind_a_rule: bool,
    story: Vec<Happening>,
    end: (&[&'static str], Phase),
) -> Scenario {
    let rules = Rules { always_serves: true, serving: if is_behind_a_rule { targets } else { tasks } };
    Scenario { name, story, rules, end: (end.0.to_vec(), end.1), there_is: services, counted }
}

fn by_tag(mut scenario: Scenario) -> Scenario {
    scenario.there_is = services_by_tag;
    scenario
}

fn may_stop(mut scenario: Scenario) -> Scenario {
    scenario.rules.always_serves = false;
    scenario
}

fn tasks_roll() -> Vec<Scenario> {
    let settled = Phase::Settled;
    let rolls = |name, story, end| scenario(name, false, story, end);
    vec![
        rolls("adopt", vec![file(rolling("initial", 2))], (&["api api:1 2/2"], settled)),
        rolls("tag edit", vec![file(rolling("initial", 2)), file(rolling("v1", 2))], (&["api api:2 2/2"], settled)),
        rolls(
            "tag and count",
            vec![file(rolling("initial", 1)), file(rolling("v1", 3))],
            (&["api api:2 3/3"], settled),
        ),
        rolls(
            "bad tag",
            vec![file(rolling("initial", 2)), file(rolling("bad", 2))],
            (&["api api:1 2/2"], Phase::Failed),
        ),
        rolls(
            "bad tag, then a good one",
            vec![file(rolling("initial", 1)), file(rolling("bad", 1)), file(rolling("v2", 1))],
            (&["api api:3 1/1"], settled),
        ),
        by_tag(rolls(
            "superseded on the way",
            vec![file(rolling("initial", 2)), Happening::FileInPassing(vec![rolling("v1", 2)]), file(rolling("v2", 2))],
            (&["api v2 2/2"], settled),
        )),
        rolls("scale", vec![file(rolling("initial", 1)), file(rolling("initial", 3))], (&["api api:1 3/3"], settled)),
        rolls(
            "count drifts",
            vec![file(rolling("initial", 2)), somebody(|world| world.ecs_scale(&name("api"), "plog", "api", 5))],
            (&["api api:1 2/2"], settled),
        ),
        rolls(
            "console edit",
            vec![file(rolling("v1", 1)), somebody(|world| world.ecs_edit(&name("api"), "plog", "api"))],
            (&["api api:2 1/1"], settled),
        ),
        rolls(
            "a task is lost",
            vec![file(rolling("v1", 2)), somebody(|world| world.ecs_lose_task(&name("api"), "plog", "api"))],
            (&["api api:2 2/2"], settled),
        ),
        rolls(
            "rollback by a person",
            vec![file(rolling("initial", 1)), file(rolling("v1", 1)), Happening::Says(Verb::Rollback)],
            (&["api api:1 1/1"], Phase::Degraded),
        ),
        may_stop(rolls(
            "removal acknowledged",
            vec![
                Happening::File(vec![rolling("v1", 1), other()], Vec::new()),
                Happening::File(vec![other()], vec!["api"]),
            ],
            (&["other other:1 1/1"], settled),
        )),
    ]
}

fn colours_switch() -> Vec<Scenario> {
    let settled = Phase::Settled;
    let switches = |name, story, end| scenario(name, true, story, end);
    vec![
        switches("adopt a colour", vec![file(colours("initial", 2))], (&["api api:1 2/2"], settled)),
        switches(
            "switch",
            vec![file(colours("initial", 1)), file(colours("v1", 1))],
            (&["api api:1 0/0", "api-green api:2 1/1"], settled),
        ),
        switches(
            "switch and switch",
            vec![file(colours("initial", 1)), file(colours("v1", 1)), file(colours("v2", 1))],
            (&["api api:3 1/1", "api-green api:2 0/0"], settled),
        ),
        switches(
            "bad colour",
            vec![file(colours("initial", 1)), file(colours("bad", 1))],
            (&["api api:1 1/1", "api-green api:2 0/0"], Phase::Failed),
        ),
        switches(
            "canary",
            vec![
                file(colours("initial", 1)),
                file(with(colours("v1", 1), |it| {
                    it.rollout.canary = vec![CanaryStep { weight: 10, hold: Some(Duration::from_secs(3)) }];
                })),
            ],
            (&["api api:1 0/0", "api-green api:2 1/1"], settled),
        ),
        switches(
            "weights edited",
            vec![
                file(colours("v1", 1)),
                somebody(|world| world.alb_edit(&name("api"), &traffic(), &[("tg/blue", 50), ("tg/green", 50)])),
            ],
            (&["api api:1 0/0", "api-green api:2 1/1"], settled),
        ),
    ]
}

#[test]
fn without_a_fault_every_scenario_ends_as_the_file_says() {
    without_a_fault(&tasks_roll());
    without_a_fault(&colours_switch());
}

#[test]
fn one_fault_at_any_call_of_a_rolling_service_does_nothing_twice() {
    with_one_fault(&tasks_roll(), &OUTCOMES);
}

#[test]
fn one_fault_at_any_call_of_a_colour_does_nothing_twice() {
    with_one_fault(&colours_switch(), &OUTCOMES);
}
