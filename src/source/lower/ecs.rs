//! `ecs:`, `traffic.alb:` and `ecr:`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::colour::Group;
use crate::model::desired::{AwsGuard, Strategy};
use crate::model::ecs::task_definition::TaskDefinition;
use crate::model::ecs::{AlbTraffic, BaseFile, Create, Ecs, Sidecar};
use crate::model::image::Repository;
use crate::source::error::shown;
use crate::source::file::ecs::{RawAlb, RawColours, RawCreate, RawEcr, RawEcs, Removable};
use crate::source::file::given::Given;
use crate::source::file::scalars::{Image, Text};
use crate::source::file::service::RawService;
use crate::source::report::Scope;
use crate::source::scalar;
use crate::source::yaml::UniqueMap;

use super::{Beside, HostRules, service, text};

/// `ecs:`, when it is written.
pub(super) fn lower(
    scope: &mut Scope<'_, '_>,
    raw: &RawService,
    strategy: Strategy,
    aws: Option<&AwsGuard>,
    rules: &HostRules,
    beside: &Beside<'_>,
) -> Option<Ecs> {
    let ecs = raw.ecs.get()?;
    if !rules.named {
        scope.error(&["ecs"], "a service on ECS needs a controller with a name of its own").hint = Some(
            "write `controller: NAME` into holdfast.yaml, or say `--controller NAME`: it marks what is ours".to_owned(),
        );
    }
    let services = services(scope, ecs, strategy);
    let cluster = name(scope, &["ecs", "cluster"], &ecs.cluster, is_cluster, "a cluster name or ARN");
    if ecs.cluster == Given::Missing {
        scope.expected(&["ecs"], "`ecs` has no `cluster`", "`cluster: NAME`");
    }
    let family = name(scope, &["ecs", "family"], &ecs.family, is_ecs_name, NAME);
    let container = name(scope, &["ecs", "container"], &ecs.container, is_ecs_name, NAME);
    let region = aws.and_then(|aws| aws.region.clone());
    Some(Ecs {
        cluster: cluster?,
        services,
        family,
        container,
        env: values(scope, "env", &ecs.env),
        secrets: values(scope, "secrets", &ecs.secrets),
        containers: sidecars(scope, ecs),
        base: base(scope, &ecs.task_definition, beside),
        create: create(scope, ecs.create.get(), strategy),
        external_replicas: raw.replicas.get().is_some_and(|it| it.0 == "external"),
        region,
        account: aws.and_then(|aws| aws.account.clone()),
    })
}

const NAME: &str = "1 to 255 letters, digits, `_` and `-`";

fn is_ecs_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

fn is_cluster(text: &str) -> bool {
    is_ecs_name(text) || (is_arn(text, "ecs") && text.contains(":cluster/"))
}

fn is_arn(text: &str, service: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    text.len() <= 2048
        && text::is_line(text)
        && !text.contains(char::is_whitespace)
        && matches!(parts.as_slice(), ["arn", _, of, _, _, rest] if *of == service && !rest.is_empty())
}

fn name(
    scope: &mut Scope<'_, '_>,
    path: &[&str],
    given: &Given<Text>,
    good: impl Fn(&str) -> bool,
    expected: &str,
) -> Option<String> {
    let text = &given.get()?.0;
    if good(text) {
        return Some(text.clone());
    }
    let what = format!("`{}`: found `{}`", path.last().unwrap_or(&""), shown(text));
    scope.expected(path, what, expected);
    None
}

fn services(scope: &mut Scope<'_, '_>, ecs: &RawEcs, strategy: Strategy) -> BTreeMap<Group, String> {
    let mut found = BTreeMap::new();
    match strategy {
        Strategy::Rolling => {
            if ecs.services.is_given() {
                scope.error(&["ecs", "services"], "`services` of two colours need `strategy: blueGreen`").hint =
                    Some("write `service: NAME`, or add `traffic: {alb: …}`".to_owned());
            } else if ecs.service == Given::Missing {
                scope.expected(&["ecs"], "`ecs` has no `service`", "`service: NAME`");
            }
            let one = name(scope, &["ecs", "service"], &ecs.service, is_ecs_name, NAME);
            found.extend(one.map(|name| (Group::Only, name)));
        }
        Strategy::BlueGreen => {
            if ecs.service.is_given() {
                scope.error(&["ecs", "service"], "one `service` has no second colour").hint = Some(
                    "write `services: {blue: NAME, green: NAME-green}`: the one that exists is adopted".to_owned(),
                );
            }
            found = colours(scope, &["ecs", "services"], &ecs.services, is_ecs_name, NAME);
            if ecs.services == Given::Missing && !ecs.service.is_given() {
                scope.expected(&["ecs"], "`ecs` has no `services`", "`services: {blue: NAME, green: NAME}`");
            }
        }
    }
    found
}

/// Two different names, one a colour.
fn colours(
    scope: &mut Scope<'_, '_>,
    path: &[&str],
    given: &Given<RawColours>,
    good: impl Fn(&str) -> bool,
    expected: &str,
) -> BTreeMap<Group, String> {
    let mut found = BTreeMap::new();
    let Some(raw) = given.get() else { return found };
    for (group, key, given) in [(Group::Blue, "blue", &raw.blue), (Group::Green, "green", &raw.green)] {
        if *given == Given::Missing {
            let what = format!("`{}` has no `{key}`", path.last().unwrap_or(&""));
            scope.expected(path, what, &format!("`{key}: …`, {expected}"));
        }
        let at: Vec<&str> = path.iter().copied().chain([key]).collect();
        found.extend(name(scope, &at, given, &good, expected).map(|name| (group, name)));
    }
    if let (Some(blue), Some(green)) = (found.get(&Group::Blue), found.get(&Group::Green))
        && blue == green
    {
        let what = format!("`{}`: blue and green are both `{}`", path.last().unwrap_or(&""), shown(blue));
        scope.error(path, what).hint = Some("each colour needs one of its own".to_owned());
    }
    found
}

fn values(
    scope: &mut Scope<'_, '_>,
    key: &str,
    given: &Given<UniqueMap<Removable>>,
) -> BTreeMap<String, Option<String>> {
    let mut found = BTreeMap::new();
    for (name, Removable(value)) in given.get().into_iter().flat_map(|map| &map.0) {
        if !text::is_variable(name) {
            let what = format!("`{}` is not the name of a variable", shown(name));
            scope.expected(&["ecs", key, name], what, "letters, digits, `_`, `.` and `-`, a letter or `_` first");
            continue;
        }
        let value = value.get().map(|text| text.0.clone());
        if let Some(value) = &value {
            let bad_secret = key == "secrets" && !(is_arn(value, "secretsmanager") || is_arn(value, "ssm"));
            if bad_secret {
                // What stands there may be the secret itself.
                let what = format!("secret `{name}` is not an ARN of Secrets Manager or of an SSM parameter");
                scope.error(&["ecs", key, name], what).hint =
                    Some("write where the value is kept; what is no secret belongs into `env`".to_owned());
            } else if !text::is_value(value) {
                scope.error(&["ecs", key, name], format!("`{name}` has a control character in it"));
            }
        }
        found.insert(name.clone(), value);
    }
    found
}

fn sidecars(scope: &mut Scope<'_, '_>, ecs: &RawEcs) -> BTreeMap<String, Sidecar> {
    let mut found = BTreeMap::new();
    for (container, raw) in ecs.containers.get().into_iter().flat_map(|map| &map.0) {
        let Some(raw) = raw.get() else { continue };
        let path = ["ecs", "containers", container.as_str()];
        if ecs.container.get().is_some_and(|it| it.0 == *container) {
            scope.error(&path, format!("`{container}` is the container of `image` and `tag` above")).hint =
                Some("remove it here".to_owned());
        }
        let at = |key| [path[0], path[1], path[2], key];
        let image = match raw.image.get() {
            Some(Image(text)) => Repository::new(text)
                .map_err(|why| scope.error(&at("image"), format!("`{}` is not an image name: {why}", shown(text))))
                .ok(),
            None => {
                scope.expected(&path, format!("container `{container}` has no `image`"), "an image name without a tag");
                None
            }
        };
        let tag = service::tag_at(scope, &path, &raw.tag, &format!("container `{container}`"));
        if let (Some(image), Some(tag)) = (image, tag) {
            found.insert(container.clone(), Sidecar { image, tag });
        }
    }
    found
}

fn base(scope: &mut Scope<'_, '_>, given: &Given<Text>, beside: &Beside<'_>) -> Option<BaseFile> {
    let path = &given.get()?.0;
    let at = ["ecs", "taskDefinition"];
    if path.contains('/') || !path.ends_with(".json") {
        let what = format!("`taskDefinition`: found `{}`", shown(path));
        scope.expected(&at, what, "the name of a `.json` file beside this one");
        return None;
    }
    let Beside::Files(files) = beside else { return None };
    let Some(content) = files.get(path.as_str()) else {
        scope.error(&at, format!("there is no readable file `{}` beside this one", shown(path))).hint =
            Some("put what `aws ecs describe-task-definition` prints there".to_owned());
        return None;
    };
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(content);
    let content = match parsed
        .map_err(|error| error.to_string())
        .and_then(|it| TaskDefinition::new(&it).map_err(str::to_owned))
    {
        Ok(content) => Arc::new(content),
        Err(why) => {
            scope.error(&at, format!("`{}` is no task definition: {why}", shown(path))).hint =
                Some("`aws ecs describe-task-definition --task-definition NAME` prints one".to_owned());
            return None;
        }
    };
    Some(BaseFile { path: path.clone(), content })
}

fn create(scope: &mut Scope<'_, '_>, raw: Option<&RawCreate>, strategy: Strategy) -> Option<Create> {
    let raw = raw?;
    let launch_type = scope.take(&["ecs", "create", "launchType"], &raw.launch_type, |text| {
        ["FARGATE", "EC2", "EXTERNAL"].contains(&text).then(|| text.to_owned())
    });
    let target_group = name(
        scope,
        &["ecs", "create", "targetGroup"],
        &raw.target_group,
        |text| is_arn(text, "elasticloadbalancing"),
        "the ARN of a target group",
    );
    if strategy == Strategy::BlueGreen && raw.target_group.is_given() {
        scope
            .error(&["ecs", "create", "targetGroup"], "the target groups of two colours stand in `traffic.alb`")
            .hint = Some("remove it here".to_owned());
    }
    let list = |given: &Given<Vec<Given<Text>>>| -> Vec<String> {
        given.get().into_iter().flatten().filter_map(|it| it.get().map(|text| text.0.clone())).collect()
    };
    let create = Create {
        launch_type,
        subnets: list(&raw.subnets),
        security_groups: list(&raw.security_groups),
        assign_public_ip: scope
            .take(&["ecs", "create", "assignPublicIp"], &raw.assign_public_ip, scalar::flag)
            .unwrap_or(false),
        target_group,
        port: scope.take(&["ecs", "create", "port"], &raw.port, scalar::port),
    };
    if create.launch_type.as_deref() == Some("FARGATE") && create.subnets.is_empty() {
        scope.expected(&["ecs", "create"], "FARGATE needs `subnets`", "`subnets: [subnet-…]`");
    }
    Some(create)
}

/// `traffic.alb`.
pub(super) fn alb(scope: &mut Scope<'_, '_>, raw: Option<&RawAlb>, aws: Option<&AwsGuard>) -> Option<AlbTraffic> {
    let raw = raw?;
    let lb = |text: &str| is_arn(text, "elasticloadbalancing");
    let expected = "the ARN of a listener rule, or of a listener for its default rule";
    let rule = |text: &str| lb(text) && (text.contains(":listener-rule/") || text.contains(":listener/"));
    for (key, missing, expected) in [
        ("rule", raw.rule == Given::Missing, "`rule: ARN`"),
        ("targetGroups", raw.target_groups == Given::Missing, "`targetGroups: {blue: ARN, green: ARN}`"),
    ] {
        if missing {
            scope.expected(&["traffic", "alb"], format!("`alb` has no `{key}`"), expected);
        }
    }
    let target_groups = colours(
        scope,
        &["traffic", "alb", "targetGroups"],
        &raw.target_groups,
        |text| lb(text) && text.contains(":targetgroup/"),
        "the ARN of a target group",
    );
    let rule = name(scope, &["traffic", "alb", "rule"], &raw.rule, rule, expected)?;
    Some(AlbTraffic { rule, target_groups, region: aws.and_then(|aws| aws.region.clone()) })
}

/// `ecr:`.
pub(super) fn ecr_keep(scope: &mut Scope<'_, '_>, raw: Option<&RawEcr>) -> Option<u32> {
    let raw = raw?;
    let keep = scope.take(&["ecr", "keep"], &raw.keep, |text| scalar::number(text, 1, 100));
    if raw.keep == Given::Missing {
        scope.expected(&["ecr"], "`ecr` has no `keep`", "`ecr: {keep: 10, soleOwner: true}`");
    }
    let sole = scope.take(&["ecr", "soleOwner"], &raw.sole_owner, scalar::flag).unwrap_or(false);
    if !sole {
        scope.error(&["ecr"], "images are deleted only where nobody else uses the repository").hint =
            Some("say so with `soleOwner: true`, or remove `ecr`".to_owned());
    }
    keep
}
