//! Which verdict is about which request.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use super::Claim;
use crate::truth::Request;

/// How far a verdict's times may lie outside its request's.
///
/// Both clocks are CLOCK_MONOTONIC of one machine. What differs is what is timed: the client stamps before `connect`
/// and after its own wake-up (late on a busy machine), the daemon takes the first and the last thing that the kernel
/// told (a retransmit's stamp has a resolution of 1 ms and starts at the first SYN; a server's end may come a round of
/// scheduling after the client's). All of it is far below a second. And a second is far below the time after which a
/// client's port comes back: Linux gives ports of `ip_local_port_range` (28,232 of them) to one destination nearly in
/// turn (inet_hash_connect, net/ipv4/inet_hashtables.c), over a minute at 300 requests a second.
const TOLERANCE_NS: u64 = 1_000_000_000;

/// Pairs (verdict, request), one to one: same client address and port, times that overlap, the nearest end first.
/// Requests that are not `owed` a verdict take no part: a verdict about one of them belongs to none.
pub(super) fn pairs(
    truth: &[Request],
    claims: &[Claim],
    owed: impl Fn(&Request) -> bool,
) -> Vec<(usize, usize)> {
    let mut by_client: BTreeMap<SocketAddr, Vec<(usize, &Request)>> = BTreeMap::new();
    for (r, request) in truth.iter().enumerate().filter(|(_, r)| owed(r)) {
        if let Some(local) = request.local {
            by_client.entry(canonical(local)).or_default().push((r, request));
        }
    }
    let mut near = Vec::new();
    for (c, claim) in claims.iter().enumerate() {
        for &(r, request) in by_client.get(&canonical(claim.client)).into_iter().flatten() {
            if overlap(claim, request) {
                near.push((claim.ended.abs_diff(request.ended_ns), c, r));
            }
        }
    }
    near.sort_unstable();
    let (mut claims_taken, mut requests_taken) = (BTreeSet::new(), BTreeSet::new());
    let mut pairs = Vec::new();
    for (_, c, r) in near {
        if !claims_taken.contains(&c) && !requests_taken.contains(&r) {
            claims_taken.insert(c);
            requests_taken.insert(r);
            pairs.push((c, r));
        }
    }
    pairs
}

pub(super) fn overlap(claim: &Claim, request: &Request) -> bool {
    within(claim, request.began_ns, request.ended_ns)
}

pub(super) fn within(claim: &Claim, began_ns: u64, ended_ns: u64) -> bool {
    claim.began.saturating_sub(TOLERANCE_NS) <= ended_ns
        && began_ns <= claim.ended.saturating_add(TOLERANCE_NS)
}

/// An IPv4 address seen through a dual-stack socket is IPv4, without scope or flow label.
fn canonical(addr: SocketAddr) -> SocketAddr {
    let ip: IpAddr = addr.ip().to_canonical();
    SocketAddr::new(ip, addr.port())
}
