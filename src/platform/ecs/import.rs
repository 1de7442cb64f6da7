//! `holdfast import ecs`: the desired state of what already runs.

use serde_json::Value;

use super::Ecs;
use super::parse::{list, text};
use crate::model::ecs::task_definition::{digest_of, repository_of, tag_of};
use crate::model::snapshot::{Fact, Why};
use crate::plan::step::revision;

impl Ecs {
    /// The desired state of `cluster/service` as YAML: as it stands, it changes nothing.
    ///
    /// # Errors
    /// When there is no such service or ECS does not answer.
    pub async fn import(&self, cluster: &str, service: &str, region: Option<&str>) -> Result<String, Why> {
        let names = [service.to_owned()];
        let reply =
            self.api.describe_services(region, cluster, &names).await.map_err(|error| error.why().to_owned())?;
        let missing = || {
            format!(
                "there is no service {service} in cluster {cluster}; hint: `aws ecs list-services --cluster {cluster}` lists them"
            )
        };
        let described = list(&reply, "services").find(|it| text(it, "serviceName") == service).ok_or_else(missing)?;
        let Fact::Seen(seen) = super::parse::service(&std::sync::Arc::new(described.clone()), &self.ours) else {
            return Err(missing());
        };
        if let Some(controller) = &seen.other_controller {
            return Err(format!(
                "{service} is deployed by {controller}; only services with ECS rolling updates can be taken over"
            ));
        }
        let definition = match self.definitions.get(region, &seen.task_definition).await {
            Fact::Seen(definition) => definition,
            Fact::Absent => return Err(format!("{} does not exist any more", seen.task_definition)),
            Fact::Unreadable(why) => return Err(why),
        };
        let names = definition.content.containers();
        let balanced =
            list(described, "loadBalancers").map(|it| text(it, "containerName")).find(|it| names.contains(it));
        let container = balanced.or(names.first().copied()).unwrap_or_default();
        let image = definition.content.image(container).unwrap_or_default();
        let repository = repository_of(image).ok_or_else(|| format!("`{image}` is no image reference"))?;
        let ours = definition.tags.get(crate::model::ecs::tags::TAG).map(String::as_str);
        let (tag, note) = match (tag_of(image), ours, digest_of(image)) {
            (Some(tag), _, _) | (None, Some(tag), _) => (tag.to_owned(), ""),
            (None, None, Some(digest)) => (format!("pinned@{digest}"), "  # write the tag you deploy"),
            (None, None, None) => ("latest".to_owned(), "  # write the tag you deploy"),
        };
        Ok(render(&Import {
            described,
            service,
            cluster: cluster.rsplit('/').next().unwrap_or(cluster),
            revision: revision(&seen.task_definition),
            family: definition.content.family().unwrap_or_default(),
            container: (names.len() > 1).then_some(container),
            image: repository.as_str(),
            tag: &tag,
            note,
            replicas: seen.desired,
        }))
    }
}

struct Import<'a> {
    described: &'a Value,
    service: &'a str,
    cluster: &'a str,
    revision: &'a str,
    family: &'a str,
    container: Option<&'a str>,
    image: &'a str,
    tag: &'a str,
    note: &'a str,
    replicas: u32,
}

fn render(it: &Import<'_>) -> String {
    let Import { described, service, cluster, revision, family, container, image, tag, note, replicas } = it;
    let arn: Vec<&str> = text(described, "serviceArn").split(':').collect();
    let guard = match (arn.get(3), arn.get(4)) {
        (Some(region), Some(account)) if account.len() == 12 => {
            format!("aws: {{account: \"{account}\", region: {region}}}\n")
        }
        _ => String::new(),
    };
    let name: String =
        service.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    let container = container.map(|name| format!("\n      container: {name}")).unwrap_or_default();
    format!(
        "# {cluster}/{service} as it runs now ({revision}). The rest of its task definition is kept as it is.\n{guard}\
         services:\n  {name}:\n    image: {image}\n    tag: \"{tag}\"{note}\n    \
         replicas: {replicas}   # `external` when an autoscaler owns the count\n    ecs:\n      \
         cluster: {cluster}\n      service: {service}\n      family: {family}{container}\n    \
         rollout: {{strategy: rolling}}\n"
    )
}
