//! What the node drops of what a client outside the cluster sends.

use std::net::{IpAddr, SocketAddr};

use zdt_common::{ADDR_NODE, ADDR_POD, ADDR_VIP};
use zdt_daemon::input::{Observation, Packet, Protocol};

use crate::{
    eyes::{Eyes, TCP, UDP},
    world::{Family, NODE_PORT, PORT, World, v4, v6},
};

/// The packet and the reason of a drop.
fn dropped(observation: Observation) -> (Packet, String) {
    match observation {
        Observation::Dropped { packet, reason } => (packet, reason.expect("6.18 gives reasons")),
        other => panic!("{other:#?}"),
    }
}

/// Rejects what goes to an address, as kube-proxy does for a service without endpoints.
fn reject(world: &World, family: &Family, protocol: &str, vip: IpAddr) {
    let tool = family.tool();
    for chain in ["INPUT", "FORWARD", "OUTPUT"] {
        world.node(&format!(
            "{tool} -w -A {chain} -m conntrack --ctstate NEW -d {vip} -p {protocol} --dport {PORT} -j REJECT"
        ));
    }
}

fn a_rejected_syn_is_a_drop_with_its_client(family: Family) {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    eyes.watch(family.vip, ADDR_VIP);
    eyes.service(Some(family.vip), PORT, TCP);
    reject(&world, &family, "tcp", family.vip);
    let vip = SocketAddr::new(family.vip, PORT);
    world.connect(vip).unwrap_err();
    let (packet, reason) = dropped(eyes.next_to(vip));
    assert_eq!(reason, "NETFILTER_DROP");
    assert_eq!(
        (packet.protocol, packet.from.ip()),
        (Protocol::Tcp, family.client)
    );
    assert!(packet.isn.is_some());
    let ct = packet.ct.unwrap();
    assert_eq!((ct.orig.from, ct.orig.to), (packet.from, vip));
    assert!(!ct.replied);
}

#[test]
fn a_rejected_syn_is_a_drop() {
    a_rejected_syn_is_a_drop_with_its_client(v4());
}

#[test]
fn a_rejected_ipv6_syn_is_a_drop() {
    a_rejected_syn_is_a_drop_with_its_client(v6());
}
