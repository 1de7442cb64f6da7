//! The log of `run`: one line an event, the service first, because last.

use std::fmt;
use std::io::{self, IsTerminal};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::ports::{Clock, WallClock};

use super::failure::Failure;
use super::out::{self, Paint};
use super::text;

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Ours at info, libraries at warn only; `HOLDFAST_LOG` says otherwise (`debug`, `holdfast::traffic=trace`).
const USUAL: &str = "warn,holdfast=info";

/// Sends the log to standard output from now on.
///
/// # Errors
/// When `HOLDFAST_LOG` is no filter, or a log is set up already.
pub(crate) fn start(format: LogFormat) -> Result<(), Failure> {
    let wanted = std::env::var("HOLDFAST_LOG").unwrap_or_default();
    let wanted = if wanted.is_empty() { USUAL } else { &wanted };
    let filter = EnvFilter::try_new(wanted).map_err(|error| {
        Failure::new("HOLDFAST_LOG is not understood")
            .because(error)
            .try_this("write it as `debug` or `holdfast=debug`")
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false).with_writer(io::stdout);
    let done = match format {
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        LogFormat::Text => {
            let colour = io::stdout().is_terminal() && out::colour_allowed();
            log.with_ansi(colour).event_format(Lines { colour }).try_init()
        }
    };
    done.map_err(|error| Failure::new("could not set up the log").because(error.to_string()))
}

/// `17:04:05 dangdang-api run dangdang-api-green-1  because the file asks for tag 3f2a1b9`.
struct Lines {
    colour: bool,
}

#[derive(Default)]
struct Fields {
    service: String,
    because: String,
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        match field.name() {
            "service" => self.service = value,
            "because" => self.because = value,
            "message" => self.message = value,
            // What programs read from the JSON log; `message` already says it to people.
            "kind" => {}
            name => self.others.push_str(&format!(" {name}={value}")),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let ours = metadata.target().starts_with("holdfast");
        let Fields { service, because, mut message, others } = fields;
        message.push_str(&others);
        // The reconcile log brings its own `service  message  because …`.
        let service = match (service.is_empty(), ours) {
            (false, _) => format!("{service}  "),
            (true, true) => String::new(),
            (true, false) => format!("{}  ", metadata.target().split("::").next().unwrap_or_default()),
        };
        let (word, paint) = match *metadata.level() {
            Level::ERROR => ("error: ", Paint::Red),
            Level::WARN => ("warning: ", Paint::Yellow),
            _ => ("", Paint::Plain),
        };
        // One event is one line, whatever a program we quote has said.
        let message = one_line(&format!("{word}{message}"));
        write!(
            writer,
            "{} {}{}",
            Paint::Dim.on(&text::clock(WallClock.now()), self.colour),
            Paint::Bold.on(&service, self.colour),
            paint.on(&message, self.colour)
        )?;
        if !because.is_empty() {
            let because = format!("  because {}", one_line(&because));
            write!(writer, "{}", Paint::Dim.on(&because, self.colour))?;
        }
        writeln!(writer)
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(say: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let log = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_env_filter(EnvFilter::new(USUAL))
            .event_format(Lines { colour: false })
            .finish();
        tracing::subscriber::with_default(log, say);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_has_the_service_first_and_because_last() {
        let text = logged(|| {
            tracing::info!(service = "api", because = "the file asks for tag 2", "run api-green-1");
        });
        assert_eq!(text[8..], *" api  run api-green-1  because the file asks for tag 2\n");
    }

    #[test]
    fn an_event_is_one_line_and_libraries_only_warn() {
        let text = logged(|| {
            tracing::warn!(service = "api", "nginx said\n  this");
            tracing::info!(target: "hyper::client", "connected");
            tracing::warn!(target: "hyper::client", "lost");
        });
        let lines: Vec<&str> = text.lines().map(|line| &line[9..]).collect();
        assert_eq!(lines, ["api  warning: nginx said | this", "hyper  warning: lost"]);
    }
}
