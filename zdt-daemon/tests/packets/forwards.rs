//! What the node sends on to a pod that is going or coming.

use std::net::{IpAddr, SocketAddr};

use zdt_common::Hook;
use zdt_daemon::{
    clock,
    input::{Observation, Packet, Protocol},
};

use crate::{
    eyes::{Eyes, addr},
    world::{Family, PORT, World, target, v4, v6},
};

fn forwarded(observation: Observation) -> Packet {
    match observation {
        Observation::Forwarded { packet } => packet,
        other => panic!("{other:#?}"),
    }
}

/// A connection through a service to the pod in transition; the packet and what the client has.
fn through_the_service(family: Family, masquerade: bool) {
    let world = World::new();
    world.serve();
    world.translate(&family, "tcp", family.vip, family.pod);
    if masquerade {
        world.node(&format!(
            "{} -w -t nat -A POSTROUTING -o cni0 -j MASQUERADE",
            family.tool()
        ));
    }
    let mut eyes = Eyes::open(&world);
    eyes.transit(family.pod);
    let vip = SocketAddr::new(family.vip, PORT);
    let clients: Vec<SocketAddr> = (0..3)
        .map(|_| world.connect(vip).unwrap().local_addr().unwrap())
        .collect();
    for client in clients {
        let packet = forwarded(eyes.next_to(target(family.pod)));
        assert_eq!(packet.protocol, Protocol::Tcp);
        assert!(packet.isn.is_some());
        let seen_by_the_pod = if masquerade { family.gateway } else { family.client };
        assert_eq!(packet.from.ip(), seen_by_the_pod);
        let ct = packet.ct.unwrap();
        assert_eq!((ct.orig.from, ct.orig.to), (client, vip));
        let reply = ct.reply.unwrap();
        assert_eq!((reply.from, reply.to), (target(family.pod), packet.from));
        assert!(!ct.replied);
    }
    // Neither the port of the bridge nor any later segment made another event.
    assert!(eyes.look().is_empty(), "{:#?}", eyes.look());
}

#[test]
fn a_syn_to_a_pod_in_transition_is_seen_once_with_its_translation() {
    through_the_service(v4(), false);
}

#[test]
fn an_ipv6_syn_to_a_pod_in_transition_is_seen_once_with_its_translation() {
    through_the_service(v6(), false);
}

#[test]
fn a_masqueraded_syn_shows_its_first_client() {
    through_the_service(v4(), true);
}

#[test]
fn a_masqueraded_ipv6_syn_shows_its_first_client() {
    through_the_service(v6(), true);
}

#[test]
fn a_datagram_to_a_pod_in_transition_is_seen() {
    for family in [v4(), v6()] {
        let world = World::new();
        world.serve();
        world.translate(&family, "udp", family.vip, family.pod);
        let mut eyes = Eyes::open(&world);
        eyes.transit(family.pod);
        let vip = SocketAddr::new(family.vip, PORT);
        let socket = world.datagram(vip);
        let packet = forwarded(eyes.next_to(target(family.pod)));
        assert_eq!((packet.protocol, packet.isn), (Protocol::Udp, None));
        assert_eq!(packet.from, socket.local_addr().unwrap());
        assert_eq!(packet.ct.unwrap().orig.to, vip);
    }
}

#[test]
fn a_retransmit_is_seen_again_with_the_same_sequence_number() {
    let (world, family) = (World::new(), v4());
    // Sent into the bridge, where nobody has this address: the bridge floods it.
    world.node(&format!(
        "ip neigh add {} lladdr 02:00:00:00:00:77 dev cni0",
        family.dead
    ));
    world.translate(&family, "tcp", family.vip, family.dead);
    let mut eyes = Eyes::open(&world);
    eyes.transit(family.dead);
    let vip = SocketAddr::new(family.vip, PORT);
    let patience = std::time::Duration::from_millis(1500);
    world.inside("client", move || {
        std::net::TcpStream::connect_timeout(&vip, patience).unwrap_err()
    });
    let (first, second) = (forwarded(eyes.next()), forwarded(eyes.next()));
    assert_eq!((first.isn, first.from), (second.isn, second.from));
    assert!(eyes.look().is_empty());
}

#[test]
fn the_hook_is_attached_while_something_is_in_transition_and_only_then() {
    let (world, family) = (World::new(), v4());
    world.serve();
    let mut eyes = Eyes::open(&world);
    assert!(!eyes.attached.is_armed());
    let pod = target(family.pod);
    let connect = |eyes: &mut Eyes, ip: IpAddr| {
        let (attached, began) = (&mut eyes.attached, clock::now());
        attached.watch_transit(addr(ip)).unwrap();
        let ms = clock::now().ms_since(began);
        assert!(attached.is_armed());
        eprintln!("attached in {ms:.3} ms");
        ms
    };
    let first = connect(&mut eyes, family.dead);
    assert!(first < 50.0, "the hook took {first} ms to attach");
    connect(&mut eyes, family.pod);
    drop(world.connect(pod).unwrap());
    forwarded(eyes.next_to(pod));
    for ip in [family.dead, family.pod] {
        assert!(eyes.attached.is_armed());
        eyes.attached.unwatch_transit(addr(ip)).unwrap();
    }
    assert!(!eyes.attached.is_armed());
    drop(world.connect(pod).unwrap());
    // Attached again, it works again.
    connect(&mut eyes, family.pod);
    let client = world.connect(pod).unwrap().local_addr().unwrap();
    assert_eq!(forwarded(eyes.next_to(pod)).from, client);
}

#[test]
fn more_syns_than_are_worth_it_are_counted_as_lost() {
    let (world, family) = (World::new(), v4());
    let mut eyes = Eyes::open(&world);
    eyes.transit(family.pod);
    let pod = target(family.pod);
    // Nobody listens, so each is refused at once.
    let sent: usize = world.inside("client", move || {
        (0..6000)
            .filter(|_| std::net::TcpStream::connect(pod).is_err())
            .count()
    });
    let seen = eyes.look().len();
    let lost = eyes.attached.take_losses().unwrap().take().unwrap();
    let lost = lost
        .iter()
        .find(|(hook, _)| *hook == Hook::NetDevQueue)
        .map_or(0, |(_, n)| *n);
    assert_eq!(seen as u64 + lost, sent as u64);
    assert!(lost > 0, "all of {sent} were reported");
}
