//! `holdfast run`: the controller.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::alerts::CommitStatus;
use crate::controller::{Controller, Handle, OnceEnd, Options, Planner, RunError};
use crate::plan;
use crate::ports::{Wake, Wakes};
use crate::source::settings::Settings;
use crate::web::{self, ServeError};

use super::Surroundings;
use super::edges::{self, Kind};
use super::failure::{Exit, Failure};
use super::git_args::GitArgs;
use super::logging::{self, LogFormat};

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 a clean stop (with --once: settled), 2 --once ended unsettled or
rolled back, 1 an error. Ctrl-C or SIGTERM finishes the steps under way;
a second one ends at once.

Examples:
  holdfast run                          what holdfast.yaml says
  holdfast run desired-state/prod --once
  holdfast run --git git@github.com:acme/deploy.git --path desired-state/prod
  holdfast run desired-state/demo --sandbox")]
pub(crate) struct RunArgs {
    /// The folder of the desired state, or one file [default: `source` of holdfast.yaml].
    #[arg(env = "HOLDFAST_SOURCE", hide_env = true)]
    path: Option<PathBuf>,
    #[command(flatten)]
    git: GitArgs,
    /// End when every service is settled or held.
    #[arg(long)]
    once: bool,
    /// Never write: show what would be done.
    #[arg(long, env = "HOLDFAST_DETECT", hide_env = true)]
    detect: bool,
    /// Run on a platform in memory: nothing real is touched.
    #[arg(long)]
    sandbox: bool,
    /// Where HTTP listens, or `none` [default: `listen` of holdfast.yaml, 127.0.0.1:7400].
    #[arg(long, env = "HOLDFAST_LISTEN", hide_env = true, value_name = "ADDRESS", value_parser = listen)]
    listen: Option<Listen>,
    /// The SQS queue of events about ECS [default: `aws.eventQueue` of holdfast.yaml].
    #[arg(long, env = "HOLDFAST_AWS_EVENT_QUEUE", hide_env = true, value_name = "URL")]
    event_queue: Option<String>,
    /// Allow HTTP on another address than loopback; it is not encrypted.
    #[arg(long, env = "HOLDFAST_INSECURE", hide_env = true)]
    insecure: bool,
    /// How the log is written.
    #[arg(long, env = "HOLDFAST_LOG_FORMAT", hide_env = true, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
}

/// `--listen`.
#[derive(Debug, Clone, Copy)]
enum Listen {
    None,
    At(SocketAddr),
}

fn listen(text: &str) -> Result<Listen, String> {
    match text {
        "none" => Ok(Listen::None),
        text => text.parse().map(Listen::At).map_err(|_| "write it as 127.0.0.1:7400, or `none`".to_owned()),
    }
}

/// Runs the controller until it is told to stop (or, with `--once`, until everything rests).
///
/// # Errors
/// When it cannot start: no source, an unwritable state folder, a second controller.
pub(crate) async fn run(args: &RunArgs, around: &Surroundings) -> Result<Exit, Failure> {
    logging::start(args.log_format)?;
    let settings = settings(args, around)?;
    edges::source_exists(&settings)?;
    let kind = if args.sandbox { Kind::Sandbox } else { Kind::Real };
    let (wakes, woken) = Wakes::channel();
    // Taken before anything is opened or written, held until the end.
    let _lock = edges::lock(&settings, kind)?;
    let commit_status = commit_status(&settings, args)?;
    let built = edges::build(&settings, kind, &wakes)?;
    let options = Options {
        controller: settings.controller.clone(),
        resync: settings.resync,
        detect: args.detect,
        planner: planner(),
    };
    let controller = Controller::new(built.edges, built.source, options);
    let shutdown = CancellationToken::new();
    // Servers end after the controller: its last events still reach those who follow.
    let closing = CancellationToken::new();
    let mut servers = serve(&settings, args, &controller.handle(), &closing).await?;
    if let Some(commit_status) = commit_status {
        let telling = tokio::spawn(commit_status.run(controller.handle(), closing.clone()));
        servers.spawn(async move {
            // Whatever becomes of it, the controller goes on.
            if let Err(error) = telling.await {
                tracing::warn!("holdfast  commit statuses are no longer told: {error}");
            }
            Ok(())
        });
    }
    announce(&settings, args, &controller.handle().status().source.from);
    let (stop, killed) = signals(shutdown.clone())?;
    let end = tokio::select! {
        end = control(controller, args.once, (wakes, woken), shutdown) => end,
        failure = broken(&mut servers) => Err(failure),
        Ok(()) = killed => Err(Failure::new("ended at once by a second signal")
            .try_this("nothing is lost: the next start looks at the world and goes on")),
    };
    stop.abort();
    closing.cancel();
    while servers.join_next().await.is_some() {}
    end
}

async fn control(
    controller: Controller,
    once: bool,
    wakes: (Wakes, UnboundedReceiver<Wake>),
    shutdown: CancellationToken,
) -> Result<Exit, Failure> {
    let end = if once {
        Box::pin(controller.run_once(wakes, shutdown)).await.map(exit_of)
    } else {
        Box::pin(controller.run(wakes, shutdown)).await.map(|()| Exit::Fine)
    };
    end.map_err(|error| could_not_run(&error))
}

/// Who tells the host of a commit what becomes of it; nobody where nothing is changed.
fn commit_status(settings: &Settings, args: &RunArgs) -> Result<Option<CommitStatus>, Failure> {
    let Some(git) = settings.git.as_ref().filter(|_| !args.sandbox && !args.detect) else { return Ok(None) };
    CommitStatus::new(git, &settings.controller)
        .map_err(|why| Failure::from_words("could not tell the host of the commits what becomes of them", &why))
}

/// The planner of this version.
pub(crate) const fn planner() -> Planner {
    Planner { plan: plan::plan, plan_removal: plan::plan_removal, verify: plan::check::verify }
}

/// Flags win over the file.
fn settings(args: &RunArgs, around: &Surroundings) -> Result<Settings, Failure> {
    let mut settings = edges::settings(around)?;
    if let Some(path) = &args.path {
        settings.source.clone_from(path);
    }
    args.git.apply(&mut settings, args.path.is_some())?;
    if let Some(queue) = args.event_queue.as_ref().filter(|queue| !queue.is_empty()) {
        settings.aws_event_queue = Some(queue.clone());
    }
    match args.listen {
        Some(Listen::None) => settings.listen = None,
        Some(Listen::At(address)) => settings.listen = Some(address),
        None => {}
    }
    if args.sandbox && around.state_dir.is_none() {
        settings.state_dir = edges::sandbox_dir();
        // A try in memory must not take the port of a controller at work.
        settings.listen = settings.listen.filter(|_| args.listen.is_some());
    }
    match settings.listen {
        Some(address) if !address.ip().is_loopback() && !args.insecure => {
            Err(Failure::new(format!("HTTP would listen on {address}, which others can reach, without encryption"))
                .try_this("listen on 127.0.0.1 behind your nginx, or say --insecure"))
        }
        _ => Ok(settings),
    }
}

fn announce(settings: &Settings, args: &RunArgs, from: &str) {
    let socket = settings.state_dir.join("control.sock");
    let http = settings.listen.map_or_else(|| "no HTTP".to_owned(), |address| format!("http://{address}"));
    let mode = match (args.sandbox, args.detect) {
        (true, true) => ", in a sandbox, writing nothing",
        (true, false) => ", in a sandbox",
        (false, true) => ", writing nothing",
        (false, false) => "",
    };
    tracing::info!(
        "holdfast  watching {from} as controller {}{mode}; {http}, {}",
        settings.controller,
        socket.display()
    );
    if args.sandbox {
        let dir = settings.state_dir.display();
        tracing::info!("holdfast  look at it from another terminal with `holdfast status --state-dir {dir}`");
    }
}

const fn exit_of(end: OnceEnd) -> Exit {
    match end {
        OnceEnd::Settled | OnceEnd::Stopped => Exit::Fine,
        OnceEnd::Unsettled { .. } => Exit::Unsettled,
    }
}

fn could_not_run(error: &RunError) -> Failure {
    match error {
        RunError::Memory(why) => Failure::from_words("could not read the durable memory", why),
        RunError::Rejected(why) => Failure::new("the desired state is not valid").because(why.clone()),
        RunError::Unreadable(why) => Failure::from_words("could not read the desired state", why),
    }
}

/// What answers people while the controller runs: the control socket always, HTTP where it is wanted.
async fn serve(
    settings: &Settings,
    args: &RunArgs,
    handle: &Handle,
    shutdown: &CancellationToken,
) -> Result<JoinSet<Result<(), ServeError>>, Failure> {
    let mut servers = JoinSet::new();
    if let Some(address) = settings.listen {
        let (access, hook) = (edges::access(settings)?, edges::hook(settings)?);
        let listener = web::bind_tcp(address, args.insecure).await.map_err(|error| could_not_serve(&error))?;
        servers.spawn(web::serve_listener(listener, web::router(handle.clone(), access, hook), shutdown.clone()));
    }
    let socket = settings.state_dir.join("control.sock");
    let (router, shutdown) = (web::router(handle.clone(), web::Access::Local, None), shutdown.clone());
    servers.spawn(async move { web::serve_unix(&socket, router, shutdown).await });
    Ok(servers)
}

fn could_not_serve(error: &ServeError) -> Failure {
    Failure::from_words("could not answer requests", &error.to_string())
}

/// Resolves when a server broke; never when all is well.
async fn broken(servers: &mut JoinSet<Result<(), ServeError>>) -> Failure {
    while let Some(ended) = servers.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return could_not_serve(&error),
            Err(error) => return Failure::new("could not answer requests").because(error),
        }
    }
    std::future::pending().await
}

/// The first SIGINT or SIGTERM stops gracefully; the second resolves the receiver.
fn signals(
    shutdown: CancellationToken,
) -> Result<(tokio::task::JoinHandle<()>, tokio::sync::oneshot::Receiver<()>), Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::new("could not listen for signals").because(error));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let (kill, killed) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        tracing::info!("holdfast  stopping: the steps under way are finished first; once more to end at once");
        shutdown.cancel();
        either(&mut interrupt, &mut terminate).await;
        // The receiver is gone only when the controller has stopped already.
        let _ = kill.send(());
    });
    Ok((task, killed))
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
