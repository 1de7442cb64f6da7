//! From what is written to what is meant: every default, every check, all errors of a file together.

mod across;
mod docker;
mod ecs;
mod follow;
mod health;
mod rollout;
mod service;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::error::{SourceError, shown};
use super::file::RawFile;
use super::file::given::{Given, Part};
use super::file::scalars::Text;
use super::file::service::RawService;
use super::report::{Report, Scope};
use super::yaml;
use crate::model::desired::{AwsGuard, DesiredState, Service, SourceRevision};
use crate::model::names::{ControllerId, ServiceName};

/// What this host allows and who acts on it: from `holdfast.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRules {
    /// The controller that reads: files for others are left out.
    pub controller: ControllerId,
    /// Whether its id was written, and is not the default.
    pub named: bool,
    /// Roots under which bind mounts are allowed.
    pub mounts: Vec<PathBuf>,
}

/// The JSON files beside a desired-state file.
#[derive(Debug)]
pub(super) enum Beside<'a> {
    /// By name.
    Files(BTreeMap<&'a str, &'a str>),
    /// Nobody looked.
    Unknown,
}

/// A file's text, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileText {
    /// As shown in messages.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

/// What `check` found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Reasons to reject the source.
    pub errors: Vec<SourceError>,
    /// What is allowed and probably not meant.
    pub warnings: Vec<SourceError>,
    /// The services this controller would act on.
    pub services: Vec<ServiceName>,
}

/// One file, lowered.
struct Lowered<'a> {
    report: Report<'a>,
    services: Vec<Service>,
    acknowledged: BTreeSet<ServiceName>,
    /// Whether this controller acts on it.
    ours: bool,
}

/// Reads `files` as one desired state, whole or not at all.
pub(super) fn desired_state(
    source: &Path,
    files: &[FileText],
    rules: &HostRules,
    revision: &SourceRevision,
    read_at: Timestamp,
) -> (Option<DesiredState>, CheckReport) {
    let is_json = |file: &&FileText| file.path.extension().is_some_and(|it| it == "json");
    let name = |file: &'_ FileText| -> Option<String> { Some(file.path.file_name()?.to_str()?.to_owned()) };
    let names: Vec<(String, &str)> =
        files.iter().filter(is_json).filter_map(|file| Some((name(file)?, file.text.as_str()))).collect();
    let beside = Beside::Files(names.iter().map(|(name, text)| (name.as_str(), *text)).collect());
    let files: Vec<&FileText> = files.iter().filter(|file| !is_json(file)).collect();
    let mut lowered: Vec<Lowered<'_>> = files.iter().map(|file| lower_file(file, rules, &beside)).collect();
    across::check(&mut lowered);
    let mut report = CheckReport::default();
    let mut services = BTreeMap::new();
    let mut acknowledged = BTreeSet::new();
    let mut foreign = 0;
    for mut file in lowered {
        file.report.errors.sort_by_key(|error| error.at);
        for error in file.report.errors {
            // What is wrong with a default is wrong in every service: told once.
            if !report.errors.contains(&error) {
                report.errors.push(error);
            }
        }
        report.warnings.extend(file.report.warnings);
        if file.ours {
            services.extend(file.services.into_iter().map(|service| (service.name.clone(), service)));
            acknowledged.extend(file.acknowledged);
        } else {
            foreign += 1;
        }
    }
    if files.is_empty() {
        let error = SourceError::of_file(source, "there is no desired-state file here");
        report.errors.push(error.hint("add a file that ends in `.yaml` or `.yml` with a map `services`"));
    } else if report.errors.is_empty() && services.is_empty() && acknowledged.is_empty() {
        let what = if foreign == files.len() {
            format!("no file here is for controller `{}`", rules.controller)
        } else {
            "no service is left".to_owned()
        };
        let error = SourceError::of_file(source, what);
        report.errors.push(error.hint("check `controllers:` in the files and `controller:` in holdfast.yaml"));
    }
    report.services = services.keys().cloned().collect();
    let good = report.errors.is_empty();
    let state = DesiredState {
        revision: revision.clone(),
        commit: None,
        includes: Vec::new(),
        rewinds: false,
        read_at,
        services,
        acknowledged,
    };
    (good.then_some(state), report)
}

/// What is wrong with one text by itself, on a host that allows everything.
pub(super) fn errors_of(text: &str) -> Vec<SourceError> {
    let Ok(controller) = ControllerId::new("default") else { return Vec::new() };
    let file = FileText { path: PathBuf::new(), text: text.to_owned() };
    let rules = HostRules { controller, named: true, mounts: vec![PathBuf::from("/")] };
    lower_file(&file, &rules, &Beside::Unknown).report.errors
}

/// How a pointer of Git LFS begins; nothing here fetches what it points to.
const LFS_POINTER: &str = "version https://git-lfs.github.com/spec/";

fn lower_file<'a>(file: &'a FileText, rules: &HostRules, beside: &Beside<'_>) -> Lowered<'a> {
    let report = Report::new(&file.path, &file.text);
    let mut lowered = Lowered { report, services: Vec::new(), acknowledged: BTreeSet::new(), ours: true };
    if file.text.trim_start_matches('\u{feff}').lines().all(|line| line.trim().is_empty() || line.starts_with('#')) {
        let error = SourceError::of_file(&file.path, "the file is empty");
        lowered.report.errors.push(error.hint("remove the file, or write `services:` with at least one service"));
        return lowered;
    }
    if file.text.starts_with(LFS_POINTER) {
        let error = SourceError::of_file(&file.path, "it is a Git LFS pointer, and not the file");
        lowered.report.errors.push(error.hint("commit the file itself: take it out of `.gitattributes`"));
        return lowered;
    }
    let raw: RawFile = match yaml::parse(&file.text) {
        Ok(raw) => raw,
        Err(error) => {
            lowered.report.errors.push(SourceError {
                file: file.path.clone(),
                at: Some(error.position()),
                what: error.message,
                expected: error.expected,
                hint: error.hint,
            });
            return lowered;
        }
    };
    report_nulls(&mut lowered.report, &raw);
    lowered.ours = controllers(&mut lowered.report, &raw, rules);
    lowered.acknowledged = acknowledged(&mut lowered.report, &raw);
    let aws = aws(&mut lowered.report, &raw);
    lower_services(&mut lowered, &raw, aws.as_ref(), rules, beside);
    lowered
}

fn lower_services(
    lowered: &mut Lowered<'_>,
    raw: &RawFile,
    aws: Option<&AwsGuard>,
    rules: &HostRules,
    beside: &Beside<'_>,
) {
    let report = &mut lowered.report;
    let services = match &raw.services {
        Given::Missing => {
            let error = report.error(&[], "there is no `services`");
            error.expected = Some("a map `services` with one entry a service".to_owned());
            return;
        }
        Given::Null => return,
        Given::Value(services) => services,
    };
    if services.0.is_empty() && lowered.acknowledged.is_empty() {
        report.error(&["services"], "`services` is empty").hint =
            Some("to remove what runs, add `acknowledge: [remove NAME]`".to_owned());
    }
    for (key, written) in &services.0 {
        let name = match ServiceName::new(key) {
            Ok(name) => name,
            Err(why) => {
                let path = ["services", key.as_str()];
                let error = report.error(&path, format!("`{}` is not a service name: {why}", shown(key)));
                error.expected = Some("1 to 63 of a-z, 0-9 and `-`".to_owned());
                continue;
            }
        };
        let Some(written) = written.get() else { continue };
        let mut merged = written.clone();
        if let Some(defaults) = raw.defaults.get() {
            merged.fill(&defaults_for(defaults, written));
        }
        let mut scope = Scope { report, prefix: &["services", key.as_str()], service: key };
        let before = scope.report.errors.len();
        let service = service::lower(&mut scope, name, written, &merged, aws, rules, beside);
        if scope.report.errors.len() == before {
            lowered.services.extend(service);
        }
    }
}

/// The defaults that fit a service: it names its own health check, tags to follow, and spelling of the colour.
fn defaults_for(defaults: &RawService, written: &RawService) -> RawService {
    let mut defaults = defaults.clone();
    if let (Given::Value(theirs), Given::Value(own)) = (&mut defaults.health, &written.health)
        && health::kinds(own).len() + usize::from(own.grpc.is_given()) > 0
    {
        (theirs.http, theirs.tcp, theirs.grpc) = (Given::Missing, Given::Missing, Given::Missing);
        (theirs.container, theirs.running) = (Given::Missing, Given::Missing);
    }
    if written.follow.is_given() {
        defaults.follow = Given::Missing;
    }
    if written.active_colour.is_given() || written.active_color.is_given() {
        (defaults.active_colour, defaults.active_color) = (Given::Missing, Given::Missing);
    }
    defaults
}

/// A key without a value is what a half-written file looks like: refused, never a default.
fn report_nulls(report: &mut Report<'_>, raw: &RawFile) {
    for path in raw.nulls() {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        // List items have no name; their list has.
        let name = path.iter().rev().find(|part| part.parse::<usize>().is_err()).unwrap_or(&"");
        let expected = match *name {
            "tag" => Some("a tag like `v1` or `3f2a1b9`".to_owned()),
            "services" => Some("a map with one entry a service".to_owned()),
            _ => None,
        };
        let error = report.error(&path, format!("`{name}` has no value"));
        error.expected = expected;
        error.hint = Some("give it one, or remove the key".to_owned());
    }
}

fn controllers(report: &mut Report<'_>, raw: &RawFile, rules: &HostRules) -> bool {
    let Some(list) = raw.controllers.get() else { return true };
    if list.is_empty() {
        report.error(&["controllers"], "`controllers` names nobody").hint =
            Some("remove the key to let every controller act on this file".to_owned());
    }
    let mut ours = false;
    for (index, id) in list.iter().enumerate() {
        let Some(Text(id)) = id.get() else { continue };
        match ControllerId::new(id) {
            Ok(id) => ours |= id == rules.controller,
            Err(why) => {
                let path = ["controllers", &index.to_string()];
                report.error(&path, format!("`{}` is not a controller id: {why}", shown(id)));
            }
        }
    }
    ours
}

fn acknowledged(report: &mut Report<'_>, raw: &RawFile) -> BTreeSet<ServiceName> {
    let mut names = BTreeSet::new();
    for (index, entry) in raw.acknowledge.get().into_iter().flatten().enumerate() {
        let Some(Text(entry)) = entry.get() else { continue };
        let path = ["acknowledge", &index.to_string()];
        let name = entry.strip_prefix("remove ").map(|name| ServiceName::new(name.trim()));
        match name {
            Some(Ok(name)) => {
                names.insert(name);
            }
            Some(Err(why)) => {
                report.error(&path, format!("`{}` names no service: {why}", shown(entry)));
            }
            None => {
                let error = report.error(&path, format!("found `{}`", shown(entry)));
                error.expected = Some("`remove NAME`".to_owned());
            }
        }
    }
    names
}

fn aws(report: &mut Report<'_>, raw: &RawFile) -> Option<AwsGuard> {
    let guard = raw.aws.get()?;
    let account = guard.account.get().map(|account| account.0.clone());
    if let Some(account) = &account
        && (account.len() != 12 || !account.chars().all(|c| c.is_ascii_digit()))
    {
        report.error(&["aws", "account"], format!("`account`: found `{}`", shown(account))).expected =
            Some("12 digits, in quotes".to_owned());
    }
    let region = guard.region.get().map(|region| region.0.clone());
    if let Some(region) = &region
        && !text::is_region(region)
    {
        report.error(&["aws", "region"], format!("`region`: found `{}`", shown(region))).expected =
            Some("an AWS region like `ap-northeast-2`".to_owned());
    }
    if account.is_none() && region.is_none() {
        report.error(&["aws"], "`aws` guards nothing").hint = Some("add `account`, `region` or both".to_owned());
    }
    Some(AwsGuard { account, region })
}
