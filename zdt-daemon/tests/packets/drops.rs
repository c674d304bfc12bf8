//! What the node drops of what a client outside the cluster sends, and what it tells the client.

use std::net::{IpAddr, SocketAddr};

use zdt_common::{ADDR_LOCAL_POD, ADDR_NODE, ADDR_POD, ADDR_VIP};
use zdt_daemon::input::{Observation, Packet, Protocol};

use crate::{
    eyes::{Eyes, TCP, UDP, packet as packet_of},
    world::{Family, NODE_PORT, PORT, World, target, v4, v6},
};

/// The packet and the reason of a drop.
fn dropped(observation: Observation) -> (Packet, String) {
    match observation {
        Observation::Dropped { packet, reason } => (packet, reason.expect("6.18 gives reasons")),
        other => panic!("{other:#?}"),
    }
}

/// Packet, type and code of an ICMP error.
fn icmp(observation: Observation) -> (Packet, u8, u8) {
    match observation {
        Observation::IcmpSent { packet, kind, code } => (packet, kind, code),
        other => panic!("{other:#?}"),
    }
}

/// Rejects what goes to an address, as kube-proxy does for a service without endpoints.
pub fn reject(world: &World, family: &Family, protocol: &str, ip: IpAddr, port: u16) {
    let tool = family.tool();
    for chain in ["INPUT", "FORWARD", "OUTPUT"] {
        world.node(&format!(
            "{tool} -w -A {chain} -m conntrack --ctstate NEW -d {ip} -p {protocol} --dport {port} -j REJECT"
        ));
    }
}

/// Checks what is common to every packet of the client's, and that it has an entry without an answer.
fn is_the_clients(packet: &Packet, family: &Family, dialled: SocketAddr) {
    assert_eq!(packet.isn.is_some(), packet.protocol == Protocol::Tcp);
    let ct = packet.ct.as_ref().unwrap();
    assert_eq!((ct.orig.from.ip(), ct.orig.to), (family.client, dialled));
    assert_eq!(ct.protocol, packet.protocol);
    assert!(!ct.replied);
}

fn a_rejected_syn_is_an_icmp_error_and_a_drop_with_its_client(family: Family) {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    eyes.watch(family.vip, ADDR_VIP);
    eyes.service(Some(family.vip), PORT, TCP);
    reject(&world, &family, "tcp", family.vip, PORT);
    let vip = SocketAddr::new(family.vip, PORT);
    world.connect(vip).unwrap_err();
    let mut isn = None;
    // ICMPv6 has no tracepoint; before 6.1 that of IPv4 is not there either, and before 5.17 no reason.
    let (tells_icmp, tells_reason) = {
        let facts = eyes.attached.facts();
        (facts.arity("icmp_send").is_some(), !facts.drop_reasons.is_empty())
    };
    if family.vip.is_ipv4() && tells_icmp {
        let (packet, kind, code) = icmp(eyes.next_to(vip));
        assert_eq!((kind, code), (3, 3));
        is_the_clients(&packet, &family, vip);
        isn = packet.isn;
    }
    let Observation::Dropped { packet, reason } = eyes.next_to(vip) else {
        panic!("no drop")
    };
    assert_eq!(reason.as_deref(), tells_reason.then_some("NETFILTER_DROP"));
    is_the_clients(&packet, &family, vip);
    assert!(isn.is_none() || isn == packet.isn);
}

#[test]
fn a_rejected_syn_is_an_icmp_error_and_a_drop() {
    a_rejected_syn_is_an_icmp_error_and_a_drop_with_its_client(v4());
}

#[test]
fn a_rejected_ipv6_syn_is_a_drop() {
    a_rejected_syn_is_an_icmp_error_and_a_drop_with_its_client(v6());
}

#[test]
fn a_rejected_datagram_is_an_icmp_error_and_a_drop_once_a_second() {
    let (world, family) = (World::new(), v4());
    let mut eyes = Eyes::open(&world);
    eyes.watch(family.vip, ADDR_VIP);
    eyes.service(Some(family.vip), PORT, UDP);
    reject(&world, &family, "udp", family.vip, PORT);
    let vip = SocketAddr::new(family.vip, PORT);
    let socket = world.datagram(vip);
    for _ in 0..20 {
        // The errors come back, some of them as results.
        let _ = socket.send(b"?");
    }
    let local = socket.local_addr().unwrap();
    let (packet, kind, code) = icmp(eyes.next_to(vip));
    assert_eq!((packet.from, kind, code), (local, 3, 3));
    is_the_clients(&packet, &family, vip);
    let (packet, reason) = dropped(eyes.next_to(vip));
    assert_eq!((packet.from, reason.as_str()), (local, "NETFILTER_DROP"));
    // Another flow is reported at once, and nothing of the first one's before it. Its client may not be told: the errors
    // of the first one were too many (net/ipv4/icmp.c icmpv4_xrlim_allow).
    let other = world.datagram(vip).local_addr().unwrap();
    assert_eq!(packet_of(&eyes.next()).unwrap().from, other);
}

#[test]
fn a_rejected_node_port_is_seen_at_any_address_of_the_node() {
    let (world, family) = (World::new(), v4());
    let mut eyes = Eyes::open(&world);
    for ip in [family.node, family.gateway] {
        eyes.watch(ip, ADDR_NODE);
        reject(&world, &family, "tcp", ip, NODE_PORT);
    }
    eyes.service(None, NODE_PORT, TCP);
    for ip in [family.node, family.gateway] {
        let dialled = SocketAddr::new(ip, NODE_PORT);
        world.connect(dialled).unwrap_err();
        assert_eq!(icmp(eyes.next_to(dialled)).1, 3);
        is_the_clients(&dropped(eyes.next_to(dialled)).0, &family, dialled);
    }
}

#[test]
fn a_process_of_the_node_that_is_rejected_is_seen_though_its_packet_has_no_device_yet() {
    let (world, family) = (World::new(), v4());
    let mut eyes = Eyes::open(&world);
    eyes.watch(family.vip, ADDR_VIP);
    eyes.service(Some(family.vip), PORT, TCP);
    reject(&world, &family, "tcp", family.vip, PORT);
    let vip = SocketAddr::new(family.vip, PORT);
    world.inside("node", move || std::net::TcpStream::connect(vip).unwrap_err());
    assert_eq!(icmp(eyes.next_to(vip)).0.from.ip(), family.gateway);
    assert_eq!(dropped(eyes.next_to(vip)).1, "NETFILTER_DROP");
}

fn a_neighbour_that_does_not_answer(family: Family) {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    eyes.watch(family.dead, ADDR_POD);
    world.translate(&family, "tcp", family.vip, family.dead);
    let vip = SocketAddr::new(family.vip, PORT);
    world.connect(vip).unwrap_err();
    let dead = target(family.dead);
    let mut next = eyes.next_to(dead);
    if family.dead.is_ipv4() {
        let (packet, kind, code) = icmp(next);
        assert_eq!((kind, code), (3, 1));
        is_the_clients(&packet, &family, vip);
        next = eyes.next_to(dead);
    }
    let (packet, reason) = dropped(next);
    // IPv6 frees it without a reason (net/ipv6/ndisc.c ndisc_error_report).
    let wanted = if family.dead.is_ipv4() {
        "NEIGH_FAILED"
    } else {
        "NOT_SPECIFIED"
    };
    assert_eq!(reason, wanted);
    is_the_clients(&packet, &family, vip);
    assert_eq!(packet.ct.unwrap().reply.unwrap().from, dead);
}

#[test]
fn a_syn_to_a_pod_that_is_gone_is_dropped_when_its_neighbour_does_not_answer() {
    a_neighbour_that_does_not_answer(v4());
}

#[test]
fn an_ipv6_syn_to_a_pod_that_is_gone_is_dropped_when_its_neighbour_does_not_answer() {
    a_neighbour_that_does_not_answer(v6());
}

#[test]
fn a_syn_into_a_blackhole_is_a_drop() {
    let (world, family) = (World::new(), v4());
    let mut eyes = Eyes::open(&world);
    eyes.watch(family.dead, ADDR_POD);
    world.translate(&family, "tcp", family.vip, family.dead);
    world.node(&format!("ip route add blackhole {}", family.dead));
    let vip = SocketAddr::new(family.vip, PORT);
    world.connect(vip).unwrap_err();
    let (packet, reason) = dropped(eyes.next_to(target(family.dead)));
    // The route's own input function, which gives no reason (net/core/dst.c dst_discard).
    assert_eq!(reason, "NOT_SPECIFIED");
    is_the_clients(&packet, &family, vip);
}

#[test]
fn a_policy_that_drops_is_a_drop_without_an_icmp_error() {
    let (world, family) = (World::new(), v4());
    world.serve();
    let mut eyes = Eyes::open(&world);
    eyes.watch(family.pod, ADDR_LOCAL_POD);
    world.translate(&family, "tcp", family.vip, family.pod);
    world.node(&format!("iptables -w -A FORWARD -d {} -j DROP", family.pod));
    let vip = SocketAddr::new(family.vip, PORT);
    world.connect(vip).unwrap_err();
    let (packet, reason) = dropped(eyes.next_to(target(family.pod)));
    assert_eq!(reason, "NETFILTER_DROP");
    is_the_clients(&packet, &family, vip);
}
