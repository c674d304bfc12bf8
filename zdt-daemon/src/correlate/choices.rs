//! What dialled services had to choose from, kept with the time in which it holds: a storm of failures at one service looks
//! through its endpoints once.

use std::{collections::HashMap, net::SocketAddr};

use super::endpoints::{Dialled, Endpoints, Had};
use crate::input::{Ktime, Protocol, What};

/// Most kept: more services than that do not fail at a time, and nothing is lost with them but the time to look again.
const MAX_KEPT: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct Choices {
    /// By what was dialled.
    kept: HashMap<(Protocol, SocketAddr), Had>,
}

impl Choices {
    /// What this service port had to choose from at `at`. It follows from the endpoints alone: what is kept only saves looking.
    pub(super) fn had(
        &mut self,
        endpoints: &Endpoints,
        protocol: Protocol,
        (addr, dialled): (SocketAddr, &Dialled<'_>),
        at: Ktime,
    ) -> Had {
        let key = (protocol, addr);
        if let Some(had) = self.kept.get(&key).filter(|had| had.holds(at)) {
            return *had;
        }
        if self.kept.len() >= MAX_KEPT {
            self.kept.clear();
        }
        let had = endpoints.had(dialled, at);
        self.kept.insert(key, had);
        had
    }

    /// What comes may have changed the services or their endpoints.
    pub(super) fn told(&mut self, what: &What) {
        if matches!(
            what,
            What::Slice(_) | What::SliceGone { .. } | What::Service(_) | What::ServiceGone { .. }
        ) {
            self.clear();
        }
    }

    /// Some of the endpoints may have been forgotten.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        correlate::{EndpointHistory, Policy},
        input::{EndpointState, NsName, ServicePort, ServiceState, SlicePort, SliceState},
    };

    fn name(name: &str) -> NsName {
        NsName {
            namespace: "shop".into(),
            name: name.into(),
        }
    }

    /// What a slice says of its endpoints: `r`eady, `n`ot ready, `f`allback (serving, terminating), or not in it.
    fn slice(of: &str, says: &str) -> SliceState {
        let endpoint = |(n, c): (usize, char)| EndpointState {
            addrs: vec![format!("10.0.0.{n}").parse().unwrap()],
            ready: c == 'r',
            serving: c != 'n',
            terminating: c == 'f',
            ..EndpointState::default()
        };
        let held = says.chars().enumerate().filter(|(_, c)| *c != '-');
        SliceState {
            slice: name(of),
            service: "web".into(),
            ports: vec![SlicePort {
                name: "http".into(),
                port: 8080,
                protocol: "TCP".into(),
            }],
            endpoints: held.map(endpoint).collect(),
        }
    }

    #[test]
    fn what_is_kept_is_what_a_look_at_every_endpoint_says() {
        let vip: SocketAddr = "10.96.0.1:80".parse().unwrap();
        let mut endpoints = Endpoints::new(100, 100);
        let service = ServiceState {
            service: name("web"),
            vips: vec![vip.ip()],
            ports: vec![ServicePort {
                name: "http".into(),
                port: 80,
                node_port: 0,
                protocol: "TCP".into(),
            }],
            ..ServiceState::default()
        };
        endpoints.service_applied(Ktime(1), &service);
        let story = [
            "rrr", "rnr", "ffr", "fff", "-ff", "--f", "r--", "rr-", "---", "--r",
        ];
        for (n, says) in (1_u64..).zip(story) {
            endpoints.slice_applied(Ktime(n * 10), &slice("web-a", says));
            let mut choices = Choices::default();
            let dialled = endpoints.dialled(Protocol::Tcp, vip, false).unwrap();
            let mut spans = BTreeSet::new();
            // Back and forth, so that most of it is asked of what is kept.
            for at in (0..2_000).map(|k| Ktime(k * 37 % 131)) {
                let had = choices.had(&endpoints, Protocol::Tcp, (vip, &dialled), at);
                assert!(had.holds(at));
                spans.insert((had.from, had.until));
                let all = Policy::Cluster;
                assert_eq!(had.choice, endpoints.choice(&dialled, all, at), "{says} {at:?}");
                let lost =
                    |(at, addr, e): (Ktime, SocketAddr, &EndpointHistory)| (at, addr, std::ptr::from_ref(e));
                let kept = endpoints.lost_of(&had).map(lost);
                let looked = endpoints.last_lost(&dialled, all, at).map(lost);
                assert_eq!(kept, looked, "{says} {at:?}");
            }
            assert!(spans.len() as u64 <= n + 1, "{spans:?}");
        }
    }

    #[test]
    fn a_slice_that_comes_makes_it_look_again() {
        let vip: SocketAddr = "10.96.0.1:80".parse().unwrap();
        let mut choices = Choices::default();
        choices.kept.insert((Protocol::Tcp, vip), Had::at_all_times());
        choices.told(&What::Tick);
        assert_eq!(choices.kept.len(), 1);
        choices.told(&What::Slice(slice("web-a", "r")));
        assert!(choices.kept.is_empty());
    }
}
