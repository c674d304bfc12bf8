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
#[path = "watch_set_tests.rs"]
mod tests;
