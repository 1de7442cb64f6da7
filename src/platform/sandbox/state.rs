//! Everything the sandbox holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::hash::sha256_hex;
use jiff::Timestamp;

use super::ROUND;
use super::ecs::aws::Aws;
use super::nginx::Nginx;
use crate::model::image::{Digest, Repository, Tag};
use crate::model::names::ServiceName;
use crate::model::snapshot::{Health, Replica};

/// One container.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) service: ServiceName,
    /// Decides whether it ever becomes healthy.
    pub(super) tag: Tag,
    pub(super) replica: Replica,
}

/// The whole world.
#[derive(Debug)]
pub(super) struct State {
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) images: BTreeSet<(Repository, Digest)>,
    pub(super) kept: BTreeSet<(ServiceName, Digest)>,
    /// Every tag anybody asked for or pushed, and when first: what the registry lists.
    pub(super) pushed: BTreeMap<(Repository, Tag), Timestamp>,
    pub(super) nginx: Nginx,
    /// Verdicts by service and container id, with the run they are on.
    pub(super) verdicts: HashMap<ServiceName, BTreeMap<String, (Timestamp, Health)>>,
    /// Offered at each service's last look.
    pub(super) leases: HashMap<ServiceName, BTreeSet<u16>>,
    pub(super) mutations: u64,
    pub(super) outage: bool,
    pub(super) ecs: Aws,
    /// Whether ECS is at work and its next round on its way.
    pub(super) driven: bool,
    created: u64,
}

impl State {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            containers: BTreeMap::new(),
            images: BTreeSet::new(),
            kept: BTreeSet::new(),
            pushed: BTreeMap::new(),
            nginx: Nginx::new(now),
            verdicts: HashMap::new(),
            leases: HashMap::new(),
            mutations: 0,
            outage: false,
            ecs: Aws::new(now, ROUND, digest_of),
            driven: false,
            created: 0,
        }
    }

    /// An id that no container had before.
    pub(super) fn next_id(&mut self) -> String {
        self.created += 1;
        sha256_hex(format!("container {}", self.created))
    }

    pub(super) const fn number(&self) -> u64 {
        self.created
    }
}

/// The made-up digest of `repository:tag`, the same in every run; none only if SHA-256 were not one.
pub(super) fn digest_of(repository: &Repository, tag: &Tag) -> Option<Digest> {
    Digest::new(&format!("sha256:{}", sha256_hex(format!("{repository}:{tag}")))).ok()
}
