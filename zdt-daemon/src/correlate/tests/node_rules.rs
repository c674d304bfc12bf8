//! What the node's rules and its conntrack did, each by itself: a policy, a late rule, an old entry, a full table.

use super::{
    data_plane::{endpoint, rules, slice},
    packets::{NODE_PORT, OUTSIDE, dropped, entry, syn, turned_away},
    world::{CLIENT, POD, VIP, World, addr, ended_pod, ms, name, unanswered},
};
use crate::{
    input::{
        ConntrackState, EndpointState, Observation, Packet, PodUid, Protocol, Route, RouteChange, RulesState,
        Side, TcpCounters, TcpState, Translation, Tuple, What,
    },
    verdict::{Blame, Outcome},
};

const FAR: &str = "10.244.2.5:8080";

/// An endpoint of another node.
fn far() -> EndpointState {
    EndpointState {
        addrs: vec![addr(FAR).ip()],
        pod: Some((PodUid("far".into()), "web-1-far".into())),
        node: Some("n2".into()),
        ..endpoint((true, true, false))
    }
}

fn policy_is_local(world: &mut World) {
    for input in &mut world.inputs {
        if let What::Service(service) = &mut input.what {
            service.external_local = true;
        }
    }
}

fn dropped_again_and_again(world: &mut World, packet: &Packet) {
    for t in [300, 1_320, 2_340] {
        world.kernel(t, dropped(packet.clone(), "NETFILTER_DROP"));
    }
}

fn counters(world: &mut World, t: u64, state: ConntrackState) {
    world.at(t, What::Conntrack(state));
}

/// This node's pod ends, another node's lives on; both known at 200 ms, to the rules at 250.
fn only_elsewhere() -> World {
    let mut world = ended_pod();
    world.at(1, slice(vec![endpoint((true, true, false)), far()]));
    world.at(2, rules(&[POD, FAR], &[], true));
    world.at(200, slice(vec![far()]));
    world.at(250, rules(&[], &[POD], false));
    world
}

#[test]
fn a_client_outside_is_dropped_where_the_policy_is_local_and_no_endpoint_is_here() {
    let mut world = only_elsewhere();
    policy_is_local(&mut world);
    dropped_again_and_again(&mut world, &turned_away());
    let verdict = world.one();
    assert_eq!(
        (verdict.cause(), verdict.outcome, verdict.client),
        ("local-policy-no-endpoint", Outcome::TimedOut, addr(OUTSIDE))
    );
}

#[test]
fn a_drop_that_is_seen_before_the_rules_that_dropped_it_is_theirs() {
    let mut world = only_elsewhere();
    policy_is_local(&mut world);
    for t in [240, 1_260] {
        world.kernel(t, dropped(turned_away(), "NETFILTER_DROP"));
    }
    assert_eq!(world.one().cause(), "local-policy-no-endpoint");
}

#[test]
fn a_drop_without_a_local_policy_is_not_explained_by_one() {
    let mut world = only_elsewhere();
    dropped_again_and_again(&mut world, &turned_away());
    assert_eq!(world.one().cause(), "unexplained");
}

#[test]
fn a_local_policy_with_an_endpoint_here_explains_no_drop() {
    let mut world = World::new();
    policy_is_local(&mut world);
    world.at(1, slice(vec![endpoint((true, true, false)), far()]));
    dropped_again_and_again(&mut world, &turned_away());
    assert_eq!(world.one().cause(), "unexplained");
}

/// Another node's pod goes, and this node's rules keep leading there until 5 s.
fn late_for_another_nodes_pod(rules_let_go: u64) -> World {
    let mut world = World::new();
    let mut ends = far();
    (ends.ready, ends.terminating) = (false, true);
    world.at(1, slice(vec![endpoint((true, true, false)), far()]));
    world.at(2, rules(&[POD, FAR], &[], true));
    world.at(100, slice(vec![endpoint((true, true, false)), ends]));
    world.at(200, slice(vec![endpoint((true, true, false))]));
    world.at(rules_let_go, rules(&[], &[FAR], false));
    world
}

/// The outside client's SYN, sent on to the other node's pod.
fn passes_to_the_other_node(world: &mut World) {
    let packet = Packet {
        to: addr(FAR),
        ct: Some(entry(NODE_PORT, FAR)),
        ..syn()
    };
    for t in [300, 1_320] {
        world.kernel(
            t,
            Observation::Forwarded {
                packet: packet.clone(),
            },
        );
    }
    world.looked(2_520, entry(NODE_PORT, FAR));
}

#[test]
fn a_late_node_that_sends_outside_clients_to_another_nodes_gone_pod_is_a_stale_node_port() {
    let mut world = late_for_another_nodes_pod(5_000);
    passes_to_the_other_node(&mut world);
    let verdict = world.one();
    assert_eq!(verdict.cause(), "stale-node-port");
    assert_eq!(verdict.also_matched, ["pod-ip-gone"]);
}

#[test]
fn a_node_whose_rules_had_let_go_is_no_stale_node_port() {
    let mut world = late_for_another_nodes_pod(250);
    passes_to_the_other_node(&mut world);
    assert_eq!(world.one().cause(), "stale-conntrack-entry");
}

fn udp_rules(t: u64, world: &mut World, added: bool) {
    let route = Route {
        protocol: Protocol::Udp,
        to: addr(POD),
    };
    let (mut change, list) = (RouteChange::default(), vec![route]);
    if added {
        change.added = list;
    } else {
        change.removed = list;
    }
    let rules = RulesState {
        backend: None,
        generation: None,
        by: None,
        change,
        resynced: false,
        first: added,
    };
    world.at(t, What::Rules(rules));
}

#[test]
fn a_datagram_to_an_ended_pod_that_the_rules_had_let_go_of_went_by_an_old_entry() {
    let cause = |sent: u64| {
        let mut world = ended_pod();
        udp_rules(2, &mut world, true);
        udp_rules(400, &mut world, false);
        let packet = Packet {
            protocol: Protocol::Udp,
            isn: None,
            ct: Some(Translation {
                protocol: Protocol::Udp,
                ..entry(VIP, POD)
            }),
            ..syn()
        };
        world.kernel(sent, Observation::Forwarded { packet });
        world.one().cause()
    };
    assert_eq!(cause(300), "pod-ip-gone");
    assert_eq!(cause(500), "stale-udp-entry");
}

fn lost_in_conntrack(packet: &Packet, state: ConntrackState) -> (&'static str, Blame) {
    let mut world = World::new();
    world.at(2, rules(&[POD], &[], true));
    dropped_again_and_again(&mut world, packet);
    counters(&mut world, 1_000, state);
    let verdict = world.one();
    (verdict.cause(), verdict.blame)
}

#[test]
fn a_drop_while_the_table_is_full_is_the_tables() {
    let full = ConntrackState {
        entries: 1_000,
        max: 1_000,
        drop: 3,
        ..ConntrackState::default()
    };
    assert_eq!(
        lost_in_conntrack(&turned_away(), full),
        ("conntrack-table-full", Blame::NotTheRollout)
    );
    let room = ConntrackState { entries: 10, ..full };
    assert_eq!(lost_in_conntrack(&turned_away(), room).0, "unexplained");
    let none_dropped = ConntrackState { drop: 0, ..full };
    assert_eq!(lost_in_conntrack(&turned_away(), none_dropped).0, "unexplained");
}

#[test]
fn a_translated_packet_that_is_dropped_while_insertions_fail_is_a_clash() {
    let state = ConntrackState {
        entries: 10,
        max: 1_000,
        drop: 3,
        insert_failed: 3,
        ..ConntrackState::default()
    };
    assert_eq!(
        lost_in_conntrack(&syn(), state),
        ("conntrack-insert-failed", Blame::NotTheRollout)
    );
    assert_eq!(lost_in_conntrack(&turned_away(), state).0, "unexplained");
    let full = ConntrackState {
        entries: 1_000,
        ..state
    };
    assert_eq!(lost_in_conntrack(&turned_away(), full).0, "unexplained");
}

#[test]
fn a_drop_long_before_conntrack_counted_one_is_not_conntracks() {
    let mut world = World::new();
    world.at(2, rules(&[POD], &[], true));
    dropped_again_and_again(&mut world, &syn());
    counters(&mut world, 4_000, ConntrackState::default());
    counters(
        &mut world,
        5_000,
        ConntrackState {
            insert_failed: 3,
            ..ConntrackState::default()
        },
    );
    assert_eq!(world.one().cause(), "unexplained");
}

/// The pod got a RST at 500 ms with a request unanswered; its client dialled the service, and gives up later.
fn reset_by_the_client(stray: Option<u64>, gives_up: u64) -> World {
    let mut world = World::new();
    if let Some(t) = stray {
        let mut sock = World::sock(Side::Client, TcpState::Close, 0, None);
        sock.remote = addr(POD);
        let reset = Observation::ResetSent {
            sock,
            reason: Some("NO_SOCKET".into()),
            to_syn: false,
            has_socket: false,
            held: None,
            isn: None,
        };
        world.kernel(t, reset);
    }
    let sock = World::sock(Side::Server, TcpState::Established, 0, Some(unanswered()));
    world.kernel(501, Observation::ResetReceived { sock });
    let sock = World::sock(Side::Server, TcpState::Established, 104, Some(unanswered()));
    let end = Observation::FlowEnd {
        sock,
        old: TcpState::Established,
        new: TcpState::Close,
        exiting: false,
        tgid: 50,
    };
    world.kernel(501, end);
    let asked = TcpCounters {
        bytes_sent: 100,
        bytes_acked: 101,
        ..TcpCounters::default()
    };
    let sock = World::sock(Side::Client, TcpState::Established, 0, Some(asked));
    let end = Observation::FlowEnd {
        sock,
        old: TcpState::Established,
        new: TcpState::FinWait1,
        exiting: false,
        tgid: 9,
    };
    world.kernel(gives_up, end);
    let said = Translation {
        protocol: Protocol::Tcp,
        orig: Tuple {
            from: addr(CLIENT),
            to: addr(VIP),
        },
        reply: Some(Tuple {
            from: addr(POD),
            to: addr(CLIENT),
        }),
        replied: true,
    };
    world.at(gives_up, What::Translation(said));
    world
}

#[test]
fn a_reset_to_a_pod_that_its_sender_never_dialled_is_conntracks() {
    // Within the grace of judging, and long after it.
    for gives_up in [900, 1_700, 9_000] {
        let verdict = reset_by_the_client(Some(500), gives_up).only_verdict();
        assert_eq!(verdict.cause(), "invalid-spurious-reset", "{gives_up}");
        assert_eq!(
            (verdict.blame, verdict.service),
            (Blame::NotTheRollout, Some(name("web")))
        );
        assert!(verdict.began <= ms(501));
    }
}

#[test]
fn a_client_that_resets_its_own_connection_is_a_client_abort() {
    assert_eq!(
        reset_by_the_client(None, 900).only_verdict().cause(),
        "client-abort"
    );
}

#[test]
fn a_stray_reset_after_the_end_of_the_connection_did_not_end_it() {
    assert_eq!(
        reset_by_the_client(Some(600), 900).only_verdict().cause(),
        "client-abort"
    );
}
