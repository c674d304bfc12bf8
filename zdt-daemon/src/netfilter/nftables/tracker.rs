//! Applies nf_tables messages to the model of kube-proxy's tables, one generation at a time. Pure: no socket, no clock.
//!
//! In one transaction kube-proxy deletes and adds again the rules of every endpoint of the touched service, also of those
//! that stay; so what counts is the state at the end of each transaction, never a single message.

use std::collections::{BTreeMap, HashMap};

use super::{
    graph::{Graph, NodeId, Out, Place},
    losses::Losses,
    message::{self, Attributes, Body, Change, Elements, Frames, IPV4, IPV6, Malformed, Message, SUBSYSTEM},
    rule::{self, ElementTarget, Target},
    store::Outs,
};
use crate::{
    input::Ktime,
    netfilter::ruleset::{Backend, Generation, RouteChange, Routes},
};

/// `NF_INET_PRE_ROUTING` and `NF_INET_LOCAL_OUT`: where destinations are translated.
const TRANSLATING_HOOKS: [u32; 2] = [0, 3];

/// Sets marks and nothing else, and every endpoint's chain jumps to it: not worth 50,000 edges.
const MARKS_ONLY: &[u8] = b"KUBE-MARK-MASQ";

/// A map, and what became of it.
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

    fn chain(&mut self, graph: &mut Graph, name: &[u8]) -> NodeId {
        if let Some(node) = self.chains.get(name) {
            return *node;
        }
        let node = graph.add_node(self.backend, Outs::rules());
        self.chains.insert(name.into(), node);
        node
    }
}

/// The model of a node's rules, and what is known of its completeness.
#[derive(Debug, Default)]
pub struct Tracker {
    graph: Graph,
    /// By family and name.
    tables: BTreeMap<(u8, Backend), Table>,
    /// The last generation that the model has in it.
    generation: Option<u32>,
    /// Why the model is no longer to be trusted: it takes no more changes until it is replaced.
    broken: bool,
    /// A table of ours went away in this generation: the next one starts from a dump.
    table_deleted: bool,
    /// When the first notification of the transaction that is being read came: its rules were in force by then.
    since: Option<Ktime>,
    /// Who made the last generation.
    by: Option<String>,
    losses: Losses,
}

impl Tracker {
    /// A tracker that is to be filled from a dump, whose messages are those of `generation`.
    pub(super) fn seeded_at(generation: u32) -> Self {
        Self {
            generation: Some(generation),
            ..Self::default()
        }
    }

    /// One datagram of notifications, read at `at`. What it completed goes to `generations`, when routes changed.
    pub fn notified(&mut self, datagram: &[u8], at: Ktime, generations: &mut Vec<Generation>) {
        for frame in Frames(datagram) {
            let message = frame.and_then(|frame| {
                let ours = frame.kind >> 8 == SUBSYSTEM;
                ours.then(|| message::decode(&frame)).transpose()
            });
            let message = match message {
                Ok(Some(message)) if !self.is_old(&message) => Ok(message),
                Ok(_) => continue,
                Err(malformed) => Err(malformed),
            };
            let since = *self.since.get_or_insert(at);
            let applied = match message {
                Ok(Message {
                    body: Body::Generation { id, by },
                    ..
                }) => {
                    self.end_of_generation(id, by, since, generations);
                    Ok(())
                }
                Ok(message) if !self.broken => self.apply(&message),
                Ok(_) => Ok(()),
                Err(malformed) => Err(malformed),
            };
            if applied.is_err() {
                self.losses.unparsed += 1;
                self.broken = true;
            }
        }
    }

    /// One datagram of a dump.
    pub fn dumped(&mut self, datagram: &[u8]) {
        for frame in Frames(datagram) {
            let applied = match frame {
                Ok(frame) if frame.kind >> 8 == SUBSYSTEM => {
                    message::decode(&frame).and_then(|message| self.apply(&message))
                }
                Ok(_) => Ok(()),
                Err(malformed) => Err(malformed),
            };
            self.losses.unparsed += u64::from(applied.is_err());
        }
    }

    /// The end of a dump: what is known now are the routes to compare with.
    pub fn dump_ended(&mut self) {
        self.graph.settle();
        // Being asked for all chains of a family, the kernel gives other tools' too.
        self.losses.foreign = 0;
    }

    /// Notifications were lost.
    pub fn overrun(&mut self) {
        self.losses.overruns += 1;
        self.broken = true;
        self.by = None;
    }

    /// Whether the model needs a dump before it can say more.
    pub fn needs_resync(&self) -> bool {
        self.broken
    }

    /// All routes at the end of the last generation.
    pub fn routes(&self) -> Routes {
        self.graph.routes().map(|(route, _)| route).collect()
    }

    /// What was lost and skipped so far.
    pub fn losses(&self) -> Losses {
        let mut losses = self.losses;
        losses.refused += self.graph.refused();
        losses
    }

    /// Goes on from `fresh`, which was filled from a dump, and says what changed against the last generation told.
    pub(super) fn resync(&mut self, fresh: Self, at: Ktime) -> Vec<Generation> {
        let mut changes: BTreeMap<Backend, RouteChange> = BTreeMap::new();
        for (route, backend) in fresh.graph.routes().filter(|(r, _)| !self.graph.has_route(r)) {
            changes.entry(backend).or_default().added.push(route);
        }
        for (route, backend) in self.graph.routes().filter(|(r, _)| !fresh.graph.has_route(r)) {
            changes.entry(backend).or_default().removed.push(route);
        }
        if changes.is_empty() {
            // That it was read anew is worth telling.
            let backends = fresh
                .tables
                .values()
                .chain(self.tables.values())
                .map(|t| t.backend);
            let backend = backends.max().unwrap_or(Backend::Nftables);
            changes.insert(backend, RouteChange::default());
        }
        let (by, mut losses) = (self.by.take(), self.losses());
        losses.add(&fresh.losses());
        losses.resyncs += 1;
        let refused = fresh.graph.refused();
        *self = fresh;
        self.losses = losses;
        // The graph goes on counting what is in the sum already.
        self.losses.refused -= refused;
        changes
            .into_iter()
            .map(|(backend, mut change)| {
                change.added.sort_unstable();
                change.removed.sort_unstable();
                Generation {
                    at,
                    backend,
                    generation: self.generation,
                    by: by.clone(),
                    change,
                    resynced: true,
                }
            })
            .collect()
    }

    /// Dumps that a writer came between.
    pub(super) fn interrupted(&mut self, dumps: u64) {
        self.losses.interrupted += dumps;
    }

    pub(super) fn has_table(&self, family: u8, backend: Backend) -> bool {
        self.tables.contains_key(&(family, backend))
    }

    /// The names of a table's maps, whose elements a dump has to ask for one by one.
    pub(super) fn maps(&self, family: u8, backend: Backend) -> Vec<Box<[u8]>> {
        let table = self.tables.get(&(family, backend));
        table
            .map(|t| t.maps.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Whether a message tells of what the dump had in it already. Its 16 bits of the generation suffice: a socket
    /// buffer holds no 32,768 generations.
    fn is_old(&self, message: &Message<'_>) -> bool {
        let Some(known) = self.generation else {
            return false;
        };
        let ahead = match message.body {
            Body::Generation { id, .. } => id.wrapping_sub(known).cast_signed(),
            _ => {
                let [_, _, high, low] = known.to_be_bytes();
                let known = u16::from_be_bytes([high, low]);
                i32::from(message.generation.wrapping_sub(known).cast_signed())
            }
        };
        ahead <= 0
    }

    fn end_of_generation(&mut self, id: u32, by: &[u8], at: Ktime, generations: &mut Vec<Generation>) {
        // 0 is no generation (`nf_tables_commit`).
        let expected = self.generation.map(|g| g.wrapping_add(1).max(1));
        if expected.is_some_and(|expected| expected != id) && !self.broken {
            self.losses.gaps += 1;
            self.broken = true;
        }
        self.generation = Some(id);
        self.since = None;
        let by = (!by.is_empty()).then(|| String::from_utf8_lossy(by).into_owned());
        self.by.clone_from(&by);
        if std::mem::take(&mut self.table_deleted) {
            self.broken = true;
        }
        if self.broken {
            return;
        }
        for (backend, change) in self.graph.settle() {
            generations.push(Generation {
                at,
                backend,
                generation: Some(id),
                by: by.clone(),
                change,
                resynced: false,
            });
        }
    }

    fn apply(&mut self, message: &Message<'_>) -> Result<(), Malformed> {
        let Some(backend) = tracked(message.family, message.table) else {
            self.losses.foreign += 1;
            return Ok(());
        };
        let key = (message.family, backend);
        if let (Body::Table, Change::Deleted) = (message.body, message.change) {
            self.delete_table(key);
            return Ok(());
        }
        let table = self.tables.entry(key).or_insert_with(|| Table::new(backend));
        match message.body {
            Body::Table | Body::Generation { .. } | Body::Other => {}
            Body::Chain {
                name,
                handle,
                nat_hook,
            } => match message.change {
                Change::New => {
                    if nat_hook.is_none() && !table.is_service_chain(name) {
                        return Ok(());
                    }
                    // Renamed: what led to the old name leads to this one.
                    let renamed = !table.chains.contains_key(name) && handle <= table.greatest_handle;
                    self.broken |= renamed && self.generation.is_some_and(|g| low(g) != message.generation);
                    table.greatest_handle = table.greatest_handle.max(handle);
                    let root = nat_hook.is_some_and(|hook| TRANSLATING_HOOKS.contains(&hook));
                    let node = table.chain(&mut self.graph, name);
                    self.graph.set_root(node, root);
                }
                Change::Deleted => {
                    if let Some(node) = table.chains.remove(name) {
                        self.broken |= !self.graph.remove_node(node);
                    }
                }
            },
            Body::Rule {
                chain,
                handle,
                expressions,
            } => {
                table.greatest_handle = table.greatest_handle.max(handle);
                let Some(&node) = table.chains.get(chain) else {
                    return Ok(());
                };
                self.graph.unlink(node, Place::Rule(handle));
                if message.change == Change::New {
                    let base = !table.is_service_chain(chain);
                    for target in rule::targets(expressions, message.family)? {
                        self.losses.unsupported += lead(table, &mut self.graph, (node, handle), target, base);
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
                let renewed = table.maps.get(name).is_some_and(|map| map.anonymous);
                if (message.change == Change::Deleted || renewed)
                    && let Some(map) = table.maps.remove(name)
                {
                    self.broken |= !self.graph.remove_node(map.node);
                }
                if message.change == Change::New
                    && elements != Elements::Other
                    && !table.maps.contains_key(name)
                {
                    let outs = if anonymous {
                        Outs::default()
                    } else {
                        Outs::Elements(BTreeMap::new())
                    };
                    let node = self.graph.add_node(backend, outs);
                    table.maps.insert(name.into(), Map { node, anonymous });
                }
            }
            Body::Elements { set, list } => {
                let Some(node) = table.maps.get(set).map(|map| map.node) else {
                    return Ok(());
                };
                for attribute in Attributes(list) {
                    let element = rule::element(attribute?)?;
                    self.graph.unlink(node, Place::Element(element.key));
                    let out = match element.target.filter(|_| message.change == Change::New) {
                        Some(ElementTarget::Chain(chain)) if table.is_service_chain(chain) => {
                            Out::Node(table.chain(&mut self.graph, chain))
                        }
                        Some(ElementTarget::Address(to)) => Out::Address(Box::new(to)),
                        _ => continue,
                    };
                    self.graph.link(node, Place::Element(element.key), out);
                }
            }
        }
        Ok(())
    }

    fn delete_table(&mut self, key: (u8, Backend)) {
        let Some(table) = self.tables.remove(&key) else {
            return;
        };
        self.losses.tables_deleted += 1;
        self.table_deleted = true;
        // The kernel told of its chains and rules first, so this finds the few that are left.
        for node in table
            .chains
            .into_values()
            .chain(table.maps.into_values().map(|m| m.node))
        {
            self.graph.remove_node(node);
        }
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

fn low(generation: u32) -> u16 {
    let [_, _, high, low] = generation.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// Whose table this is, if it is one of kube-proxy's.
fn tracked(family: u8, table: &[u8]) -> Option<Backend> {
    match (family, table) {
        (IPV4 | IPV6, b"nat") => Some(Backend::IptablesNft),
        (IPV4 | IPV6, b"kube-proxy") => Some(Backend::Nftables),
        _ => None,
    }
}
