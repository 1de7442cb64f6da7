//! `holdfast status`: what runs, and why the rest waits.

mod head;

use std::io::{self, IsTerminal};

use clap::Args;
use jiff::Timestamp;

use crate::model::colour::Colour;
use crate::model::names::ServiceName;
use crate::model::status::{Phase, ServiceStatus, Status};
use crate::ports::{Clock, WallClock};

use super::Surroundings;
use super::client::Client;
use super::failure::{Exit, Failure};
use super::out::{self, Format, Paint};
use super::stream::Patience;
use super::text;
pub(crate) use head::{cut_subject, short, trouble};

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 when everything shown is settled, 2 when not, 1 on an error.

Examples:
  holdfast status
  holdfast status dangdang-api --watch
  holdfast status -o json | jq '.services[].phase'")]
pub(crate) struct StatusArgs {
    /// Only this service.
    #[arg(value_parser = ServiceName::new)]
    service: Option<ServiceName>,
    /// Stay, and show every change as it happens (end with Ctrl-C).
    #[arg(long, short)]
    watch: bool,
    /// How it is written.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// Shows the status once, or on every change.
///
/// # Errors
/// When no controller answers.
pub(crate) async fn run(args: &StatusArgs, around: &Surroundings) -> Result<Exit, Failure> {
    if args.watch {
        return watch(args, around).await;
    }
    let client = Client::connect(&around.state_dir()?).await?;
    let status = fetch(&client, args.service.as_ref()).await?;
    show(&status, args.output)?;
    Ok(verdict(&status))
}

async fn watch(args: &StatusArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let state_dir = around.state_dir()?;
    let mut patience = Patience::default();
    let mut client = Client::connect(&state_dir).await?;
    let mut last = None;
    loop {
        // Open the stream before the first look: nothing can fall between them.
        let mut stream = client.stream(None).await?;
        loop {
            let status = fetch(&client, args.service.as_ref()).await?;
            if last.as_ref() != Some(&essence(&status)) {
                last = Some(essence(&status));
                redraw(&status, args.output)?;
            }
            patience.reset();
            tokio::select! {
                message = stream.next() => if message.is_none() { break },
                _ = tokio::signal::ctrl_c() => return Ok(verdict(&status)),
            }
        }
        out::remark("the controller went away; waiting for it");
        last = None;
        client = loop {
            patience.wait().await;
            if let Ok(client) = Client::connect(&state_dir).await {
                break client;
            }
        };
    }
}

/// What makes a redraw worth it: everything but the seconds since the source was read.
fn essence(status: &Status) -> Status {
    let mut status = status.clone();
    status.source.age = None;
    status.source.checked = None;
    for service in &mut status.services {
        service.next_look = None;
    }
    status
}

fn redraw(status: &Status, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => out::json_line(status),
        Format::Text => {
            if io::stdout().is_terminal() {
                // Home, then clear what is below: no flicker, and the scrollback stays.
                out::print("\x1b[H\x1b[J")?;
            }
            show(status, format)
        }
    }
}

/// The status, of one service where one is asked for.
///
/// # Errors
/// When no controller answers, or it has no such service.
pub(crate) async fn fetch(client: &Client, service: Option<&ServiceName>) -> Result<Status, Failure> {
    let mut status: Status = client.get("/api/v1/services", &[]).await?;
    if let Some(name) = service {
        let known: Vec<String> = status.services.iter().map(|service| service.name.to_string()).collect();
        status.services.retain(|service| service.name == *name);
        if status.services.is_empty() {
            return Err(unknown_service(name, &known));
        }
    }
    Ok(status)
}

/// No such service, with the nearest name that exists.
pub(crate) fn unknown_service(name: &ServiceName, known: &[String]) -> Failure {
    let failure = Failure::new(format!("the controller has no service `{name}`"));
    let near = known
        .iter()
        .map(|other| (strsim::damerau_levenshtein(name.as_str(), other), other))
        .filter(|(distance, _)| *distance <= 3)
        .min();
    match near {
        Some((_, other)) => failure.try_this(format!("did you mean `{other}`?")),
        None if known.is_empty() => failure.try_this("it has none yet: is the desired state empty?"),
        None => failure.try_this(format!("it has {}", known.join(", "))),
    }
}

fn verdict(status: &Status) -> Exit {
    let settled = status.services.iter().all(|service| service.phase == Phase::Settled);
    if settled && status.source.error.is_none() { Exit::Fine } else { Exit::Unsettled }
}

fn show(status: &Status, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => out::json(status),
        Format::Text => out::print(render(status, WallClock.now(), out::colour())),
    }
}

/// The table, within 80 columns.
pub(crate) fn render(status: &Status, now: Timestamp, colour: bool) -> String {
    let mut text = head::head(status, now, colour);
    if status.services.is_empty() {
        text.push_str("no service yet\n");
        return text;
    }
    let longest = |of: fn(&ServiceStatus) -> usize, least: usize, most: usize| {
        status.services.iter().map(of).max().unwrap_or(0).clamp(least, most)
    };
    let name = longest(|service| service.name.as_str().chars().count(), 7, 24);
    let tag = longest(|service| shown_tag(service).chars().count(), 3, 17);
    let titles = format!("{:name$}  {:11}  {:tag$}  {:6}  {:7}  SINCE", "SERVICE", "PHASE", "TAG", "COLOUR", "HEALTHY");
    text.push_str(&Paint::Bold.on(&titles, colour));
    text.push('\n');
    for service in &status.services {
        text.push_str(&row(service, name, tag, now, colour));
        below(&mut text, service, now, colour);
    }
    text
}

fn row(service: &ServiceStatus, name: usize, tag: usize, now: Timestamp, colour: bool) -> String {
    let phase = Paint::of(service.phase).on(&format!("{:11}", format!("{:?}", service.phase)), colour);
    let shown = match service.active_colour {
        Some(Colour::Blue) => Paint::Blue.on("blue  ", colour),
        Some(Colour::Green) => Paint::Green.on("green ", colour),
        None => "-     ".to_owned(),
    };
    let since = service.last_change.map_or_else(|| "-".to_owned(), |at| text::age(at, now));
    let row = format!(
        "{:name$}  {phase}  {:tag$}  {shown}  {:7}  {since}",
        text::cut(service.name.as_str(), name),
        text::cut(&shown_tag(service), tag),
        healthy(service),
    );
    format!("{}\n", row.trim_end())
}

/// Of what serves: what the file asks for is below when it differs.
fn shown_tag(service: &ServiceStatus) -> String {
    match &service.serving {
        Some(serving) => serving.tag.clone(),
        None => "-".to_owned(),
    }
}

/// Healthy of wanted, of the group that serves (of all there is before anything does).
fn healthy(service: &ServiceStatus) -> String {
    let serving = service.active_colour.map_or_else(|| "only".to_owned(), |colour| colour.to_string());
    let (healthy, desired) = match service.colours.get(&serving) {
        Some(group) => (group.healthy, group.desired),
        None => service.colours.values().fold((0, 0), |(h, d), group| (h + group.healthy, d + group.desired)),
    };
    format!("{healthy}/{desired}")
}

fn below(text: &mut String, service: &ServiceStatus, now: Timestamp, colour: bool) {
    if service.phase == Phase::Settled {
        return;
    }
    let serving = service.serving.as_ref().map(|version| version.tag.as_str());
    let mut more = Vec::new();
    if serving != Some(service.desired.tag.as_str()) && !service.desired.tag.is_empty() {
        more.push(format!("wants {}", service.desired.tag));
    }
    if !service.stage.is_empty() {
        more.push(service.stage.clone());
    }
    if !more.is_empty() {
        text.push_str(&Paint::Dim.on(&text::wrap("  ", &more.join(", ")), colour));
        text.push('\n');
    }
    for hold in &service.holds {
        let first = format!("  {} ({}): ", hold.reason, text::age(hold.since, now));
        let mut lines = hold.message.lines();
        text.push_str(&text::wrap_at(&first, 4, lines.next().unwrap_or_default()));
        // A hint stays a line of its own.
        for line in lines {
            text.push('\n');
            text.push_str(&text::wrap_at("    ", 4, line));
        }
        text.push('\n');
    }
}

impl Paint {
    /// How a phase is set off.
    pub(crate) const fn of(phase: Phase) -> Self {
        match phase {
            Phase::Settled => Self::Green,
            Phase::Progressing | Phase::Holding | Phase::Paused => Self::Yellow,
            Phase::Degraded | Phase::Failed | Phase::Unknown => Self::Red,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status::{ColourStatus, HoldStatus, SourceStatus, Version};
    use std::collections::BTreeMap;

    fn service(name: &str, phase: Phase) -> ServiceStatus {
        let group = ColourStatus { desired: 2, healthy: 1, running: 2, weight: 100, ..ColourStatus::default() };
        ServiceStatus {
            name: ServiceName::new(name).unwrap(),
            platform: "docker".into(),
            phase,
            stage: "starting green".into(),
            desired: Version { tag: "9c0ffee".into(), ..Version::default() },
            serving: Some(Version { tag: "3f2a1b9-with-a-very-long-tail".into(), ..Version::default() }),
            previous: None,
            active_colour: Some(Colour::Blue),
            colours: BTreeMap::from([("blue".into(), group)]),
            holds: vec![HoldStatus {
                reason: "AwaitingHealth".into(),
                message: "waiting for green: 1 of 2 healthy, until 2024-11-22T08:00:00Z; last answer: HTTP status 503"
                    .into(),
                since: Timestamp::UNIX_EPOCH,
            }],
            rolled_back_from: None,
            quarantined: BTreeMap::new(),
            pin: None,
            last_change: Some(Timestamp::UNIX_EPOCH),
            next_look: None,
            revision: None,
            as_of: None,
        }
    }

    fn status(services: Vec<ServiceStatus>) -> Status {
        Status {
            schema_version: 1,
            controller: "web-1".into(),
            source: SourceStatus {
                revision: Some("0123456789abcdef".into()),
                age: Some(4),
                error: Some("desired-state/api.yaml:3:5: unknown key `tga`; did you mean `tag`?".into()),
                from: "/etc/holdfast/desired-state".into(),
                rejected: Some("sha256:fedcba9876543210".into()),
                checked: Some(2),
                ..SourceStatus::default()
            },
            services,
        }
    }

    #[test]
    fn the_table_fits_80_columns_and_reads_without_colour() {
        let long = "a-service-with-a-name-of-the-longest-kind-that-is-allowed-here1";
        let status = status(vec![service("dangdang-api", Phase::Settled), service(long, Phase::Progressing)]);
        let text = render(&status, Timestamp::from_second(90).unwrap(), false);
        for line in text.lines() {
            assert!(line.chars().count() <= text::WIDTH, "{} columns: {line}", line.chars().count());
        }
        assert!(!text.contains('\x1b'), "{text}");
        for part in [
            "controller  web-1\nsource      /etc/holdfast/desired-state\n",
            "revision    0123456789ab, read 4s ago\n",
            "the newest edit (fedcba987654) is rejected; the last good one stays:\n",
            "SERVICE  ",
            "1/2",
        ] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        // The settled one has no lines below it, the other one says what it wants and why it waits.
        assert_eq!(text.matches("wants 9c0ffee, starting green").count(), 1, "{text}");
        assert_eq!(text.matches("AwaitingHealth (90s): waiting for green").count(), 1, "{text}");
    }

    #[test]
    fn a_rejected_edit_is_not_settled() {
        let mut status = status(vec![service("api", Phase::Settled)]);
        assert_eq!(verdict(&status), Exit::Unsettled);
        status.source.error = None;
        assert_eq!(verdict(&status), Exit::Fine);
        status.services.push(service("b", Phase::Holding));
        assert_eq!(verdict(&status), Exit::Unsettled);
    }
}
