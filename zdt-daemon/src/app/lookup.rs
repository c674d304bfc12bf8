//! Where the node's address translation sent a connection: asked once, right behind the event that makes it matter.

use std::collections::BTreeMap;

use crate::{
    input::{Input, Ktime, Observation, Protocol, Side, Sock, TcpState, Tuple, What},
    netfilter::conntrack::Lookup,
};

/// The same connection is asked for at most once in this time: a SYN's retransmits come in pairs of events.
const AGAIN_MS: u64 = 500;

/// Most look-ups for the events of [`SPAN_MS`]. One takes some 20 µs, so that they hold up the ring for half of the
/// time at most.
const PER_SPAN: u64 = 256;
const SPAN_MS: u64 = 10;

/// Most connections remembered for [`AGAIN_MS`].
const REMEMBERED: usize = 8192;

/// Looks connections up, with bounds.
pub(super) struct Lookups {
    conntrack: Option<Lookup>,
    asked: BTreeMap<Tuple, Ktime>,
    span_began: Ktime,
    in_span: u64,
    skipped: u64,
    failing: bool,
}

impl Lookups {
    pub(super) fn new() -> Self {
        let conntrack = match Lookup::open() {
            Ok(lookup) => Some(lookup),
            Err(error) => {
                tracing::warn!(
                    "conntrack cannot be asked: {error}; zdt does not learn which pod a service's connection was sent to"
                );
                None
            }
        };
        Self {
            conntrack,
            asked: BTreeMap::new(),
            span_began: Ktime::default(),
            in_span: 0,
            skipped: 0,
            failing: false,
        }
    }

    /// Look-ups that were wanted and not made since the last call.
    pub(super) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// The input that belongs behind `input`, where there is one.
    pub(super) fn after(&mut self, input: &Input) -> Option<Input> {
        let What::Kernel(observation) = &input.what else {
            return None;
        };
        let (wanted, tuple) = wanted(observation)?;
        self.conntrack.as_ref()?;
        // Each answer is told of once, and is a request of its own.
        let again = self
            .asked
            .get(&tuple)
            .filter(|_| wanted == Wanted::Orig)
            .is_some_and(|at| input.at < at.plus_ms(AGAIN_MS));
        if again {
            return None;
        }
        if input.at >= self.span_began.plus_ms(SPAN_MS) {
            self.span_began = input.at;
            self.in_span = 0;
        }
        if self.in_span >= PER_SPAN {
            self.skipped += 1;
            return None;
        }
        self.in_span += 1;
        if wanted == Wanted::Orig {
            self.remember(tuple, input.at);
        }
        let conntrack = self.conntrack.as_mut()?;
        let found = match wanted {
            Wanted::Orig => conntrack.translation(Protocol::Tcp, tuple).map(Some),
            Wanted::Reply => conntrack.answered(Protocol::Tcp, tuple),
        };
        match found {
            Ok(translation) => {
                self.failing = false;
                Some(Input {
                    at: input.at,
                    what: What::Translation(translation?),
                })
            }
            Err(error) => {
                self.skipped += 1;
                if !self.failing {
                    self.failing = true;
                    tracing::warn!("conntrack does not answer: {error}; look-ups are counted as lost");
                }
                None
            }
        }
    }
}

impl Lookups {
    fn remember(&mut self, tuple: Tuple, at: Ktime) {
        if self.asked.len() >= REMEMBERED {
            self.asked.retain(|_, asked| at < asked.plus_ms(AGAIN_MS));
        }
        if self.asked.len() >= REMEMBERED {
            self.asked.clear();
        }
        self.asked.insert(tuple, at);
    }
}

/// By which direction an entry is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Orig,
    Reply,
}

/// The connection to ask for: one whose client is on this node and that failed, ended, or retries its SYN or its FIN; or one
/// that a pod of this node answered with an error or not wholly, whose client only the entry tells from a masquerade.
fn wanted(observation: &Observation) -> Option<(Wanted, Tuple)> {
    let of = |sock: &Sock| Tuple {
        from: sock.local,
        to: sock.remote,
    };
    let sock: &Sock = match observation {
        Observation::Answer { sock, body, end, .. } => {
            let failed = end.is_none_or(|end| end.cuts(*body));
            return failed.then(|| (Wanted::Reply, of(sock)));
        }
        Observation::FlowEnd { sock, .. }
        | Observation::SockError { sock }
        | Observation::ResetReceived { sock } => sock,
        Observation::Retransmit { sock, .. }
            if matches!(
                sock.state,
                TcpState::SynSent | TcpState::FinWait1 | TcpState::LastAck
            ) =>
        {
            sock
        }
        _ => return None,
    };
    (sock.side == Side::Client).then(|| (Wanted::Orig, of(sock)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{CgroupId, NetnsInum};

    fn sock(side: Side, state: TcpState) -> Sock {
        Sock {
            side,
            local: "10.0.0.1:40000".parse().unwrap(),
            remote: "10.96.0.80:80".parse().unwrap(),
            netns: NetnsInum(1),
            cgroup: CgroupId(0),
            cookie: 0,
            state,
            err: 0,
            err_soft: 0,
            tcp: None,
        }
    }

    fn retransmit(side: Side, state: TcpState) -> Observation {
        Observation::Retransmit {
            sock: sock(side, state),
            err: 0,
            silent_ms: None,
        }
    }

    #[test]
    fn clients_syn_that_is_retried_is_asked_for_from_client_to_service() {
        let (by, tuple) = wanted(&retransmit(Side::Client, TcpState::SynSent)).unwrap();
        assert_eq!(by, Wanted::Orig);
        assert_eq!(tuple.from.to_string(), "10.0.0.1:40000");
        assert_eq!(tuple.to.to_string(), "10.96.0.80:80");
    }

    #[test]
    fn servers_and_established_connections_are_not_asked_for() {
        assert!(wanted(&retransmit(Side::Client, TcpState::Established)).is_none());
        assert!(wanted(&retransmit(Side::Server, TcpState::SynSent)).is_none());
        let end = Observation::SockError {
            sock: sock(Side::Server, TcpState::Close),
        };
        assert!(wanted(&end).is_none());
    }

    #[test]
    fn a_storm_of_failures_is_asked_for_up_to_a_bound_and_the_rest_is_counted() {
        let mut lookups = Lookups::new();
        assert!(lookups.conntrack.is_some(), "conntrack cannot be asked");
        let retries = |from: u32, to: u32, at: u64| {
            (from..to).map(move |n| {
                let mut sock = sock(Side::Client, TcpState::SynSent);
                // Benchmarking addresses (RFC 2544): of nobody.
                let ip = std::net::Ipv4Addr::from_bits(0xC612_0000 + n);
                sock.local = std::net::SocketAddr::new(ip.into(), 40_000);
                let (err, silent_ms) = (0, None);
                Input {
                    at: Ktime(at),
                    what: What::Kernel(Observation::Retransmit { sock, err, silent_ms }),
                }
            })
        };
        let asked = |lookups: &mut Lookups, from, to, at| {
            let made = retries(from, to, at)
                .filter_map(|input| lookups.after(&input))
                .count();
            (made as u64, lookups.take_skipped())
        };
        let storm = 10_000;
        let (made, skipped) = asked(&mut lookups, 0, storm, 1);
        assert_eq!((made, skipped), (PER_SPAN, u64::from(storm) - PER_SPAN));
        assert!(lookups.asked.len() <= REMEMBERED);
        // Behind it there is room again.
        assert_eq!(asked(&mut lookups, storm, storm + 10, 20_000_000), (10, 0));
    }
}
