//! Which translations the base chains reach, kept by counting references: a change costs what it touches.
//!
//! Nodes are chains and maps. A node is *reached* while it is a root or a reached node leads to it; only reached nodes
//! lend their routes. Removing and adding within one generation cancels out before anything is followed: kube-proxy
//! rewrites its whole dispatch chain for one endpoint. The kernel refuses loops (`nf_tables_validate`), so counting is
//! exact; bytes that make one only keep it reached.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use super::store::Outs;
use crate::netfilter::ruleset::{Backend, Protocol, Route, RouteChange};

/// Bound on what one node's rules may take here, in edges (I9): 10,000 services of 5 endpoints are 110,000, and an
/// edge takes about 50 bytes with what it leads to.
pub(super) const MOST_EDGES: usize = 2_000_000;

pub(super) type NodeId = u32;

/// What a rule or an element leads to.
#[derive(Clone, Debug)]
pub(super) enum Out {
    Node(NodeId),
    Route(Box<Route>),
    /// Of a map whose rule knows the protocol.
    Address(Box<SocketAddr>),
}

/// Where an edge hangs on its node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    Rule(u64),
    Element(&'a [u8]),
}

#[derive(Debug)]
struct Node {
    outs: Outs,
    backend: Backend,
    /// Of the rule that looks up this map.
    protocol: Option<Protocol>,
    root: bool,
    reached: bool,
    /// Edges from reached nodes.
    refs: u32,
    /// Edges from all nodes.
    incoming: u32,
}

#[derive(Debug)]
struct Lent {
    by: u32,
    backend: Backend,
    /// Whether it was a route when the generation began; `None`: untouched since.
    before: Option<bool>,
}

#[derive(Debug)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    /// Nodes whose `refs` or `root` changed since the last generation.
    touched: Vec<NodeId>,
    routes: HashMap<Route, Lent>,
    /// Routes whose count changed since the last generation.
    changed: Vec<Route>,
    edges: usize,
    most: usize,
    /// Edges refused for want of room.
    refused: u64,
}

impl Graph {
    /// With room for so many edges.
    pub(super) fn with_room(most: usize) -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            touched: Vec::new(),
            routes: HashMap::new(),
            changed: Vec::new(),
            edges: 0,
            most,
            refused: 0,
        }
    }

    pub(super) fn add_node(&mut self, backend: Backend, outs: Outs) -> NodeId {
        let node = Node {
            outs,
            backend,
            protocol: None,
            root: false,
            reached: false,
            refs: 0,
            incoming: 0,
        };
        if let Some(id) = self.free.pop()
            && let Some(slot) = self.node_mut(id)
        {
            *slot = node;
            return id;
        }
        self.nodes.push(node);
        NodeId::try_from(self.nodes.len() - 1).unwrap_or(NodeId::MAX)
    }

    /// Drops a node and its edges. False when something still leads to it: it stays, without edges of its own.
    pub(super) fn remove_node(&mut self, id: NodeId) -> bool {
        self.clear(id);
        self.set_root(id, false);
        let Some(node) = self.node_mut(id) else {
            return false;
        };
        if node.incoming > 0 {
            return false;
        }
        node.reached = false;
        self.free.push(id);
        true
    }

    pub(super) fn set_root(&mut self, id: NodeId, root: bool) {
        if let Some(node) = self.node_mut(id)
            && node.root != root
        {
            node.root = root;
            self.touched.push(id);
        }
    }

    /// Hangs an edge on a node; one that was in the place of an element is replaced.
    pub(super) fn link(&mut self, from: NodeId, place: Place<'_>, out: Out) {
        if self.edges >= self.most {
            self.refused += 1;
            return;
        }
        if let Place::Element(_) = place {
            self.unlink(from, place);
        }
        self.edges += 1;
        self.lead(from, &out);
        if let Some(node) = self.node_mut(from) {
            node.outs.insert(place, out);
        }
    }

    /// Takes away all edges of a place.
    pub(super) fn unlink(&mut self, from: NodeId, place: Place<'_>) {
        while let Some(out) = self.node_mut(from).and_then(|node| node.outs.remove(place)) {
            self.edges = self.edges.saturating_sub(1);
            self.mislead(from, &out);
        }
    }

    /// The protocol of the addresses in a map.
    pub(super) fn set_protocol(&mut self, id: NodeId, protocol: Protocol) {
        let Some(node) = self.node_mut(id).filter(|n| n.protocol != Some(protocol)) else {
            return;
        };
        let outs = std::mem::take(&mut node.outs);
        for out in outs.iter() {
            self.mislead(id, out);
        }
        if let Some(node) = self.node_mut(id) {
            node.protocol = Some(protocol);
        }
        for out in outs.iter() {
            self.lead(id, out);
        }
        if let Some(node) = self.node_mut(id) {
            node.outs = outs;
        }
    }

    /// The end of a generation: what it changed, by the backend whose rules did.
    pub(super) fn settle(&mut self) -> BTreeMap<Backend, RouteChange> {
        self.follow();
        let mut changes: BTreeMap<Backend, RouteChange> = BTreeMap::new();
        for route in std::mem::take(&mut self.changed) {
            let Some(lent) = self.routes.get_mut(&route) else {
                continue;
            };
            let (before, backend, now) = (lent.before.take(), lent.backend, lent.by > 0);
            if !now {
                self.routes.remove(&route);
            }
            match (before, now) {
                (Some(false), true) => changes.entry(backend).or_default().added.push(route),
                (Some(true), false) => changes.entry(backend).or_default().removed.push(route),
                _ => {}
            }
        }
        for change in changes.values_mut() {
            change.added.sort_unstable();
            change.removed.sort_unstable();
        }
        changes
    }

    /// The routes at the end of the last generation.
    pub(super) fn routes(&self) -> impl Iterator<Item = (Route, Backend)> {
        let settled = self
            .routes
            .iter()
            .filter(|(_, lent)| lent.before.unwrap_or(lent.by > 0));
        settled.map(|(route, lent)| (*route, lent.backend))
    }

    pub(super) fn has_route(&self, route: &Route) -> bool {
        self.routes
            .get(route)
            .is_some_and(|lent| lent.before.unwrap_or(lent.by > 0))
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Edges are missing, and there is room for them again. A sixteenth must be free: reading all rules at each change of
    /// a rule set that just does not fit would help nobody.
    pub(super) fn has_room_again(&self) -> bool {
        self.refused > 0 && self.edges <= self.most - self.most / 16
    }

    /// Whether no chain that a base chain of this backend leads to leads anywhere, and nothing is routed. kube-proxy's
    /// dispatch chains always lead on, with no services too: to its node ports, or to its maps.
    pub(super) fn is_cut_off(&self, backend: Backend) -> bool {
        let routed = |lent: &Lent| lent.backend == backend && lent.by > 0;
        if self.routes.values().any(routed) {
            return false;
        }
        let roots = self.nodes.iter().filter(|n| n.root && n.backend == backend);
        let mut next = roots
            .flat_map(|root| root.outs.iter())
            .filter_map(|out| match out {
                Out::Node(to) => self.nodes.get(usize::try_from(*to).ok()?),
                Out::Route(_) | Out::Address(_) => None,
            });
        next.all(|node| node.outs.iter().next().is_none())
    }

    fn clear(&mut self, id: NodeId) {
        let Some(node) = self.node_mut(id) else { return };
        let outs = std::mem::take(&mut node.outs);
        for out in outs.iter() {
            self.edges = self.edges.saturating_sub(1);
            self.mislead(id, out);
        }
    }

    /// Growth first, then decay: each goes one way only, so both end, loops or not.
    fn follow(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        self.flip(touched.clone(), true);
        self.flip(touched, false);
        self.touched.clear();
    }

    /// Makes nodes reached (or no longer reached) that should be, and what they lead to.
    fn flip(&mut self, mut open: Vec<NodeId>, reached: bool) {
        while let Some(id) = open.pop() {
            let Some(node) = self.node_mut(id) else { continue };
            let should = node.root || node.refs > 0;
            if node.reached == reached || should != reached {
                continue;
            }
            let outs = std::mem::take(&mut node.outs);
            if reached {
                node.reached = true;
            }
            for out in outs.iter() {
                self.count(id, out, reached);
                if let Out::Node(to) = out {
                    open.push(*to);
                }
            }
            if let Some(node) = self.node_mut(id) {
                node.reached = reached;
                node.outs = outs;
            }
        }
    }

    fn lead(&mut self, from: NodeId, out: &Out) {
        if let Out::Node(to) = out
            && let Some(to) = self.node_mut(*to)
        {
            to.incoming += 1;
        }
        self.count(from, out, true);
    }

    fn mislead(&mut self, from: NodeId, out: &Out) {
        if let Out::Node(to) = out
            && let Some(to) = self.node_mut(*to)
        {
            to.incoming = to.incoming.saturating_sub(1);
        }
        self.count(from, out, false);
    }

    /// Lends what `out` leads to, or takes it back, if `from` is reached.
    fn count(&mut self, from: NodeId, out: &Out, lend: bool) {
        let Some(node) = self.node_mut(from).filter(|n| n.reached) else {
            return;
        };
        let (backend, protocol) = (node.backend, node.protocol);
        let route = match out {
            Out::Node(to) => {
                if let Some(node) = self.node_mut(*to) {
                    node.refs = if lend {
                        node.refs + 1
                    } else {
                        node.refs.saturating_sub(1)
                    };
                    self.touched.push(*to);
                }
                return;
            }
            Out::Route(route) => **route,
            Out::Address(to) => match protocol {
                Some(protocol) => Route { protocol, to: **to },
                None => return,
            },
        };
        let lent = self.routes.entry(route).or_insert(Lent {
            by: 0,
            backend,
            before: None,
        });
        if lent.before.is_none() {
            lent.before = Some(lent.by > 0);
            self.changed.push(route);
        }
        lent.by = if lend {
            lent.by + 1
        } else {
            lent.by.saturating_sub(1)
        };
        lent.backend = backend;
    }

    fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(id).ok()?)
    }
}
