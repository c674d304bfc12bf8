//! A legacy `nat` table as routes: which endpoints kube-proxy's chains lead to.
//!
//! kube-proxy's layout (pkg/proxy/iptables/proxier.go): KUBE-SERVICES and KUBE-NODEPORTS jump to KUBE-SVC-…, KUBE-SVL-…
//! and KUBE-EXT-… chains, these to KUBE-SEP-… chains, and each of those has one DNAT rule. A chain without a jump to
//! it from these roots takes no connection, so it is no route, whatever stands in it.

use super::{
    Family,
    blob::{Malformed, Target, entries},
    dnat,
};
use crate::netfilter::ruleset::{Protocol, Route, Routes};

/// Where new connections to services enter.
const ROOTS: [&[u8]; 2] = [b"KUBE-SERVICES", b"KUBE-NODEPORTS"];

/// The target of a rule that chooses an endpoint.
const DNAT: &[u8] = b"DNAT";

/// `IPT_INV_PROTO` and its IPv6 twin: every protocol but this one.
const INVERTED_PROTO: u8 = 0x40;

/// What a table says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub routes: Routes,
    /// Rules below kube-proxy's chains that could not be understood: a DNAT to something else than one endpoint, a
    /// jump into the middle of a chain.
    pub odd: u64,
    /// Some of kube-proxy's entry chains lead on. kube-proxy's always do: with no services too, to its node ports.
    pub dispatches: bool,
}

/// A chain, as far as it matters. Its jumps and routes stand in lists common to all chains.
struct Chain {
    /// Offset of its first rule: where jumps to it go.
    start: usize,
    root: bool,
    jumps: usize,
    routes: usize,
}

/// The routes of a table's entries, as `IPT_SO_GET_ENTRIES` gives them. Takes time and memory in proportion to their
/// number.
pub fn parse(table: &[u8], family: Family) -> Result<Table, Malformed> {
    let mut chains = vec![Chain {
        start: 0,
        root: false,
        jumps: 0,
        routes: 0,
    }];
    let mut jumps: Vec<usize> = Vec::new();
    let mut routes: Vec<Option<Route>> = Vec::new();
    for entry in entries(table, family) {
        let entry = entry?;
        match entry.target {
            Target::Head(name) => chains.push(Chain {
                start: entry.next,
                root: ROOTS.contains(&name),
                jumps: jumps.len(),
                routes: routes.len(),
            }),
            // A rule without a target "jumps" to the next one (libiptc, iptcc_map_target).
            Target::Jump(to) if to != entry.next => jumps.push(to),
            Target::Extension(DNAT, revision, range) => {
                let protocol = u8::try_from(entry.proto).ok().and_then(Protocol::from_number);
                let protocol = protocol.filter(|_| entry.inverted & INVERTED_PROTO == 0);
                let to = dnat::endpoint(family, revision, range);
                routes.push(protocol.zip(to).map(|(protocol, to)| Route { protocol, to }));
            }
            Target::Jump(_) | Target::Verdict | Target::Extension(..) => {}
        }
    }
    Ok(reachable(&chains, &jumps, &routes))
}

/// What the roots lead to. Each chain is visited once.
fn reachable(chains: &[Chain], jumps: &[usize], routes: &[Option<Route>]) -> Table {
    let mut reached = Vec::new();
    let mut odd = 0;
    let mut seen = vec![false; chains.len()];
    let mut visit: Vec<usize> = (0..chains.len())
        .filter(|&n| chains.get(n).is_some_and(|chain| chain.root))
        .collect();
    let end = |n: usize| chains.get(n + 1).map_or(jumps.len(), |next| next.jumps);
    let leads_on = |&n: &usize| chains.get(n).is_some_and(|chain| chain.jumps < end(n));
    let dispatches = visit.iter().any(leads_on);
    while let Some(n) = visit.pop() {
        let (Some(chain), Some(seen)) = (chains.get(n), seen.get_mut(n)) else {
            continue;
        };
        if std::mem::replace(seen, true) {
            continue;
        }
        let next = chains.get(n + 1);
        let end = next.map_or(jumps.len(), |next| next.jumps);
        for to in jumps.get(chain.jumps..end).unwrap_or_default() {
            match chains.binary_search_by_key(to, |chain| chain.start) {
                Ok(to) => visit.push(to),
                Err(_) => odd += 1,
            }
        }
        let end = next.map_or(routes.len(), |next| next.routes);
        for route in routes.get(chain.routes..end).unwrap_or_default() {
            match route {
                Some(route) => reached.push(*route),
                None => odd += 1,
            }
        }
    }
    Table {
        routes: reached.into_iter().collect(),
        odd,
        dispatches,
    }
}
