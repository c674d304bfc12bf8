//! Handshakes that the end of a listener cut, answers that did not leave, and ends that come late.

use super::world::{PAUSE, World, answered, ended_pod, pod, unanswered};
use crate::{
    input::{Observation, Side, TcpCounters, TcpState, What},
    verdict::Outcome,
};

fn client_end(world: &mut World, t: u64, old: TcpState, new: TcpState, err: i32, tcp: TcpCounters) {
    let sock = World::sock(Side::Client, new, err, Some(tcp));
    world.kernel(
        t,
        Observation::FlowEnd {
            sock,
            old,
            new,
            exiting: false,
            tgid: 9,
        },
    );
}

fn sent() -> TcpCounters {
    TcpCounters {
        bytes_sent: 100,
        data_segs_out: 1,
        unacked: 100,
        ..Default::default()
    }
}

#[test]
fn a_client_that_took_itself_for_connected_lost_a_half_open_connection() {
    let mut world = ended_pod();
    world.reset(140, "NO_SOCKET", false);
    client_end(
        &mut world,
        141,
        TcpState::Established,
        TcpState::Close,
        104,
        sent(),
    );
    let verdict = world.only_verdict();
    assert_eq!(
        (verdict.cause(), verdict.outcome),
        ("half-open-purge", Outcome::Reset)
    );
}

#[test]
fn a_reset_that_trails_a_connection_is_nothing() {
    let mut world = ended_pod();
    // A client of this node would tell by its own end that its connection failed.
    world.at(0, What::Pod(pod("client", "1", "10.244.1.9")));
    world.reset(140, "NO_SOCKET", false);
    assert!(world.run().0.is_empty());
    // Nor is it one of a connection that begins later.
    client_end(
        &mut world,
        5_000,
        TcpState::Established,
        TcpState::Close,
        104,
        sent(),
    );
    assert_eq!(world.only_verdict().cause(), "unexplained");
}

fn retransmit(world: &mut World, t: u64, side: Side, state: TcpState, tcp: TcpCounters, err: i32) {
    silent(world, t, side, state, tcp, (err, None));
}

/// With the result of the transmission and how long nothing has come.
fn silent(
    world: &mut World,
    t: u64,
    side: Side,
    state: TcpState,
    tcp: TcpCounters,
    (err, silent_ms): (i32, Option<u64>),
) {
    let sock = World::sock(side, state, 0, Some(tcp));
    world.kernel(t, Observation::Retransmit { sock, err, silent_ms });
}

#[test]
fn an_answer_that_finds_no_way_out_is_lost_in_the_teardown() {
    let mut world = ended_pod();
    for (n, t) in [(1, 370), (2, 780), (3, 4_000)] {
        let owed = TcpCounters {
            unacked: 5_001,
            unsent: 1_401,
            retransmits: n,
            ..answered()
        };
        retransmit(&mut world, t, Side::Server, TcpState::FinWait1, owed, -113);
    }
    let verdict = world.only_verdict();
    assert_eq!(
        (verdict.cause(), verdict.outcome),
        ("response-lost-in-teardown", Outcome::TimedOut)
    );
}

#[test]
fn a_retransmit_that_leaves_or_a_fin_alone_is_no_lost_answer() {
    for (unacked, err) in [(5_001, 0), (1, -113)] {
        let mut world = ended_pod();
        let owed = TcpCounters {
            unacked,
            retransmits: 1,
            ..answered()
        };
        retransmit(&mut world, 370, Side::Server, TcpState::FinWait1, owed, err);
        assert!(world.run().0.is_empty(), "{unacked} {err}");
    }
}

/// The client closes after a time of silence; its FIN is sent again.
fn gives_up_after(world: &mut World, t: u64, silent_ms: u64) {
    let partly = TcpCounters {
        bytes_received: 40_000,
        bytes_sent: 100,
        bytes_acked: 101,
        unacked: 1,
        retransmits: 1,
        ..Default::default()
    };
    let told = (0, Some(silent_ms));
    silent(world, t, Side::Client, TcpState::FinWait1, partly, told);
    world.translated(t, true);
}

fn gives_up(world: &mut World, t: u64) {
    gives_up_after(world, t, 2_500);
}

/// The pod's kernel could not send `owed` bytes again, all of which had been sent.
fn sent_and_not_acknowledged(world: &mut World, t: u64, acked: u64, owed: u32) {
    let tcp = TcpCounters {
        bytes_acked: acked,
        unacked: owed + 1,
        retransmits: 1,
        ..answered()
    };
    retransmit(world, t, Side::Server, TcpState::FinWait1, tcp, -113);
}

#[test]
fn a_client_that_closes_right_behind_the_last_byte_has_its_answer() {
    let mut world = ended_pod();
    gives_up_after(&mut world, 600, 230);
    assert!(world.run().0.is_empty());
}

#[test]
fn an_answer_that_left_may_have_arrived_though_its_acknowledgement_found_no_pod() {
    let mut world = ended_pod();
    sent_and_not_acknowledged(&mut world, 370, 35_000, 5_000);
    assert!(
        world.run().0.is_empty(),
        "nobody tells that the client has not got it"
    );
    // A client that has all of it, and waits for the FIN.
    let mut world = ended_pod();
    sent_and_not_acknowledged(&mut world, 370, 35_000, 5_000);
    gives_up(&mut world, 700);
    assert!(world.run().0.is_empty());
}

#[test]
fn an_answer_that_left_and_never_arrived_is_lost_by_what_its_client_got() {
    let mut world = ended_pod();
    sent_and_not_acknowledged(&mut world, 370, 39_000, 5_000);
    gives_up(&mut world, 700);
    assert_eq!(world.only_verdict().cause(), "response-lost-in-teardown");
}

#[test]
fn a_client_that_hears_neither_the_rest_nor_a_fin_of_an_ended_pod_lost_its_answer() {
    let mut world = ended_pod();
    gives_up(&mut world, 3_000);
    let verdict = world.only_verdict();
    assert_eq!(
        (verdict.cause(), verdict.outcome),
        ("response-lost-in-teardown", Outcome::TimedOut)
    );
}

#[test]
fn a_fin_that_is_sent_again_to_a_living_pod_is_a_lost_packet() {
    let mut world = World::new();
    world.exit(1, PAUSE);
    gives_up(&mut world, 3_000);
    assert!(world.run().0.is_empty());
}

#[test]
fn the_late_end_of_a_server_that_hung_is_no_second_failure() {
    let mut world = World::new();
    client_end(
        &mut world,
        300,
        TcpState::Established,
        TcpState::FinWait1,
        0,
        sent(),
    );
    world.translated(300, true);
    world.server_end(9_000, TcpState::CloseWait, TcpState::LastAck, unanswered(), true);
    assert_eq!(world.only_verdict().cause(), "client-abort");
}

#[test]
fn what_a_lost_answer_leaves_behind_is_no_second_failure() {
    let mut world = ended_pod();
    for (n, t) in [(1, 370), (2, 780), (3, 1_600), (4, 3_300), (5, 6_600)] {
        let owed = TcpCounters {
            bytes_acked: 39_000,
            unacked: 5_001,
            unsent: 4_001,
            retransmits: n,
            ..answered()
        };
        retransmit(&mut world, t, Side::Server, TcpState::FinWait1, owed, -113);
    }
    gives_up(&mut world, 5_000);
    assert_eq!(world.only_verdict().cause(), "response-lost-in-teardown");
}
