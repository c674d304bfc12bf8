//! Tests of `endings`: one input after the other.

use super::*;
use crate::input::{Deletion, EndpointState, Protocol, Route, RouteChange};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const POD: &str = "10.244.1.5";

fn pod(uid: &str, ends: bool) -> What {
    What::Pod(PodState {
        uid: PodUid(uid.into()),
        ips: vec![ip(POD)],
        deletion: ends.then(Deletion::default),
        ..PodState::default()
    })
}

fn pod_gone(uid: &str) -> What {
    What::PodGone {
        uid: PodUid(uid.into()),
    }
}

fn slice(endpoints: &[(&str, bool)]) -> What {
    let endpoint = |(addr, terminating): &(&str, bool)| EndpointState {
        addrs: vec![ip(addr)],
        terminating: *terminating,
        ..EndpointState::default()
    };
    What::Slice(SliceState {
        endpoints: endpoints.iter().map(endpoint).collect(),
        ..SliceState::default()
    })
}

fn rules(added: &[&str], removed: &[&str]) -> What {
    let routes = |to: &[&str]| -> Vec<Route> {
        let route = |to: &&str| Route {
            protocol: Protocol::Tcp,
            to: (ip(to), 8080).into(),
        };
        to.iter().map(route).collect()
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
        first: false,
    })
}

/// What each of the inputs, a second apart, gives.
fn told(endings: &mut Endings, inputs: &[What]) -> Vec<Vec<IpAddr>> {
    let mut second = 0;
    let mut step = |what: &What| {
        let mut out = Vec::new();
        second += 1;
        let at = Ktime(second * 1_000_000_000);
        let what = what.clone();
        endings.follow(&Input { at, what }, &mut out);
        out
    };
    inputs.iter().map(&mut step).collect()
}

#[test]
fn a_pod_is_told_when_it_begins_to_end_and_when_nothing_names_it_any_more() {
    let mut endings = Endings::default();
    let told = told(
        &mut endings,
        &[
            pod("a", false),
            slice(&[(POD, false)]),
            pod("a", true),
            slice(&[(POD, true)]),
            pod("a", true),
            slice(&[]),
            pod_gone("a"),
        ],
    );
    let one = vec![ip(POD)];
    let none = Vec::new();
    assert_eq!(
        told,
        [&none, &none, &one, &none, &none, &none, &one].map(Clone::clone)
    );
    assert!(endings.any());
}

#[test]
fn an_ending_is_over_ten_seconds_after_the_address_is_gone() {
    let mut endings = Endings::default();
    let mut inputs = vec![slice(&[(POD, false)]), slice(&[(POD, true)]), slice(&[])];
    inputs.extend(std::iter::repeat_n(What::Tick, 9));
    told(&mut endings, &inputs);
    assert!(endings.any());
    let at = Ktime(13_000_000_000);
    endings.follow(&Input { at, what: What::Tick }, &mut Vec::new());
    assert!(!endings.any());
}

#[test]
fn a_pod_that_takes_long_to_end_ends_all_the_time() {
    let mut endings = Endings::default();
    let mut inputs = vec![pod("a", true)];
    inputs.extend(std::iter::repeat_n(What::Tick, 100));
    told(&mut endings, &inputs);
    assert!(endings.any());
}

#[test]
fn an_endpoint_elsewhere_that_this_node_does_not_route_to_is_none_of_its_business() {
    let mut endings = Endings::default();
    let told = told(
        &mut endings,
        &[
            rules(&["10.244.2.9"], &[]),
            slice(&[(POD, false), ("10.244.2.9", false)]),
            slice(&[(POD, true), ("10.244.2.9", true)]),
            // The rules let go of it before the slice does.
            rules(&[], &["10.244.2.9"]),
            slice(&[]),
        ],
    );
    let other = vec![ip("10.244.2.9")];
    let none = Vec::new();
    assert_eq!(told, [&none, &none, &other, &none, &other].map(Clone::clone));
}

#[test]
fn an_endpoint_that_leaves_without_ever_terminating_is_told_once() {
    let mut endings = Endings::default();
    let told = told(&mut endings, &[slice(&[(POD, false)]), slice(&[])]);
    assert_eq!(told, [vec![], vec![ip(POD)]]);
}

#[test]
fn the_next_pod_with_the_address_begins_anew() {
    let mut endings = Endings::default();
    let told = told(
        &mut endings,
        &[pod("a", true), pod_gone("a"), pod("b", false), pod("b", true)],
    );
    let one = vec![ip(POD)];
    assert_eq!(told, [&one, &one, &vec![], &one].map(Clone::clone));
}

#[test]
fn a_pod_whose_address_goes_blank_is_gone_when_it_is_deleted() {
    let mut endings = Endings::default();
    let blank = What::Pod(PodState {
        uid: PodUid("a".into()),
        ..PodState::default()
    });
    let told = told(&mut endings, &[pod("a", true), blank, pod_gone("a")]);
    assert_eq!(told, [vec![ip(POD)], vec![], vec![ip(POD)]]);
}

#[test]
fn pods_of_the_host_network_have_no_address_of_their_own() {
    let mut endings = Endings::default();
    let host = What::Pod(PodState {
        ips: vec![ip(POD)],
        host_network: true,
        deletion: Some(Deletion::default()),
        ..PodState::default()
    });
    assert_eq!(told(&mut endings, &[host]), [Vec::<IpAddr>::new()]);
    assert!(!endings.is_local(ip(POD)));
}

#[test]
fn clients_of_this_node_are_its_pods_and_itself() {
    let mut endings = Endings::default();
    told(&mut endings, &[pod("a", false), slice(&[("10.244.2.9", false)])]);
    assert!(endings.is_local(ip(POD)));
    assert!(!endings.is_local(ip("10.244.2.9")), "an endpoint of another node");
}
