//! Watches which endpoints the rules of nf_tables route to: kube-proxy's nftables mode, and its iptables mode where
//! iptables writes nf_tables.
//!
//! The kernel tells listeners of every transaction, rule by rule, and who made it. The watcher reads kube-proxy's tables
//! once, then follows; it reads them again only after a loss. Nothing is polled.

mod graph;
mod losses;
mod message;
mod model;
mod rule;
mod socket;
mod store;
mod tracker;

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, BorrowedFd},
};

use self::{
    graph::MOST_EDGES,
    message::{GETCHAIN, GETRULE, GETSET, GETSETELEM},
    socket::{Asker, Listener, Notified},
};
pub use self::{losses::Losses, tracker::Tracker};
use super::{
    netlink::{IPV4, IPV6},
    ruleset::{Backend, Generation, Routes},
};
use crate::input::Ktime;

/// The longest part of a dump takes about 0.1 s and kube-proxy writes at most once a second: of so many attempts at one
/// part one runs between two writes.
const ATTEMPTS: u32 = 10;

/// Room for the notifications of one transaction, bytes: kube-proxy's rewrite of 10,000 services in iptables mode is about
/// 20 MB of them. It takes memory only while they wait.
const ROOM: usize = 64 << 20;

/// Datagrams of a dump that fits one: it, and the end.
const ONE_PART: usize = 2;

/// kube-proxy's tables.
const TABLES: [(Backend, &[u8]); 2] = [(Backend::IptablesNft, b"nat"), (Backend::Nftables, b"kube-proxy")];

/// Why the rules cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a netfilter netlink socket: {0}")]
    Open(io::Error),
    #[error("the kernel refuses to show nf_tables: zdt needs CAP_NET_ADMIN in the node's network namespace")]
    NotPermitted,
    #[error(
        "the kernel has no nf_tables (CONFIG_NF_TABLES): rules of iptables-nft or nftables cannot be there either"
    )]
    NoNfTables,
    #[error("cannot read nf_tables notifications: {0}")]
    Read(io::Error),
    #[error("cannot ask nf_tables: {0}")]
    Ask(io::Error),
    #[error("nf_tables did not answer in time")]
    Timeout,
    #[error("nf_tables answered something else: {0}")]
    Answer(String),
    #[error(
        "the rules were rewritten during each of {ATTEMPTS} attempts to read them: try again in a second"
    )]
    Busy,
}

/// Follows the rules of one network namespace.
pub struct Watcher {
    listener: Listener,
    asker: Asker,
    tracker: Tracker,
    /// Generations that a failed dump kept from being told.
    untold: Vec<Generation>,
    /// Most edges of the rules.
    edges: usize,
}

impl Watcher {
    /// Joins the notifications of the calling thread's network namespace, stays in it, and reads the rules. Takes as long
    /// as reading kube-proxy's tables: half a second of CPU for 10,000 services in iptables mode, five in nftables mode.
    pub fn open() -> Result<Self, Error> {
        Self::with_room(ROOM, MOST_EDGES)
    }

    fn with_room(bytes: usize, edges: usize) -> Result<Self, Error> {
        // Listen first: what happens during the dump waits in the socket.
        let listener = Listener::open(bytes)?;
        let mut asker = Asker::open()?;
        let tracker = read(&mut asker, edges)?;
        Ok(Self {
            listener,
            asker,
            tracker,
            untold: Vec::new(),
            edges,
        })
    }

    /// Readable when [`Self::next_generations`] has work.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes all notifications that wait, and the generations among them that changed routes. Does not wait, except for a
    /// dump after a loss. After an error call again, within about a second: the file descriptor need not become readable.
    pub fn next_generations(&mut self, now: Ktime) -> Result<Vec<Generation>, Error> {
        // To the end, loss or not: only an empty queue makes the kernel report the next loss (`NETLINK_S_CONGESTED` in
        // `netlink_overrun` and `netlink_rcv_wake`).
        loop {
            match self.listener.read()? {
                Notified::Datagram(datagram) => self.tracker.notified(datagram, now, &mut self.untold),
                Notified::Overrun => self.tracker.overrun(),
                Notified::Empty => break,
            }
        }
        if self.tracker.needs_resync() {
            let fresh = read(&mut self.asker, self.edges)?;
            self.tracker.resync(fresh, now, &mut self.untold);
        }
        Ok(std::mem::take(&mut self.untold))
    }

    /// Everything that the rules route to, as of the last generation told.
    pub fn routes(&self) -> Routes {
        self.tracker.routes()
    }

    /// What was lost, skipped and not understood since the start.
    pub fn losses(&self) -> Losses {
        self.tracker.losses()
    }
}

/// Reads kube-proxy's tables in parts, each of one generation: a dump of everything would take longer than the time
/// between two writes. The notifications since the first part make the parts of one time (`Model::apply`).
fn read(asker: &mut Asker, edges: usize) -> Result<Tracker, Error> {
    let mut tracker = Tracker::seeded_at(asker.generation()?, edges);
    let (mut large, mut read) = (Vec::new(), BTreeSet::new());
    for family in [IPV4, IPV6] {
        // Chains can be asked for by family only.
        read_part(asker, &mut tracker, GETCHAIN, family, &[])?;
        for (backend, table) in TABLES {
            if !tracker.has_table(family, backend) {
                continue;
            }
            // NFTA_SET_TABLE, then NFTA_SET_ELEM_LIST_TABLE and _SET
            read_part(asker, &mut tracker, GETSET, family, &[(1, table)])?;
            for map in tracker.maps(family, backend) {
                let parts = read_part(asker, &mut tracker, GETSETELEM, family, &[(1, table), (2, &map)])?;
                if parts > ONE_PART {
                    large.push((family, table, map));
                }
            }
            // NFTA_RULE_TABLE and _CHAIN. Chain by chain: the kernel counts through a table from its start for each
            // 32 KiB of it (`__nf_tables_dump_rules`), which takes 4 s for 170,000 rules.
            for chain in tracker.chains(family, backend) {
                read_part(asker, &mut tracker, GETRULE, family, &[(1, table), (2, &chain)])?;
                read.insert((family, table, chain));
            }
        }
    }
    // While somebody writes, a list that comes in several datagrams may lack what was there all the time, and no generation shows
    // it. Seen on 6.18: a chain, or an element of a large map, in one of five runs of the test with a writer that never rests.
    // So the lists are asked for once more, and the rules of chains that were not asked for.
    for family in [IPV4, IPV6] {
        read_part(asker, &mut tracker, GETCHAIN, family, &[])?;
        for (backend, table) in TABLES {
            for chain in tracker.chains(family, backend) {
                if !read.contains(&(family, table, chain.clone())) {
                    read_part(asker, &mut tracker, GETRULE, family, &[(1, table), (2, &chain)])?;
                }
            }
        }
    }
    for (family, table, map) in large {
        read_part(asker, &mut tracker, GETSETELEM, family, &[(1, table), (2, &map)])?;
    }
    let generation = asker.generation()?;
    tracker.dump_ended(Some(generation));
    Ok(tracker)
}

/// Returns the number of datagrams that it came in.
fn read_part(
    asker: &mut Asker,
    tracker: &mut Tracker,
    get: u16,
    family: u8,
    names: &[(u16, &[u8])],
) -> Result<usize, Error> {
    for _ in 0..ATTEMPTS {
        let mut datagrams = Vec::new();
        if asker.dump(get, family, names, |datagram| datagrams.push(datagram.to_vec()))? {
            for datagram in &datagrams {
                tracker.dumped(datagram);
            }
            return Ok(datagrams.len());
        }
        tracker.interrupted();
    }
    Err(Error::Busy)
}

#[cfg(test)]
mod tests;
