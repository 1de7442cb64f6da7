//! Task definitions as JSON: rendered from a base ([`with`](TaskDefinition::with)), compared without false differences
//! (`canonical`, `differences`), unknown fields kept.

mod canonical;
mod differences;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::model::image::{Digest, Repository};
pub use canonical::sorted_keys;

/// Keys ECS adds to what was registered.
const READ_ONLY: [&str; 10] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "compatibilities",
    "requiresAttributes",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
    "deleteRequestedAt",
    "tags",
];

/// A task definition in the shape it is registered in: no read-only keys, nothing that means "not set".
#[derive(Debug, Clone, PartialEq)]
pub struct TaskDefinition(Map<String, Value>);

/// What is put into a base.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inserts<'a> {
    /// The container of the service.
    pub container: &'a str,
    /// Its image, `repository@digest`.
    pub image: String,
    /// Variables; `None` removes.
    pub env: BTreeMap<String, Option<String>>,
    /// Secrets; `None` removes.
    pub secrets: BTreeMap<String, Option<String>>,
    /// Images of other containers.
    pub containers: BTreeMap<String, String>,
}

impl TaskDefinition {
    /// From `taskDefinition` of a reply, the output of `aws ecs describe-task-definition`, or what the console shows.
    ///
    /// # Errors
    /// What is missing in it, as a lowercase fragment.
    pub fn new(value: &Value) -> Result<Self, &'static str> {
        let value = value.get("taskDefinition").unwrap_or(value);
        let Value::Object(map) = value else { return Err("it is not a JSON object") };
        let mut map = map.clone();
        for key in READ_ONLY {
            map.remove(key);
        }
        map.retain(|_, value| !is_unset(value));
        let containers = map.get_mut("containerDefinitions").and_then(Value::as_array_mut);
        let containers = containers.ok_or("it has no `containerDefinitions`")?;
        for container in containers.iter_mut() {
            let container = container.as_object_mut().ok_or("a container of it is not an object")?;
            container.retain(|_, value| !is_unset(value));
            if !container.get("name").is_some_and(Value::is_string) {
                return Err("a container of it has no `name`");
            }
        }
        if containers.is_empty() {
            return Err("it has no container");
        }
        Ok(Self(map))
    }

    /// Its family.
    pub fn family(&self) -> Option<&str> {
        self.0.get("family").and_then(Value::as_str)
    }

    /// The names of its containers, as written.
    pub fn containers(&self) -> Vec<&str> {
        self.defs().filter_map(|it| it.get("name")?.as_str()).collect()
    }

    /// The image of `container`.
    pub fn image(&self, container: &str) -> Option<&str> {
        self.def(container)?.get("image")?.as_str()
    }

    /// The value of a plain variable of `container`.
    pub fn variable(&self, container: &str, name: &str) -> Option<&str> {
        let list = self.def(container)?.get("environment")?.as_array()?;
        list.iter().find(|it| it.get("name").and_then(Value::as_str) == Some(name))?.get("value")?.as_str()
    }

    /// The first container port of `container`.
    pub fn port(&self, container: &str) -> Option<u64> {
        self.def(container)?.get("portMappings")?.as_array()?.first()?.get("containerPort")?.as_u64()
    }

    /// What `RegisterTaskDefinition` is given, without tags.
    pub fn request(&self) -> Map<String, Value> {
        self.0.clone()
    }

    fn defs(&self) -> impl Iterator<Item = &Map<String, Value>> {
        self.0.get("containerDefinitions").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
    }

    fn def(&self, container: &str) -> Option<&Map<String, Value>> {
        self.defs().find(|it| it.get("name").and_then(Value::as_str) == Some(container))
    }

    fn defs_mut(&mut self) -> impl Iterator<Item = &mut Map<String, Value>> {
        let list = self.0.get_mut("containerDefinitions").and_then(Value::as_array_mut);
        list.into_iter().flatten().filter_map(Value::as_object_mut)
    }

    /// This base with `inserts` in it, under `family`.
    #[must_use]
    pub fn with(&self, family: &str, inserts: &Inserts<'_>) -> Self {
        let mut made = self.clone();
        made.0.insert("family".to_owned(), json!(family));
        for def in made.defs_mut() {
            let name = def.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            if let Some(image) = inserts.containers.get(&name) {
                def.insert("image".to_owned(), json!(image));
            }
            if name == inserts.container {
                def.insert("image".to_owned(), json!(inserts.image));
                // One name is a variable or a secret, never both: the one written last wins.
                let is_set = |values: &BTreeMap<String, Option<String>>| -> BTreeMap<String, Option<String>> {
                    values.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| (name.clone(), None)).collect()
                };
                merge(def, "environment", "value", &is_set(&inserts.secrets));
                merge(def, "secrets", "valueFrom", &is_set(&inserts.env));
                merge(def, "environment", "value", &inserts.env);
                merge(def, "secrets", "valueFrom", &inserts.secrets);
            }
        }
        made
    }

    /// The same with the images of `digests` pinned where they name `repositories` (by container).
    #[must_use]
    pub fn pinned(&self, repositories: &BTreeMap<&str, &Repository>, digests: &BTreeMap<String, Digest>) -> Self {
        let mut made = self.clone();
        for def in made.defs_mut() {
            let name = def.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let Some(wanted) = repositories.get(name.as_str()) else { continue };
            let image = def.get("image").and_then(Value::as_str).unwrap_or_default().to_owned();
            let Some((repository, digest)) = split(&image) else { continue };
            let digest = digest.or_else(|| digests.get(&name).cloned());
            if let (true, Some(digest)) = (repository.same_as(wanted), digest) {
                def.insert("image".to_owned(), json!(format!("{wanted}@{digest}")));
            }
        }
        made
    }
}

/// `repository`, `repository:tag`, `repository:tag@digest` or `repository@digest` as its repository and digest.
fn split(image: &str) -> Option<(Repository, Option<Digest>)> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(Digest::new(digest).ok()?)),
        None => (image, None),
    };
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let name = name[slash..].find(':').map_or(name, |colon| &name[..slash + colon]);
    Some((Repository::new(name).ok()?, digest))
}

/// The digest `image` is pinned to.
pub fn digest_of(image: &str) -> Option<Digest> {
    split(image)?.1
}

/// The repository of `image`.
pub fn repository_of(image: &str) -> Option<Repository> {
    Some(split(image)?.0)
}

/// The tag of `image`; none where there is none.
pub fn tag_of(image: &str) -> Option<&str> {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    name[slash..].split_once(':').map(|(_, tag)| tag)
}

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Sets or removes entries of a list of `{name, <value>}`.
fn merge(def: &mut Map<String, Value>, list: &str, value_key: &str, inserts: &BTreeMap<String, Option<String>>) {
    if inserts.is_empty() {
        return;
    }
    let entries = def.entry(list.to_owned()).or_insert_with(|| json!([]));
    let Value::Array(entries) = entries else { return };
    entries.retain(|it| !it.get("name").and_then(Value::as_str).is_some_and(|name| inserts.contains_key(name)));
    for (name, value) in inserts {
        if let Some(value) = value {
            entries.push(json!({"name": name, value_key: value}));
        }
    }
    if entries.is_empty() {
        def.remove(list);
    }
}

#[cfg(test)]
mod tests;
