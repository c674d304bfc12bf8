//! What packets tell of one connection attempt, beside its sockets or instead of them.

use crate::input::Ktime;

/// Most drops kept of one attempt; further ones are counted only. A SYN is sent 7 times (tcp_syn_retries is 6, and 10 times
/// with the linear timeouts of Linux 6.5).
pub(super) const MAX_DROPS: usize = 12;

/// This node dropped a SYN or a datagram of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropSeen {
    pub at: Ktime,
    /// `NETFILTER_DROP`, `NEIGH_FAILED` …; None on kernels that give none.
    pub reason: Option<String>,
}

/// This node answered it with an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpSeen {
    pub at: Ktime,
    /// As in the ICMP header.
    pub kind: u8,
    pub code: u8,
}

impl IcmpSeen {
    /// Port unreachable (ICMP 3/3): what a REJECT rule sends; the client's connect(2) ends with ECONNREFUSED
    /// (net/ipv4/icmp.c icmp_err_convert).
    pub fn refuses(&self) -> bool {
        (self.kind, self.code) == (3, 3)
    }
}

/// This node sent SYNs or datagrams of it on to an endpoint. Retransmits count, a bridge's second sight of one packet
/// does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedSeen {
    pub first: Ktime,
    pub last: Ktime,
    pub count: u32,
}
