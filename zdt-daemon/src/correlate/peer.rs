//! An address and port in no more room than they need: a `SocketAddr` has a flow label and a scope besides, which no address of
//! a pod or a service has.

use std::{
    hash::{Hash, Hasher},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::input::Tuple;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    V4([u8; 4], u16),
    V6([u8; 16], u16),
}

impl From<SocketAddr> for Peer {
    fn from(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(v4) => Self::V4(v4.ip().octets(), v4.port()),
            SocketAddr::V6(v6) => Self::V6(v6.ip().octets(), v6.port()),
        }
    }
}

impl From<Peer> for SocketAddr {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::V4(ip, port) => Self::new(Ipv4Addr::from(ip).into(), port),
            Peer::V6(ip, port) => Self::new(Ipv6Addr::from(ip).into(), port),
        }
    }
}

/// At once: what a derive does takes several turns of the hasher for each.
impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match *self {
            Self::V4(ip, port) => state.write_u64(u64::from(u32::from_be_bytes(ip)) << 16 | u64::from(port)),
            Self::V6(ip, port) => {
                state.write_u128(u128::from_be_bytes(ip));
                state.write_u16(port);
            }
        }
    }
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    from: Peer,
    to: Peer,
}

impl From<Tuple> for Ends {
    fn from(tuple: Tuple) -> Self {
        Self {
            from: tuple.from.into(),
            to: tuple.to.into(),
        }
    }
}

impl From<Ends> for Tuple {
    fn from(ends: Ends) -> Self {
        Self {
            from: ends.from.into(),
            to: ends.to.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_address_that_it_was_in_less_room() {
        for addr in ["10.0.0.1:80", "[2001:db8::1]:443", "[::ffff:10.0.0.1]:80"] {
            let addr: SocketAddr = addr.parse().unwrap();
            assert_eq!(SocketAddr::from(Peer::from(addr)), addr);
        }
        assert_eq!(size_of::<Option<Peer>>(), 20);
    }
}
