//! The comment as it is posted.

use insta::assert_snapshot;
use jiff::Timestamp;

use super::*;
use crate::cli::desired::Desired;
use crate::cli::difference::{Difference, How};
use crate::model::commit::Commit;
use crate::model::desired::SourceRevision;
use crate::model::image::{Tag, TagSpec};
use crate::model::memory::MemoryChange;
use crate::model::names::{ControllerId, ServiceName};
use crate::plan::Plan;
use crate::plan::hold::Hold;
use crate::plan::step::{PlannedStep, SourceStep, Step};
use crate::source::{FileText, HostRules, parse};

const IDS: [&str; 2] = ["3f2a1b9c0d12e4f5a6b7c8d9e0f1a2b3c4d5e6f7", "a8a96fa5ea4de487bc74a1a3a4deeb13d3c832c7"];

fn commit(id: &str, subject: &str, author: &str) -> Commit {
    Commit { id: id.into(), author: author.into(), subject: subject.into(), at: Timestamp::UNIX_EPOCH }
}

/// The commit of a pull request, which asks for `names`.
fn desired(names: &[&str]) -> Desired {
    let service =
        |name: &&str| format!("  {name}: {{image: registry.example/{name}, tag: \"2\", docker: {{port: 80}}}}\n");
    let text = format!("services:\n{}", names.iter().map(service).collect::<String>());
    let rules = HostRules { controller: ControllerId::new("prod").unwrap(), named: true, mounts: Vec::new() };
    let files = [FileText { path: "prod/a.yaml".into(), text }];
    let revision = SourceRevision(IDS[0].to_owned());
    let state = parse("prod".as_ref(), &files, &rules, &revision, Timestamp::UNIX_EPOCH).unwrap();
    Desired {
        from: "https://github.com/acme/deploy#main:prod".into(),
        state: Some(state),
        report: Default::default(),
        commit: Some(commit(IDS[0], "api: tag 1 -> 2", "Ann")),
        in_force: Some(commit(IDS[1], "before", "Bob")),
        comes_after: Some(true),
        objection: None,
    }
}

fn settled(name: &str) -> Planned {
    Planned { name: ServiceName::new(name).unwrap(), plan: Plan::default(), differences: Vec::new() }
}

fn waiting(name: &str, holds: Vec<Hold>) -> Planned {
    Planned { plan: Plan::waiting(holds), ..settled(name) }
}

fn tag(tag: &str) -> TagSpec {
    TagSpec { tag: Tag::new(tag).unwrap(), digest: None }
}

fn step(name: &str, because: &str) -> PlannedStep {
    let step =
        SourceStep { service: ServiceName::new(name).unwrap(), from: tag("1"), to: tag("2"), why: String::new() };
    PlannedStep { step: Step::Source(step), because: because.into() }
}

fn changing(name: &str, because: &str) -> Planned {
    let mut planned = settled(name);
    planned.plan.stages = vec![vec![step(name, because)], vec![step(name, because), step(name, "of both")]];
    planned.plan.view.stage = "starting green".into();
    planned.differences = vec![
        differs("tag", Some("1"), Some("2"), How::NewContainers),
        differs("replicas", Some("2"), Some("3"), How::InPlace),
    ];
    planned
}

fn differs(field: &str, from: Option<&str>, to: Option<&str>, how: How) -> Difference {
    Difference { field: field.into(), how, from: from.map(str::to_owned), to: to.map(str::to_owned) }
}

fn shown(desired: &Desired, services: &[Planned]) -> String {
    render(&Shown { controller: "prod", desired, services })
}

#[test]
fn nothing() {
    let names: Vec<String> = (0..23).map(|number| format!("s{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let services: Vec<Planned> = names.iter().map(|name| settled(name)).collect();
    assert_snapshot!(shown(&desired(&names), &services));
}

#[test]
fn changes() {
    let mut desired = desired(&["api", "adopted", "web"]);
    desired.comes_after = Some(false);
    desired.objection = Some("its signature does not count: it carries no signature\n  hint: sign commits".into());
    let mut fields = changing("web", "the file says so");
    fields.differences = vec![
        differs("docker.port", Some("8080"), None, How::NewContainers),
        differs("docker.volumes", None, Some("logs:/log"), How::NewContainers),
        differs("docker.init", Some("false"), Some("true"), How::NewContainers),
        differs("docker.env.A", Some("(a value)"), Some("(another value)"), How::NewContainers),
        differs("replicas", Some("1"), Some("2"), How::InPlace),
    ];
    let gone = Planned { differences: Vec::new(), ..changing("gone", "it left the file") };
    let mut adopted = settled("adopted");
    adopted.plan.stages = vec![vec![PlannedStep {
        step: Step::Remember(MemoryChange::EndAttempt),
        because: "it runs as the file says".into(),
    }]];
    assert_snapshot!(shown(&desired, &[changing("api", "tag: 1 -> 2"), fields, gone, settled("calm"), adopted]));
}

#[test]
fn holds() {
    let mut then = changing("api", "tag: 1 -> 2");
    then.plan.holds = vec![Hold::MemoryUnreadable { why: "of a newer version".into() }];
    let paused = Hold::Paused { by: "ann".into(), since: Timestamp::UNIX_EPOCH };
    let refused = Hold::PlanRefused { invariant: "S1: nothing serves".into() };
    assert_snapshot!(shown(&desired(&["api", "web"]), &[then, waiting("web", vec![paused, refused])]));
}

#[test]
fn hostile_strings() {
    const HOSTILE: &str =
        "x | y\n\n</details> `a` <script>alert(1)</script> @acme/all #1 **b** [c](http://d) --> \u{202e}";
    let mut hostile = desired(&["api"]);
    hostile.commit = Some(commit(IDS[0], HOSTILE, HOSTILE));
    hostile.from = HOSTILE.into();
    let mut planned = changing("api", HOSTILE);
    planned.plan.view.stage = HOSTILE.into();
    planned.plan.holds = vec![Hold::Paused { by: HOSTILE.into(), since: Timestamp::UNIX_EPOCH }];
    planned.differences.push(differs(HOSTILE, Some(HOSTILE), Some(HOSTILE), How::InPlace));
    let text = shown(&hostile, &[planned]);
    for bad in ["<script", "@acme", "`a`", " #1", "**b**", "[c]", "\u{202e}", "x | y"] {
        assert!(!text.contains(bad), "{bad}");
    }
    assert_eq!(text.matches("</details>").count(), 1);
    assert_eq!(text.matches("-->").count(), 1, "the marker's own");
    assert_snapshot!(text);
}

#[test]
fn cut() {
    let names: Vec<String> = (0..900).map(|number| format!("service-{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let because = "w|".repeat(300);
    let mut services: Vec<Planned> = names.iter().map(|name| changing(name, &because)).collect();
    // One alone is too much, too.
    services[0].plan.stages = vec![vec![step("service-000", &because); 500]];
    let text = shown(&desired(&names), &services);
    assert!((50_000..=60_000).contains(&text.len()), "{}", text.len());
    let rows = text.matches("| **service-").count();
    assert!(rows > 100 && text.contains(&format!("\n… and {} more services.\n", 900 - rows)), "{rows}");
    let whole = text.matches("<details><summary>").count();
    assert_eq!(text.matches("</details>").count(), whole, "none is cut in the middle");
    let left = format!("… and {} more services, too long for one comment: `holdfast plan` shows them.\n", 900 - whole);
    assert!(text.ends_with(&left), "{}", &text[text.len() - 200..]);
    let first = text.split("</details>").next().unwrap();
    assert!(first.len() < TABLE + SERVICE + 2_000 && first.contains(" more.\n"), "{}", first.len());
}

#[test]
fn mistakes() {
    let words = "prod/a.yaml:3:5: unknown key `imagee`; expected `image`\n  hint: did you mean `image`?\nprod/b.yaml: it is a\n```\n@all";
    let why = Failure::new("the desired state <b> is not valid").because(words).try_this("ask @ann");
    assert_snapshot!(failure("prod", &why));
}
