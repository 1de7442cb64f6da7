//! `holdfast import docker NAME`: the desired state of a container that already runs.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use bollard::models::{ContainerConfig, ContainerInspectResponse, HostConfig, ImageConfig, ImageInspect};

use super::Docker;
use super::classify::{resources_of, restart_of};
use crate::model::desired::Restart;
use crate::model::image::{Repository, Tag};
use crate::model::names::ServiceName;
use crate::model::snapshot::Why;

impl Docker {
    /// Prints what runs as `name` as the desired state that would run it, `replaces` included. Nothing is changed.
    ///
    /// What a desired state cannot say is named in a comment at the top. Values of variables are printed as they are.
    ///
    /// # Errors
    /// When the container is not there or the engine cannot be read.
    pub async fn import(&self, name: &str) -> Result<String, Why> {
        let found = self.world.inspect_now(name).await?;
        let found = found.ok_or_else(|| format!("there is no container {name}; hint: `docker ps -a` lists them"))?;
        let id = found.image.clone().ok_or_else(|| format!("the engine gave no image for {name}"))?;
        let image = self
            .engine
            .read(|client| async move { client.inspect_image(&id).await })
            .await?
            .ok_or_else(|| format!("the image of {name} is gone from the engine"))?;
        render(&found, &image)
    }
}

/// A string as YAML reads it back whatever it holds: JSON's quoting is YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}

/// The first tag or digest the image can be named by: as the container was made, else any of its tags.
fn image_name(config: &ContainerConfig, image: &ImageInspect) -> Result<(Repository, String), Why> {
    let tags = image.repo_tags.iter().flatten().filter(|tag| !tag.starts_with("holdfast/"));
    for written in config.image.iter().chain(tags) {
        let plain = written.split_once('@').map_or(written.as_str(), |(plain, _)| plain);
        let (repository, tag) = match plain.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (plain, "latest"),
        };
        // An image made from an id alone reads as the repository `sha256`.
        if repository == "sha256" || Tag::new(tag).is_err() {
            continue;
        }
        if let Ok(repository) = Repository::new(repository) {
            return Ok((repository, tag.to_owned()));
        }
    }
    Err("its image has no name; hint: give it one with `docker tag`".to_owned())
}

fn render(found: &ContainerInspectResponse, image: &ImageInspect) -> Result<String, Why> {
    let name = found.name.as_deref().unwrap_or_default().trim_start_matches('/');
    let config = found.config.clone().unwrap_or_default();
    let host = found.host_config.clone().unwrap_or_default();
    let (repository, tag) = image_name(&config, image)?;
    let known = image.repo_digests.iter().flatten().any(|one| one.starts_with(&format!("{repository}@")));
    let own = image.config.clone().unwrap_or_default();
    let service = service_name(name);
    let mut text = format!("# imported from the container {name}\n");
    for lost in not_carried(&config, &host, &own) {
        let _ = writeln!(text, "# not carried over: {lost}");
    }
    let _ = write!(
        text,
        "services:\n  {service}:\n    image: {repository}\n    tag: {}\n    replicas: 1\n    docker:\n",
        quoted(&tag)
    );
    let mut line = |indented: String| {
        let _ = writeln!(text, "      {indented}");
    };
    if !known {
        line("pull: never            # the image came from no registry".to_owned());
    }
    write_ports(&host, &config, &mut line);
    write_env(&config, &own, &mut line);
    if let Some(binds) = host.binds.as_ref().filter(|binds| !binds.is_empty()) {
        line(format!("volumes: {}", list(binds)));
    }
    write_logging(&host, &mut line);
    if let Some(command) = config.cmd.as_ref().filter(|command| own.cmd.as_ref() != Some(command)) {
        line(format!("command: {}", list(command)));
    }
    if restart_of(&host) != Restart::UnlessStopped {
        line(format!("restart: {}", quoted(&restart_of(&host).to_string())));
    }
    write_limits(&host, &config, &mut line);
    line(format!("replaces: {}", list(&[name.to_owned()])));
    Ok(text)
}

/// The container's name as a service name: a colour or slot at its end is not part of it.
fn service_name(name: &str) -> String {
    let mut text: String = name.to_ascii_lowercase();
    text = text.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    let plain = text.trim_matches('-');
    let plain = ["-blue", "-green"].iter().find_map(|colour| plain.strip_suffix(colour)).unwrap_or(plain);
    match ServiceName::new(plain) {
        Ok(name) => name.to_string(),
        Err(_) => "imported".to_owned(),
    }
}

fn write_ports(host: &HostConfig, config: &ContainerConfig, line: &mut impl FnMut(String)) {
    let published: BTreeSet<u16> = host
        .port_bindings
        .iter()
        .flat_map(HashMap::keys)
        .filter_map(|key| key.strip_suffix("/tcp")?.parse().ok())
        .collect();
    let exposed = config.exposed_ports.iter().flatten().filter_map(|key| key.strip_suffix("/tcp")?.parse().ok());
    let mut ports = published.iter().copied().chain(exposed);
    if let Some(port) = ports.next() {
        line(format!("port: {port}"));
    }
    let on_host: BTreeSet<String> = host
        .port_bindings
        .iter()
        .flat_map(HashMap::values)
        .flatten()
        .flatten()
        .filter_map(|one| one.host_port.clone())
        .collect();
    if !on_host.is_empty() {
        let on_host: Vec<String> = on_host.into_iter().collect();
        line(format!(
            "# published on the host as {} now; Holdfast picks ports unless `publish` says",
            on_host.join(", ")
        ));
    }
}

fn write_env(config: &ContainerConfig, own: &ImageConfig, line: &mut impl FnMut(String)) {
    let from_image: BTreeSet<&String> = own.env.iter().flatten().collect();
    let mut added: Vec<(&str, &str)> = config
        .env
        .iter()
        .flatten()
        .filter(|variable| !from_image.contains(variable))
        .filter_map(|variable| variable.split_once('='))
        .collect();
    added.sort_unstable();
    if added.is_empty() {
        return;
    }
    line("# what is secret here belongs in an `envFile` under `envRoot`".to_owned());
    line("env:".to_owned());
    for (name, value) in added {
        line(format!("  {}: {}", quoted(name), quoted(value)));
    }
}

fn write_logging(host: &HostConfig, line: &mut impl FnMut(String)) {
    let Some(logging) = &host.log_config else { return };
    let driver = logging.typ.as_deref().unwrap_or("json-file");
    let mut options: Vec<(&String, &String)> = logging.config.iter().flatten().collect();
    options.sort();
    if driver == "json-file" && options.is_empty() {
        return;
    }
    let options: Vec<String> =
        options.iter().map(|(name, value)| format!("{}: {}", quoted(name), quoted(value))).collect();
    line(format!("logging: {{driver: {}, options: {{{}}}}}", quoted(driver), options.join(", ")));
}

fn write_limits(host: &HostConfig, config: &ContainerConfig, line: &mut impl FnMut(String)) {
    let limits = resources_of(host);
    let mut parts = Vec::new();
    if let Some(nano) = limits.nano_cpus {
        let cpus = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
        parts.push(format!("cpus: {}", cpus.trim_end_matches('0').trim_end_matches('.')));
    }
    if let Some(bytes) = limits.memory {
        let (amount, unit) = if bytes % (1 << 20) == 0 { (bytes >> 20, "MiB") } else { (bytes >> 10, "KiB") };
        parts.push(format!("memory: {amount}{unit}"));
    }
    if !parts.is_empty() {
        line(format!("resources: {{{}}}", parts.join(", ")));
    }
    if host.init == Some(true) {
        line("init: true".to_owned());
    }
    if let Some(seconds) = config.stop_timeout.filter(|seconds| *seconds != 10) {
        line(format!("stopTimeout: {seconds}s"));
    }
}

/// What the container has and a desired state cannot say.
fn not_carried(config: &ContainerConfig, host: &HostConfig, own: &ImageConfig) -> Vec<String> {
    let mut lost = Vec::new();
    if host.privileged == Some(true) {
        lost.push("privileged mode".to_owned());
    }
    if let Some(mode) = host.network_mode.as_deref().filter(|mode| !matches!(*mode, "" | "default" | "bridge")) {
        lost.push(format!("the network `{mode}`"));
    }
    for (what, given) in [
        ("added capabilities", host.cap_add.as_ref().is_some_and(|caps| !caps.is_empty())),
        ("devices", host.devices.as_ref().is_some_and(|devices| !devices.is_empty())),
        ("extra hosts", host.extra_hosts.as_ref().is_some_and(|hosts| !hosts.is_empty())),
        ("an entrypoint", config.entrypoint != own.entrypoint),
        ("a user", config.user.as_deref().unwrap_or_default() != own.user.as_deref().unwrap_or_default()),
        ("more than one port", host.port_bindings.as_ref().is_some_and(|ports| ports.len() > 1)),
    ] {
        if given {
            lost.push(what.to_owned());
        }
    }
    lost
}
