//! The labels on every container of ours, and what they claim.

use std::collections::HashMap;

use crate::model::colour::Group;
use crate::model::names::{ControllerId, ServiceName, container_name};
use crate::model::release::ReleaseHash;

/// Whose container it is.
pub(super) const CONTROLLER: &str = "holdfast.controller";
/// Of which service.
pub(super) const SERVICE: &str = "holdfast.service";
/// In which group: `blue`, `green` or `only`.
pub(super) const COLOUR: &str = "holdfast.colour";
/// In which slot of the group, from 1.
pub(super) const SLOT: &str = "holdfast.slot";
/// Made from which release.
pub(super) const RELEASE: &str = "holdfast.release";
/// The loopback port published for it.
pub(super) const PORT: &str = "holdfast.port";

/// What a container's labels claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) service: ServiceName,
    pub(super) group: Group,
    pub(super) slot: u32,
    pub(super) release: ReleaseHash,
    pub(super) port: Option<u16>,
}

impl Claim {
    /// Reads a complete set of labels; what is missing or wrong otherwise.
    pub(super) fn read(labels: &HashMap<String, String>) -> Result<Self, String> {
        let get = |key: &str| labels.get(key).ok_or_else(|| format!("its label {key} is missing"));
        let wrong = |key: &str| format!("its label {key} cannot be read");
        Ok(Self {
            service: ServiceName::new(get(SERVICE)?).map_err(|_| wrong(SERVICE))?,
            group: Group::parse(get(COLOUR)?).ok_or_else(|| wrong(COLOUR))?,
            slot: get(SLOT)?.parse().map_err(|_| wrong(SLOT))?,
            release: ReleaseHash(get(RELEASE)?.clone()),
            port: match labels.get(PORT) {
                Some(text) => Some(text.parse().map_err(|_| wrong(PORT))?),
                None => None,
            },
        })
    }

    /// The name a container with these labels must have.
    pub(super) fn name(&self) -> String {
        container_name(&self.service, self.group, self.slot)
    }

    /// The labels, complete.
    pub(super) fn labels(&self, controller: &ControllerId) -> HashMap<String, String> {
        let Self { service, group, slot, release, port } = self;
        let mut labels = HashMap::from([
            (CONTROLLER.to_owned(), controller.to_string()),
            (SERVICE.to_owned(), service.to_string()),
            (COLOUR.to_owned(), group.to_string()),
            (SLOT.to_owned(), slot.to_string()),
            (RELEASE.to_owned(), release.to_string()),
        ]);
        if let Some(port) = port {
            labels.insert(PORT.to_owned(), port.to_string());
        }
        labels
    }
}

/// The ids whose containers count as ours: our own, and those adopted with `adopt --from`.
///
/// Labels cannot be changed in place, so an adopted container keeps its former owner's label until it is replaced; every
/// container made from now on carries ours.
#[derive(Debug, Clone)]
pub(super) struct Owners {
    pub(super) own: ControllerId,
    pub(super) former: Vec<ControllerId>,
}

impl Owners {
    /// Whether `id` is ours or was adopted.
    pub(super) fn owns(&self, id: &str) -> bool {
        self.own.as_str() == id || self.former.iter().any(|former| former.as_str() == id)
    }

    /// Whether the labels name one of our ids.
    pub(super) fn owns_labels(&self, labels: &HashMap<String, String>) -> bool {
        labels.get(CONTROLLER).is_some_and(|id| self.owns(id))
    }

    /// The mark of somebody else, if there is one.
    pub(super) fn other<'a>(&self, labels: &'a HashMap<String, String>) -> Option<&'a str> {
        labels.get(CONTROLLER).map(String::as_str).filter(|id| !self.owns(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_back_as_written() {
        let claim = Claim {
            service: ServiceName::new("api").unwrap(),
            group: Group::Blue,
            slot: 2,
            release: ReleaseHash("v1:00".to_owned()),
            port: Some(20000),
        };
        let labels = claim.labels(&ControllerId::new("web-1").unwrap());
        assert_eq!(Claim::read(&labels), Ok(claim.clone()));
        assert_eq!(claim.name(), "api-blue-2");
        for key in [SERVICE, COLOUR, SLOT, RELEASE] {
            let mut less = labels.clone();
            less.remove(key);
            assert_eq!(Claim::read(&less), Err(format!("its label {key} is missing")));
        }
        let mut wrong = labels;
        wrong.insert(PORT.to_owned(), "99999".to_owned());
        assert!(Claim::read(&wrong).is_err());
    }

    #[test]
    fn a_former_id_is_ours_and_another_is_not() {
        let id = |text| ControllerId::new(text).unwrap();
        let owners = Owners { own: id("web-1"), former: vec![id("old")] };
        assert!(owners.owns("web-1") && owners.owns("old") && !owners.owns("web-2"));
        let of = |text: &str| HashMap::from([(CONTROLLER.to_owned(), text.to_owned())]);
        assert_eq!(owners.other(&of("web-2")), Some("web-2"));
        assert_eq!(owners.other(&of("old")), None);
        assert_eq!(owners.other(&HashMap::new()), None);
    }
}
