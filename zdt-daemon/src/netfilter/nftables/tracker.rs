//! Follows the rules by notifications, one generation at a time, and knows when it no longer can. Pure: no socket, no clock.
//!
//! In one transaction kube-proxy deletes and adds again the rules of every endpoint of the touched service, also of those
//! that stay; so what counts is the state at the end of each transaction, never a single message.

use std::collections::{BTreeMap, HashMap};

use super::{
    graph::MOST_EDGES,
    losses::Losses,
    message::{self, Body, Message, SUBSYSTEM},
    model::Model,
};
use crate::{
    input::Ktime,
    netfilter::{
        netlink::{Frames, Malformed},
        ruleset::{Backend, Generation, Route, RouteChange, Routes},
    },
};

/// What was told last, while a dump and the notifications since are being joined.
#[derive(Debug)]
struct Told {
    routes: HashMap<Route, Backend>,
    /// Not so at the start.
    after_loss: bool,
}

/// The model of a node's rules, and what is known of its completeness.
#[derive(Debug)]
pub struct Tracker {
    model: Model,
    /// The last generation that the model has in it.
    generation: Option<u32>,
    /// No generation ended since the dump began, and that one may be told in part.
    seeded: bool,
    /// The dump has parts of generations up to this one: until then it is of no single time.
    until: Option<u32>,
    told: Option<Told>,
    /// The model is no longer to be trusted: it takes no more changes until it is replaced.
    broken: bool,
    /// A table of ours went away in this transaction: at its end the rules are read anew.
    table_deleted: bool,
    /// When the first notification of the transaction that is being read came: its rules were in force by then.
    since: Option<Ktime>,
    /// Who made the last generation.
    by: Option<String>,
    losses: Losses,
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            model: Model::with_room(MOST_EDGES),
            generation: None,
            seeded: false,
            until: None,
            told: None,
            broken: false,
            table_deleted: false,
            since: None,
            by: None,
            losses: Losses::default(),
        }
    }
}

impl Tracker {
    /// A tracker with room for so many edges, that is to be filled from a dump which begins at `generation`.
    pub(super) fn seeded_at(generation: u32, edges: usize) -> Self {
        Self {
            model: Model::with_room(edges),
            generation: Some(generation),
            seeded: true,
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
                Ok(message) if !self.broken => self.apply(&message, true),
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
                    message::decode(&frame).and_then(|message| self.apply(&message, false))
                }
                Ok(_) => Ok(()),
                Err(malformed) => Err(malformed),
            };
            self.losses.unparsed += u64::from(applied.is_err());
        }
    }

    /// The end of a dump, at `generation`.
    pub fn dump_ended(&mut self, generation: Option<u32>) {
        self.model.graph.settle();
        // Being asked for all chains of a family, the kernel gives other tools' too.
        self.losses.foreign = 0;
        self.losses.redirected = 0;
        if generation != self.generation {
            self.until = generation;
            self.told = Some(Told {
                routes: self.model.graph.routes().collect(),
                after_loss: false,
            });
        }
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

    /// All routes, as told last.
    pub fn routes(&self) -> Routes {
        match &self.told {
            Some(told) => told.routes.keys().copied().collect(),
            None => self.model.graph.routes().map(|(route, _)| route).collect(),
        }
    }

    /// What was lost and skipped so far.
    pub fn losses(&self) -> Losses {
        let mut losses = self.losses;
        losses.refused += self.model.graph.refused();
        losses
    }

    /// Goes on from `fresh`, which was filled from a dump, and says what changed against what was told last, at once or
    /// when the notifications have caught up with the dump.
    pub(super) fn resync(&mut self, fresh: Self, at: Ktime, generations: &mut Vec<Generation>) {
        let routes = match self.told.take() {
            Some(told) => told.routes,
            None => self.model.graph.routes().collect(),
        };
        let (by, mut losses) = (self.by.take(), self.losses());
        losses.add(&fresh.losses);
        losses.resyncs += 1;
        *self = fresh;
        self.by = by;
        self.losses = losses;
        self.told = Some(Told {
            routes,
            after_loss: true,
        });
        if self.until.is_none() {
            self.caught_up(at, generations);
        }
    }

    /// The model is of one time again: the difference to what was told last.
    fn caught_up(&mut self, at: Ktime, generations: &mut Vec<Generation>) {
        let Some(told) = self.told.take() else { return };
        let graph = &self.model.graph;
        let mut changes: BTreeMap<Backend, RouteChange> = BTreeMap::new();
        for (route, backend) in graph.routes().filter(|(r, _)| !told.routes.contains_key(r)) {
            changes.entry(backend).or_default().added.push(route);
        }
        for (route, backend) in told.routes.iter().filter(|(r, _)| !graph.has_route(r)) {
            changes.entry(*backend).or_default().removed.push(*route);
        }
        if changes.is_empty() && told.after_loss {
            // That it was read anew is worth telling.
            let backend = self.model.backends().max().unwrap_or(Backend::Nftables);
            changes.insert(backend, RouteChange::default());
        }
        for change in changes.values_mut() {
            change.added.sort_unstable();
            change.removed.sort_unstable();
        }
        self.tell(changes, at, told.after_loss, generations);
    }

    fn tell(
        &self,
        changes: BTreeMap<Backend, RouteChange>,
        at: Ktime,
        resynced: bool,
        generations: &mut Vec<Generation>,
    ) {
        generations.extend(changes.into_iter().map(|(backend, change)| Generation {
            at,
            backend,
            generation: self.generation,
            by: self.by.clone(),
            change,
            resynced,
        }));
    }

    /// A writer came between the parts of a dump.
    pub(super) fn interrupted(&mut self) {
        self.losses.interrupted += 1;
    }

    /// The names of a table's chains, whose rules a dump asks for one by one.
    pub(super) fn chains(&self, family: u8, backend: Backend) -> Vec<Box<[u8]>> {
        self.model.chains(family, backend)
    }

    pub(super) fn has_table(&self, family: u8, backend: Backend) -> bool {
        self.model.has_table(family, backend)
    }

    /// The names of a table's maps, whose elements a dump has to ask for one by one.
    pub(super) fn maps(&self, family: u8, backend: Backend) -> Vec<Box<[u8]>> {
        self.model.maps(family, backend)
    }

    /// Whether a message tells of a generation before the dump, which has all of it. Its 16 bits of the generation suffice: a socket
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
        // The dump may have begun in the moment between the kernel's new number and its new rules (`nf_tables_commit`).
        ahead < i32::from(!self.seeded)
    }

    fn end_of_generation(&mut self, id: u32, by: &[u8], at: Ktime, generations: &mut Vec<Generation>) {
        // 0 is no generation (`nf_tables_commit`).
        let expected = self.generation.map(|g| g.wrapping_add(1).max(1));
        let repeated = std::mem::take(&mut self.seeded) && self.generation == Some(id);
        if expected.is_some_and(|expected| expected != id) && !repeated && !self.broken {
            self.losses.gaps += 1;
            self.broken = true;
        }
        self.generation = Some(id);
        self.since = None;
        self.by = (!by.is_empty()).then(|| String::from_utf8_lossy(by).into_owned());
        self.broken |= std::mem::take(&mut self.table_deleted);
        if self.broken {
            return;
        }
        let changes = self.model.graph.settle();
        for (backend, change) in &changes {
            if !change.removed.is_empty() && self.model.graph.is_cut_off(*backend) {
                self.losses.flushed += 1;
                self.broken = true;
            }
        }
        self.broken |= self.model.graph.has_room_again();
        match self.until {
            None => self.tell(changes, at, false, generations),
            Some(until) if id.wrapping_sub(until).cast_signed() >= 0 => {
                self.until = None;
                self.caught_up(at, generations);
            }
            Some(_) => {}
        }
    }

    fn apply(&mut self, message: &Message<'_>, notified: bool) -> Result<(), Malformed> {
        let in_order = notified && !self.seeded && self.until.is_none();
        let applied = self.model.apply(message, in_order)?;
        self.losses.foreign += u64::from(applied.foreign);
        self.losses.redirected += u64::from(applied.redirected);
        self.losses.unsupported += applied.unsupported;
        self.losses.tables_deleted += u64::from(applied.table_deleted);
        self.table_deleted |= applied.table_deleted;
        self.broken |= applied.renamed;
        Ok(())
    }
}
