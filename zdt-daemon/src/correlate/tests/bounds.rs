//! Every table has a bound, whatever comes in, and what the bound costs is a loss.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::world::{World, ms, pod, unanswered};
use crate::{
    correlate::{Correlator, Settings},
    input::{
        EndpointState, Input, NsName, Observation, PodUid, Protocol, ReplicaSetState, Route, RouteChange,
        RulesState, ServicePort, ServiceState, Side, SlicePort, SliceState, TcpState, What, Workload,
    },
};

const BOUND: usize = 64;

/// Many times the bound.
const STORM: u32 = 2_000;

fn small() -> Settings {
    Settings {
        max_flows: BOUND,
        max_pods: BOUND,
        max_endpoints: BOUND,
        max_services: BOUND,
        ..Settings::default()
    }
}

fn named(name: String) -> NsName {
    NsName {
        namespace: "shop".to_owned(),
        name,
    }
}

fn ip(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 64, 0, 0).to_bits() + n).into()
}

/// A pod, its workload's ReplicaSet, its service, its slice and the rules to it; the pod is deleted at once.
fn objects(n: u32) -> Vec<What> {
    let uid = PodUid(format!("pod-{n}").into());
    let workload = Some(Workload {
        kind: "deployment".into(),
        name: format!("web-{n}"),
    });
    let lives = crate::input::PodState {
        uid: uid.clone(),
        workload,
        ..pod("", "5d4f", &ip(n).to_string())
    };
    let mut ends = lives.clone();
    ends.deletion = Some(crate::input::Deletion {
        grace_s: 30,
        ..Default::default()
    });
    let route = Route {
        protocol: Protocol::Tcp,
        to: SocketAddr::new(ip(n), 8080),
    };
    vec![
        What::ReplicaSet(ReplicaSetState {
            replica_set: named(format!("web-{n}-5d4f")),
            deployment: Some(format!("web-{n}")),
            replicas: 1,
            ..Default::default()
        }),
        What::Service(ServiceState {
            service: named(format!("web-{n}")),
            vips: vec![ip(n + 1_000_000)],
            ports: vec![ServicePort {
                port: 80,
                ..Default::default()
            }],
            ..Default::default()
        }),
        What::Pod(lives),
        What::Slice(SliceState {
            slice: named(format!("web-{n}-abc")),
            service: format!("web-{n}"),
            ports: vec![SlicePort {
                port: 8080,
                ..Default::default()
            }],
            endpoints: vec![EndpointState {
                addrs: vec![ip(n)],
                pod: Some((uid, format!("web-{n}-5d4f-x"))),
                ready: true,
                ..Default::default()
            }],
        }),
        What::Rules(RulesState {
            backend: None,
            generation: None,
            by: None,
            change: RouteChange {
                added: vec![route],
                removed: Vec::new(),
            },
            resynced: false,
            first: false,
        }),
        What::Pod(ends),
    ]
}

fn fed(inputs: impl Iterator<Item = What>) -> Correlator {
    let mut correlator = Correlator::new(small());
    let mut out = Vec::new();
    for (n, what) in inputs.enumerate() {
        let at = ms(n as u64);
        correlator.step(&Input { at, what }, &mut out);
        out.clear();
    }
    correlator
}

#[test]
fn a_cluster_larger_than_the_tables_fills_them_and_no_more() {
    let correlator = fed((0..STORM).flat_map(objects));
    let tables = correlator.tables();
    for name in ["pods", "endpoint-addresses", "routes", "rollouts"] {
        let table = tables.iter().find(|t| t.name == name).unwrap();
        assert!(table.entries <= 2 * BOUND && table.evicted > 0, "{table:?}");
    }
}

#[test]
fn an_endpoint_that_comes_and_goes_without_end_keeps_a_bounded_past() {
    let flaps = (0..STORM).flat_map(|n| {
        let mut all = objects(1);
        let there = n % 2 == 0;
        for what in &mut all {
            match what {
                What::Slice(slice) if !there => slice.endpoints.clear(),
                What::Rules(rules) if !there => {
                    let change = &mut rules.change;
                    std::mem::swap(&mut change.added, &mut change.removed);
                }
                _ => {}
            }
        }
        all
    });
    let text = format!("{:?}", fed(flaps));
    assert!(text.len() < 100_000, "{} bytes of past", text.len());
}

/// Of one server's end, of a client that gives up, and of a SYN that is sent again: each of a connection of its own, in one
/// moment, so that none is judged in between.
fn kernel_events(n: u32) -> [What; 3] {
    let client = SocketAddr::new(ip(n), 40_000);
    let sock = |side, state| {
        let mut sock = World::sock(side, state, 0, Some(unanswered()));
        match side {
            Side::Server => sock.remote = client,
            Side::Client => sock.local = client,
        }
        sock
    };
    let again = |state| Observation::Retransmit {
        sock: sock(Side::Client, state),
        err: 0,
        silent_ms: None,
    };
    let end = Observation::FlowEnd {
        sock: sock(Side::Server, TcpState::Established),
        old: TcpState::Established,
        new: TcpState::FinWait1,
        exiting: true,
        tgid: 7,
    };
    [end, again(TcpState::FinWait1), again(TcpState::SynSent)].map(What::Kernel)
}

#[test]
fn a_storm_of_connections_costs_flows_and_says_so() {
    let mut correlator = Correlator::new(small());
    let mut out = Vec::new();
    for what in (0..STORM).flat_map(kernel_events) {
        correlator.step(&Input { at: ms(1), what }, &mut out);
    }
    let tick = Input {
        at: ms(2),
        what: What::Tick,
    };
    correlator.step(&tick, &mut out);
    let tables = correlator.tables();
    let flows = tables.iter().find(|t| t.name == "flows").unwrap();
    assert_eq!(flows.entries, BOUND);
    assert!(flows.evicted >= u64::from(STORM) - BOUND as u64, "{flows:?}");
}

/// Of so many connections, in one second.
const MANY: u32 = 100_000;

/// A second one node cannot have: more failures than the flows' table has room for, before the first is due.
#[test]
fn a_hundred_thousand_failures_in_a_second_are_judged_or_counted_and_all_of_them_marked() {
    let settings = Settings::default();
    let bound = settings.max_flows;
    let mut correlator = Correlator::new(settings);
    let mut out = Vec::new();
    for what in objects(0).into_iter().take(4) {
        correlator.step(&Input { at: ms(0), what }, &mut out);
    }
    for n in 0..MANY {
        let at = ms(10 + u64::from(n / 100));
        let client = SocketAddr::new(ip(n + 2_000_000), 40_000);
        let mut sock = World::sock(Side::Server, TcpState::Established, 0, Some(unanswered()));
        sock.remote = client;
        let end = Observation::FlowEnd {
            sock,
            old: TcpState::Established,
            new: TcpState::FinWait1,
            exiting: true,
            tgid: 7,
        };
        let what = What::Kernel(end);
        correlator.step(&Input { at, what }, &mut out);
        if n % 25_000 == 0 {
            let what = What::Tick;
            correlator.step(&Input { at, what }, &mut out);
        }
        let flows = correlator.flows.len();
        assert!(flows <= bound, "{flows}");
    }
    for later in 1..20 {
        let (at, what) = (ms(1_010 + 250 * later), What::Tick);
        correlator.step(&Input { at, what }, &mut out);
    }
    let evicted = correlator
        .tables()
        .iter()
        .find(|t| t.name == "flows")
        .unwrap()
        .evicted;
    let verdicts: Vec<_> = out
        .iter()
        .filter_map(|o| match o {
            crate::verdict::Output::Verdict(v) => Some(v),
            _ => None,
        })
        .collect();
    assert_eq!(
        verdicts.len() as u64 + evicted,
        u64::from(MANY),
        "each is judged or counted"
    );
    assert!(evicted >= u64::from(MANY) - bound as u64);
    let ids: std::collections::BTreeSet<_> = verdicts.iter().map(|v| &v.id).collect();
    assert_eq!(ids.len(), verdicts.len(), "none is said twice");
    let sure = |v: &crate::verdict::Verdict| v.confidence == crate::verdict::Confidence::Full;
    assert_eq!(
        verdicts.iter().filter(|v| sure(v)).count(),
        0,
        "what was lost may be any of these"
    );
}
