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
        if orig.from.is_ipv4() != orig.to.is_ipv4() {
            let Tuple { from, to } = orig;
            return Err(Error::MixedFamilies { from, to });
        }
        let mut attributes = Vec::new();
        entry::put_orig(&mut attributes, protocol, orig);
        let mut found = None;
        let asked = self
            .0
            .ask(GET, 0, entry::family(orig.from.ip()), &attributes, |datagram| {
                found = entry::entries(datagram).next();
                ControlFlow::Continue(())
            });
        let found = match (asked, found) {
            (Err(asker::Error::Refused(Errno::ENOENT)), _) => None,
            (Err(error), _) => return Err(error.into()),
            (Ok(_), Some(Ok(entry))) => Some(entry),
            (Ok(_), Some(Err(malformed))) => return Err(Error::Answer(malformed.to_string())),
            (Ok(_), None) => return Err(Error::Answer("no entry and no error".to_owned())),
        };
        Ok(Translation {
            protocol,
            orig,
            reply: found.map(|Entry { reply, .. }| reply),
            replied: found.is_some_and(|entry| entry.replied),
        })
    }
}

#[cfg(test)]
#[path = "conntrack_tests.rs"]
mod tests;
