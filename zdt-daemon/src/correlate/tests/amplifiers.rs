//! What made a failure worse, and look-alikes.

use super::world::{APP, World, addr, answered, ended_pod};
use crate::{
    input::{EndpointState, PodUid, SlicePort, SliceState, TcpCounters, TcpState, What},
    verdict::Verdict,
};

/// The slice says that the old pod is terminating, and a new one is ready.
fn slice_says_terminating(world: &mut World, t: u64) {
    let slice = SliceState {
        slice: super::world::name("web-abcde"),
        service: "web".into(),
        ports: vec![SlicePort {
            port: 8080,
            protocol: "TCP".into(),
            ..Default::default()
        }],
        endpoints: vec![
            EndpointState {
                addrs: vec![addr(super::world::POD).ip()],
                serving: true,
                terminating: true,
                pod: Some((PodUid("old".into()), "web-1-old".into())),
                ..Default::default()
            },
            EndpointState {
                addrs: vec![addr("10.244.1.6:0").ip()],
                ready: true,
                serving: true,
                pod: Some((PodUid("new".into()), "web-2-new".into())),
                ..Default::default()
            },
        ],
    };
    world.at(t, What::Slice(slice));
}

/// A connection that nobody answers: SYNs at `first`, 1 s and 2 s later.
fn silence(mut world: World, first: u64) -> Verdict {
    for t in [first + 1_020, first + 2_040] {
        world.syn_retransmit(first, t);
        world.translated(t + 1, false);
    }
    world.connect_failed(first, first + 3_000, 0);
    world.inputs.sort_by_key(|i| i.at);
    world.only_verdict()
}

/// Rules that lead to the pod until `until`.
fn routed_until(until: u64) -> World {
    let mut world = ended_pod();
    slice_says_terminating(&mut world, 105);
    world.route(0, true);
    world.route(until, false);
    world
}

#[test]
fn rules_that_let_go_seconds_after_the_slice_are_slow() {
    let verdict = silence(routed_until(5_000), 2_000);
    assert_eq!(verdict.cause(), "pod-ip-gone");
    assert!(
        verdict.amplifiers.contains(&"slow-endpoint-removal"),
        "{verdict:#?}"
    );
}

#[test]
fn rules_that_let_go_within_a_sync_period_are_not_slow() {
    let verdict = silence(routed_until(1_100), 1_000);
    assert_eq!(verdict.cause(), "pod-ip-gone");
    assert!(
        !verdict.amplifiers.contains(&"slow-endpoint-removal"),
        "{verdict:#?}"
    );
}

#[test]
fn a_syn_that_is_sent_again_after_the_rules_were_right_is_stuck() {
    let stuck = |until| {
        silence(routed_until(until), 400)
            .amplifiers
            .contains(&"stuck-after-fix")
    };
    // SYNs at 400, 1,420 and 2,440.
    assert!(stuck(900));
    assert!(stuck(2_400));
    assert!(!stuck(2_900));
}

/// A request that SIGTERM cuts at 1,500 on a connection through the service.
fn cut(routed_until: u64) -> Verdict {
    let mut world = World::new();
    world.route(0, true);
    world.delete(100, 30);
    slice_says_terminating(&mut world, 105);
    world.route(routed_until, false);
    world.signal(1_498, APP, 15);
    world.exit(1_499, APP);
    let again = TcpCounters {
        since_last_acked: 100,
        ..answered()
    };
    world.server_end(1_500, TcpState::Established, TcpState::FinWait1, again, true);
    world.inputs.sort_by_key(|i| i.at);
    world.only_verdict()
}

#[test]
fn a_connection_that_outlived_the_removal_of_its_endpoint_was_pinned() {
    let verdict = cut(600);
    assert_eq!(verdict.cause(), "immediate-exit");
    assert_eq!(verdict.amplifiers, ["pinned-connection"]);
}

#[test]
fn a_connection_that_ended_while_the_rules_still_led_to_its_pod_is_not_known_to_be_pinned() {
    assert!(cut(1_900).amplifiers.is_empty());
}

#[test]
fn what_is_not_the_rollouts_has_no_amplifier() {
    let mut world = World::new();
    world.route(0, true);
    world.route(200, false);
    let verdict = silence(world, 100);
    assert_eq!((verdict.cause(), verdict.amplifiers.len()), ("unexplained", 0));
}
