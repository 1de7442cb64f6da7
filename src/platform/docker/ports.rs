//! Free loopback ports, leased per service so that two services planning at once never get the same one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bollard::models::ContainerSummary;
use jiff::Timestamp;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::labels;
use crate::model::colour::Group;
use crate::model::desired::PortRange;
use crate::model::names::ServiceName;

/// How long a lease that no step has used yet is safe when ports run out: a plan starts right after its look.
const UNUSED: Duration = Duration::from_secs(10);

/// The ports one service was offered at its last look.
#[derive(Debug)]
struct Lease {
    ports: BTreeSet<u16>,
    at: Timestamp,
    /// A step of that plan was performed: later stages may still need the ports.
    in_use: bool,
}

/// Every lease of this controller.
#[derive(Debug, Default)]
pub(super) struct Leases(HashMap<ServiceName, Lease>);

impl Leases {
    /// Offers `count` free ports for each group, lowest first, and leases them until the service looks again.
    pub(super) fn offer(
        &mut self,
        service: &ServiceName,
        ranges: &[(Group, PortRange)],
        count: usize,
        is_taken: impl Fn(u16) -> bool,
        now: Timestamp,
    ) -> BTreeMap<Group, Vec<u16>> {
        self.0.remove(service);
        let mut ours = BTreeSet::new();
        let mut offer = BTreeMap::new();
        for (group, range) in ranges {
            let free = |port: &u16| !is_taken(*port);
            let mut ports: Vec<u16> = (range.first..=range.last)
                .filter(|port| !ours.contains(port) && !self.is_leased(*port) && free(port))
                .take(count)
                .collect();
            if ports.len() < count {
                let spare = (range.first..=range.last)
                    .filter(|port| !ours.contains(port) && !ports.contains(port) && self.is_idle(*port, now))
                    .filter(free);
                let spare: Vec<u16> = spare.take(count - ports.len()).collect();
                for port in &spare {
                    self.take_back(*port);
                }
                ports.extend(spare);
                ports.sort_unstable();
            }
            ours.extend(ports.iter().copied());
            offer.insert(*group, ports);
        }
        self.0.insert(service.clone(), Lease { ports: ours, at: now, in_use: false });
        offer
    }

    /// A step of `service` is performed: its lease holds until its next look.
    pub(super) fn hold(&mut self, service: &ServiceName) {
        if let Some(lease) = self.0.get_mut(service) {
            lease.in_use = true;
        }
    }

    /// The service left the file: it starts nothing any more.
    pub(super) fn forget(&mut self, service: &ServiceName) {
        self.0.remove(service);
    }

    /// Whether another service than `service` holds `port`.
    pub(super) fn is_anothers(&self, port: u16, service: &ServiceName) -> bool {
        self.0.iter().any(|(name, lease)| name != service && lease.ports.contains(&port))
    }

    fn is_leased(&self, port: u16) -> bool {
        self.0.values().any(|lease| lease.ports.contains(&port))
    }

    fn is_idle(&self, port: u16, now: Timestamp) -> bool {
        self.0
            .values()
            .filter(|lease| lease.ports.contains(&port))
            .all(|lease| !lease.in_use && now.duration_since(lease.at).unsigned_abs() >= UNUSED)
    }

    fn take_back(&mut self, port: u16) {
        for lease in self.0.values_mut() {
            lease.ports.remove(&port);
        }
    }
}

/// Every port a container has published or, by its label, will publish when it starts.
pub(super) fn published(containers: &[ContainerSummary]) -> BTreeSet<u16> {
    let bound = containers.iter().flat_map(|one| one.ports.iter().flatten()).filter_map(|port| port.public_port);
    let labelled = containers.iter().filter_map(|one| one.labels.as_ref()?.get(labels::PORT)?.parse().ok());
    bound.chain(labelled).collect()
}

/// Whether somebody on this host listens where a replica would: asked as the engine will, by binding. The kernel's table
/// of sockets would say it too, but takes 20 ms to read, whatever is in it.
pub(super) fn is_bound_here(port: u16) -> bool {
    bind(port).is_err_and(|error| error == Errno::ADDRINUSE)
}

/// Binds the loopback port and lets it go; never listens, so nobody can connect meanwhile.
fn bind(port: u16) -> Result<(), Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // As the engine's proxy does: connections that have ended do not count.
    set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const RANGE: PortRange = PortRange { first: 100, last: 105 };

    #[test]
    fn two_services_never_get_the_same_port() {
        let mut leases = Leases::default();
        let both = [(Group::Blue, RANGE), (Group::Green, RANGE)];
        let a = leases.offer(&name("a"), &both, 2, |port| port == 101, at(0));
        assert_eq!(a, BTreeMap::from([(Group::Blue, vec![100, 102]), (Group::Green, vec![103, 104])]));
        let b = leases.offer(&name("b"), &[(Group::Only, RANGE)], 2, |port| port == 101, at(0));
        assert_eq!(b, BTreeMap::from([(Group::Only, vec![105])]));
        assert!(leases.is_anothers(105, &name("a")) && !leases.is_anothers(105, &name("b")));
    }

    #[test]
    fn looking_again_renews_and_gives_the_same_answer() {
        let mut leases = Leases::default();
        let first = leases.offer(&name("a"), &[(Group::Only, RANGE)], 3, |_| false, at(0));
        let again = leases.offer(&name("a"), &[(Group::Only, RANGE)], 3, |_| false, at(1));
        assert_eq!(first, again);
    }

    #[test]
    fn a_lease_nobody_uses_is_given_up_only_when_ports_run_out() {
        let mut leases = Leases::default();
        leases.offer(&name("a"), &[(Group::Only, RANGE)], 6, |_| false, at(0));
        let early = leases.offer(&name("b"), &[(Group::Only, RANGE)], 1, |_| false, at(5));
        assert_eq!(early[&Group::Only], Vec::<u16>::new());
        let late = leases.offer(&name("b"), &[(Group::Only, RANGE)], 1, |_| false, at(20));
        assert_eq!(late[&Group::Only], vec![100]);
        leases.hold(&name("a"));
        let held = leases.offer(&name("c"), &[(Group::Only, RANGE)], 1, |_| false, at(60));
        assert_eq!(held[&Group::Only], vec![100], "b never used its own, a holds the rest");
    }

    #[test]
    fn a_port_somebody_listens_on_is_bound_and_one_that_was_let_go_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let everywhere = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let (one, all) = (listener.local_addr().unwrap().port(), everywhere.local_addr().unwrap().port());
        assert!(is_bound_here(one) && is_bound_here(all));
        let client = std::net::TcpStream::connect(("127.0.0.1", one)).unwrap();
        let (server, _) = listener.accept().unwrap();
        drop(listener);
        drop(server);
        drop(client);
        assert!(!is_bound_here(one), "what lingers in TIME_WAIT is no listener");
    }
}
