//! `holdfast logs`: the reconcile log.

use clap::Args;

use crate::model::event::{Event, EventKind};
use crate::model::names::ServiceName;

use super::client::Client;
use super::failure::{Exit, Failure};
use super::out::{self, Format, Paint};
use super::stream::{self, Patience};
use super::{Surroundings, text};

/// How many past events are shown.
const PAST: &str = "200";

/// Arguments of `logs`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast logs\n  holdfast logs dangdang-api -f\n  holdfast logs -f -o json | jq .because"
)]
pub(crate) struct LogsArgs {
    /// Only of this service.
    #[arg(value_parser = ServiceName::new)]
    service: Option<ServiceName>,
    /// Stay, and show every event as it happens (end with Ctrl-C).
    #[arg(long, short)]
    follow: bool,
    /// How it is written; JSON is one event a line.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// Shows the last events, then follows.
///
/// # Errors
/// When no controller answers.
pub(crate) async fn run(args: &LogsArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let state_dir = around.state_dir()?;
    let mut client = Client::connect(&state_dir).await?;
    let mut after = show_since(args, &client, None).await?;
    if !args.follow {
        return Ok(Exit::Fine);
    }
    let mut patience = Patience::default();
    loop {
        tokio::select! {
            ended = follow(args, &client, &mut after) => ended?,
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Fine),
        }
        out::remark("the controller went away; waiting for it");
        client = loop {
            patience.wait().await;
            if let Ok(client) = Client::connect(&state_dir).await {
                break client;
            }
        };
        patience.reset();
    }
}

/// Past events: those after `after`, or the last ones there are. Returns the newest id.
async fn show_since(args: &LogsArgs, client: &Client, after: Option<u64>) -> Result<u64, Failure> {
    let after_text = after.map(|id| id.to_string());
    let mut query = vec![("limit", PAST)];
    if let Some(service) = &args.service {
        query.push(("service", service.as_str()));
    }
    if let Some(after) = &after_text {
        query.push(("after", after));
    }
    let events: Vec<Event> = client.get("/api/v1/events", &query).await?;
    for event in &events {
        show(event, args.output)?;
    }
    Ok(events.last().map_or(after.unwrap_or(0), |event| event.id))
}

/// Shows events until the stream ends.
async fn follow(args: &LogsArgs, client: &Client, after: &mut u64) -> Result<(), Failure> {
    let Ok(mut stream) = client.stream(Some(*after)).await else { return Ok(()) };
    while let Some(message) = stream.next().await {
        if message.data.is_empty() || message.event == "status" {
            continue;
        }
        let event: Event = stream::decode(&message)?;
        if event.id <= *after {
            continue;
        }
        *after = event.id;
        if args.service.is_none() || args.service == event.service {
            show(&event, args.output)?;
        }
    }
    Ok(())
}

fn show(event: &Event, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => out::json_line(event),
        Format::Text => out::line(render(event, out::colour())),
    }
}

/// One line: time, service, what happened, why.
fn render(event: &Event, colour: bool) -> String {
    let Event { id: _, at, service, kind, message, because } = event;
    let service = service.as_ref().map_or("holdfast", ServiceName::as_str);
    let paint = match kind {
        EventKind::Settled | EventKind::Released => Paint::Green,
        EventKind::Rejected | EventKind::StepFailed => Paint::Red,
        EventKind::Hold => Paint::Yellow,
        EventKind::Accepted | EventKind::Command => Paint::Bold,
        EventKind::Step | EventKind::Controller => Paint::Plain,
    };
    let mut line = format!(
        "{} {}  {}",
        Paint::Dim.on(&text::clock(*at), colour),
        Paint::Bold.on(service, colour),
        paint.on(message, colour)
    );
    if let Some(because) = because {
        line.push_str(&Paint::Dim.on(&format!("  because {because}"), colour));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_service_first_and_because_last() {
        let event = Event {
            id: 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            service: ServiceName::new("api").ok(),
            kind: EventKind::Step,
            message: "run api-green-1".into(),
            because: Some("the file asks for tag 2".into()),
        };
        let line = render(&event, false);
        assert!(line.ends_with(" api  run api-green-1  because the file asks for tag 2"), "{line}");
    }
}
