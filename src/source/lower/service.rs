//! One service.

use crate::model::colour::Colour;
use crate::model::desired::{AwsGuard, NginxTraffic, Service, Strategy};
use crate::model::image::{Digest, Repository, Tag, TagSpec};
use crate::model::names::ServiceName;
use crate::source::error::shown;
use crate::source::file::given::Given;
use crate::source::file::scalars::{Image, TagText};
use crate::source::file::service::RawService;
use crate::source::report::Scope;
use crate::source::scalar;

use super::{HostRules, docker, health, rollout, text};

/// `written` is the service alone, `merged` with the defaults of its file.
pub(super) fn lower(
    scope: &mut Scope<'_, '_>,
    name: ServiceName,
    written: &RawService,
    merged: &RawService,
    aws: Option<&AwsGuard>,
    rules: &HostRules,
) -> Option<Service> {
    refuse_later(scope, merged);
    let image = image(scope, &merged.image);
    let tag = tag(scope, &merged.tag);
    let replicas = scope.take(&["replicas"], &merged.replicas, |text| scalar::number(text, 0, 1000)).unwrap_or(1);
    let nginx = nginx(scope, merged);
    let strategy = rollout::strategy(scope, merged, nginx.is_some());
    let active_colour = active_colour(scope, written, merged, strategy);
    let docker = docker::lower(scope, merged, strategy, replicas, rules);
    let health = health::lower(scope, merged.health.get(), docker.port);
    let rollout = rollout::lower(scope, written, merged, strategy);
    let drift = rollout::drift(scope, merged.drift.get());
    check_traffic(scope, merged, strategy, docker.port);
    if replicas > 1 && rollout.order == crate::model::desired::Order::StopFirst {
        let hint = "with several replicas, `startFirst` keeps all of them serving";
        scope.warn(&["rollout", "order"], "`stopFirst` with more than one replica", hint);
    }
    Some(Service {
        name,
        file: scope.report.file.to_owned(),
        image: image?,
        tag: tag?,
        replicas,
        active_colour,
        docker,
        health,
        nginx,
        rollout,
        drift,
        aws: aws.cloned(),
    })
}

fn refuse_later(scope: &mut Scope<'_, '_>, raw: &RawService) {
    scope.later(&["preview"], &raw.preview);
    scope.later(&["follow"], &raw.follow);
    scope.later(&["ecr"], &raw.ecr);
    scope.later(&["ecs"], &raw.ecs);
    scope.later(&["renamedFrom"], &raw.renamed_from);
    if raw.schedule.is_given() {
        scope.error(&["schedule"], "`schedule` is not something holdfast does").hint =
            Some("use EventBridge Scheduler on AWS, or a systemd timer on a host".to_owned());
    }
    if let Some(traffic) = raw.traffic.get() {
        scope.later(&["traffic", "alb"], &traffic.alb);
    }
}

fn image(scope: &mut Scope<'_, '_>, given: &Given<Image>) -> Option<Repository> {
    match given {
        Given::Null => None,
        Given::Missing => {
            let expected = "an image name without a tag, like `nginx` or `localhost:5000/team/app`";
            scope.expected(&[], format!("service `{}` has no `image`", scope.service), expected);
            None
        }
        Given::Value(Image(text)) => match Repository::new(text) {
            Ok(repository) => Some(repository),
            Err(why) => {
                scope.error(&["image"], format!("`{}` is not an image name: {why}", shown(text)));
                None
            }
        },
    }
}

fn tag(scope: &mut Scope<'_, '_>, given: &Given<TagText>) -> Option<TagSpec> {
    let expected = "a tag like `v1` or `3f2a1b9`, or `TAG@sha256:…`";
    let text = match given {
        Given::Null => return None,
        Given::Missing => {
            scope.expected(&[], format!("service `{}` has no `tag`", scope.service), expected).hint =
                Some("the tag is the line CI bumps; add `tag: …` beside `image`".to_owned());
            return None;
        }
        Given::Value(TagText(text)) => text,
    };
    if text.is_empty() {
        scope.expected(&["tag"], "`tag` is empty", expected);
        return None;
    }
    let (tag, digest) = match text.split_once('@') {
        Some((tag, digest)) => (tag, Some(Digest::new(digest))),
        None => (text.as_str(), None),
    };
    let spec = Tag::new(tag).and_then(|tag| Ok(TagSpec { tag, digest: digest.transpose()? }));
    match spec {
        Ok(spec) => {
            if spec.tag.as_str() == "latest" && spec.digest.is_none() {
                let hint = "a tag that names one build makes rollbacks exact";
                scope.warn(&["tag"], "`latest` moves: every push to it is a new release", hint);
            }
            Some(spec)
        }
        Err(why) => {
            scope.expected(&["tag"], format!("`{}` is not a tag: {why}", shown(text)), expected);
            None
        }
    }
}

fn nginx(scope: &mut Scope<'_, '_>, raw: &RawService) -> Option<NginxTraffic> {
    let traffic = raw.traffic.get()?;
    if !traffic.nginx.is_given() && !traffic.alb.is_given() {
        scope.error(&["traffic"], "`traffic` names nobody").hint =
            Some("add `nginx: {file: …}`, or remove `traffic`".to_owned());
    }
    let nginx = traffic.nginx.get()?;
    let path = ["traffic", "nginx", "file"];
    let expected = "an absolute path of letters, digits and `._-+@`, like `/etc/nginx/holdfast/api.servers`";
    let Given::Value(file) = &nginx.file else {
        if nginx.file == Given::Missing {
            scope.expected(&path[..2], "`nginx` has no `file`", expected);
        }
        return None;
    };
    if !text::is_plain_path(&file.0) {
        scope.expected(&path, format!("`file`: found `{}`", shown(&file.0)), expected);
    }
    Some(NginxTraffic { file: file.0.clone().into() })
}

fn active_colour(
    scope: &mut Scope<'_, '_>,
    written: &RawService,
    merged: &RawService,
    strategy: Strategy,
) -> Option<Colour> {
    let (path, given) = match (&merged.active_colour, &merged.active_color) {
        (Given::Missing, other) => ("activeColor", other),
        (Given::Value(_) | Given::Null, Given::Value(_) | Given::Null) => {
            scope.error(&["activeColor"], "`activeColour` and `activeColor` are the same key").hint =
                Some("remove one of them".to_owned());
            ("activeColour", &merged.active_colour)
        }
        (one, _) => ("activeColour", one),
    };
    let colour = scope.take(&[path], given, |text| match text {
        "blue" => Some(Some(Colour::Blue)),
        "green" => Some(Some(Colour::Green)),
        "auto" => Some(None),
        _ => None,
    });
    if strategy == Strategy::Rolling {
        if written.active_colour.is_given() || written.active_color.is_given() {
            scope.error(&[path], format!("`{path}` has no meaning with `strategy: rolling`")).hint =
                Some("remove it, or use `strategy: blueGreen`".to_owned());
        }
        return None;
    }
    colour.flatten()
}

fn check_traffic(scope: &mut Scope<'_, '_>, raw: &RawService, strategy: Strategy, port: Option<u16>) {
    let docker_port_written = raw.docker.get().is_some_and(|docker| docker.port.is_given());
    let traffic = raw.traffic.is_given();
    if strategy == Strategy::BlueGreen && !traffic {
        scope.error(&["rollout", "strategy"], "`blueGreen` needs `traffic` to switch").hint =
            Some("add `traffic: {nginx: {file: …}}`, or use `strategy: rolling`".to_owned());
    }
    if (traffic || strategy == Strategy::BlueGreen) && port.is_none() && !docker_port_written {
        let path: &[&str] = if traffic { &["traffic"] } else { &["rollout", "strategy"] };
        scope.error(path, "requests need a `docker.port` to go to").hint =
            Some("add the port the container listens on: `docker: {port: 8080}`".to_owned());
    }
}
