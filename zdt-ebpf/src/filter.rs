//! What reaches the ring. Steady healthy traffic emits nothing, and a daemon sees only what one on its node could.

use zdt_common::{ADDR_LOCAL_POD, ADDR_NODE, ADDR_POD, ADDR_VIP, Addr, Endpoint, Ends, IN_TRANSIT, Service};

use crate::{
    maps::{ADDRS, ENDPOINTS, PORTS, SERVICES, TRANSIT},
    packet::{self, Opening},
    read::{Ptr, Tuple},
};

/// Whose side a view of a connection is: 1 the server's, 0 a client's. None: not ours to report.
///
/// The local address must be a pod of this node or the node itself, since one kernel may carry several nodes and
/// clients outside the cluster. Then it is the server's side when the local end serves, and a client's side when the
/// remote address is one that the daemon knows.
#[inline(always)]
pub fn side(tuple: &Tuple) -> Option<u8> {
    if !is_here(&tuple.laddr) {
        return None;
    }
    if is_endpoint(tuple) {
        Some(1)
    } else if address(&tuple.raddr) != 0 {
        Some(0)
    } else {
        None
    }
}

/// Whether the local end serves. Asked of every connection's end: of nearly all clients the small table tells that they do not.
#[inline(always)]
pub fn serves_here(tuple: &Tuple) -> bool {
    let word = PORTS.get(u32::from(tuple.lport / 64)).copied().unwrap_or(0);
    word >> (tuple.lport % 64) & 1 == 1 && is_endpoint(tuple)
}

#[inline(always)]
fn is_endpoint(tuple: &Tuple) -> bool {
    let local = Endpoint {
        addr: tuple.laddr,
        port: tuple.lport,
        pad: 0,
    };
    unsafe { ENDPOINTS.get(local) }.is_some()
}

/// Whether a view is ours to report, where it is known whether the local end serves: what [`side`] asks, in another order.
#[inline(always)]
pub fn is_ours(tuple: &Tuple, server: bool) -> bool {
    is_here(&tuple.laddr) && (server || address(&tuple.raddr) != 0)
}

#[inline(always)]
fn is_here(addr: &Addr) -> bool {
    address(addr) & (ADDR_LOCAL_POD | ADDR_NODE) != 0
}

/// Whether a packet goes to a service, a node port or a pod; or did so before it was translated, or does so behind a
/// translation.
#[inline(always)]
pub fn is_for_a_service(skb: Ptr, opening: &Opening) -> bool {
    if leads_to_one(&opening.ends.daddr, opening.ends.dport, opening.protocol) {
        return true;
    }
    let (mut dialled, mut chosen) = (Ends::ZERO, Ends::ZERO);
    packet::translated(skb, &mut dialled, &mut chosen)
        && (leads_to_one(&dialled.daddr, dialled.dport, opening.protocol)
            || leads_to_one(&chosen.saddr, chosen.sport, opening.protocol))
}

/// Whether an endpoint or pod at this address is going or coming.
#[inline(always)]
pub fn is_in_transit(addr: &Addr) -> bool {
    transit(addr) == IN_TRANSIT
}

/// The same, or whether a pod at this address may be the next.
#[inline(always)]
pub fn may_go(addr: &Addr) -> bool {
    transit(addr) != 0
}

#[inline(always)]
fn transit(addr: &Addr) -> u32 {
    unsafe { TRANSIT.get(addr) }.copied().unwrap_or(0)
}

#[inline(always)]
fn leads_to_one(addr: &Addr, port: u16, protocol: u8) -> bool {
    let bits = address(addr);
    if bits & (ADDR_POD | ADDR_LOCAL_POD) != 0 {
        return true;
    }
    if bits & ADDR_VIP != 0 && serves(*addr, port, protocol) {
        return true;
    }
    bits & ADDR_NODE != 0 && serves(Addr([0; 16]), port, protocol)
}

#[inline(always)]
fn serves(addr: Addr, port: u16, protocol: u8) -> bool {
    let service = Service {
        addr,
        port,
        protocol,
        pad: 0,
    };
    unsafe { SERVICES.get(service) }.is_some()
}

#[inline(always)]
fn address(addr: &Addr) -> u32 {
    unsafe { ADDRS.get(addr) }.copied().unwrap_or(0)
}
