//! What reaches the ring. Steady healthy traffic emits nothing, and a daemon sees only what one on its node could.

use zdt_common::{ADDR_LOCAL_POD, ADDR_NODE, Addr, Endpoint};

use crate::{
    maps::{ADDRS, ENDPOINTS},
    read::Tuple,
};

/// Whose side a view of a connection is: 1 the server's, 0 a client's. None: not ours to report.
///
/// The local address must be a pod of this node or the node itself, since one kernel may carry several nodes and
/// clients outside the cluster. Then it is the server's side when the local end serves, and a client's side when the
/// remote address is one that the daemon knows.
#[inline(always)]
pub fn side(tuple: &Tuple) -> Option<u8> {
    if address(&tuple.laddr) & (ADDR_LOCAL_POD | ADDR_NODE) == 0 {
        return None;
    }
    let local = Endpoint {
        addr: tuple.laddr,
        port: tuple.lport,
        pad: 0,
    };
    if unsafe { ENDPOINTS.get(local) }.is_some() {
        Some(1)
    } else if address(&tuple.raddr) != 0 {
        Some(0)
    } else {
        None
    }
}

#[inline(always)]
fn address(addr: &Addr) -> u32 {
    unsafe { ADDRS.get(addr) }.copied().unwrap_or(0)
}
