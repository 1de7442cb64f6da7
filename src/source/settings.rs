//! `holdfast.yaml`: this machine's own settings. Every key has a default.

pub mod git;
mod raw;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{SourceError, in_words, shown};
use super::file::given::{Given, Part as _};
use super::file::scalars::Text;
use super::lower::HostRules;
use super::report::{Report, Scope};
use super::{scalar, yaml};
use crate::model::desired::PortRange;
use crate::model::names::ControllerId;
pub use git::{GitSettings, GitWrite};
use raw::RawSettings;

/// This machine's settings, every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The file they came from; none when there is none and all is default.
    pub file: Option<PathBuf>,
    /// The id on everything Holdfast creates.
    pub controller: ControllerId,
    /// Whether that id was written.
    pub controller_is_written: bool,
    /// What PATH defaults to.
    pub source: PathBuf,
    /// Memory and the control socket.
    pub state_dir: PathBuf,
    /// Where HTTP listens; none: not at all.
    pub listen: Option<SocketAddr>,
    /// The token for writing over HTTP; none: HTTP only reads.
    pub token_file: Option<PathBuf>,
    /// The sweep behind the events.
    pub resync: Duration,
    /// Loopback ports for replicas.
    pub ports: PortRange,
    /// The folder of env files.
    pub env_root: PathBuf,
    /// Bind mounts are allowed under these roots.
    pub mounts: Vec<PathBuf>,
    /// The engine's address.
    pub docker: String,
    /// Registries that need something said about them.
    pub registries: Vec<RegistrySettings>,
    /// nginx on this host.
    pub nginx: NginxSettings,
    /// Share of each ECS rate bucket, percent.
    pub aws_budget: u8,
    /// The SQS queue of EventBridge events that wakes services on ECS; none: they are only polled.
    pub aws_event_queue: Option<String>,
    /// The desired state is in git; none: it is the folder `source`.
    pub git: Option<GitSettings>,
}

/// One entry of `registries:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySettings {
    /// `docker.io`, `localhost:4566`.
    pub host: String,
    /// Whether it is an ECR by another name.
    pub ecr: bool,
    /// The region of that ECR.
    pub region: Option<String>,
    /// A Docker `config.json` with credentials.
    pub docker_config: Option<PathBuf>,
}

/// `nginx:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NginxSettings {
    /// The program.
    pub binary: PathBuf,
    /// Its main configuration.
    pub config: PathBuf,
    /// Where it writes its process id.
    pub pid: PathBuf,
}

/// Why there are no settings: every message, each with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError(pub Vec<SourceError>);

impl std::fmt::Display for SettingsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&in_words(&self.0))
    }
}

impl std::error::Error for SettingsError {}

/// Where settings are looked for without `--config`, in this order.
pub const PLACES: [&str; 2] = ["holdfast.yaml", "/etc/holdfast/holdfast.yaml"];

impl Default for Settings {
    fn default() -> Self {
        // All defaults are in `lower`; an empty file has them all, and cannot be wrong.
        let mut report = Report::new(Path::new(""), "");
        lower(&mut Scope { report: &mut report, prefix: &[], service: "" }, &RawSettings::default())
    }
}

impl Settings {
    /// Reads `explicit`, else the first of [`PLACES`] that is there, else takes every default.
    ///
    /// # Errors
    /// When the file cannot be read (`explicit` must be there) or anything in it is wrong.
    pub fn load(explicit: Option<&Path>) -> Result<Self, SettingsError> {
        if let Some(path) = explicit {
            return Self::load_from(path);
        }
        for place in PLACES {
            let path = Path::new(place);
            // Whatever is there counts, also a link that leads nowhere: silently taking defaults would surprise.
            if path.symlink_metadata().is_ok() {
                return Self::load_from(path);
            }
        }
        Ok(Self::default())
    }

    fn load_from(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            SettingsError(vec![SourceError::of_file(path, format!("the settings cannot be read: {error}")).hint(
                "`--config` names the file; without it ./holdfast.yaml and /etc/holdfast/holdfast.yaml are tried",
            )])
        })?;
        // A writer that has not come far, or a disk that was full. The defaults name another controller.
        if text.trim().is_empty() {
            return Err(SettingsError(vec![
                SourceError::of_file(path, "the file is empty")
                    .hint("remove it to take every default, or write a line like `controller: default`"),
            ]));
        }
        Self::parse(path, &text)
    }

    /// Reads the text of a settings file; `path` is for messages.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place.
    pub fn parse(path: &Path, text: &str) -> Result<Self, SettingsError> {
        let blank = |line: &str| line.trim().is_empty() || line.starts_with('#');
        let raw = if text.lines().all(blank) { Ok(RawSettings::default()) } else { yaml::parse::<RawSettings>(text) };
        let raw = raw.map_err(|error| {
            let at = Some(error.position());
            let (what, expected, hint) = (error.message, error.expected, error.hint);
            SettingsError(vec![SourceError { file: path.to_owned(), at, what, expected, hint }])
        })?;
        let mut report = Report::new(path, text);
        let mut nulls = Vec::new();
        raw.nulls(&mut Vec::new(), &mut nulls);
        for path in nulls {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let name = path.iter().rev().find(|part| part.parse::<usize>().is_err()).unwrap_or(&"");
            report.error(&path, format!("`{name}` has no value")).hint =
                Some("give it one, or remove the key to take the default".to_owned());
        }
        let mut settings = lower(&mut Scope { report: &mut report, prefix: &[], service: "" }, &raw);
        settings.file = Some(path.to_owned());
        if report.errors.is_empty() { Ok(settings) } else { Err(SettingsError(report.errors)) }
    }

    /// What the desired-state files are judged by.
    pub fn rules(&self) -> HostRules {
        HostRules {
            controller: self.controller.clone(),
            named: self.controller_is_written,
            mounts: self.mounts.clone(),
        }
    }
}

fn lower(scope: &mut Scope<'_, '_>, raw: &RawSettings) -> Settings {
    let resync = scope.take(&["resync"], &raw.resync, |text| {
        scalar::duration(text).filter(|resync| *resync >= Duration::from_secs(1))
    });
    let ports = scope.take(&["ports"], &raw.ports, |text| scalar::ports(text).filter(|ports| ports.first >= 1024));
    let budget = raw.aws.get().and_then(|aws| {
        scope.take(&["aws", "budget"], &aws.budget, |text| scalar::number(text.strip_suffix('%')?, 1_u8, 100))
    });
    let docker = scope.take(&["docker"], &raw.docker, |text| {
        ["unix://", "tcp://", "tcp+tls://", "ssh://"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
            .then(|| text.to_owned())
    });
    Settings {
        file: None,
        controller: controller(scope, &raw.controller),
        controller_is_written: raw.controller.is_given(),
        source: path(scope, &["source"], &raw.source).unwrap_or_else(|| "/etc/holdfast/desired-state".into()),
        state_dir: path(scope, &["stateDir"], &raw.state_dir).unwrap_or_else(|| "/var/lib/holdfast".into()),
        listen: listen(scope, raw),
        token_file: path(scope, &["tokenFile"], &raw.token_file),
        resync: resync.unwrap_or(Duration::from_secs(30)),
        ports: ports.unwrap_or(PortRange { first: 20000, last: 20999 }),
        env_root: path(scope, &["envRoot"], &raw.env_root).unwrap_or_else(|| "/etc/holdfast/env".into()),
        mounts: mounts(scope, raw),
        docker: docker.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned()),
        registries: registries(scope, raw),
        nginx: nginx(scope, raw),
        aws_budget: budget.unwrap_or(25),
        aws_event_queue: event_queue(scope, raw),
        git: raw.git.get().map(|raw| git::lower(scope, raw)),
    }
}

fn event_queue(scope: &mut Scope<'_, '_>, raw: &RawSettings) -> Option<String> {
    let queue = raw.aws.get()?.event_queue.get()?.0.clone();
    if !(queue.starts_with("https://") || queue.starts_with("http://")) || queue.contains(char::is_whitespace) {
        let what = format!("`eventQueue`: found `{}`", shown(&queue));
        scope.expected(&["aws", "eventQueue"], what, "the URL of an SQS queue");
        return None;
    }
    Some(queue)
}

fn controller(scope: &mut Scope<'_, '_>, given: &Given<Text>) -> ControllerId {
    let text = given.get().map_or("default", |text| text.0.as_str());
    match ControllerId::new(text).or_else(|why| {
        let what = format!("`{}` is not a controller id: {why}", shown(text));
        scope.expected(&["controller"], what, "1 to 63 of a-z, 0-9 and `-`");
        ControllerId::new("default")
    }) {
        Ok(id) => id,
        Err(_) => unreachable!("`default` is an id"),
    }
}

fn path(scope: &mut Scope<'_, '_>, at: &[&str], given: &Given<Text>) -> Option<PathBuf> {
    let text = &given.get()?.0;
    if text.is_empty() || text.contains(char::is_control) {
        let what = format!("`{}`: found `{}`", at.last().unwrap_or(&""), shown(text));
        scope.expected(at, what, "a path");
        return None;
    }
    Some(PathBuf::from(text))
}

fn listen(scope: &mut Scope<'_, '_>, raw: &RawSettings) -> Option<SocketAddr> {
    let default = Some(SocketAddr::from(([127, 0, 0, 1], 7400)));
    let written = scope.take(&["listen"], &raw.listen, |text| match text {
        "none" => Some(None),
        address => address.parse().ok().map(Some),
    });
    written.unwrap_or(default)
}

fn mounts(scope: &mut Scope<'_, '_>, raw: &RawSettings) -> Vec<PathBuf> {
    let mut mounts = Vec::new();
    for (index, root) in raw.mounts.get().into_iter().flatten().enumerate() {
        let Given::Value(Text(root)) = root else { continue };
        let root = PathBuf::from(root);
        let plain = |part| !matches!(part, std::path::Component::ParentDir);
        if !root.is_absolute() || !root.components().all(plain) || root.parent().is_none() {
            let what = format!("`mounts`: found `{}`", root.display());
            scope.expected(&["mounts", &index.to_string()], what, "an absolute path without `..`, and not `/`");
        }
        mounts.push(root);
    }
    mounts
}

fn registries(scope: &mut Scope<'_, '_>, raw: &RawSettings) -> Vec<RegistrySettings> {
    let mut registries = Vec::new();
    for (index, raw) in raw.registries.get().into_iter().flatten().enumerate() {
        let Given::Value(raw) = raw else { continue };
        let index = index.to_string();
        let at = ["registries", index.as_str()];
        let host = raw.host.get().map(|host| host.0.clone());
        if host.as_ref().is_none_or(|host| host.is_empty() || host.contains(['/', ' '])) && raw.host != Given::Null {
            scope.expected(&at, "the registry has no good `host`", "a host like `docker.io` or `localhost:5000`");
        }
        let kind = scope.take(&["registries", index.as_str(), "kind"], &raw.kind, |text| match text {
            "oci" => Some(false),
            "ecr" => Some(true),
            _ => None,
        });
        let docker_config = raw.auth.get().and_then(|auth| {
            if !auth.docker_config.is_given() {
                scope.expected(&at, "`auth` names nothing", "`dockerConfig: /path/to/config.json`");
            }
            path(scope, &["registries", index.as_str(), "auth", "dockerConfig"], &auth.docker_config)
        });
        registries.push(RegistrySettings {
            host: host.unwrap_or_default(),
            ecr: kind.unwrap_or(false),
            region: raw.region.get().map(|region| region.0.clone()),
            docker_config,
        });
    }
    registries
}

fn nginx(scope: &mut Scope<'_, '_>, raw: &RawSettings) -> NginxSettings {
    let empty = raw::RawNginxSettings::default();
    let raw = raw.nginx.get().unwrap_or(&empty);
    scope.later(&["nginx", "container"], &raw.container);
    NginxSettings {
        binary: path(scope, &["nginx", "binary"], &raw.binary).unwrap_or_else(|| "nginx".into()),
        config: path(scope, &["nginx", "config"], &raw.config).unwrap_or_else(|| "/etc/nginx/nginx.conf".into()),
        pid: path(scope, &["nginx", "pid"], &raw.pid).unwrap_or_else(|| "/run/nginx.pid".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> String {
        match Settings::parse(Path::new("holdfast.yaml"), text) {
            Ok(settings) => format!("{settings:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_key_has_a_default() {
        let settings = Settings::default();
        assert_eq!(settings.controller.as_str(), "default");
        assert_eq!(settings.listen.map(|at| at.to_string()), Some("127.0.0.1:7400".to_owned()));
        assert_eq!(settings.ports, PortRange { first: 20000, last: 20999 });
        let empty = Settings::parse(Path::new("x"), "# nothing\n").map(|read| Settings { file: None, ..read });
        assert_eq!(empty, Ok(settings));
    }

    #[test]
    fn the_contracts_example_is_read_in_full() {
        let text = "controller: web-1\nsource: /etc/holdfast/desired-state\nstateDir: /var/lib/holdfast\n\
            listen: none\ntokenFile: /etc/holdfast/token\nresync: 1m\nports: 20000-20999\nenvRoot: /etc/holdfast/env\n\
            mounts: [/srv, /var/log/app]\ndocker: unix:///var/run/docker.sock\n\
            registries: [{host: docker.io, auth: {dockerConfig: /root/.docker/config.json}}, \
            {host: \"localhost:4566\", kind: ecr, region: ap-northeast-2}]\n\
            nginx: {binary: nginx, config: /etc/nginx/nginx.conf, pid: /run/nginx.pid}\naws: {budget: 25%}\n";
        let settings = Settings::parse(Path::new("x"), text).unwrap_or_else(|e| unreachable!("{e}"));
        assert_eq!((settings.listen, settings.resync), (None, Duration::from_secs(60)));
        assert_eq!(settings.mounts, [PathBuf::from("/srv"), PathBuf::from("/var/log/app")]);
        assert!(settings.registries[1].ecr && settings.registries[0].docker_config.is_some());
    }

    #[test]
    fn what_is_wrong_says_where() {
        let texts = [
            "contoller: a\n",
            "controller: Web_1\nlisten: 7400\nresync: 0s\nports: 80-90\nmounts: [srv]\n",
            "git: {url: x, branch: -b, path: ../x}\nnginx: {container: web}\ntokenFile:\n",
            "registries: [{kind: acr}]\naws: {budget: 250%}\ndocker: /var/run/docker.sock\n",
        ];
        let told = texts.map(errors).join("\n");
        for part in [
            "holdfast.yaml:1:1: unknown key `contoller`",
            "did you mean `controller`?",
            "`Web_1` is not a controller id",
            "`listen`: found `7400`",
            "`resync`: found `0s`",
            "`ports`: found `80-90`",
            "`mounts`: found `srv`",
            "`url`: found `x`",
            "`branch`: found `-b`",
            "`path`: found `../x`",
            "`nginx.container` is not available yet",
            "`tokenFile` has no value",
            "`kind`: found `acr`",
            "the registry has no good `host`",
            "`budget`: found `250%`",
            "`docker`: found `/var/run/docker.sock`",
        ] {
            assert!(told.contains(part), "{part} is missing in\n{told}");
        }
    }

    #[test]
    fn a_named_file_must_be_there() {
        assert!(Settings::load(Some(Path::new("/nowhere/holdfast.yaml"))).is_err());
    }

    #[test]
    fn an_empty_file_is_no_wish_for_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("holdfast.yaml");
        std::fs::write(&file, "\n").unwrap();
        let told = Settings::load(Some(&file)).unwrap_err().to_string();
        assert!(told.contains("the file is empty") && told.contains("hint: "), "{told}");
        std::fs::write(&file, "# every default\n").unwrap();
        assert!(Settings::load(Some(&file)).is_ok());
    }
}
