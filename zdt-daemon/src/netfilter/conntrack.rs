//! Asks the connection tracking table where one connection was sent: a point look-up, never a subscription (while
//! anybody listens, the kernel allocates an event extension for every new flow).

use std::{io, net::SocketAddr, ops::ControlFlow, time::Duration};

use nix::errno::Errno;

use super::{
    asker::{self, Asker},
    entry::{self, Entry, GET},
};
use crate::input::{Protocol, Translation, Tuple};

/// How long an answer may take. The kernel answers within the system call that asks.
const PATIENCE: Duration = Duration::from_millis(50);

/// Why the connection tracking table gave no answer. That there is no entry is an answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a netfilter netlink socket: {0}")]
    Open(io::Error),
    #[error("{from} and {to} are not of one address family")]
    MixedFamilies { from: SocketAddr, to: SocketAddr },
    #[error("cannot ask the connection tracking table: {0}")]
    Ask(io::Error),
    #[error("the kernel refuses to read the connection tracking table: zdt needs CAP_NET_ADMIN")]
    NotPermitted,
    #[error("the connection tracking table gave no answer in time")]
    Timeout,
    #[error("the connection tracking table answered something else: {0}")]
    Answer(String),
}

impl From<asker::Error> for Error {
    fn from(error: asker::Error) -> Self {
        match error {
            asker::Error::Open(e) => Self::Open(e),
            asker::Error::Ask(e) => Self::Ask(e),
            asker::Error::Refused(Errno::EPERM) => Self::NotPermitted,
            asker::Error::Refused(errno) => Self::Ask(errno.into()),
            asker::Error::Timeout => Self::Timeout,
            asker::Error::Answer(what) => Self::Answer(what),
        }
    }
}

/// A netlink socket in one network namespace.
pub struct Lookup(Asker);

impl Lookup {
    /// Opens a socket in the network namespace of the calling thread and stays in it.
    pub fn open() -> Result<Self, Error> {
        Ok(Self(Asker::open(PATIENCE)?))
    }

    /// Where the connection that a client opened `orig.from` → `orig.to` was sent. Waits at most 50 ms; takes some 20 µs.
    pub fn translation(&mut self, protocol: Protocol, orig: Tuple) -> Result<Translation, Error> {
        let found = self.entry(protocol, orig)?;
        Ok(Translation {
            protocol,
            orig,
            reply: found.map(|Entry { reply, .. }| reply),
            replied: found.is_some_and(|entry| entry.replied),
        })
    }

    /// The connection that a server answers `reply.from` → `reply.to`: who opened it, and to where. None: there is no entry.
    pub fn answered(&mut self, protocol: Protocol, reply: Tuple) -> Result<Option<Translation>, Error> {
        // The kernel finds an entry by either of its directions (net/netfilter/nf_conntrack_core.c nf_conntrack_find_get).
        let found = self.entry(protocol, reply)?.filter(|entry| entry.reply == reply);
        Ok(found.map(|entry| Translation {
            protocol,
            orig: entry.orig,
            reply: Some(entry.reply),
            replied: entry.replied,
        }))
    }

    fn entry(&mut self, protocol: Protocol, tuple: Tuple) -> Result<Option<Entry>, Error> {
        if tuple.from.is_ipv4() != tuple.to.is_ipv4() {
            let Tuple { from, to } = tuple;
            return Err(Error::MixedFamilies { from, to });
        }
        let mut attributes = Vec::new();
        entry::put_orig(&mut attributes, protocol, tuple);
        let mut found = None;
        let asked = self
            .0
            .ask(GET, 0, entry::family(tuple.from.ip()), &attributes, |datagram| {
                found = entry::entries(datagram).next();
                ControlFlow::Continue(())
            });
        match (asked, found) {
            (Err(asker::Error::Refused(Errno::ENOENT)), _) => Ok(None),
            (Err(error), _) => Err(error.into()),
            (Ok(_), Some(Ok(entry))) => Ok(Some(entry)),
            (Ok(_), Some(Err(malformed))) => Err(Error::Answer(malformed.to_string())),
            (Ok(_), None) => Err(Error::Answer("no entry and no error".to_owned())),
        }
    }
}

#[cfg(test)]
#[path = "conntrack_tests.rs"]
mod tests;
