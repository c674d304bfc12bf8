//! What this node's own network namespace did with packets that open connections, and what its conntrack holds. That is
//! all there is to see of a client outside the cluster: it has no socket here.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Protocol, Translation};

/// A TCP SYN (without ACK) or a UDP datagram, in the network namespace of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    pub protocol: Protocol,
    /// Addresses that it carried at this point: behind the destination's translation where there was one, before or
    /// behind a masquerade.
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// Of a SYN: its sequence number, which no translation changes and which its retransmits repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isn: Option<u32>,
    /// conntrack's entry that the packet belongs to, read from the packet itself. None: it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ct: Option<Translation>,
}

/// Entries of conntrack that lead to one pod in transition, counted at one moment (a dump filtered by its address).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// The pod's address.
    pub server: IpAddr,
    /// TCP, ESTABLISHED.
    pub established: u32,
    /// TCP, SYN_SENT and UNREPLIED: each sends the next SYN of its tuple to that pod for up to 120 s.
    pub unanswered: u32,
    /// UDP, any.
    pub udp: u32,
}

/// conntrack's own counters of this namespace, and how full it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackState {
    /// Entries there are (`nf_conntrack_count`) and may be (`nf_conntrack_max`); 0: not known.
    pub entries: u64,
    pub max: u64,
    /// Since the last such input (`struct ip_conntrack_stat`, summed over CPUs): packets dropped because no entry could
    /// be made.
    pub drop: u64,
    /// Entries removed early to make room.
    pub early_drop: u64,
    /// Entries that could not be inserted: another packet of the same tuple was first, or no translation was free.
    pub insert_failed: u64,
    /// Packets that belong to no entry and cannot begin one.
    pub invalid: u64,
}
