//! `health:`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::desired::{Check, Health};
use crate::source::error::shown;
use crate::source::file::given::Given;
use crate::source::file::health::{RawHealth, RawHttp};
use crate::source::report::Scope;
use crate::source::scalar;

use super::rollout::time;
use super::text;

/// The kinds of check that are written.
pub(super) fn kinds(raw: &RawHealth) -> Vec<&'static str> {
    let kinds = [
        ("http", raw.http.is_given()),
        ("tcp", raw.tcp.is_given()),
        ("container", raw.container.is_given()),
        ("running", raw.running.is_given()),
    ];
    kinds.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
}

pub(super) fn lower(scope: &mut Scope<'_, '_>, raw: Option<&RawHealth>, port: Option<u16>) -> Health {
    let empty = RawHealth::default();
    let raw = raw.unwrap_or(&empty);
    scope.later(&["health", "grpc"], &raw.grpc);
    if let [_, second, ..] = kinds(raw)[..] {
        let what = format!("{} are written, one check is made", kinds(raw).join(" and "));
        scope.expected(&["health", second], what, "one of `http`, `tcp`, `container`, `running`");
    }
    let mut count = |key: &str, given, default| {
        scope.take(&["health", key], given, |text| scalar::number(text, 1, 100)).unwrap_or(default)
    };
    let successes = count("successes", &raw.successes, 2);
    let failures = count("failures", &raw.failures, 3);
    let seconds = Duration::from_secs;
    Health {
        check: check(scope, raw, port),
        interval: time(scope, &["health", "interval"], Some(&raw.interval), false, seconds(1)),
        timeout: time(scope, &["health", "timeout"], Some(&raw.timeout), false, seconds(2)),
        successes,
        failures,
        deadline: time(scope, &["health", "deadline"], Some(&raw.deadline), false, seconds(120)),
    }
}

fn check(scope: &mut Scope<'_, '_>, raw: &RawHealth, port: Option<u16>) -> Option<Check> {
    if let Some(raw) = raw.http.get() {
        let check = http(scope, raw);
        if let Check::Http { port: None, .. } = check {
            need_port(scope, "http", port);
        }
        return Some(check);
    }
    if let Some(raw) = raw.tcp.get() {
        let own = scope.take(&["health", "tcp", "port"], &raw.port, scalar::port);
        if own.is_none() {
            need_port(scope, "tcp", port);
        }
        return Some(Check::Tcp { port: own });
    }
    if raw.container.get().is_some() {
        return Some(Check::Container);
    }
    if raw.running.is_given() {
        let running = time(scope, &["health", "running"], Some(&raw.running), false, Duration::from_secs(10));
        return Some(Check::Running(running));
    }
    None
}

fn need_port(scope: &mut Scope<'_, '_>, kind: &str, port: Option<u16>) {
    if port.is_none() {
        scope.error(&["health", kind], format!("`{kind}` needs a port to ask")).hint =
            Some("add `docker.port`, or `port` to the check".to_owned());
    }
}

fn http(scope: &mut Scope<'_, '_>, raw: &RawHttp) -> Check {
    let path = raw.path.get().map_or("/", |path| path.0.as_str());
    if !path.starts_with('/') || !path.chars().all(|c| c.is_ascii_graphic()) {
        let what = format!("`path`: found `{}`", shown(path));
        scope.expected(&["health", "http", "path"], what, "a path that starts with `/`, without spaces");
    }
    let expect = scope.take(&["health", "http", "expect"], &raw.expect, |text| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let status = |text| scalar::number(text, 100_u16, 599);
        let (first, last) = (status(first)?, status(last)?);
        (first <= last).then_some((first, last))
    });
    let host = raw.host.get().map(|host| host.0.clone());
    if host.as_deref().is_some_and(|host| !text::is_host(host)) {
        scope.expected(&["health", "http", "host"], "`host` is not a host name", "a host name like `api.example.com`");
    }
    let mut headers = BTreeMap::new();
    for (name, value) in raw.headers.get().into_iter().flat_map(|headers| &headers.0) {
        let Given::Value(value) = value else { continue };
        if !text::is_header(name) || !text::is_line(&value.0) {
            let path = ["health", "http", "headers", name.as_str()];
            scope.expected(&path, format!("header `{}` cannot be sent", shown(name)), "a token and one line");
        }
        headers.insert(name.clone(), value.0.clone());
    }
    Check::Http {
        path: path.to_owned(),
        expect: expect.unwrap_or((200, 399)),
        port: scope.take(&["health", "http", "port"], &raw.port, scalar::port),
        host,
        headers,
    }
}
