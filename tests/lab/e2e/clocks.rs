//! Whether the nodes' clocks agree: verdicts and requests are joined by address, port and time. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use crate::{score::Claim, truth::Request};

/// A little below what matching allows (score/matching.rs).
const MOST_APART_S: f64 = 0.9;

/// A sentence for each node whose clock is too far from that of the client's node to join its verdicts.
pub(super) fn apart(requests: &[Request], claims: &[Claim]) -> Vec<String> {
    // Ports that come again say nothing about time.
    let (mut ended, mut again) = (BTreeMap::<SocketAddr, u64>::new(), BTreeSet::new());
    for request in requests.iter().filter(|request| request.outcome.failed()) {
        let Some(local) = request.local else { continue };
        if ended.insert(local, request.ended_ns).is_some() {
            again.insert(local);
        }
    }
    let mut by_node = BTreeMap::<&str, Vec<f64>>::new();
    for claim in claims.iter().filter(|claim| !again.contains(&claim.client)) {
        if let Some(request_ns) = ended.get(&claim.client) {
            let ahead_s = (i128::from(claim.ended) - i128::from(*request_ns)) as f64 / 1e9;
            by_node.entry(&claim.node).or_default().push(ahead_s);
        }
    }
    let mut far = Vec::new();
    for (node, mut all) in by_node {
        all.sort_by(f64::total_cmp);
        let median_s = all.get(all.len() / 2).copied().unwrap_or_default();
        if median_s.abs() > MOST_APART_S {
            far.push(format!(
                "the clock of node {node} is {median_s:+.1} s from that of the client's node: synchronise them"
            ));
        }
    }
    far
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::{Outcome, Phase};

    fn failed(port: u16, ended_ns: u64) -> Request {
        Request {
            id: 0,
            began_ns: 0,
            ended_ns,
            local: Some(SocketAddr::from(([10, 0, 0, 1], port))),
            remote: SocketAddr::from(([10, 96, 0, 1], 80)),
            outcome: Outcome::Refused,
            phase: Phase::Connect,
            errno: None,
            status: None,
            server: None,
            reused: false,
        }
    }

    fn claim(port: u16, ended: u64, node: &str) -> Claim {
        Claim {
            ended,
            client: SocketAddr::from(([10, 0, 0, 1], port)),
            node: node.to_owned(),
            ..Claim::default()
        }
    }

    #[test]
    fn a_node_whose_clock_is_off_is_named() {
        let truth = [failed(1, 10_000_000_000), failed(2, 11_000_000_000)];
        let claims = [claim(1, 10_010_000_000, "a"), claim(2, 14_000_000_000, "b")];
        let said = apart(&truth, &claims);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("the clock of node b is +3.0 s"), "{said:?}");
    }

    #[test]
    fn a_port_that_comes_again_says_nothing() {
        let truth = [failed(1, 10_000_000_000), failed(1, 90_000_000_000)];
        assert!(apart(&truth, &[claim(1, 10_000_000_000, "a")]).is_empty());
    }
}
