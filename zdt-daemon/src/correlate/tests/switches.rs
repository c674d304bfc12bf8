//! A service that selects other pods than before.

use super::world::{POD, VIP, World, addr, name};
use crate::{
    correlate::{Correlator, Settings},
    input::{EndpointState, Pinned, PodUid, ServicePort, ServiceState, SlicePort, SliceState, What},
    verdict::{Output, SelectorSwitch},
};

const GREEN: &str = "10.244.1.6:8080";

fn service(color: &str) -> What {
    What::Service(ServiceState {
        service: name("web"),
        vips: vec![addr(VIP).ip()],
        ports: vec![ServicePort {
            port: 80,
            protocol: "TCP".into(),
            ..Default::default()
        }],
        selector: [("app".to_owned(), color.to_owned())].into(),
        ..Default::default()
    })
}

fn slice(at: &str, uid: &str, terminating: bool) -> What {
    What::Slice(SliceState {
        slice: name("web-abcde"),
        service: "web".into(),
        ports: vec![SlicePort {
            port: 8080,
            protocol: "TCP".into(),
            ..Default::default()
        }],
        endpoints: vec![EndpointState {
            addrs: vec![addr(at).ip()],
            ready: !terminating,
            serving: true,
            terminating,
            pod: Some((PodUid(uid.into()), format!("web-{uid}"))),
            ..Default::default()
        }],
    })
}

fn pinned(at: &str, established: u32) -> What {
    What::Pinned(Pinned {
        server: addr(at).ip(),
        established,
        unanswered: 0,
        udp: 0,
    })
}

fn switches(world: &World) -> Vec<SelectorSwitch> {
    let mut correlator = Correlator::new(Settings::default());
    let mut out = Vec::new();
    for input in &world.inputs {
        correlator.step(input, &mut out);
    }
    correlator.finish(&mut out);
    let switch = |output| match output {
        Output::SelectorSwitch(switch) => Some(*switch),
        _ => None,
    };
    out.into_iter().filter_map(switch).collect()
}

#[test]
fn a_switch_tells_how_many_connections_stayed_and_is_said_once() {
    let mut world = World::new();
    world.at(0, service("blue"));
    world.at(1_000, service("green"));
    world.at(1_010, slice(GREEN, "new", false));
    world.at(1_020, pinned(POD, 37));
    // Later counts, and those of others, are no part of it.
    world.at(2_000, pinned(POD, 5));
    world.at(2_000, pinned(GREEN, 9));
    world.at(8_000, What::Tick);
    world.at(9_000, What::Tick);
    let switches = switches(&world);
    assert_eq!(switches.len(), 1, "{switches:#?}");
    let only = &switches[0];
    assert_eq!((only.left, only.ready, only.stayed), (1, 1, Some(37)));
}

#[test]
fn an_endpoint_whose_pod_is_deleted_did_not_stay_and_no_count_is_not_zero() {
    let mut world = World::new();
    world.at(0, service("blue"));
    world.at(500, slice(POD, "old", true));
    world.at(1_000, service("green"));
    world.at(1_010, slice(GREEN, "new", false));
    world.at(1_020, pinned(POD, 37));
    let switches = switches(&world);
    assert_eq!((switches[0].left, switches[0].stayed), (0, None));
}
