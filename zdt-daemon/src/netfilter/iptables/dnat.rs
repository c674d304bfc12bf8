//! The target DNAT: to which single endpoint it sends, if to one.
//!
//! Layouts (include/uapi/linux/netfilter/nf_nat.h), by revision (net/netfilter/xt_nat.c):
//! 0 `struct nf_nat_ipv4_multi_range_compat`, IPv4 only; 1 `struct nf_nat_range`; 2 `struct nf_nat_range2`, which only
//! adds a base port at the end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Family;

/// NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED: the range has addresses, and ports.
const WITH_ADDRESSES: u32 = 1;
const WITH_PORTS: u32 = 2;

/// The endpoint; None: several, or no port, or a revision or length that is none of the known.
pub(super) fn endpoint(family: Family, revision: u8, range: &[u8]) -> Option<SocketAddr> {
    let (flags, min, max, ports) = match (revision, family) {
        (0, Family::V4) => {
            let ranges = u32_at(range, 0)?;
            if ranges != 1 {
                return None;
            }
            (u32_at(range, 4)?, v4(range, 8)?, v4(range, 12)?, 16)
        }
        (1 | 2, Family::V4) => (u32_at(range, 0)?, v4(range, 4)?, v4(range, 20)?, 36),
        (1 | 2, Family::V6) => (u32_at(range, 0)?, v6(range, 4)?, v6(range, 20)?, 36),
        _ => return None,
    };
    let (low, high) = (port(range, ports)?, port(range, ports + 2)?);
    let one = flags & WITH_ADDRESSES != 0 && flags & WITH_PORTS != 0 && min == max && low == high;
    one.then(|| SocketAddr::new(min, low))
}

fn bytes<const N: usize>(range: &[u8], at: usize) -> Option<[u8; N]> {
    range.get(at..)?.first_chunk().copied()
}

fn u32_at(range: &[u8], at: usize) -> Option<u32> {
    bytes(range, at).map(u32::from_ne_bytes)
}

/// Ports are in network byte order.
fn port(range: &[u8], at: usize) -> Option<u16> {
    bytes(range, at).map(u16::from_be_bytes)
}

fn v4(range: &[u8], at: usize) -> Option<IpAddr> {
    bytes::<4>(range, at).map(|octets| Ipv4Addr::from(octets).into())
}

fn v6(range: &[u8], at: usize) -> Option<IpAddr> {
    bytes::<16>(range, at).map(|octets| Ipv6Addr::from(octets).into())
}
