//! kube-proxy's tables as far as they lead to a translation: which message adds and removes which edge of the graph.

use std::collections::{BTreeMap, HashMap};

use super::{
    graph::{Graph, NodeId, Out, Place},
    message::{Body, Change, Elements, Message},
    rule::{self, ElementTarget, Target},
    store::Outs,
};
use crate::netfilter::{
    netlink::{Attributes, IPV4, IPV6, Malformed},
    ruleset::Backend,
};

/// `NF_INET_PRE_ROUTING` and `NF_INET_LOCAL_OUT`: where destinations are translated.
const TRANSLATING_HOOKS: [u32; 2] = [0, 3];

/// Sets marks and nothing else, and every endpoint's chain jumps to it: not worth 50,000 edges.
const MARKS_ONLY: &[u8] = b"KUBE-MARK-MASQ";

/// A verdict or address map.
#[derive(Debug)]
struct Map {
    node: NodeId,
    anonymous: bool,
}

/// One of kube-proxy's tables.
#[derive(Debug)]
struct Table {
    backend: Backend,
    chains: HashMap<Box<[u8]>, NodeId>,
    maps: HashMap<Box<[u8]>, Map>,
    /// The kernel counts the handles of a table up; a chain that is new by name and old by handle was renamed.
    greatest_handle: u64,
}

impl Table {
    fn new(backend: Backend) -> Self {
        Self {
            backend,
            chains: HashMap::new(),
            maps: HashMap::new(),
            greatest_handle: 0,
        }
    }

    /// The nat table of iptables is shared with other tools: of theirs only the base chains matter, which are shared too.
    fn is_service_chain(&self, name: &[u8]) -> bool {
        self.backend == Backend::Nftables || (name.starts_with(b"KUBE-") && name != MARKS_ONLY)
    }

    /// True if it was known by another name: what led to that one leads to this one now.
    fn add_chain(&mut self, graph: &mut Graph, name: &[u8], handle: u64, nat_hook: Option<u32>) -> bool {
        if nat_hook.is_none() && !self.is_service_chain(name) {
            return false;
        }
        let renamed = !self.chains.contains_key(name) && handle <= self.greatest_handle;
        self.greatest_handle = self.greatest_handle.max(handle);
        let node = self.chain(graph, name);
        graph.set_root(
            node,
            nat_hook.is_some_and(|hook| TRANSLATING_HOOKS.contains(&hook)),
        );
        renamed
    }

    fn add_map(&mut self, graph: &mut Graph, name: &[u8], anonymous: bool) {
        if !self.maps.contains_key(name) {
            let outs = if anonymous {
                Outs::default()
            } else {
                Outs::Elements(BTreeMap::new())
            };
            let node = graph.add_node(self.backend, outs);
            self.maps.insert(name.into(), Map { node, anonymous });
        }
    }

    fn chain(&mut self, graph: &mut Graph, name: &[u8]) -> NodeId {
        if let Some(node) = self.chains.get(name) {
            return *node;
        }
        let node = graph.add_node(self.backend, Outs::rules());
        self.chains.insert(name.into(), node);
        node
    }
}

/// What a message did besides changing edges.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Applied {
    /// It was of another tool's table.
    pub foreign: bool,
    /// It was a translation of another tool's.
    pub redirected: bool,
    /// Translations that cannot be followed.
    pub unsupported: u64,
    /// It gave a chain another name.
    pub renamed: bool,
    /// It ended a table.
    pub table_deleted: bool,
}

/// All of kube-proxy's tables in one network namespace.
#[derive(Debug)]
pub(super) struct Model {
    pub graph: Graph,
    /// By family.
    tables: BTreeMap<(u8, Backend), Table>,
}

impl Model {
    /// With room for so many edges.
    pub(super) fn with_room(edges: usize) -> Self {
        Self {
            graph: Graph::with_room(edges),
            tables: BTreeMap::new(),
        }
    }

    pub(super) fn has_table(&self, family: u8, backend: Backend) -> bool {
        self.tables.contains_key(&(family, backend))
    }

    pub(super) fn backends(&self) -> impl Iterator<Item = Backend> {
        self.tables.keys().map(|(_, backend)| *backend)
    }

    /// The names of a table's chains.
    pub(super) fn chains(&self, family: u8, backend: Backend) -> Vec<Box<[u8]>> {
        let table = self.tables.get(&(family, backend));
        table
            .map(|t| t.chains.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// The names of a table's maps.
    pub(super) fn maps(&self, family: u8, backend: Backend) -> Vec<Box<[u8]>> {
        let table = self.tables.get(&(family, backend));
        table
            .map(|t| t.maps.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Applies one message. Safe to repeat: after all messages since the oldest part of a dump, the model is right
    /// whatever the parts had in them already, for handles and keys name things for good. `in_order`: handles that it
    /// brings are greater than all before.
    pub(super) fn apply(&mut self, message: &Message<'_>, in_order: bool) -> Result<Applied, Malformed> {
        let mut applied = Applied::default();
        let Some(backend) = tracked(message.family, message.table) else {
            applied.foreign = true;
            if let Body::Rule { expressions, .. } = message.body {
                applied.redirected = rule::targets(expressions, message.family)?.iter().any(translates);
            }
            return Ok(applied);
        };
        let key = (message.family, backend);
        if let (Body::Table, Change::Deleted) = (message.body, message.change) {
            applied.table_deleted = self.delete_table(key);
            return Ok(applied);
        }
        let (graph, change) = (&mut self.graph, message.change);
        let table = self.tables.entry(key).or_insert_with(|| Table::new(backend));
        match message.body {
            Body::Table | Body::Generation { .. } | Body::Other => {}
            Body::Chain {
                name,
                handle,
                nat_hook,
            } => match change {
                Change::New => applied.renamed = table.add_chain(graph, name, handle, nat_hook) && in_order,
                Change::Deleted => {
                    if table
                        .chains
                        .get(name)
                        .is_some_and(|node| graph.remove_node(*node))
                    {
                        table.chains.remove(name);
                    }
                }
            },
            Body::Rule {
                chain,
                handle,
                expressions,
            } => {
                table.greatest_handle = table.greatest_handle.max(handle);
                let base = !table.is_service_chain(chain);
                let known = table.chains.get(chain).copied();
                if let Some(node) = known {
                    graph.unlink(node, Place::Rule(handle));
                }
                if (change == Change::Deleted || known.is_none()) && !base {
                    return Ok(applied);
                }
                let targets = rule::targets(expressions, message.family)?;
                applied.redirected = base && chain != MARKS_ONLY && targets.iter().any(translates);
                if let (Some(node), Change::New) = (known, change) {
                    for target in targets {
                        applied.unsupported += lead(table, graph, (node, handle), target, base);
                    }
                }
            }
            Body::Set {
                name,
                handle,
                anonymous,
                elements,
            } => {
                table.greatest_handle = table.greatest_handle.max(handle);
                // An anonymous map's name is free for another as soon as its rule is gone.
                let known = table.maps.get(name);
                if known
                    .is_some_and(|m| (change == Change::Deleted || m.anonymous) && graph.remove_node(m.node))
                {
                    table.maps.remove(name);
                }
                if change == Change::New && elements != Elements::Other {
                    table.add_map(graph, name, anonymous);
                }
            }
            Body::Elements { set, list } => {
                let Some(node) = table.maps.get(set).map(|map| map.node) else {
                    return Ok(applied);
                };
                for attribute in Attributes(list) {
                    let element = rule::element(attribute?)?;
                    graph.unlink(node, Place::Element(element.key));
                    let out = match element.target.filter(|_| change == Change::New) {
                        Some(ElementTarget::Chain(chain)) if table.is_service_chain(chain) => {
                            Out::Node(table.chain(graph, chain))
                        }
                        Some(ElementTarget::Address(to)) => Out::Address(Box::new(to)),
                        _ => continue,
                    };
                    graph.link(node, Place::Element(element.key), out);
                }
            }
        }
        Ok(applied)
    }

    /// True if it was there.
    fn delete_table(&mut self, key: (u8, Backend)) -> bool {
        let Some(table) = self.tables.remove(&key) else {
            return false;
        };
        // The kernel told of its chains and rules first (`nft_flush_table`), so this finds the few that are left.
        let maps = table.maps.into_values().map(|map| map.node);
        for node in maps.chain(table.chains.into_values()) {
            self.graph.remove_node(node);
        }
        true
    }
}

/// Whether a target is a translation.
fn translates(target: &Target<'_>) -> bool {
    match target {
        Target::Address(_) | Target::AddressMap(..) | Target::Unknown => true,
        Target::Chain(_) | Target::Map(_) => false,
    }
}

/// Hangs one target on a rule. 1 if it is a translation that cannot be followed.
fn lead(
    table: &mut Table,
    graph: &mut Graph,
    (node, handle): (NodeId, u64),
    target: Target<'_>,
    base: bool,
) -> u64 {
    let out = match target {
        Target::Chain(name) if table.is_service_chain(name) => Out::Node(table.chain(graph, name)),
        Target::Chain(_) => return 0,
        // A base chain's own translations are another tool's.
        _ if base => return 0,
        Target::Map(name) | Target::AddressMap(name, _) => {
            let Some(map) = table.maps.get(name) else { return 1 };
            if let Target::AddressMap(_, protocol) = target {
                graph.set_protocol(map.node, protocol);
            }
            Out::Node(map.node)
        }
        Target::Address(route) => Out::Route(Box::new(route)),
        Target::Unknown => return 1,
    };
    graph.link(node, Place::Rule(handle), out);
    0
}

/// Whose table this is, if it is one of kube-proxy's.
fn tracked(family: u8, table: &[u8]) -> Option<Backend> {
    match (family, table) {
        (IPV4 | IPV6, b"nat") => Some(Backend::IptablesNft),
        (IPV4 | IPV6, b"kube-proxy") => Some(Backend::Nftables),
        _ => None,
    }
}
