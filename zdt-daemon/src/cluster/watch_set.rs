//! Which addresses the kernel half must know: pure, from the same states that become inputs.
//!
//! An address stays for [`RETENTION_MS`] after the last object that named it is gone, because the failures that
//! matter come after the pod is gone. When a new object names it meanwhile, it stays and gains that object's bits;
//! each bit leaves on its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use zdt_common::{ADDR_LOCAL_POD, ADDR_NODE, ADDR_POD, ADDR_VIP};

use crate::{
    addrs::{AddrMap, AddrSet},
    input::{Ktime, NsName, PodUid, Protocol, ServiceState, What},
};

/// How long an address outlives its last object, in milliseconds.
pub const RETENTION_MS: u64 = 15 * 60_000;

const BITS: [u32; 4] = [ADDR_LOCAL_POD, ADDR_NODE, ADDR_POD, ADDR_VIP];

/// One change of the kernel half's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The address has exactly these `ADDR_*` bits now; 0: it leaves the map.
    Addr { addr: IpAddr, bits: u32 },
    /// The address and port serve, or do so no longer.
    Endpoint { addr: IpAddr, port: u16, watched: bool },
    /// A service is at the address and port, or, without an address, at a port of the node; or is so no longer.
    Service {
        addr: Option<IpAddr>,
        port: u16,
        protocol: Protocol,
        watched: bool,
    },
    /// An endpoint or pod at the address is going or coming, or is so no longer.
    Transit { addr: IpAddr, on: bool },
    /// A pod of this node at the address may be the next to go, or is so no longer.
    Beside { addr: IpAddr, on: bool },
}

/// Puts changes into the kernel half's maps.
pub trait KernelMaps: Send {
    /// The error is text for a person: it says which map, and what to do.
    fn apply(&mut self, change: Change) -> Result<(), String>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Addr(IpAddr, u32),
    Endpoint(IpAddr, u16),
    Service(Option<IpAddr>, u16, Protocol),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Node,
    Pod(PodUid),
    Slice(NsName),
    Service(NsName),
}

/// What one object names. A slice's endpoints have all of its ports.
#[derive(Debug, Default)]
struct Owned {
    /// What its addresses are.
    bit: u32,
    addrs: AddrSet,
    ports: Box<[u16]>,
    services: Box<[(Option<IpAddr>, u16, Protocol)]>,
}

impl Owned {
    fn addrs(bit: u32, addrs: impl Iterator<Item = IpAddr>) -> Self {
        Self {
            bit,
            addrs: addrs.collect(),
            ..Self::default()
        }
    }

    fn is_empty(&self) -> bool {
        self.addrs.is_empty() && self.services.is_empty()
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        let addrs = self.addrs.addrs().map(|addr| Entry::Addr(addr, self.bit));
        let ports = |addr| self.ports.iter().map(move |port| Entry::Endpoint(addr, *port));
        let services = self.services.iter();
        addrs
            .chain(self.addrs.addrs().flat_map(ports))
            .chain(services.map(|(addr, port, protocol)| Entry::Service(*addr, *port, *protocol)))
    }

    fn has(&self, entry: Entry) -> bool {
        match entry {
            Entry::Addr(addr, bit) => bit == self.bit && self.addrs.contains(addr),
            Entry::Endpoint(addr, port) => self.ports.contains(&port) && self.addrs.contains(addr),
            Entry::Service(addr, port, protocol) => self.services.contains(&(addr, port, protocol)),
        }
    }
}

/// How many objects name each entry. With none it stays until it leaves.
#[derive(Debug, Default)]
struct Slots {
    /// By bit.
    addrs: BTreeMap<u32, AddrMap<u32>>,
    /// By port: a cluster has many endpoints on few ports.
    endpoints: BTreeMap<u16, AddrMap<u32>>,
    services: BTreeMap<(Option<IpAddr>, u16, Protocol), u32>,
}

impl Slots {
    fn get(&self, entry: Entry) -> Option<u32> {
        match entry {
            Entry::Addr(addr, bit) => self.addrs.get(&bit)?.get(&addr),
            Entry::Endpoint(addr, port) => self.endpoints.get(&port)?.get(&addr),
            Entry::Service(addr, port, protocol) => self.services.get(&(addr, port, protocol)),
        }
        .copied()
    }

    fn or_default(&mut self, entry: Entry) -> &mut u32 {
        match entry {
            Entry::Addr(addr, bit) => self.addrs.entry(bit).or_default().or_default(addr),
            Entry::Endpoint(addr, port) => self.endpoints.entry(port).or_default().or_default(addr),
            Entry::Service(addr, port, protocol) => self.services.entry((addr, port, protocol)).or_default(),
        }
    }

    fn remove(&mut self, entry: Entry) {
        match entry {
            Entry::Addr(addr, bit) => {
                if let Some(addrs) = self.addrs.get_mut(&bit) {
                    addrs.remove(&addr);
                }
            }
            Entry::Endpoint(addr, port) => {
                if let Some(addrs) = self.endpoints.get_mut(&port) {
                    addrs.remove(&addr);
                    if addrs.len() == 0 {
                        self.endpoints.remove(&port);
                    }
                }
            }
            Entry::Service(addr, port, protocol) => {
                self.services.remove(&(addr, port, protocol));
            }
        }
    }
}

/// What the maps hold, and why.
#[derive(Debug, Default)]
pub struct WatchSet {
    owned: BTreeMap<Owner, Owned>,
    slots: Slots,
    /// When those leave that nobody owns, unless somebody owns them again.
    leaves: BTreeMap<Entry, Ktime>,
    leaving: BTreeSet<(Ktime, Entry)>,
}

impl WatchSet {
    /// The node's own addresses.
    pub fn node(&mut self, at: Ktime, addrs: &[IpAddr], out: &mut Vec<Change>) {
        let owned = Owned::addrs(ADDR_NODE, addrs.iter().copied());
        self.own(at, Owner::Node, owned, out);
    }

    /// Follows an object; what is not about pods, slices or services changes nothing.
    pub fn follow(&mut self, at: Ktime, what: &What, out: &mut Vec<Change>) {
        match what {
            What::Pod(pod) => {
                // A pod on the host network has the node's addresses; it is told apart by its cgroup.
                let ips = if pod.host_network { &[] } else { pod.ips.as_slice() };
                let owned = Owned::addrs(ADDR_LOCAL_POD, ips.iter().copied());
                self.own(at, Owner::Pod(pod.uid.clone()), owned, out);
            }
            What::PodGone { uid } => self.own(at, Owner::Pod(uid.clone()), Owned::default(), out),
            What::Slice(slice) => {
                let addrs = slice.endpoints.iter().flat_map(|e| &e.addrs).copied();
                let ports = slice.ports.iter().filter(|p| p.protocol == "TCP");
                let owned = Owned {
                    ports: ports
                        .map(|p| p.port)
                        .collect::<BTreeSet<_>>()
                        .into_iter()
                        .collect(),
                    ..Owned::addrs(ADDR_POD, addrs)
                };
                self.own(at, Owner::Slice(slice.slice.clone()), owned, out);
            }
            What::SliceGone { slice } => self.own(at, Owner::Slice(slice.clone()), Owned::default(), out),
            What::Service(service) => {
                let owned = Owned {
                    services: dialled(service).into_iter().collect(),
                    ..Owned::addrs(ADDR_VIP, service.vips.iter().copied())
                };
                self.own(at, Owner::Service(service.service.clone()), owned, out);
            }
            What::ServiceGone { service } => {
                self.own(at, Owner::Service(service.clone()), Owned::default(), out);
            }
            _ => {}
        }
    }

    /// Lets go what nobody has owned for the retention time.
    pub fn expire(&mut self, now: Ktime, out: &mut Vec<Change>) {
        while let Some(&(at, entry)) = self.leaving.first() {
            if at > now {
                break;
            }
            self.leaving.pop_first();
            self.leaves.remove(&entry);
            self.slots.remove(entry);
            out.push(self.change(entry));
        }
    }

    /// Makes `now` all that `owner` owns.
    fn own(&mut self, at: Ktime, owner: Owner, now: Owned, out: &mut Vec<Change>) {
        let before = self.owned.remove(&owner).unwrap_or_default();
        for entry in now.entries().filter(|entry| !before.has(*entry)) {
            let new = self.slots.get(entry).is_none();
            *self.slots.or_default(entry) += 1;
            if let Some(leaves) = self.leaves.remove(&entry) {
                self.leaving.remove(&(leaves, entry));
            }
            if new {
                out.push(self.change(entry));
            }
        }
        for entry in before.entries().filter(|entry| !now.has(*entry)) {
            if self.slots.get(entry).is_none() {
                continue;
            }
            let owners = self.slots.or_default(entry);
            *owners = owners.saturating_sub(1);
            if *owners == 0 {
                let leaves = at.plus_ms(RETENTION_MS);
                self.leaves.insert(entry, leaves);
                self.leaving.insert((leaves, entry));
            }
        }
        if !now.is_empty() {
            self.owned.insert(owner, now);
        }
    }

    /// What the maps must hold for an entry now.
    fn change(&self, entry: Entry) -> Change {
        let watched = self.slots.get(entry).is_some();
        match entry {
            Entry::Addr(addr, _) => Change::Addr {
                addr,
                bits: BITS
                    .into_iter()
                    .filter(|bit| self.slots.get(Entry::Addr(addr, *bit)).is_some())
                    .fold(0, |bits, bit| bits | bit),
            },
            Entry::Endpoint(addr, port) => Change::Endpoint { addr, port, watched },
            Entry::Service(addr, port, protocol) => Change::Service {
                addr,
                port,
                protocol,
                watched,
            },
        }
    }
}

/// Where clients dial a service.
fn dialled(service: &ServiceState) -> BTreeSet<(Option<IpAddr>, u16, Protocol)> {
    let mut all = BTreeSet::new();
    for port in &service.ports {
        let Some(protocol) = Protocol::from_name(&port.protocol) else {
            continue;
        };
        let vips = service.vips.iter();
        all.extend(vips.map(|vip| (Some(*vip), port.port, protocol)));
        if port.node_port != 0 {
            all.insert((None, port.node_port, protocol));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{EndpointState, PodState, ServicePort, SlicePort, SliceState};

    const MINUTE: u64 = 60_000_000_000;

    fn ip() -> IpAddr {
        "10.244.0.5".parse().unwrap()
    }

    fn pod(uid: &str) -> What {
        What::Pod(PodState {
            uid: PodUid(uid.into()),
            ips: vec![ip()],
            ..PodState::default()
        })
    }

    fn gone(uid: &str) -> What {
        What::PodGone {
            uid: PodUid(uid.into()),
        }
    }

    fn slice(name: &str, addrs: &[IpAddr]) -> What {
        What::Slice(SliceState {
            slice: NsName {
                namespace: "n".into(),
                name: name.into(),
            },
            ports: vec![SlicePort {
                name: String::new(),
                port: 8080,
                protocol: "TCP".into(),
            }],
            endpoints: vec![EndpointState {
                addrs: addrs.to_vec(),
                ..EndpointState::default()
            }],
            ..SliceState::default()
        })
    }

    fn addr(bits: u32) -> Change {
        Change::Addr { addr: ip(), bits }
    }

    fn endpoint(watched: bool) -> Change {
        Change::Endpoint {
            addr: ip(),
            port: 8080,
            watched,
        }
    }

    /// Follows at minute `at`, then expires at the same time.
    fn at(set: &mut WatchSet, at: u64, what: &What) -> Vec<Change> {
        let mut out = Vec::new();
        set.follow(Ktime(at * MINUTE), what, &mut out);
        set.expire(Ktime(at * MINUTE), &mut out);
        out
    }

    #[test]
    fn address_outlives_its_pod_by_the_retention_time() {
        let mut set = WatchSet::default();
        assert_eq!(at(&mut set, 0, &pod("a")), [addr(ADDR_LOCAL_POD)]);
        assert_eq!(at(&mut set, 1, &gone("a")), []);
        assert_eq!(at(&mut set, 15, &What::Tick), []);
        assert_eq!(at(&mut set, 16, &What::Tick), [addr(0)]);
    }

    #[test]
    fn bits_are_the_union_of_what_names_the_address() {
        let mut set = WatchSet::default();
        at(&mut set, 0, &pod("a"));
        assert_eq!(
            at(&mut set, 0, &slice("s", &[ip()])),
            [addr(ADDR_LOCAL_POD | ADDR_POD), endpoint(true)]
        );
        at(&mut set, 1, &slice("s", &[]));
        assert_eq!(
            at(&mut set, 20, &What::Tick),
            [addr(ADDR_LOCAL_POD), endpoint(false)]
        );
    }

    #[test]
    fn address_that_a_new_pod_takes_over_does_not_leave_with_the_old_one() {
        let mut set = WatchSet::default();
        at(&mut set, 0, &pod("a"));
        at(&mut set, 1, &gone("a"));
        assert_eq!(at(&mut set, 5, &pod("b")), [], "it is there already");
        assert_eq!(at(&mut set, 60, &What::Tick), []);
        at(&mut set, 61, &gone("b"));
        assert_eq!(at(&mut set, 76, &What::Tick), [addr(0)]);
    }

    #[test]
    fn pod_whose_address_goes_blank_keeps_it_for_the_retention_time() {
        let mut set = WatchSet::default();
        at(&mut set, 0, &pod("a"));
        let blank = What::Pod(PodState {
            uid: PodUid("a".into()),
            ..PodState::default()
        });
        assert_eq!(at(&mut set, 1, &blank), []);
    }

    #[test]
    fn endpoint_that_moves_to_another_slice_never_leaves() {
        let mut set = WatchSet::default();
        at(&mut set, 0, &slice("one", &[ip()]));
        assert_eq!(at(&mut set, 1, &slice("two", &[ip()])), []);
        at(&mut set, 2, &slice("one", &[]));
        assert_eq!(at(&mut set, 60, &What::Tick), []);
    }

    #[test]
    fn node_and_service_addresses_have_their_bits() {
        let mut set = WatchSet::default();
        let mut out = Vec::new();
        set.node(Ktime(0), &[ip()], &mut out);
        assert_eq!(out, [addr(ADDR_NODE)]);
        let service = What::Service(ServiceState {
            vips: vec![ip()],
            ..ServiceState::default()
        });
        assert_eq!(at(&mut set, 0, &service), [addr(ADDR_NODE | ADDR_VIP)]);
    }

    #[test]
    fn service_is_dialled_at_its_addresses_and_at_the_nodes_port() {
        let port = |protocol: &str, port, node_port| ServicePort {
            port,
            node_port,
            protocol: protocol.into(),
            ..ServicePort::default()
        };
        let mut service = ServiceState {
            vips: vec![ip()],
            ports: vec![port("TCP", 80, 30080), port("UDP", 53, 0), port("OTHER", 1, 2)],
            ..ServiceState::default()
        };
        let mut set = WatchSet::default();
        let change = |addr, port, protocol, watched| Change::Service {
            addr,
            port,
            protocol,
            watched,
        };
        assert_eq!(
            at(&mut set, 0, &What::Service(service.clone())),
            [
                addr(ADDR_VIP),
                change(None, 30080, Protocol::Tcp, true),
                change(Some(ip()), 53, Protocol::Udp, true),
                change(Some(ip()), 80, Protocol::Tcp, true),
            ]
        );
        service.ports.remove(0);
        assert_eq!(at(&mut set, 1, &What::Service(service)), []);
        assert_eq!(
            at(&mut set, 16, &What::Tick),
            [
                change(None, 30080, Protocol::Tcp, false),
                change(Some(ip()), 80, Protocol::Tcp, false),
            ]
        );
    }

    #[test]
    fn pod_on_the_host_network_adds_no_pod_address() {
        let mut set = WatchSet::default();
        let host = What::Pod(PodState {
            ips: vec![ip()],
            host_network: true,
            ..PodState::default()
        });
        assert_eq!(at(&mut set, 0, &host), []);
    }
}
