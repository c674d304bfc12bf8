//! The kinds of inputs: each makes ready for all of them, and then works on so many.

use std::{collections::BTreeMap, hint::black_box};

use zdt_common::{ABI, Addr, HEADER_LEN, Header, Hook, Retransmit, SockView, StateChange, decode};
use zdt_hot::{
    correlate::{Correlator, Settings},
    input::{Backend, Input, Ktime, Protocol, Route, RouteChange, RulesState, What},
    kernel::Translator,
    netfilter::nftables::Tracker,
    report,
    verdict::Output,
};
use zerocopy::IntoBytes as _;

use crate::inputs::Cluster;

pub const PREFIX: &str = "instructions.";

/// One figure.
pub struct Kind {
    pub figure: &'static str,
    /// The shorter run works on so many, the other on twice as many.
    pub times: usize,
    /// Works on so many of all.
    pub run: fn(usize, usize),
}

pub const KINDS: &[Kind] = &[
    Kind {
        figure: "instructions.ring_record_to_input",
        times: 2_000,
        run: ring_record,
    },
    Kind {
        figure: "instructions.rules_notification",
        times: 40,
        run: rules_notification,
    },
    Kind {
        figure: "instructions.new_flow",
        times: 2_000,
        run: new_flow,
    },
    Kind {
        figure: "instructions.known_flow",
        times: 2_000,
        run: known_flow,
    },
    Kind {
        figure: "instructions.translation_of_a_flow",
        times: 2_000,
        run: translation,
    },
    Kind {
        figure: "instructions.end_and_verdict",
        times: 1_000,
        run: verdict,
    },
    Kind {
        figure: "instructions.change_of_the_rules",
        times: 500,
        run: rules,
    },
    Kind {
        figure: "instructions.pod_event",
        times: 500,
        run: pod,
    },
    Kind {
        figure: "instructions.slice_event",
        times: 50,
        run: slice,
    },
    Kind {
        figure: "instructions.quiet_tick",
        times: 100,
        run: quiet_tick,
    },
    Kind {
        figure: "instructions.verdict_as_json",
        times: 500,
        run: json,
    },
];

const BEGIN: Ktime = Ktime(1_000_000_000_000);
/// Between two events.
const STEP_NS: u64 = 20_000;

/// Bytes of one record of the ring; the ring aligns them as these words are.
fn record(hook: Hook, payload: &[u8]) -> Vec<u64> {
    let header = Header {
        ktime_ns: 1_000_000_000,
        abi: ABI,
        hook: hook as u16,
        len: u32::try_from(payload.len()).unwrap(),
    };
    let mut words = vec![0; (HEADER_LEN + payload.len()).div_ceil(8)];
    let bytes = words.as_mut_bytes();
    bytes[..HEADER_LEN].copy_from_slice(header.as_bytes());
    bytes[HEADER_LEN..HEADER_LEN + payload.len()].copy_from_slice(payload);
    words
}

/// The end of a connection, and a retransmit, by turns.
fn ring_record(of: usize, _all: usize) {
    let view = SockView {
        laddr: Addr::v4([10, 0, 1, 0]),
        raddr: Addr::v4([172, 0, 1, 0]),
        lport: 10_000,
        rport: 80,
        full: 1,
        state: 2,
        ..SockView::default()
    };
    let end = StateChange {
        view,
        old_state: 2,
        new_state: 7,
        ..StateChange::default()
    };
    let again = Retransmit {
        view,
        err: 0,
        silent: 0,
    };
    let records = [
        record(Hook::InetSockSetState, end.as_bytes()),
        record(Hook::TcpRetransmitSkb, again.as_bytes()),
    ];
    let translator = Translator::new(BTreeMap::new(), BTreeMap::new(), 250);
    for n in 0..of {
        let event = decode(black_box(records[n % 2].as_bytes())).unwrap();
        black_box(translator.input(&event));
    }
}

/// What the kernel told of a rollout's writes to kube-proxy's nftables, as the fuzz targets know it: the length of a dump, the
/// dump, the notifications.
const TOLD: &[u8] = include_bytes!("../../../fuzz/corpus/nftables/nftables-rollout");

fn rules_notification(of: usize, all: usize) {
    let (length, rest) = TOLD.split_first_chunk().unwrap();
    let (dump, notified) = rest.split_at(u32::from_le_bytes(*length) as usize);
    let ready = || {
        let mut tracker = Tracker::default();
        tracker.dumped(dump);
        tracker.dump_ended(None);
        tracker
    };
    let mut trackers: Vec<Tracker> = (0..all).map(|_| ready()).collect();
    for tracker in &mut trackers[..of] {
        let mut generations = Vec::new();
        tracker.notified(notified, BEGIN, &mut generations);
        assert!(!black_box(generations).is_empty(), "the rollout changes routes");
    }
}

/// A correlator with a cluster, and time.
struct Node {
    correlator: Correlator,
    cluster: Cluster,
    at: Ktime,
    out: Vec<Output>,
}

impl Node {
    fn new() -> Self {
        let cluster = Cluster { pods: 1_000 };
        let mut node = Self {
            correlator: Correlator::new(Settings::default()),
            cluster,
            at: BEGIN,
            out: Vec::with_capacity(8_192),
        };
        node.take(&cluster.lists(BEGIN));
        node
    }

    fn make(&mut self, all: usize, event: impl Fn(Cluster, usize, Ktime) -> Input) -> Vec<Input> {
        let inputs = (0..all).map(|n| {
            self.at.0 += STEP_NS;
            event(self.cluster, n, self.at)
        });
        inputs.collect()
    }

    fn take(&mut self, inputs: &[Input]) {
        for input in inputs {
            self.correlator.step(black_box(input), &mut self.out);
        }
    }

    /// All of them, unmeasured.
    fn took(mut self, all: usize, event: impl Fn(Cluster, usize, Ktime) -> Input) -> Self {
        let inputs = self.make(all, event);
        self.take(&inputs);
        self
    }

    /// Those that are measured.
    fn takes(mut self, of: usize, all: usize, event: impl Fn(Cluster, usize, Ktime) -> Input) -> Self {
        let inputs = self.make(all, event);
        self.take(&inputs[..of]);
        self
    }

    fn ticks(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.at.0 += 250_000_000;
            self.take(&[Input {
                at: self.at,
                what: What::Tick,
            }]);
        }
    }

    fn verdicts(&self) -> impl Iterator<Item = &Output> {
        self.out.iter().filter(|o| matches!(o, Output::Verdict(_)))
    }
}

fn new_flow(of: usize, all: usize) {
    Node::new().takes(of, all, Cluster::retransmit);
}

fn known_flow(of: usize, all: usize) {
    Node::new()
        .took(all, Cluster::retransmit)
        .takes(of, all, Cluster::retransmit);
}

fn translation(of: usize, all: usize) {
    Node::new()
        .took(all, Cluster::retransmit)
        .takes(of, all, Cluster::translation);
}

/// So many of these connections have failed and are judged.
fn judged(of: usize, all: usize) -> Node {
    let mut node = Node::new()
        .took(all, Cluster::retransmit)
        .took(all, Cluster::translation)
        .takes(of, all, Cluster::end);
    node.ticks(20);
    assert_eq!(node.verdicts().count(), of);
    node
}

fn verdict(of: usize, all: usize) {
    judged(of, all);
}

fn json(of: usize, all: usize) {
    let node = judged(all, all);
    for verdict in node.verdicts().take(of) {
        black_box(report::json(black_box(verdict)).unwrap());
    }
}

fn quiet_tick(of: usize, _all: usize) {
    let mut node = Node::new();
    node.ticks(10);
    node.ticks(of);
}

/// kube-proxy takes an endpoint out, and puts it back.
fn rules(of: usize, all: usize) {
    let state = |change, first: bool, n: usize| {
        What::Rules(RulesState {
            backend: (!first).then_some(Backend::Nftables),
            generation: u32::try_from(n).ok(),
            by: Some("kube-proxy".into()),
            change,
            resynced: false,
            first,
        })
    };
    let route = |cluster: Cluster, n: usize| Route {
        protocol: Protocol::Tcp,
        to: cluster.server(n),
    };
    let change = |added: Vec<Route>, removed: Vec<Route>| RouteChange { added, removed };
    let first = |cluster: Cluster, _, at| {
        let all = (0..cluster.pods).map(|n| route(cluster, n)).collect();
        Input {
            at,
            what: state(change(all, Vec::new()), true, 0),
        }
    };
    Node::new().took(1, first).takes(of, all, |cluster, n, at| {
        let one = vec![route(cluster, n / 2 % cluster.pods)];
        let change = if n % 2 == 0 {
            change(Vec::new(), one)
        } else {
            change(one, Vec::new())
        };
        Input {
            at,
            what: state(change, false, n + 1),
        }
    });
}

/// Pods of this node are no longer ready, and ready again.
fn pod(of: usize, all: usize) {
    Node::new().takes(of, all, |cluster, n, at| cluster.own_pod(n / 2, n % 2 == 1, at));
}

/// One more of the 100 endpoints of a slice is not ready.
fn slice(of: usize, all: usize) {
    Node::new().takes(of, all, Cluster::slice_update);
}
