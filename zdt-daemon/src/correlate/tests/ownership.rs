//! One failure, one count: the same connection as the pod's node and as the client's node see it.

use super::world::{APP, CLIENT, POD, World, addr, ended_pod, ms, name, unanswered};
use crate::{
    input::{EndpointState, Observation, PodUid, Side, SlicePort, SliceState, TcpCounters, TcpState, What},
    verdict::Outcome,
};

/// The client's node: the service's only endpoint is a pod of another node.
fn clients_node() -> World {
    let mut world = World::new();
    // No pod of this node.
    world
        .inputs
        .retain(|i| !matches!(i.what, What::Pod(_) | What::Kernel(_)));
    let endpoint = EndpointState {
        addrs: vec![addr(POD).ip()],
        ready: true,
        serving: true,
        pod: Some((PodUid("old".into()), "web-1-old".into())),
        node: Some("n2".into()),
        ..Default::default()
    };
    let slice = SliceState {
        slice: name("web-abcde"),
        service: "web".into(),
        ports: vec![SlicePort {
            port: 8080,
            protocol: "TCP".into(),
            ..Default::default()
        }],
        endpoints: vec![endpoint],
    };
    world.at(0, What::Slice(slice));
    world
}

fn got_reset(world: &mut World, t: u64, state: TcpState) {
    let tcp = TcpCounters {
        first_syn: Some(ms(t)),
        isn: Some(7),
        ..Default::default()
    };
    let sock = World::sock(Side::Client, state, 0, Some(tcp));
    world.kernel(t, Observation::ResetReceived { sock });
}

/// The client's socket ends with a request out and nothing in.
fn client_end(world: &mut World, t: u64, new: TcpState, unacked: u32, err: i32) {
    let tcp = TcpCounters {
        bytes_sent: 80,
        data_segs_out: 1,
        unacked,
        ..Default::default()
    };
    let sock = World::sock(Side::Client, new, err, Some(tcp));
    let old = TcpState::Established;
    let (exiting, tgid) = (false, 9);
    world.kernel(
        t,
        Observation::FlowEnd {
            sock,
            old,
            new,
            exiting,
            tgid,
        },
    );
}

#[test]
fn refused_by_a_pod_elsewhere_is_counted_there() {
    let mut world = clients_node();
    got_reset(&mut world, 300, TcpState::SynSent);
    world.connect_failed(300, 300, 111);
    assert!(world.run().0.is_empty());
}

#[test]
fn refused_by_icmp_is_counted_here() {
    let mut world = clients_node();
    world.connect_failed(300, 300, 111);
    assert_eq!(world.only_verdict().outcome, Outcome::Refused);
}

#[test]
fn silence_of_a_pod_elsewhere_is_counted_here() {
    let mut world = clients_node();
    world.translated(300, false);
    world.syn_retransmit(300, 1_300);
    world.connect_failed(300, 2_300, 0);
    assert_eq!(world.only_verdict().outcome, Outcome::TimedOut);
}

#[test]
fn cut_by_a_pod_elsewhere_is_counted_there() {
    let mut world = clients_node();
    got_reset(&mut world, 300, TcpState::Established);
    client_end(&mut world, 300, TcpState::Close, 0, 104);
    assert!(world.run().0.is_empty());
}

#[test]
fn given_up_is_counted_there_when_the_pod_has_the_request_and_here_when_nobody_acknowledged_it() {
    let mut there = clients_node();
    client_end(&mut there, 300, TcpState::FinWait1, 0, 0);
    assert!(there.run().0.is_empty());
    let mut here = clients_node();
    client_end(&mut here, 300, TcpState::FinWait1, 80, 0);
    assert_eq!(here.only_verdict().outcome, Outcome::TimedOut);
}

#[test]
fn what_a_pod_of_this_node_did_is_counted_here_whoever_is_the_client() {
    let mut world = ended_pod();
    world.server_end(116, TcpState::Established, TcpState::FinWait1, unanswered(), true);
    assert_eq!(world.only_verdict().cause(), "immediate-exit");
}

/// A RST that no socket sent, to something else than a SYN, on the pod's node.
fn half_open(world: &mut World, t: u64, client: &str) {
    let mut sock = World::sock(Side::Server, TcpState::Close, 0, None);
    sock.remote = addr(client);
    sock.cgroup = APP;
    world.kernel(
        t,
        Observation::ResetSent {
            sock,
            reason: Some("NO_SOCKET".into()),
            to_syn: false,
            has_socket: false,
            held: None,
            isn: None,
        },
    );
}

#[test]
fn handshake_of_a_client_elsewhere_that_the_closed_listener_purged_is_counted_once() {
    let mut world = ended_pod();
    half_open(&mut world, 120, CLIENT);
    half_open(&mut world, 121, CLIENT);
    world.at(5_000, What::Tick);
    assert_eq!(world.only_verdict().cause(), "half-open-purge");
}

#[test]
fn reset_that_trails_a_connection_of_an_open_port_is_no_failure() {
    let mut world = World::new();
    half_open(&mut world, 120, CLIENT);
    world.at(5_000, What::Tick);
    assert!(world.run().0.is_empty());
}

/// A connection that nobody ever used is reset at `t`; the listener closed at 115.
fn reset_unused(t: u64, held: Option<bool>) -> World {
    let mut world = ended_pod();
    let sock = World::sock(Side::Server, TcpState::Close, 0, Some(TcpCounters::default()));
    world.kernel(
        t,
        Observation::ResetSent {
            sock,
            reason: Some("TCP_STATE".into()),
            to_syn: false,
            has_socket: true,
            held,
            isn: None,
        },
    );
    world
}

#[test]
fn connection_that_was_never_used_and_is_reset_has_failed() {
    assert_eq!(
        reset_unused(116, None).only_verdict().cause(),
        "accept-queue-flush"
    );
}

#[test]
fn a_long_queue_is_flushed_as_long_as_nobody_held_what_is_reset() {
    let cause = |t, held| reset_unused(t, held).only_verdict().cause().to_owned();
    assert_eq!(cause(400, Some(false)), "accept-queue-flush");
    assert_ne!(cause(400, None), "accept-queue-flush");
    // An application that resets what it has accepted.
    assert_ne!(cause(116, Some(true)), "accept-queue-flush");
}
