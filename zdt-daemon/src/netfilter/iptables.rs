//! kube-proxy's rules in legacy iptables: reads the `nat` tables of this network namespace and says what changed.
//!
//! x_tables announces nothing. The kernel half sees a table replaced ([`crate::input::Observation::TableReplaced`]),
//! [`Pending`] says when to read it, [`LegacyTables`] reads it once and compares.

mod blob;
mod dnat;
mod pending;
mod sockopt;
mod table;

use std::io;

use nix::libc;

pub use blob::Malformed;
pub use pending::{Pending, Read, SETTLE_MS};
pub use table::{Table, parse};

use sockopt::TableSocket;

use super::{
    losses::{Counts, Loss},
    ruleset::{Backend, Generation, RouteChange},
};
use crate::input::Ktime;

/// The table in which kube-proxy translates addresses.
const TABLE: &str = "nat";

/// Largest table that is read, bytes. 10,000 services with 50,000 endpoints have 58 MB, without comments as kube-proxy
/// writes them then; half of the memory that the daemon is given (deploy/base/daemonset.yaml) is left.
pub const MAX_BYTES: usize = 128 << 20;

/// How often a table may change its size between the question for its size and the question for its entries.
const TRIES: usize = 10;

/// An address family; each has tables of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Why a table was not read. What was known before stays known, and the next read says `resynced`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a socket to read the {family} table nat: {source}")]
    Open { family: Family, source: io::Error },
    #[error(
        "the kernel refuses to read the {family} table nat: zdt needs CAP_NET_ADMIN in the network namespace"
    )]
    NotPermitted { family: Family },
    #[error("cannot read the {family} table nat: {source}")]
    Read { family: Family, source: io::Error },
    #[error(
        "the {family} table nat has {bytes} bytes, more than the {limit} that zdt reads: \
         which endpoints this node routes to is not known; kube-proxy's nftables mode has no such table"
    )]
    TooLarge {
        family: Family,
        bytes: usize,
        limit: usize,
    },
    #[error("the {family} table nat changed each of the {TRIES} times that it was read")]
    Unstable { family: Family },
    #[error("cannot understand the {family} table nat: {source}; please report `uname -r` and this line")]
    Malformed { family: Family, source: Malformed },
}

/// The `nat` tables of one network namespace, and what they said last.
pub struct LegacyTables {
    v4: OneTable,
    v6: OneTable,
    flushed: u64,
}

struct OneTable {
    family: Family,
    /// None: this host has no such family.
    socket: Option<TableSocket>,
    limit: usize,
    known: Table,
    /// `known` is not what the table said at its last replacement.
    stale: bool,
}

impl LegacyTables {
    /// Opens sockets in the network namespace of the calling thread. Reads nothing yet.
    pub fn open() -> Result<Self, Error> {
        Self::with_limit(MAX_BYTES)
    }

    /// The same, with another limit on the size of a table in bytes.
    pub fn with_limit(limit: usize) -> Result<Self, Error> {
        let open = |family| OneTable::open(family, limit);
        Ok(Self {
            v4: open(Family::V4)?,
            v6: open(Family::V6)?,
            flushed: 0,
        })
    }

    /// Reads both tables. None: they lead to the same endpoints as at the last read. The first read is compared with
    /// no routes at all, and says `resynced`.
    ///
    /// Call it in the network namespace that [`Self::open`] was called in. For 10,000 services with 50,000
    /// endpoints it takes 170 ms, of which the kernel copies for 145, so keep it off threads that must not wait.
    pub fn read(&mut self, at: Ktime, by: Option<String>) -> Result<Option<Generation>, Error> {
        let asked = self.v4.ask().and_then(|v4| Ok((v4, self.v6.ask()?)));
        // Both or none: a change that is not returned must be found again.
        let (v4, v6) = asked.inspect_err(|_| {
            self.v4.stale = true;
            self.v6.stale = true;
        })?;
        let (mut change, stale4) = self.v4.learn(v4, &mut self.flushed);
        let (change6, stale6) = self.v6.learn(v6, &mut self.flushed);
        change.added.extend(change6.added);
        change.removed.extend(change6.removed);
        Ok(generation(at, by, change, stale4 || stale6))
    }

    /// Reads the one table that was replaced.
    pub fn read_one(&mut self, read: Read) -> Result<Option<Generation>, Error> {
        let one = match read.family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        let now = one.ask().inspect_err(|_| one.stale = true)?;
        let (change, stale) = one.learn(now, &mut self.flushed);
        Ok(generation(read.at, read.by, change, stale))
    }

    /// What was lost and not understood: of odd rules those that stand in the tables now, of flushes all so far.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        counts.add(Loss::Odd, self.v4.known.odd + self.v6.known.odd);
        counts.add(Loss::Flushed, self.flushed);
        counts
    }

    /// What a family's table said last.
    pub fn known(&self, family: Family) -> &Table {
        match family {
            Family::V4 => &self.v4.known,
            Family::V6 => &self.v6.known,
        }
    }
}

fn generation(at: Ktime, by: Option<String>, change: RouteChange, resynced: bool) -> Option<Generation> {
    (!change.is_empty()).then_some(Generation {
        at,
        backend: Backend::IptablesLegacy,
        generation: None,
        by,
        change,
        resynced,
    })
}

impl OneTable {
    fn open(family: Family, limit: usize) -> Result<Self, Error> {
        let socket = match TableSocket::open(family) {
            Ok(socket) => Some(socket),
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            Err(source) => return Err(Error::Open { family, source }),
        };
        Ok(Self {
            family,
            socket,
            limit,
            known: Table::default(),
            stale: true,
        })
    }

    /// What changed since the last read, and whether something may have been missed in between.
    fn learn(&mut self, now: Table, flushed: &mut u64) -> (RouteChange, bool) {
        let change = self.known.routes.diff(&now.routes);
        *flushed += u64::from(self.known.dispatches && !now.dispatches && !change.removed.is_empty());
        self.known = now;
        (change, std::mem::replace(&mut self.stale, false))
    }

    fn ask(&self) -> Result<Table, Error> {
        let family = self.family;
        let refused = |source: io::Error| match source.raw_os_error() {
            Some(libc::EPERM) => Error::NotPermitted { family },
            _ => Error::Read { family, source },
        };
        let Some(socket) = &self.socket else {
            return Ok(Table::default());
        };
        for _ in 0..TRIES {
            if !sockopt::exists(family, TABLE).map_err(|source| Error::Read { family, source })? {
                return Ok(Table::default());
            }
            let bytes = match socket.size(TABLE) {
                Ok(bytes) => bytes,
                Err(e) if is_gone(&e) => continue,
                Err(e) => return Err(refused(e)),
            };
            if bytes > self.limit {
                return Err(Error::TooLarge {
                    family,
                    bytes,
                    limit: self.limit,
                });
            }
            match socket.entries(TABLE, bytes) {
                Ok(entries) => {
                    return parse(entries.bytes(), family)
                        .map_err(|source| Error::Malformed { family, source });
                }
                Err(e) if e.raw_os_error() == Some(libc::EAGAIN) || is_gone(&e) => {}
                Err(e) => return Err(refused(e)),
            }
        }
        Err(Error::Unstable { family })
    }
}

/// The table, or its module, was unloaded since it was last looked for.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOPROTOOPT))
}

#[cfg(test)]
#[path = "iptables/tests.rs"]
mod tests;
