//! Services and endpoint slices: which service an address belongs to, and which pod stood behind an endpoint then.

mod choice;
mod forget;
mod held;
mod news;
mod services;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use choice::Condition;
pub(super) use choice::Had;
pub use choice::{Choice, Dialled, Policy};
use held::{Held, Owner, Ports, uid};
pub(super) use news::{News, Told};

use super::{
    bound::Cost,
    passed::Passed,
    shared::{Few, Shared, add},
};
use crate::{
    addrs::{AddrMap, AddrSet},
    input::{Ktime, NsName, PodUid, ServiceState, SliceState},
};

/// The slices of one service are listed within this time; a choice with room for a busy API server.
const LISTING_MS: u64 = 1_000;

/// Most histories of one address; the oldest goes first.
const MAX_OF_ADDR: usize = 64;

/// One address in one service's slices, over time. Also for pods of other nodes: a cluster has 150,000 of them, so what many
/// have in common is kept once.
#[derive(Clone, Debug)]
pub struct EndpointHistory {
    pub service: Arc<NsName>,
    pub pod: Option<Arc<(PodUid, String)>>,
    pub node: Option<Arc<str>>,
    /// Its slice's.
    ports: Arc<Ports>,
    pub added: Ktime,
    /// When the slice update that says terminating arrived.
    pub terminating: Option<Ktime>,
    /// When it left the slice.
    pub removed: Option<Ktime>,
    pub ready: bool,
    pub serving: bool,
    conditions: Few<Condition>,
    noted: Option<Box<Noted>>,
}

/// What is noted of few endpoints.
#[derive(Clone, Copy, Debug, Default)]
struct Noted {
    /// When a slice first said ready, after it had not been.
    became_ready: Option<Ktime>,
    /// The first and the last new connection that this node was seen to send to it.
    connections: Option<(Ktime, Ktime)>,
}

/// Of a service, label by label.
type Selector = Box<[(Box<str>, Box<str>)]>;

#[derive(Debug)]
pub struct Endpoints {
    /// Without their selectors.
    services: BTreeMap<Arc<NsName>, ServiceState>,
    selectors: BTreeMap<Arc<NsName>, Selector>,
    /// (address, port) → service, for cluster, external and load balancer addresses.
    vips: HashMap<SocketAddr, Arc<NsName>>,
    node_ports: HashMap<u16, Arc<NsName>>,
    by_addr: AddrMap<Box<[EndpointHistory]>>,
    /// The addresses that each service's slices hold or held.
    addrs_of: BTreeMap<Arc<NsName>, AddrSet>,
    /// When each service's selector last changed.
    selector_changed: BTreeMap<NsName, Ktime>,
    /// Since when each service's slices are known.
    known_since: BTreeMap<Arc<NsName>, Ktime>,
    /// What left the slices of a service, and when.
    removed: Passed<(IpAddr, Arc<NsName>)>,
    /// A slice or a service has gone since the last look at what is left of both.
    let_go: bool,
    /// What each slice holds now, and for which service.
    slices: BTreeMap<Arc<NsName>, Held>,
    /// The slices of each service.
    slices_of: BTreeMap<Arc<NsName>, Vec<Arc<NsName>>>,
    /// Names of services and slices.
    names: Shared<NsName>,
    nodes: Shared<str>,
    ports: Shared<Ports>,
    /// Most addresses, and most slices.
    max: usize,
    max_services: usize,
    pub(super) cost: Cost,
}

impl Endpoints {
    pub(super) fn new(max: usize, max_services: usize) -> Self {
        Self {
            services: BTreeMap::new(),
            selectors: BTreeMap::new(),
            vips: HashMap::new(),
            node_ports: HashMap::new(),
            by_addr: AddrMap::default(),
            addrs_of: BTreeMap::new(),
            selector_changed: BTreeMap::new(),
            known_since: BTreeMap::new(),
            removed: Passed::default(),
            let_go: false,
            slices: BTreeMap::new(),
            slices_of: BTreeMap::new(),
            names: Shared::default(),
            nodes: Shared::default(),
            ports: Shared::default(),
            max,
            max_services,
            cost: Cost::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_addr.len()
    }

    /// The service that a client dials with this address and port.
    pub fn service_at(&self, addr: SocketAddr) -> Option<&NsName> {
        self.vips.get(&addr).map(|name| &**name)
    }

    /// The service of a node port.
    pub fn node_port(&self, port: u16) -> Option<&NsName> {
        self.node_ports.get(&port).map(|name| &**name)
    }

    /// The endpoint that had this address at `at`: the last one added by then.
    pub fn endpoint(&self, addr: IpAddr, at: Ktime) -> Option<&EndpointHistory> {
        let all = self.by_addr.get(&addr)?;
        all.iter().rev().find(|e| e.added <= at).or_else(|| all.first())
    }

    /// The endpoint that had this address and port; pods on the host's network share one address.
    pub fn endpoint_at(&self, server: SocketAddr, at: Ktime) -> Option<&EndpointHistory> {
        let all = self.by_addr.get(&server.ip())?;
        let on_port = || all.iter().filter(|e| e.serves(server.port()));
        on_port()
            .rev()
            .find(|e| e.added <= at)
            .or_else(|| on_port().next())
            .or_else(|| self.endpoint(server.ip(), at))
    }

    /// The pod that the slices meant with this address and port at `at`. None: nobody, or the slices were about to say another.
    pub fn meant(&self, server: SocketAddr, at: Ktime) -> Option<&PodUid> {
        let all = self.by_addr.get(&server.ip())?;
        let on_port = || all.iter().filter(|e| e.serves(server.port()));
        // This daemon may learn of a slice later than the node's rules do.
        let soon = |e: &EndpointHistory| at < e.added && e.added <= at.plus_ms(LISTING_MS);
        if on_port().any(soon) {
            return None;
        }
        let last = on_port().filter(|e| e.added <= at).max_by_key(|e| e.added)?;
        uid(&last.pod)
    }

    /// Whether `server` is or was an endpoint of `service`.
    pub fn serves(&self, service: &NsName, server: SocketAddr) -> bool {
        let serves = |e: &EndpointHistory| *e.service == *service && e.serves(server.port());
        self.by_addr
            .get(&server.ip())
            .is_some_and(|all| all.iter().any(serves))
    }

    /// The nodes of the endpoints that this service has or had, where its slices name them.
    pub fn nodes_of<'a>(&'a self, service: &'a NsName) -> impl Iterator<Item = &'a str> + Clone {
        let addrs = self.addrs_of.get(service).into_iter().flat_map(AddrSet::addrs);
        addrs
            .filter_map(|addr| self.by_addr.get(&addr))
            .flatten()
            .filter(move |e| *e.service == *service)
            .filter_map(|e| e.node.as_deref())
    }

    /// The addresses and ports that this pod served at this address.
    pub fn served_by<'a>(&'a self, ip: IpAddr, uid: &'a PodUid) -> impl Iterator<Item = SocketAddr> + 'a {
        let own = self.of_pod(ip, uid);
        own.flat_map(move |e| e.ports.numbers.iter().map(move |port| SocketAddr::new(ip, *port)))
    }

    /// When this node learned from a slice that this pod is to get no more new connections.
    pub fn left_service(&self, ip: IpAddr, uid: &PodUid) -> Option<Ktime> {
        self.of_pod(ip, uid)
            .filter_map(|e| e.terminating.or(e.removed))
            .min()
    }

    /// Every endpoint that the service has, or had.
    pub(super) fn of_service<'a>(
        &'a self,
        service: &'a NsName,
    ) -> impl Iterator<Item = (IpAddr, &'a EndpointHistory)> {
        let addrs = self.addrs_of.get(service).into_iter().flat_map(AddrSet::addrs);
        addrs.flat_map(move |ip| {
            let all = self.by_addr.get(&ip).into_iter().flatten();
            all.filter(move |e| *e.service == *service).map(move |e| (ip, e))
        })
    }

    /// The endpoints of a service that are ready now.
    pub(super) fn ready(&self, service: &NsName) -> usize {
        let ready = |e: &EndpointHistory| e.ready && e.removed.is_none();
        self.of_service(service).filter(|(_, e)| ready(e)).count()
    }

    fn of_pod<'a>(&'a self, ip: IpAddr, pod: &'a PodUid) -> impl Iterator<Item = &'a EndpointHistory> {
        let all = self.by_addr.get(&ip).map_or(&[][..], |all| &**all);
        all.iter().filter(move |e| uid(&e.pod) == Some(pod))
    }

    /// Whether an endpoint ever had this address and port.
    pub fn is_endpoint(&self, server: SocketAddr) -> bool {
        self.by_addr
            .get(&server.ip())
            .is_some_and(|all| all.iter().any(|e| e.serves(server.port())))
    }

    /// When the service was seen to select other pods than before.
    pub fn selector_changed(&self, service: &NsName) -> Option<Ktime> {
        self.selector_changed.get(service).copied()
    }

    /// Returns what it tells of endpoints that were there before.
    pub(super) fn slice_applied(&mut self, at: Ktime, slice: &SliceState) -> Vec<News> {
        let service = NsName {
            namespace: slice.slice.namespace.clone(),
            name: slice.service.clone(),
        };
        if self.slices.len() >= self.max && !self.slices.contains_key(&slice.slice) {
            self.cost.one();
            return Vec::new();
        }
        let before = self.slices.get_key_value(&slice.slice);
        let name = before.map(|(name, _)| Arc::clone(name));
        let name = name.unwrap_or_else(|| self.names.one(slice.slice.clone()));
        let service = before
            .map(|(_, held)| Arc::clone(&held.service))
            .filter(|known| **known == service)
            .unwrap_or_else(|| self.names.one(service));
        let ports = Ports {
            numbers: slice.ports.iter().map(|p| p.port).collect(),
            names: slice.ports.iter().map(|p| p.name.clone()).collect(),
        };
        let ports = before
            .map(|(_, held)| Arc::clone(&held.ports))
            .filter(|known| **known == ports)
            .unwrap_or_else(|| self.ports.one(ports));
        let known_since = *self.known_since.entry(Arc::clone(&service)).or_insert(at);
        // What the first listing of a service holds has been there for a time that nobody knows.
        let old = at > known_since.plus_ms(LISTING_MS);
        let mut news = Vec::new();
        let mut held = Vec::new();
        let addrs = self.addrs_of.entry(Arc::clone(&service)).or_default();
        let mut unknown = Vec::new();
        for endpoint in &slice.endpoints {
            let mut owner: Owner = None;
            for addr in &endpoint.addrs {
                if self.by_addr.len() >= self.max && !self.by_addr.contains_key(addr) {
                    self.cost.one();
                    continue;
                }
                if !addrs.contains(*addr) {
                    unknown.push(*addr);
                }
                let all = self.by_addr.or_default(*addr);
                let same = |e: &&mut EndpointHistory| {
                    e.service == service
                        && e.removed.is_none()
                        && uid(&e.pod) == endpoint.pod.as_ref().map(|(uid, _)| uid)
                };
                let first_sight = !all.iter_mut().any(|e| same(&e));
                if first_sight {
                    owner = owner.or_else(|| endpoint.pod.clone().map(Arc::new));
                    let new = EndpointHistory {
                        service: Arc::clone(&service),
                        pod: owner.clone(),
                        node: None,
                        ports: Arc::clone(&ports),
                        added: at,
                        terminating: None,
                        removed: None,
                        ready: false,
                        serving: false,
                        conditions: Few::default(),
                        noted: None,
                    };
                    add(all, new, MAX_OF_ADDR);
                }
                let Some(history) = all.iter_mut().rev().find(same) else {
                    continue;
                };
                held.push((*addr, history.pod.clone()));
                if history.node.as_deref() != endpoint.node.as_deref() {
                    let node = endpoint.node.as_deref().map(|node| self.nodes.one(node));
                    if let Some(before) = std::mem::replace(&mut history.node, node) {
                        self.nodes.let_go(&before);
                    }
                }
                history.ports = Arc::clone(&ports);
                history.condition(Condition::of(at, endpoint));
                let became = history.noted.as_ref().and_then(|noted| noted.became_ready);
                if endpoint.ready && !history.ready && became.is_none() && (!first_sight || old) {
                    history.noted.get_or_insert_default().became_ready = Some(at);
                    news.extend(News::of(Told::Ready, *addr, history));
                }
                if endpoint.terminating && history.terminating.is_none() && !first_sight {
                    news.extend(News::of(Told::Ending, *addr, history));
                }
                history.ready = endpoint.ready;
                history.serving = endpoint.serving;
                if endpoint.terminating {
                    history.terminating.get_or_insert(at);
                }
            }
        }
        if !unknown.is_empty() {
            *addrs = addrs.addrs().chain(unknown).collect();
        }
        if addrs.is_empty() {
            self.addrs_of.remove(&service);
        }
        let own = self.slices_of.entry(Arc::clone(&service)).or_default();
        if !own.contains(&name) {
            own.push(Arc::clone(&name));
        }
        let held = Held {
            service,
            ports,
            endpoints: held.into(),
        };
        let before = self.slices.insert(name, held);
        self.left(at, before, &mut news);
        news
    }

    pub(super) fn slice_gone(&mut self, at: Ktime, slice: &NsName) -> Vec<News> {
        self.let_go = true;
        let before = self.slices.remove(slice);
        if let Some(of) = before.as_ref().and_then(|b| self.slices_of.get_mut(&*b.service)) {
            of.retain(|name| **name != *slice);
        }
        let mut news = Vec::new();
        self.left(at, before, &mut news);
        news
    }

    /// Dates the removal of what a slice held before and no slice of its service holds now. An endpoint may move from one
    /// slice to another.
    fn left(&mut self, at: Ktime, before: Option<Held>, news: &mut Vec<News>) {
        let Some(Held {
            service, endpoints, ..
        }) = before
        else {
            return;
        };
        let own = self.slices_of.get(&*service).into_iter().flatten();
        let slices = own.filter_map(|name| self.slices.get(name));
        let held: HashSet<(IpAddr, Option<&PodUid>)> = slices
            .filter(|h| h.service == service)
            .flat_map(|h| h.endpoints.iter())
            .map(|(ip, owner)| (ip, uid(owner)))
            .collect();
        let gone: Vec<_> = endpoints
            .iter()
            .filter(|(ip, owner)| !held.contains(&(*ip, uid(owner))))
            .collect();
        for endpoint in gone {
            self.removed.add(at, (endpoint.0, Arc::clone(&service)));
            for history in self.by_addr.get_mut(&endpoint.0).into_iter().flatten() {
                let own = uid(&history.pod) == uid(endpoint.1);
                if history.service == service && own && history.removed.is_none() {
                    history.removed = Some(at);
                    if history.terminating.is_none() {
                        news.extend(News::of(Told::Ending, endpoint.0, history));
                    }
                    news.extend(News::of(Told::Removed, endpoint.0, history));
                }
            }
        }
    }
}
