//! Docker and nginx.

use std::path::PathBuf;
use std::time::Duration;

use holdfast::model::colour::Colour;
use holdfast::model::desired::{NginxTraffic, Order, Promote, Service, Strategy};
use holdfast::model::status::Phase;
use holdfast::platform::sandbox::Sandbox;

use crate::fakes::{self, name};
use crate::shim::{OUTCOMES, Outcome, Rules};
use crate::stage::{Act, Happening, Scenario, with_one_fault, without_a_fault};

fn servers() -> PathBuf {
    PathBuf::from("/etc/nginx/holdfast/api.servers")
}

fn serving(sandbox: &Sandbox) -> usize {
    sandbox.serving(&servers()).len()
}

/// The containers, without their slots.
fn containers(sandbox: &Sandbox) -> Vec<String> {
    let mut containers = sandbox.containers();
    for name in &mut containers {
        name.truncate(name.rfind('-').unwrap_or(name.len()));
    }
    containers
}

fn api(tag: &str, replicas: u32) -> Service {
    let mut service = fakes::service("api", tag, replicas);
    service.nginx = Some(NginxTraffic { file: servers() });
    service.rollout.strategy = Strategy::BlueGreen;
    service.rollout.bake = Duration::from_secs(5);
    service.health.successes = 1;
    service.health.deadline = Duration::from_secs(30);
    service
}

fn with(mut service: Service, change: impl FnOnce(&mut Service)) -> Service {
    change(&mut service);
    service
}

fn rolling(tag: &str, replicas: u32) -> Service {
    with(api(tag, replicas), |it| it.rollout.strategy = Strategy::Rolling)
}

fn worker(tag: &str, replicas: u32) -> Service {
    with(rolling(tag, replicas), |it| it.nginx = None)
}

#[expect(clippy::too_many_lines, reason = "one scenario after the other: a table")]
fn scenarios() -> Vec<Scenario> {
    use Happening::{File, FileInPassing};
    let somebody = |act: Act| Happening::Somebody(act);
    let file = |service: Service| File(vec![service], Vec::new());
    let passing = |service: Service| FileInPassing(vec![service]);
    let colour = |tag, n, colour| with(api(tag, n), |it| it.active_colour = Some(colour));
    let serves = Rules { always_serves: true, serving };
    let may_stop = Rules { always_serves: false, serving };
    let settled = |names: &[&'static str]| (names.to_vec(), Phase::Settled);
    let scenario =
        |name, story, rules, end| Scenario { name, story, rules, end, there_is: containers, counted: |_| Vec::new() };
    vec![
        scenario("first deploy", vec![file(api("v1", 2))], serves, settled(&["api-blue", "api-blue"])),
        scenario("new tag", vec![file(api("v1", 2)), file(api("v2", 2))], serves, settled(&["api-green", "api-green"])),
        scenario(
            "new tag twice",
            vec![file(api("v1", 1)), file(api("v2", 1)), file(api("v3", 1))],
            serves,
            settled(&["api-blue"]),
        ),
        scenario(
            "superseded on the way",
            vec![file(api("v1", 1)), passing(api("v2", 1)), file(api("v3", 1))],
            serves,
            settled(&["api-green"]),
        ),
        scenario(
            "back before it came to anything",
            vec![file(api("v1", 1)), passing(api("v2", 1)), file(api("v1", 1))],
            serves,
            settled(&["api-blue"]),
        ),
        scenario(
            "bad tag",
            vec![file(api("v1", 2)), file(api("bad", 2))],
            serves,
            (vec!["api-blue", "api-blue"], Phase::Failed),
        ),
        scenario(
            "bad tag, then a good one",
            vec![file(api("v1", 1)), file(api("bad", 1)), file(api("v2", 1))],
            serves,
            settled(&["api-green"]),
        ),
        scenario("first deploy is bad", vec![file(api("bad", 1))], may_stop, (vec![], Phase::Failed)),
        scenario(
            "scale up and down",
            vec![file(api("v1", 1)), file(api("v1", 3)), file(api("v1", 1))],
            serves,
            settled(&["api-blue"]),
        ),
        scenario("to zero", vec![file(api("v1", 2)), file(api("v1", 0))], may_stop, settled(&[])),
        scenario(
            "to zero and back",
            vec![file(api("v1", 1)), file(api("v1", 0)), file(api("v1", 1))],
            may_stop,
            settled(&["api-blue"]),
        ),
        scenario(
            "colour alone",
            vec![file(colour("v1", 1, Colour::Blue)), file(colour("v1", 1, Colour::Green))],
            serves,
            settled(&["api-green"]),
        ),
        scenario(
            "in place",
            vec![file(colour("v1", 2, Colour::Blue)), file(colour("v2", 2, Colour::Blue))],
            serves,
            settled(&["api-blue", "api-blue"]),
        ),
        scenario("rolling", vec![file(rolling("v1", 2)), file(rolling("v2", 2))], serves, settled(&["api", "api"])),
        scenario("worker", vec![file(worker("v1", 2)), file(worker("v2", 2))], may_stop, settled(&["api", "api"])),
        scenario(
            "stop first",
            vec![
                file(with(worker("v1", 1), |it| it.rollout.order = Order::StopFirst)),
                file(with(worker("v2", 1), |it| it.rollout.order = Order::StopFirst)),
            ],
            may_stop,
            settled(&["api"]),
        ),
        scenario(
            "killed",
            vec![file(api("v1", 2)), somebody(|world| assert!(world.kill("api-blue-1")))],
            serves,
            settled(&["api-blue", "api-blue"]),
        ),
        scenario(
            "the only one killed",
            vec![file(api("v1", 1)), somebody(|world| assert!(world.kill("api-blue-1")))],
            may_stop,
            settled(&["api-blue"]),
        ),
        scenario(
            "removed",
            vec![file(api("v1", 2)), somebody(|world| assert!(world.remove("api-blue-2")))],
            serves,
            settled(&["api-blue", "api-blue"]),
        ),
        scenario(
            "upstream edited",
            vec![file(api("v1", 1)), somebody(|world| world.edit_servers(&servers(), "server 127.0.0.1:9;\n"))],
            may_stop,
            settled(&["api-blue"]),
        ),
        scenario(
            "somebody reloads",
            vec![file(api("v1", 1)), somebody(Sandbox::foreign_reload), file(api("v2", 1))],
            serves,
            settled(&["api-green"]),
        ),
        scenario(
            "removal acknowledged",
            vec![file(api("v1", 1)), File(vec![worker2()], vec!["api"])],
            may_stop,
            (vec!["other"], Phase::Settled),
        ),
        scenario(
            "promotion waits",
            vec![file(api("v1", 1)), file(with(api("v2", 1), |it| it.rollout.promote = Promote::Manual))],
            serves,
            (vec!["api-blue", "api-green"], Phase::Holding),
        ),
        scenario("strategy changes", vec![file(api("v1", 1)), file(rolling("v1", 1))], serves, settled(&["api"])),
    ]
}

fn worker2() -> Service {
    with(worker("v1", 1), |it| it.name = name("other"))
}

#[test]
fn without_a_fault_every_scenario_ends_as_the_file_says() {
    without_a_fault(&scenarios());
}

#[test]
fn one_fault_at_any_call_breaks_no_invariant_and_delays_the_end_at_most() {
    let of_a_host: Vec<Outcome> = OUTCOMES.into_iter().filter(|it| *it != Outcome::Throttle).collect();
    with_one_fault(&scenarios(), &of_a_host);
}
