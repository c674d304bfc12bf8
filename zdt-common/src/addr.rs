//! Addresses as the kernel half sees them: 16 bytes, IPv4 as v4-mapped IPv6 (RFC 4291, 2.5.5.2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An IP address; IPv4 is `::ffff:a.b.c.d`. Key of the `ADDRS` map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Addr(pub [u8; 16]);

impl Addr {
    /// The v4-mapped form of an IPv4 address in network byte order.
    #[inline(always)]
    pub const fn v4(o: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, o[0], o[1], o[2], o[3]])
    }
}

/// Words of 64 ports each, in the `PORTS` map.
pub const PORT_WORDS: u32 = 1024;

/// An address and port that serve: key of the `ENDPOINTS` map. A socket whose *local* side is in it is a server view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Endpoint {
    pub addr: Addr,
    /// Host byte order.
    pub port: u16,
    pub pad: u16,
}

/// Value in the `TRANSIT` map: an endpoint or pod at the address is going or coming.
pub const IN_TRANSIT: u32 = 1;
/// Value in the `TRANSIT` map: a pod at the address may be the next to go.
pub const BESIDE: u32 = 2;

/// Bits of a value in the `ADDRS` map.
///
/// A pod of this node.
pub const ADDR_LOCAL_POD: u32 = 1;
/// The node itself: any address of its own network namespace.
pub const ADDR_NODE: u32 = 2;
/// Any pod of the cluster that some endpoint slice names, or did within the retention time.
pub const ADDR_POD: u32 = 4;
/// A Service's cluster, external or load balancer address.
pub const ADDR_VIP: u32 = 8;
