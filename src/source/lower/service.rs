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

use super::{Beside, HostRules, docker, ecs, follow, health, rollout, text};

/// `written` is the service alone, `merged` with the defaults of its file.
pub(super) fn lower(
    scope: &mut Scope<'_, '_>,
    name: ServiceName,
    written: &RawService,
    merged: &RawService,
    aws: Option<&AwsGuard>,
    rules: &HostRules,
    beside: &Beside<'_>,
) -> Option<Service> {
    refuse_later(scope, merged);
    let image = image(scope, &merged.image);
    let tag = tag(scope, &merged.tag);
    let replicas = replicas(scope, merged);
    let nginx = nginx(scope, merged);
    let raw_alb = merged.traffic.get().and_then(|traffic| traffic.alb.get());
    let alb = ecs::alb(scope, raw_alb, aws);
    let strategy = rollout::strategy(scope, merged, nginx.is_some() || raw_alb.is_some());
    let active_colour = active_colour(scope, written, merged, strategy);
    let docker = docker::lower(scope, merged, strategy, replicas, rules);
    let on_ecs = merged.ecs.is_given();
    let ecs = ecs::lower(scope, merged, strategy, aws, rules, beside);
    let health = health::lower(scope, merged.health.get(), docker.port);
    let rollout = rollout::lower(scope, written, merged, strategy);
    let drift = rollout::drift(scope, merged.drift.get());
    let ecr_keep = ecs::ecr_keep(scope, merged.ecr.get());
    let follow = follow::lower(scope, merged.follow.get(), docker.pull);
    if on_ecs {
        check_ecs(scope, written, merged, strategy, &rollout);
    } else {
        check_traffic(scope, merged, strategy, docker.port);
    }
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
        ecs,
        health,
        nginx,
        alb,
        rollout,
        drift,
        aws: aws.cloned(),
        ecr_keep,
        follow,
    })
}

fn refuse_later(scope: &mut Scope<'_, '_>, raw: &RawService) {
    scope.later(&["preview"], &raw.preview);
    scope.later(&["renamedFrom"], &raw.renamed_from);
    if raw.schedule.is_given() {
        scope.error(&["schedule"], "`schedule` is not something holdfast does").hint =
            Some("use EventBridge Scheduler on AWS, or a systemd timer on a host".to_owned());
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

fn replicas(scope: &mut Scope<'_, '_>, raw: &RawService) -> u32 {
    let external = raw.replicas.get().is_some_and(|it| it.0 == "external");
    if !external {
        return scope.take(&["replicas"], &raw.replicas, |text| scalar::number(text, 0, 1000)).unwrap_or(1);
    }
    let blue_green = raw.traffic.get().is_some_and(|traffic| traffic.alb.is_given());
    if !raw.ecs.is_given() {
        scope.error(&["replicas"], "`external` replicas need an autoscaler, which only ECS has").hint =
            Some("write a number".to_owned());
    } else if blue_green {
        scope.error(&["replicas"], "`external` replicas do not go with blue/green").hint = Some(
            "an autoscaler follows one service: write a number, or use `strategy: rolling` without `traffic.alb`"
                .to_owned(),
        );
    }
    1
}

fn tag(scope: &mut Scope<'_, '_>, given: &Given<TagText>) -> Option<TagSpec> {
    let of = format!("service `{}`", scope.service);
    tag_at(scope, &[], given, &of)
}

/// The tag of `of`, which stands under `path`.
pub(super) fn tag_at(scope: &mut Scope<'_, '_>, path: &[&str], given: &Given<TagText>, of: &str) -> Option<TagSpec> {
    let at: Vec<&str> = path.iter().copied().chain(["tag"]).collect();
    let expected = "a tag like `v1` or `3f2a1b9`, or `TAG@sha256:…`";
    let text = match given {
        Given::Null => return None,
        Given::Missing => {
            scope.expected(path, format!("{of} has no `tag`"), expected).hint =
                Some("the tag is the line CI bumps; add `tag: …` beside `image`".to_owned());
            return None;
        }
        Given::Value(TagText(text)) => text,
    };
    if text.is_empty() {
        scope.expected(&at, "`tag` is empty", expected);
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
                scope.warn(&at, "`latest` moves: every push to it is a new release", hint);
            }
            Some(spec)
        }
        Err(why) => {
            scope.expected(&at, format!("`{}` is not a tag: {why}", shown(text)), expected);
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

/// What does not go with ECS.
fn check_ecs(
    scope: &mut Scope<'_, '_>,
    written: &RawService,
    merged: &RawService,
    strategy: Strategy,
    rollout: &crate::model::desired::Rollout,
) {
    if written.docker.is_given() {
        scope.error(&["docker"], "a service runs on ECS or on this Docker host, not on both").hint =
            Some("remove `docker` or `ecs`".to_owned());
    }
    if merged.traffic.get().is_some_and(|traffic| traffic.nginx.is_given()) {
        scope.error(&["traffic", "nginx"], "nginx on this host cannot reach tasks on ECS").hint =
            Some("use `traffic: {alb: …}`, or remove it".to_owned());
    }
    let alb = merged.traffic.get().is_some_and(|traffic| traffic.alb.is_given());
    if strategy == Strategy::BlueGreen && !alb {
        scope.error(&["rollout", "strategy"], "`blueGreen` needs `traffic.alb` to switch").hint =
            Some("add `traffic: {alb: …}`, or use `strategy: rolling`".to_owned());
    }
    if strategy == Strategy::Rolling && alb {
        scope.error(&["traffic", "alb"], "`traffic.alb` is for `strategy: blueGreen`").hint =
            Some("remove it: ECS registers the tasks of a rolling service in its target group itself".to_owned());
    }
    if strategy == Strategy::BlueGreen && rollout.order == crate::model::desired::Order::StopFirst {
        scope.error(&["rollout", "order"], "`stopFirst` has no meaning behind a load balancer").hint =
            Some("remove it, or use `strategy: rolling`".to_owned());
    }
    if written.health.get().is_some_and(|health| !health.running.is_given()) {
        let hint = "the container's health check and the target group say when a task is healthy; `health.running` \
            says how long tasks must last before their colour gets requests";
        scope.warn(&["health"], "`health` is not used on ECS", hint);
    }
}

fn check_traffic(scope: &mut Scope<'_, '_>, raw: &RawService, strategy: Strategy, port: Option<u16>) {
    let docker_port_written = raw.docker.get().is_some_and(|docker| docker.port.is_given());
    let traffic = raw.traffic.is_given();
    if raw.traffic.get().is_some_and(|traffic| traffic.alb.is_given()) {
        scope.error(&["traffic", "alb"], "a load balancer needs a service on ECS").hint =
            Some("add `ecs: …`, or use `traffic: {nginx: {file: …}}`".to_owned());
        return;
    }
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
