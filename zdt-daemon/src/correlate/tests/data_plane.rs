//! A service's own address, and what stood behind it: nothing, only what terminates, or something else than the rules say.

use super::world::{APP, CLIENT, POD, VIP, World, addr, ended_pod, ms, name};
use crate::{
    input::{
        EndpointState, Observation, PodUid, Protocol, Route, RouteChange, RulesState, Side, SlicePort,
        SliceState, TcpCounters, TcpState, Translation, Tuple, What,
    },
    verdict::{Blame, Outcome},
};

/// The endpoint of the old pod: (ready, serving, terminating).
pub(super) fn endpoint(conditions: (bool, bool, bool)) -> EndpointState {
    EndpointState {
        addrs: vec![addr(POD).ip()],
        ready: conditions.0,
        serving: conditions.1,
        terminating: conditions.2,
        pod: Some((PodUid("old".into()), "web-1-old".into())),
        node: Some("n1".into()),
    }
}

pub(super) fn slice(endpoints: Vec<EndpointState>) -> What {
    What::Slice(SliceState {
        slice: name("web-abcde"),
        service: "web".into(),
        ports: vec![SlicePort {
            port: 8080,
            protocol: "TCP".into(),
            ..SlicePort::default()
        }],
        endpoints,
    })
}

pub(super) fn rules(added: &[&str], removed: &[&str], first: bool) -> What {
    let routes = |list: &[&str]| {
        let route = |to: &&str| Route {
            protocol: Protocol::Tcp,
            to: addr(to),
        };
        list.iter().map(route).collect()
    };
    What::Rules(RulesState {
        backend: None,
        generation: None,
        by: None,
        change: RouteChange {
            added: routes(added),
            removed: routes(removed),
        },
        resynced: false,
        first,
    })
}

/// The pod ends, the slices and the rules know it at 200 and 250 ms.
fn nobody_left() -> World {
    let mut world = ended_pod();
    world.at(2, rules(&[POD], &[], true));
    world.at(200, slice(Vec::new()));
    world.at(250, rules(&[], &[POD], false));
    world
}

fn soft_error(world: &mut World, first_syn: u64, t: u64) {
    let tcp = TcpCounters {
        first_syn: Some(ms(first_syn)),
        ..TcpCounters::default()
    };
    let sock = World::sock(Side::Client, TcpState::SynSent, 0, Some(tcp));
    world.kernel(t, Observation::SockError { sock });
}

fn not_translated(world: &mut World, t: u64) {
    let orig = Tuple {
        from: addr(CLIENT),
        to: addr(VIP),
    };
    let translation = Translation {
        protocol: Protocol::Tcp,
        orig,
        reply: None,
        replied: false,
    };
    world.at(t, What::Translation(translation));
}

#[test]
fn a_soft_error_of_a_service_without_endpoints_is_a_refusal() {
    let mut world = nobody_left();
    soft_error(&mut world, 300, 300);
    not_translated(&mut world, 300);
    world.connect_failed(300, 301, 0);
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "no-endpoints");
    assert_eq!(verdict.outcome, Outcome::Refused);
    assert_eq!(verdict.blame, Blame::Rollout);
    let pod = verdict.pod.unwrap();
    assert_eq!(
        (pod.uid, pod.workload.is_some()),
        (PodUid("old".into()), true),
        "whose loss it was"
    );
}

#[test]
fn a_refusal_whose_icmp_error_was_not_sent_looks_like_a_timeout() {
    let mut world = nobody_left();
    world.syn_retransmit(300, 1_320);
    not_translated(&mut world, 1_321);
    world.connect_failed(300, 3_300, 0);
    let verdict = world.only_verdict();
    assert_eq!(
        (verdict.cause(), verdict.outcome),
        ("no-endpoints", Outcome::TimedOut)
    );
}

#[test]
fn a_connection_that_the_rules_still_sent_to_a_pod_is_not_without_endpoints() {
    let mut world = nobody_left();
    world.syn_retransmit(220, 1_240);
    world.translated(1_241, false);
    world.connect_failed(220, 3_220, 0);
    assert_eq!(world.only_verdict().cause(), "pod-ip-gone");
}

#[test]
fn silence_of_a_service_that_has_an_endpoint_again_is_the_rules_that_do_not_know_it() {
    let ready_again = |known: bool| {
        let mut world = nobody_left();
        world.at(280, slice(vec![endpoint((true, true, false))]));
        if known {
            world.at(290, rules(&[POD], &[], false));
        }
        world.syn_retransmit(300, 1_320);
        not_translated(&mut world, 1_321);
        world.connect_failed(300, 3_300, 0);
        world.only_verdict().cause()
    };
    assert_eq!(ready_again(false), "no-endpoints");
    assert_eq!(ready_again(true), "unexplained");
}

#[test]
fn a_service_that_never_had_an_endpoint_is_no_rollouts_failure() {
    let mut world = World::new();
    world.inputs.truncate(2);
    world.at(2, slice(Vec::new()));
    world.syn_retransmit(300, 1_320);
    world.connect_failed(300, 3_300, 0);
    assert_eq!(world.only_verdict().cause(), "unexplained");
}

#[test]
fn a_client_that_waited_for_an_endpoint_and_then_gave_up_did_not_abort() {
    let mut world = nobody_left();
    world.syn_retransmit(300, 1_320);
    world.syn_retransmit(300, 2_340);
    let tcp = TcpCounters {
        bytes_sent: 80,
        bytes_acked: 81,
        ..TcpCounters::default()
    };
    let sock = World::sock(Side::Client, TcpState::Established, 0, Some(tcp));
    let end = Observation::FlowEnd {
        sock,
        old: TcpState::Established,
        new: TcpState::FinWait1,
        exiting: false,
        tgid: 9,
    };
    world.kernel(3_300, end);
    assert_eq!(world.only_verdict().cause(), "no-endpoints");
}

/// Deleted at 100 ms, and the slices know at 110.
fn all_terminating() -> World {
    let mut world = ended_pod();
    world.at(2, rules(&[POD], &[], true));
    world.at(110, slice(vec![endpoint((false, true, true))]));
    world
}

#[test]
fn a_syn_refused_by_the_terminating_pod_that_had_to_be_chosen_is_the_fallback() {
    let mut world = all_terminating();
    world.reset(140, "NO_SOCKET", true);
    world.connect_failed(140, 141, 111);
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "terminating-endpoint-fallback");
    assert_eq!(verdict.also_matched, ["endpoint-removal-race"]);
}

#[test]
fn silence_of_the_terminating_pod_that_had_to_be_chosen_is_the_fallback() {
    let mut world = all_terminating();
    world.syn_retransmit(300, 1_320);
    world.translated(1_321, false);
    world.connect_failed(300, 3_300, 0);
    assert_eq!(world.only_verdict().cause(), "terminating-endpoint-fallback");
}

#[test]
fn a_terminating_pod_beside_a_ready_one_is_no_fallback() {
    let mut world = all_terminating();
    let mut other = endpoint((true, true, false));
    other.addrs = vec!["10.244.2.7".parse().unwrap()];
    other.pod = Some((PodUid("new".into()), "web-2-new".into()));
    world.at(112, slice(vec![endpoint((false, true, true)), other]));
    world.reset(140, "NO_SOCKET", true);
    world.connect_failed(140, 141, 111);
    assert_eq!(world.only_verdict().cause(), "endpoint-removal-race");
}

#[test]
fn a_terminating_pod_that_crashes_unasked_is_no_fallback() {
    let mut world = all_terminating();
    world.inputs.retain(
        |i| !matches!(&i.what, What::Kernel(Observation::Signal { place, .. }) if place.cgroup == APP),
    );
    world.reset(140, "NO_SOCKET", true);
    world.connect_failed(140, 141, 111);
    assert_eq!(world.only_verdict().cause(), "unexplained");
}
