//! Watches which endpoints the rules of nf_tables route to: kube-proxy's nftables mode, and its iptables mode where
//! iptables writes nf_tables.
//!
//! The kernel tells listeners of every transaction, rule by rule, and who made it. The watcher reads kube-proxy's tables
//! once, then follows; it reads them again only after a loss. Nothing is polled.

mod graph;
mod losses;
mod message;
mod rule;
mod socket;
mod store;
mod tracker;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

pub use self::{losses::Losses, tracker::Tracker};
use self::{
    message::{GETCHAIN, GETRULE, GETSET, GETSETELEM, IPV4, IPV6},
    socket::{Asker, Listener, Notified},
};
use super::ruleset::{Backend, Generation, Routes};
use crate::input::Ktime;

/// A dump of 10,000 services takes a good part of a second and kube-proxy writes at most once a second: some attempt of
/// these runs between two writes.
const ATTEMPTS: u32 = 10;

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
    #[error("the rules were rewritten during each of {ATTEMPTS} dumps: try again in a second")]
    Busy,
}

/// Follows the rules of one network namespace.
pub struct Watcher {
    listener: Listener,
    asker: Asker,
    tracker: Tracker,
    /// Generations that a failed dump kept from being told.
    untold: Vec<Generation>,
}

impl Watcher {
    /// Joins the notifications of the calling thread's network namespace, stays in it, and reads the rules. Takes as long
    /// as one dump of kube-proxy's tables.
    pub fn open() -> Result<Self, Error> {
        // Listen first: what happens during the dump waits in the socket.
        let listener = Listener::open()?;
        let mut asker = Asker::open()?;
        let mut interrupted = 0;
        let tracker = read(&mut asker, &mut interrupted)?;
        let mut watcher = Self {
            listener,
            asker,
            tracker,
            untold: Vec::new(),
        };
        watcher.tracker.interrupted(interrupted);
        Ok(watcher)
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
            let mut interrupted = 0;
            let fresh = read(&mut self.asker, &mut interrupted);
            self.tracker.interrupted(interrupted);
            self.untold.extend(self.tracker.resync(fresh?, now));
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

/// Reads kube-proxy's tables at one generation.
fn read(asker: &mut Asker, interrupted: &mut u64) -> Result<Tracker, Error> {
    for _ in 0..ATTEMPTS {
        let generation = asker.generation()?;
        let mut tracker = Tracker::seeded_at(generation);
        if read_once(asker, &mut tracker)? && asker.generation()? == generation {
            tracker.dump_ended();
            return Ok(tracker);
        }
        *interrupted += 1;
    }
    Err(Error::Busy)
}

/// False if a writer came between.
fn read_once(asker: &mut Asker, tracker: &mut Tracker) -> Result<bool, Error> {
    let mut consistent = true;
    for family in [IPV4, IPV6] {
        // Chains can be asked for by family only.
        consistent &= asker.dump(GETCHAIN, family, &[], |part| tracker.dumped(part))?;
        for (backend, table) in TABLES {
            // NFTA_SET_TABLE, NFTA_SET_ELEM_LIST_TABLE and _SET, NFTA_RULE_TABLE
            if !tracker.has_table(family, backend) {
                continue;
            }
            consistent &= asker.dump(GETSET, family, &[(1, table)], |part| tracker.dumped(part))?;
            for map in tracker.maps(family, backend) {
                let names = [(1, table), (2, &map[..])];
                consistent &= asker.dump(GETSETELEM, family, &names, |part| tracker.dumped(part))?;
            }
            consistent &= asker.dump(GETRULE, family, &[(1, table)], |part| tracker.dumped(part))?;
        }
        if !consistent {
            return Ok(false);
        }
    }
    Ok(true)
}
