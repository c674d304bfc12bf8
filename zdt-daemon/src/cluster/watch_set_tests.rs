//! Which addresses are watched, as the objects come and go.

use super::*;
use crate::input::{EndpointState, PodState, ServicePort, SlicePort, SliceState};

const MINUTE: u64 = 60_000_000_000;

fn ip() -> IpAddr {
    "10.244.0.5".parse().unwrap()
}

fn pod(uid: &str) -> What {
    What::Pod(PodState {
        uid: PodUid(uid.into()),
        ips: vec![ip()],
        ..PodState::default()
    })
}

fn gone(uid: &str) -> What {
    What::PodGone {
        uid: PodUid(uid.into()),
    }
}

fn slice(name: &str, addrs: &[IpAddr]) -> What {
    What::Slice(SliceState {
        slice: NsName {
            namespace: "n".into(),
            name: name.into(),
        },
        ports: vec![SlicePort {
            name: String::new(),
            port: 8080,
            protocol: "TCP".into(),
        }],
        endpoints: vec![EndpointState {
            addrs: addrs.to_vec(),
            ..EndpointState::default()
        }],
        ..SliceState::default()
    })
}

fn addr(bits: u32) -> Change {
    Change::Addr { addr: ip(), bits }
}

fn endpoint(watched: bool) -> Change {
    Change::Endpoint {
        addr: ip(),
        port: 8080,
        watched,
    }
}

/// Follows at minute `at`, then expires at the same time.
fn at(set: &mut WatchSet, at: u64, what: &What) -> Vec<Change> {
    let mut out = Vec::new();
    set.follow(Ktime(at * MINUTE), what, &mut out);
    set.expire(Ktime(at * MINUTE), &mut out);
    out
}

#[test]
fn address_outlives_its_pod_by_the_retention_time() {
    let mut set = WatchSet::default();
    assert_eq!(at(&mut set, 0, &pod("a")), [addr(ADDR_LOCAL_POD)]);
    assert_eq!(at(&mut set, 1, &gone("a")), []);
    assert_eq!(at(&mut set, 15, &What::Tick), []);
    assert_eq!(at(&mut set, 16, &What::Tick), [addr(0)]);
}

#[test]
fn bits_are_the_union_of_what_names_the_address() {
    let mut set = WatchSet::default();
    at(&mut set, 0, &pod("a"));
    assert_eq!(
        at(&mut set, 0, &slice("s", &[ip()])),
        [addr(ADDR_LOCAL_POD | ADDR_POD), endpoint(true)]
    );
    at(&mut set, 1, &slice("s", &[]));
    assert_eq!(
        at(&mut set, 20, &What::Tick),
        [addr(ADDR_LOCAL_POD), endpoint(false)]
    );
}

#[test]
fn address_that_a_new_pod_takes_over_does_not_leave_with_the_old_one() {
    let mut set = WatchSet::default();
    at(&mut set, 0, &pod("a"));
    at(&mut set, 1, &gone("a"));
    assert_eq!(at(&mut set, 5, &pod("b")), [], "it is there already");
    assert_eq!(at(&mut set, 60, &What::Tick), []);
    at(&mut set, 61, &gone("b"));
    assert_eq!(at(&mut set, 76, &What::Tick), [addr(0)]);
}

#[test]
fn pod_whose_address_goes_blank_keeps_it_for_the_retention_time() {
    let mut set = WatchSet::default();
    at(&mut set, 0, &pod("a"));
    let blank = What::Pod(PodState {
        uid: PodUid("a".into()),
        ..PodState::default()
    });
    assert_eq!(at(&mut set, 1, &blank), []);
}

#[test]
fn endpoint_that_moves_to_another_slice_never_leaves() {
    let mut set = WatchSet::default();
    at(&mut set, 0, &slice("one", &[ip()]));
    assert_eq!(at(&mut set, 1, &slice("two", &[ip()])), []);
    at(&mut set, 2, &slice("one", &[]));
    assert_eq!(at(&mut set, 60, &What::Tick), []);
}

#[test]
fn node_and_service_addresses_have_their_bits() {
    let mut set = WatchSet::default();
    let mut out = Vec::new();
    set.node(Ktime(0), &[ip()], &mut out);
    assert_eq!(out, [addr(ADDR_NODE)]);
    let service = What::Service(ServiceState {
        vips: vec![ip()],
        ..ServiceState::default()
    });
    assert_eq!(at(&mut set, 0, &service), [addr(ADDR_NODE | ADDR_VIP)]);
}

#[test]
fn service_is_dialled_at_its_addresses_and_at_the_nodes_port() {
    let port = |protocol: &str, port, node_port| ServicePort {
        port,
        node_port,
        protocol: protocol.into(),
        ..ServicePort::default()
    };
    let mut service = ServiceState {
        vips: vec![ip()],
        ports: vec![port("TCP", 80, 30080), port("UDP", 53, 0), port("OTHER", 1, 2)],
        ..ServiceState::default()
    };
    let mut set = WatchSet::default();
    let change = |addr, port, protocol, watched| Change::Service {
        addr,
        port,
        protocol,
        watched,
    };
    assert_eq!(
        at(&mut set, 0, &What::Service(service.clone())),
        [
            addr(ADDR_VIP),
            change(None, 30080, Protocol::Tcp, true),
            change(Some(ip()), 53, Protocol::Udp, true),
            change(Some(ip()), 80, Protocol::Tcp, true),
        ]
    );
    service.ports.remove(0);
    assert_eq!(at(&mut set, 1, &What::Service(service)), []);
    assert_eq!(
        at(&mut set, 16, &What::Tick),
        [
            change(None, 30080, Protocol::Tcp, false),
            change(Some(ip()), 80, Protocol::Tcp, false),
        ]
    );
}

#[test]
fn pod_on_the_host_network_adds_no_pod_address() {
    let mut set = WatchSet::default();
    let host = What::Pod(PodState {
        ips: vec![ip()],
        host_network: true,
        ..PodState::default()
    });
    assert_eq!(at(&mut set, 0, &host), []);
}
