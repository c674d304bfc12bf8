//! An address that another pod has got.

use super::world::{World, ended_pod, ms, name, pod};
use crate::{
    input::{Observation, What},
    verdict::Blame,
};

/// The old pod of [`ended_pod`] is gone, and another workload's has its address: the API says so at `named`.
fn taken(named: u64) -> World {
    let mut world = ended_pod();
    let mut heir = pod("heir", "9", "10.244.1.5");
    heir.pod = name("other-9-heir");
    heir.workload.as_mut().unwrap().name = "other".into();
    heir.containers[0].ports = vec![9090];
    world.at(named, What::Pod(heir));
    world
}

/// A RST of that pod's namespace.
fn refused(world: &mut World, t: u64) {
    world.reset(t, "NO_SOCKET", true);
    let last = world.inputs.last_mut().unwrap();
    let What::Kernel(Observation::ResetSent { sock, .. }) = &mut last.what else {
        unreachable!()
    };
    sock.netns.0 = 77;
}

#[test]
fn a_refusal_by_the_addresss_next_owner_is_told_from_its_own() {
    let mut world = taken(300);
    refused(&mut world, 400);
    world.connect_failed(400, 401, 111);
    let verdict = world.only_verdict();
    assert_eq!(
        (verdict.cause(), verdict.blame),
        ("pod-ip-reused", Blame::Rollout)
    );
    assert_eq!(verdict.pod.unwrap().uid.0, "old");
}

#[test]
fn the_next_owner_may_refuse_before_the_api_has_named_it() {
    let mut world = taken(1_500);
    refused(&mut world, 400);
    world.connect_failed(400, 401, 111);
    assert_eq!(world.only_verdict().cause(), "pod-ip-reused");
}

#[test]
fn a_refusal_by_nobody_known_at_an_ended_pods_address_names_no_next_owner() {
    let mut world = ended_pod();
    refused(&mut world, 400);
    // Without a client of this cluster it is none of its connections.
    assert!(world.run().0.is_empty());
    world.connect_failed(400, 401, 111);
    assert_ne!(world.only_verdict().cause(), "pod-ip-reused");
}

#[test]
fn a_refusal_while_the_pod_still_lived_is_its_own() {
    let mut world = taken(300);
    world.reset(140, "NO_SOCKET", true);
    world.connect_failed(140, 141, 111);
    let verdict = world.only_verdict();
    assert_eq!(verdict.cause(), "endpoint-removal-race");
    assert!(verdict.began < ms(166));
}
