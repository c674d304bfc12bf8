//! Clients behind a masquerade: a pod's node sees the translating node's address, and its daemon can name no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use super::Claim;
use crate::truth::Request;

/// What the pod sees as its client, to who was behind it, in the order of the connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masquerades(BTreeMap<SocketAddr, Vec<Behind>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Behind {
    client: SocketAddr,
    /// The pod that it was translated to.
    pod: SocketAddr,
}

impl Masquerades {
    /// Adds the lines of `conntrack -E`.
    pub fn read(&mut self, text: &str) {
        for line in text.lines() {
            if let Some((seen, behind)) = masquerade(line) {
                self.0.entry(seen).or_default().push(behind);
            }
        }
    }

    /// Names the client behind the masquerade in each claim that names none of the load client's own addresses.
    pub fn undo(&self, claims: &mut [Claim], truth: &[Request]) {
        let own: BTreeSet<SocketAddr> = truth.iter().filter_map(|r| r.local).collect();
        for claim in claims.iter_mut().filter(|c| !own.contains(&c.client)) {
            let behind = self.0.get(&claim.client).into_iter().flatten();
            // A port may have been given twice, also at the same time to different pods: the one to this pod whose request
            // was under way.
            let behind = behind.filter(|b| claim.server.is_none_or(|pod| pod == b.pod));
            let at_the_time = |behind: &&Behind| {
                truth
                    .iter()
                    .any(|r| r.local == Some(behind.client) && super::matching::overlap(claim, r))
            };
            if let Some(behind) = behind.clone().find(at_the_time).or(behind.clone().next()) {
                claim.client = behind.client;
            }
        }
    }
}

/// A line has two tuples, `src= dst= sport= dport=`: the client's, and the answer's, whose destination is what the pod
/// sees.
fn masquerade(line: &str) -> Option<(SocketAddr, Behind)> {
    let values = |key: &str| -> Vec<&str> {
        line.split_whitespace()
            .filter_map(|w| w.strip_prefix(key))
            .collect()
    };
    let ip = |key: &str, n: usize| values(key).get(n)?.parse::<IpAddr>().ok();
    let port = |key: &str, n: usize| values(key).get(n)?.parse::<u16>().ok();
    let client = SocketAddr::new(ip("src=", 0)?, port("sport=", 0)?);
    let pod = SocketAddr::new(ip("src=", 1)?, port("sport=", 1)?);
    let seen = SocketAddr::new(ip("dst=", 1)?, port("dport=", 1)?);
    (seen != client).then_some((seen, Behind { client, pod }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::{Outcome, Phase};

    const NEW: &str = "    [NEW] tcp      6 120 SYN_SENT src=198.51.100.2 dst=10.99.0.2 sport=40001 dport=30000 [UNREPLIED] src=10.244.1.3 dst=10.99.0.2 sport=8080 dport=51234\n\
                       \u{20}   [NEW] tcp      6 120 SYN_SENT src=198.51.100.2 dst=10.99.0.2 sport=40002 dport=30000 [UNREPLIED] src=10.244.1.3 dst=10.99.0.2 sport=8080 dport=51234\n\
                       \u{20}   [NEW] tcp      6 120 SYN_SENT src=10.244.1.9 dst=10.96.0.10 sport=40003 dport=80 [UNREPLIED] src=10.244.1.3 dst=10.244.1.9 sport=8080 dport=40003\n";

    fn request(port: u16, at_ns: u64) -> Request {
        Request {
            id: 0,
            began_ns: at_ns,
            ended_ns: at_ns,
            local: Some(SocketAddr::from(([198, 51, 100, 2], port))),
            remote: SocketAddr::from(([10, 99, 0, 2], 30000)),
            outcome: Outcome::Refused,
            phase: Phase::Connect,
            errno: None,
            status: None,
            server: None,
            reused: false,
        }
    }

    #[test]
    fn a_claim_about_a_masqueraded_client_is_about_the_request_of_that_time() {
        let mut masquerades = Masquerades::default();
        masquerades.read(NEW);
        let late = 60_000_000_000;
        let mut claims = [Claim {
            began: late,
            ended: late,
            client: "10.99.0.2:51234".parse().unwrap(),
            outcome: "refused".to_owned(),
            blame: "rollout".to_owned(),
            node: "n1".to_owned(),
            ..Claim::default()
        }];
        masquerades.undo(&mut claims, &[request(40001, 1), request(40002, late)]);
        assert_eq!(claims[0].client, "198.51.100.2:40002".parse().unwrap());
        let untranslated = "10.244.1.9:40003".parse().unwrap();
        assert!(!masquerades.0.contains_key(&untranslated));
    }
}
