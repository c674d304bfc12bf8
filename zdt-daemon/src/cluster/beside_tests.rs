//! Tests of `beside`: which pods count as the next to go, and how long.

use super::*;
use proptest::strategy::Strategy as _;

use crate::input::EndpointState;

const OWN: &str = "10.244.0.5";
const OTHER: &str = "10.244.9.9";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ns_name(name: &str) -> NsName {
    NsName {
        namespace: "shop".into(),
        name: name.into(),
    }
}

fn pod(addr: &str) -> What {
    What::Pod(PodState {
        uid: PodUid(addr.into()),
        pod: ns_name("web-1"),
        ips: vec![ip(addr)],
        workload: Some(Workload {
            kind: "deployment".into(),
            name: "web".into(),
        }),
        ..PodState::default()
    })
}

fn slice(name: &str, service: &str, addrs: &[&str]) -> What {
    let endpoint = |addr: &&str| EndpointState {
        addrs: vec![ip(addr)],
        ..EndpointState::default()
    };
    What::Slice(SliceState {
        slice: ns_name(name),
        service: service.into(),
        endpoints: addrs.iter().map(endpoint).collect(),
        ..SliceState::default()
    })
}

fn replica_set(name: &str, revision: u64) -> What {
    What::ReplicaSet(ReplicaSetState {
        replica_set: ns_name(name),
        deployment: Some("web".into()),
        kind: None,
        revision: Some(revision),
        ..ReplicaSetState::default()
    })
}

/// With a pod of this node behind a service, beside one of another node, in another slice.
fn settled() -> Beside {
    let mut beside = Beside::default();
    for what in [
        pod(OWN),
        slice("web-a", "web", &[OWN]),
        slice("web-b", "web", &[OTHER]),
        slice("db-a", "db", &["10.244.0.7"]),
        replica_set("web-1", 1),
    ] {
        beside.follow(Ktime(0), &what);
    }
    beside.settle();
    assert_eq!(told(&mut beside, 0, &[]), []);
    beside
}

/// What it says at second `at`, after these addresses came into transition or left it.
fn told(beside: &mut Beside, at: u64, transit: &[(&str, bool)]) -> Vec<(IpAddr, bool)> {
    let of = |(addr, on): &(&str, bool)| Change::Transit {
        addr: ip(addr),
        on: *on,
    };
    let mut out: Vec<Change> = transit.iter().map(of).collect();
    beside.tell(Ktime(at * 1_000_000_000), &mut out);
    let beside = |change: &Change| match change {
        Change::Beside { addr, on } => Some((*addr, *on)),
        _ => None,
    };
    out.iter().filter_map(beside).collect()
}

#[test]
fn own_pod_of_a_service_of_which_another_endpoint_moves_may_be_the_next() {
    let mut beside = settled();
    assert_eq!(told(&mut beside, 1, &[(OTHER, true)]), [(ip(OWN), true)]);
    assert_eq!(told(&mut beside, 2, &[]), []);
    assert_eq!(told(&mut beside, 3, &[(OTHER, false)]), [(ip(OWN), false)]);
}

#[test]
fn another_service_or_a_pod_of_another_node_does_not_count() {
    let mut beside = settled();
    assert_eq!(told(&mut beside, 1, &[("10.244.0.7", true)]), []);
    beside.follow(Ktime(0), &slice("db-a", "db", &["10.244.0.7", "10.244.0.8"]));
    assert_eq!(told(&mut beside, 2, &[]), []);
}

#[test]
fn pods_of_a_workload_with_a_new_template_count_for_a_minute() {
    let mut beside = settled();
    beside.follow(Ktime(10_000_000_000), &replica_set("web-2", 2));
    assert_eq!(told(&mut beside, 10, &[]), [(ip(OWN), true)]);
    assert_eq!(told(&mut beside, 69, &[]), []);
    assert_eq!(told(&mut beside, 70, &[]), [(ip(OWN), false)]);
}

#[test]
fn template_of_an_undone_rollout_is_new_again_and_a_scaled_one_is_not() {
    let mut beside = settled();
    beside.follow(Ktime(0), &replica_set("web-1", 1));
    assert_eq!(told(&mut beside, 1, &[]), []);
    beside.follow(Ktime(0), &replica_set("web-1", 3));
    assert_eq!(told(&mut beside, 1, &[]), [(ip(OWN), true)]);
}

#[test]
fn pod_that_is_gone_counts_no_more() {
    let mut beside = settled();
    assert_eq!(told(&mut beside, 1, &[(OTHER, true)]), [(ip(OWN), true)]);
    beside.follow(
        Ktime(0),
        &What::PodGone {
            uid: PodUid(OWN.into()),
        },
    );
    assert_eq!(told(&mut beside, 2, &[]), [(ip(OWN), false)]);
}

/// What may happen, of few pods, slices, services and addresses, so that they meet.
#[derive(Clone, Debug)]
enum Happens {
    Pod(u8),
    PodGone(u8),
    Slice(u8, u8, Vec<u8>),
    SliceGone(u8),
    Transit(u8, bool),
}

fn address(n: u8) -> String {
    format!("10.244.0.{n}")
}

proptest::proptest! {
    #[test]
    fn what_is_near_is_found_as_by_looking_at_every_slice(
        all in proptest::collection::vec(proptest::prop_oneof![
            (0..6_u8).prop_map(Happens::Pod),
            (0..6_u8).prop_map(Happens::PodGone),
            (0..5_u8, 0..3_u8, proptest::collection::vec(0..9_u8, 0..4)).prop_map(|(n, s, a)| Happens::Slice(n, s, a)),
            (0..5_u8).prop_map(Happens::SliceGone),
            (0..9_u8, proptest::bool::ANY).prop_map(|(n, on)| Happens::Transit(n, on)),
        ], 1..60),
        settled_after in 0..20_usize,
    ) {
        let mut beside = Beside::default();
        let mut said = BTreeSet::new();
        let (mut pods, mut slices, mut transit) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        for (n, happens) in all.iter().enumerate() {
            if n == settled_after {
                beside.settle();
            }
            let mut moves = Vec::new();
            match happens {
                Happens::Pod(a) => {
                    beside.follow(Ktime(0), &pod(&address(*a)));
                    pods.insert(ip(&address(*a)));
                }
                Happens::PodGone(a) => {
                    beside.follow(Ktime(0), &What::PodGone { uid: PodUid(address(*a).into()) });
                    pods.remove(&ip(&address(*a)));
                }
                Happens::Slice(name, service, addrs) => {
                    let texts: Vec<String> = addrs.iter().map(|a| address(*a)).collect();
                    let addrs: Vec<&str> = texts.iter().map(String::as_str).collect();
                    beside.follow(Ktime(0), &slice(&name.to_string(), &service.to_string(), &addrs));
                    slices.insert(*name, (*service, addrs.iter().map(|a| ip(a)).collect::<BTreeSet<_>>()));
                }
                Happens::SliceGone(name) => {
                    beside.follow(Ktime(0), &What::SliceGone { slice: ns_name(&name.to_string()) });
                    slices.remove(name);
                }
                Happens::Transit(a, on) => {
                    moves.push(Change::Transit { addr: ip(&address(*a)), on: *on });
                    if *on { transit.insert(ip(&address(*a))) } else { transit.remove(&ip(&address(*a))) };
                }
            }
            beside.tell(Ktime(0), &mut moves);
            for change in moves {
                match change {
                    Change::Beside { addr, on: true } => proptest::prop_assert!(said.insert(addr)),
                    Change::Beside { addr, on: false } => proptest::prop_assert!(said.remove(&addr)),
                    _ => {}
                }
            }
            let moving: BTreeSet<u8> = slices.values().filter(|(_, a)| !a.is_disjoint(&transit)).map(|(s, _)| *s).collect();
            let behind = slices.values().filter(|(s, _)| moving.contains(s)).flat_map(|(_, a)| a.intersection(&pods));
            let near: BTreeSet<IpAddr> = behind.copied().collect();
            if n >= settled_after {
                proptest::prop_assert_eq!(&said, &near);
            }
        }
    }
}
