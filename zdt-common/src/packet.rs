//! Packets without a socket of this node: what they carry, and conntrack's entry that hangs on them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Addr;

/// Where from and where to. Ports are in host byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ends {
    pub saddr: Addr,
    pub daddr: Addr,
    pub sport: u16,
    pub dport: u16,
}

impl Ends {
    /// Nothing is known.
    pub const ZERO: Self = Self {
        saddr: Addr([0; 16]),
        daddr: Addr([0; 16]),
        sport: 0,
        dport: 0,
    };
}

/// A packet that opens a TCP connection (SYN without ACK), or a UDP datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PacketView {
    /// `nf_conn::status`: IPS_* bits (include/uapi/linux/netfilter/nf_conntrack_common.h).
    pub ct_status: u64,
    /// What its headers say here and now.
    pub ends: Ends,
    /// The entry's tuples: as the client sent it, and as replies to it come. Zero without `has_ct`.
    pub orig: Ends,
    pub reply: Ends,
    /// Sequence number of a SYN.
    pub isn: u32,
    /// IPPROTO_TCP or IPPROTO_UDP.
    pub protocol: u8,
    /// 1: conntrack has an entry for it.
    pub has_ct: u8,
    pub pad: [u8; 6],
}

/// `nf_conn::status`: a packet came in the other direction.
pub const IPS_SEEN_REPLY: u64 = 1 << 1;
/// `nf_conn::status`: not an entry, but what the raw table told conntrack to use for one.
pub const IPS_TEMPLATE: u64 = 1 << 11;

/// [`SkbDropped::reason`] where the kernel gives none.
pub const NO_REASON: u32 = u32::MAX;

/// Payload of [`crate::Hook::KfreeSkb`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SkbDropped {
    pub packet: PacketView,
    /// `enum skb_drop_reason`, named by the running kernel's BTF; [`NO_REASON`] before 5.17.
    pub reason: u32,
    pub pad: u32,
}

/// Payload of [`crate::Hook::IcmpSend`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IcmpError {
    /// The packet that the error is about.
    pub packet: PacketView,
    /// Type and code of the ICMP header.
    pub kind: u8,
    pub code: u8,
    pub pad: [u8; 6],
}

/// Payload of [`crate::Hook::NetDevQueue`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Forwarded {
    pub packet: PacketView,
}

/// A service's address and port: key of the `SERVICES` map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Service {
    /// All zeroes: any address of the node (a node port).
    pub addr: Addr,
    /// Host byte order.
    pub port: u16,
    /// IPPROTO_*.
    pub protocol: u8,
    pub pad: u8,
}
