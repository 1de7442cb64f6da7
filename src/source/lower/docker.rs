//! `docker:`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::model::desired::{Docker, Logging, PortRange, Publish, Pull, Resources, Restart, Strategy};
use crate::source::error::shown;
use crate::source::file::docker::{RawDocker, RawPublish};
use crate::source::file::given::Given;
use crate::source::file::scalars::{Ports, Text};
use crate::source::file::service::RawService;
use crate::source::report::Scope;
use crate::source::scalar;

use super::HostRules;
use super::rollout::time;
use super::text;

pub(super) fn lower(
    scope: &mut Scope<'_, '_>,
    service: &RawService,
    strategy: Strategy,
    replicas: u32,
    rules: &HostRules,
) -> Docker {
    let empty = RawDocker::default();
    let raw = service.docker.get().unwrap_or(&empty);
    scope.later(&["docker", "network"], &raw.network);
    scope.later(&["docker", "secrets"], &raw.secrets);
    scope.later(&["docker", "files"], &raw.files);
    let pull = scope.take(&["docker", "pull"], &raw.pull, |text| match text {
        "always" => Some(Pull::Always),
        "never" => Some(Pull::Never),
        _ => None,
    });
    let port = scope.take(&["docker", "port"], &raw.port, scalar::port);
    let restart = scope.take(&["docker", "restart"], &raw.restart, |text| match text {
        "no" => Some(Restart::No),
        "always" => Some(Restart::Always),
        "unless-stopped" => Some(Restart::UnlessStopped),
        "on-failure" => Some(Restart::OnFailure),
        _ => None,
    });
    Docker {
        pull: pull.unwrap_or(Pull::Always),
        port,
        publish: publish(scope, raw, strategy, replicas),
        env: env(scope, raw),
        env_file: env_file(scope, raw),
        volumes: volumes(scope, raw, rules),
        logging: logging(scope, raw),
        command: command(scope, raw),
        restart: restart.unwrap_or(Restart::UnlessStopped),
        resources: resources(scope, raw),
        init: scope.take(&["docker", "init"], &raw.init, scalar::flag).unwrap_or(false),
        stop_timeout: stop_timeout(scope, raw),
        keep_images: scope
            .take(&["docker", "keepImages"], &raw.keep_images, |text| scalar::number(text, 0, 100))
            .unwrap_or(3),
        replaces: replaces(scope, raw),
    }
}

fn publish(scope: &mut Scope<'_, '_>, raw: &RawDocker, strategy: Strategy, replicas: u32) -> Publish {
    let mut publish = Publish::default();
    let Some(written) = raw.publish.get() else { return publish };
    match (written, strategy) {
        (RawPublish::One(ports), Strategy::Rolling) => {
            publish.only = ports_of(scope, &[], &Given::Value(ports.clone()), replicas);
        }
        (RawPublish::Colours(colours), Strategy::BlueGreen) => {
            publish.blue = ports_of(scope, &["blue"], &colours.blue, replicas);
            publish.green = ports_of(scope, &["green"], &colours.green, replicas);
        }
        (RawPublish::One(_), Strategy::BlueGreen) => {
            let expected = "a range per colour, like `{blue: 3040-3049, green: 3030-3039}`";
            scope.expected(&["docker", "publish"], "`publish` is one range, and the service has two colours", expected);
        }
        (RawPublish::Colours(_), Strategy::Rolling) => {
            let what = "`publish` has colours, and a rolling service has none";
            scope.expected(&["docker", "publish"], what, "one range, like `3030-3039`");
        }
    }
    if let (Some(blue), Some(green)) = (publish.blue, publish.green)
        && super::across::overlap(blue, green)
    {
        let what = format!("`blue` ({blue}) and `green` ({green}) share ports");
        scope.error(&["docker", "publish", "green"], what).hint =
            Some("both colours run at once during a rollout: give each its own range".to_owned());
    }
    if !raw.port.is_given() {
        scope.error(&["docker", "publish"], "`publish` needs a `port` to publish").hint =
            Some("add the port the container listens on: `port: 8080`".to_owned());
    }
    publish
}

fn ports_of(scope: &mut Scope<'_, '_>, colour: &[&str], given: &Given<Ports>, replicas: u32) -> Option<PortRange> {
    let path: Vec<&str> = ["docker", "publish"].into_iter().chain(colour.iter().copied()).collect();
    let range = scope.take(&path, given, scalar::ports)?;
    if range.len() < replicas {
        let plural = if range.len() == 1 { "port" } else { "ports" };
        let what = format!("`{}` has {} {plural} for {replicas} replicas", path[1..].join("."), range.len());
        scope.expected(&path, what, &format!("a range of at least {replicas} ports"));
    }
    Some(range)
}

fn env(scope: &mut Scope<'_, '_>, raw: &RawDocker) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, value) in raw.env.get().into_iter().flat_map(|env| &env.0) {
        let Given::Value(Text(value)) = value else { continue };
        let path = ["docker", "env", name.as_str()];
        if !text::is_variable(name) {
            let what = format!("`{}` is not a variable name", shown(name));
            scope.expected(&path, what, "letters, digits and `_.-`, a letter or `_` first");
        }
        if !text::is_value(value) {
            scope.expected(&path, format!("the value of `{}` has control characters", shown(name)), "text");
        }
        env.insert(name.clone(), value.clone());
    }
    env
}

fn env_file(scope: &mut Scope<'_, '_>, raw: &RawDocker) -> Option<PathBuf> {
    let path = PathBuf::from(&raw.env_file.get()?.0);
    if !text::stays_below(&path) {
        let what = format!("`envFile`: found `{}`", shown(&path.to_string_lossy()));
        let expected = "a path below `envRoot` of holdfast.yaml, like `.env.prod`";
        scope.expected(&["docker", "envFile"], what, expected);
    }
    Some(path)
}

fn volumes(scope: &mut Scope<'_, '_>, raw: &RawDocker, rules: &HostRules) -> Vec<String> {
    let mut volumes = Vec::new();
    let mut targets = BTreeSet::new();
    for (index, volume) in raw.volumes.get().into_iter().flatten().enumerate() {
        let Given::Value(Text(volume)) = volume else { continue };
        let path = ["docker", "volumes", &index.to_string()];
        let words = shown(volume);
        let parts: Vec<&str> = volume.split(':').collect();
        let (source, target, mode) = match parts[..] {
            [source, target] => (source, target, "rw"),
            [source, target, mode] => (source, target, mode),
            _ => ("", "", ""),
        };
        if !matches!(mode, "ro" | "rw") || !text::is_plain_path(target) {
            let expected = "`NAME:/path`, `/host/path:/path`, either with `:ro`";
            scope.expected(&path, format!("volume `{words}`"), expected);
        } else if !source.starts_with('/') {
            if !text::is_engine_name(source) {
                let expected = "a volume name, or an absolute path on the host";
                scope.expected(&path, format!("volume `{words}` has no good source"), expected);
            }
        } else if !text::is_plain_path(source) {
            scope.expected(&path, format!("volume `{words}`: the host path is not plain"), "a path without `..`");
        } else if !rules.mounts.iter().any(|root| is_under(Path::new(source), root)) {
            let what = format!("volume `{words}`: the host path is under no root this host allows");
            scope.expected(&path, what, &roots(&rules.mounts)).hint =
                Some("use a named volume, or add the folder to `mounts` of holdfast.yaml".to_owned());
        }
        if !targets.insert(target.to_owned()) && !target.is_empty() {
            scope.error(&path, format!("`{}` is mounted twice", shown(target)));
        }
        volumes.push(volume.clone());
    }
    volumes
}

fn is_under(path: &Path, root: &Path) -> bool {
    root.is_absolute() && !root.components().any(|part| part == Component::ParentDir) && path.starts_with(root)
}

fn roots(mounts: &[PathBuf]) -> String {
    if mounts.is_empty() {
        return "a named volume (holdfast.yaml has no `mounts`)".to_owned();
    }
    format!("a path under {}", mounts.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", "))
}

fn logging(scope: &mut Scope<'_, '_>, raw: &RawDocker) -> Option<Logging> {
    let raw = raw.logging.get()?;
    let mut logging = Logging { driver: String::new(), options: BTreeMap::new() };
    match &raw.driver {
        Given::Value(Text(driver)) => {
            if driver.is_empty() || !driver.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:".contains(c)) {
                let what = format!("`driver`: found `{}`", shown(driver));
                scope.expected(&["docker", "logging", "driver"], what, "a driver like `json-file` or `fluentd`");
            }
            logging.driver.clone_from(driver);
        }
        Given::Missing => {
            scope.expected(&["docker", "logging"], "`logging` has no `driver`", "a driver like `json-file`");
        }
        Given::Null => {}
    }
    for (name, value) in raw.options.get().into_iter().flat_map(|options| &options.0) {
        let Given::Value(Text(value)) = value else { continue };
        if !text::is_variable(name) || !text::is_line(value) {
            let path = ["docker", "logging", "options", name.as_str()];
            scope.expected(&path, format!("option `{}`", shown(name)), "a name and one line of text");
        }
        logging.options.insert(name.clone(), value.clone());
    }
    Some(logging)
}

fn command(scope: &mut Scope<'_, '_>, raw: &RawDocker) -> Vec<String> {
    let mut command = Vec::new();
    for (index, word) in raw.command.get().into_iter().flatten().enumerate() {
        let Given::Value(Text(word)) = word else { continue };
        if !text::is_value(word) {
            let path = ["docker", "command", &index.to_string()];
            scope.expected(&path, "`command` has control characters", "text");
        }
        command.push(word.clone());
    }
    command
}

fn resources(scope: &mut Scope<'_, '_>, raw: &RawDocker) -> Resources {
    let Some(raw) = raw.resources.get() else { return Resources::default() };
    // The engine refuses less than 6 MiB.
    let memory = scope.take(&["docker", "resources", "memory"], &raw.memory, |text| {
        scalar::size(text).filter(|bytes| *bytes >= 6 << 20)
    });
    Resources { nano_cpus: scope.take(&["docker", "resources", "cpus"], &raw.cpus, scalar::nano_cpus), memory }
}

fn stop_timeout(scope: &mut Scope<'_, '_>, raw: &RawDocker) -> Duration {
    let path = ["docker", "stopTimeout"];
    let timeout = time(scope, &path, Some(&raw.stop_timeout), true, Duration::from_secs(10));
    if timeout.subsec_nanos() != 0 {
        scope.expected(&path, "`stopTimeout` is no whole number of seconds", "a duration like `10s` or `1m`");
    }
    timeout
}

fn replaces(scope: &mut Scope<'_, '_>, raw: &RawDocker) -> BTreeSet<String> {
    let mut replaces = BTreeSet::new();
    for (index, name) in raw.replaces.get().into_iter().flatten().enumerate() {
        let Given::Value(Text(name)) = name else { continue };
        let path = ["docker", "replaces", &index.to_string()];
        if !text::is_engine_name(name) {
            let what = format!("`{}` is not a container name", shown(name));
            scope.expected(&path, what, "a name like `api-blue`, without `/`");
        } else if is_own_name(scope.service, name) {
            let what = format!("`{name}` is a name holdfast gives to its own containers");
            scope.error(&path, what).hint = Some("rename the hand-made container first".to_owned());
        }
        replaces.insert(name.clone());
    }
    replaces
}

/// `<service>-<n>` or `<service>-<colour>-<n>`.
fn is_own_name(service: &str, name: &str) -> bool {
    let rest = name.strip_prefix(service).and_then(|rest| rest.strip_prefix('-'));
    let slot = rest.map(|rest| rest.strip_prefix("blue-").or_else(|| rest.strip_prefix("green-")).unwrap_or(rest));
    slot.is_some_and(|slot| slot.parse::<u32>().is_ok())
}
