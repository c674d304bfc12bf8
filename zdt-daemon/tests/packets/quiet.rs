//! What is not seen: healthy traffic, other namespaces, addresses that nobody asked for.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpStream, UdpSocket},
};

use zdt_common::{ADDR_LOCAL_POD, ADDR_NODE, ADDR_POD, ADDR_VIP};

use crate::{
    drops::reject,
    eyes::{Eyes, TCP, UDP},
    world::{NODE_PORT, PORT, World, target, v4, v6},
};

const ROUNDS: usize = 200;

/// Connections and datagrams that are answered, through the service, to the pod itself, and to a port of the node.
fn healthy(world: &World, targets: Vec<SocketAddr>) {
    world.inside("client", move || {
        for target in targets.iter().cycle().take(ROUNDS) {
            let mut stream = TcpStream::connect(target).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, b"!");
            let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            socket.connect(target).unwrap();
            socket.send(b"?").unwrap();
            assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
        }
    });
}

#[test]
fn healthy_traffic_drops_nothing() {
    let world = World::new();
    world.serve();
    let mut eyes = Eyes::open(&world);
    let mut targets = Vec::new();
    for family in [v4(), v6()] {
        for (ip, bits) in [
            (family.vip, ADDR_VIP),
            (family.other_vip, ADDR_VIP),
            (family.pod, ADDR_LOCAL_POD | ADDR_POD),
            (family.node, ADDR_NODE),
            (family.gateway, ADDR_NODE),
        ] {
            eyes.watch(ip, bits);
        }
        for protocol in [("tcp", TCP), ("udp", UDP)] {
            eyes.service(Some(family.vip), PORT, protocol.1);
            eyes.service(Some(family.other_vip), PORT, protocol.1);
            eyes.service(None, NODE_PORT, protocol.1);
            world.translate(&family, protocol.0, family.vip, family.pod);
            world.node(&format!(
                "{} -w -t nat -A PREROUTING -d {} -p {} --dport {NODE_PORT} -j DNAT --to-destination {}",
                family.tool(),
                family.node,
                protocol.0,
                target(family.pod)
            ));
        }
        targets.extend([
            SocketAddr::new(family.vip, PORT),
            target(family.pod),
            SocketAddr::new(family.node, NODE_PORT),
        ]);
    }
    healthy(&world, targets);
    // What comes first is what was provoked last.
    let family = v4();
    reject(&world, &family, "tcp", family.other_vip, PORT);
    let rejected = SocketAddr::new(family.other_vip, PORT);
    world.connect(rejected).unwrap_err();
    eyes.next_to(rejected);
}

#[test]
fn a_bridge_that_listens_to_everything_drops_nothing_of_interest() {
    let (world, family) = (World::new(), v4());
    world.serve();
    world.node("ip link set cni0 promisc on");
    let mut eyes = Eyes::open(&world);
    eyes.watch(family.pod, ADDR_LOCAL_POD);
    eyes.watch(family.vip, ADDR_VIP);
    eyes.service(Some(family.vip), PORT, TCP);
    healthy(&world, vec![target(family.pod)]);
    reject(&world, &family, "tcp", family.vip, PORT);
    let rejected = SocketAddr::new(family.vip, PORT);
    world.connect(rejected).unwrap_err();
    eyes.next_to(rejected);
}

#[test]
fn what_nobody_asked_for_and_other_namespaces_are_not_seen() {
    let (world, other, family) = (World::new(), World::new(), v4());
    let mut eyes = Eyes::open(&world);
    eyes.watch(family.vip, ADDR_VIP);
    eyes.service(Some(family.vip), PORT, TCP);
    eyes.watch(family.node, ADDR_NODE);
    eyes.transit(family.pod);
    let vip = SocketAddr::new(family.vip, PORT);
    for (world, ip, port) in [
        // No service.
        (&world, family.other_vip, PORT),
        // No port of a service, and no node port.
        (&world, family.vip, 81),
        (&world, family.node, NODE_PORT),
        // Another node.
        (&other, family.vip, PORT),
    ] {
        reject(world, &family, "tcp", ip, port);
        world.connect(SocketAddr::new(ip, port)).unwrap_err();
    }
    other.serve();
    drop(other.connect(target(family.pod)).unwrap());
    reject(&world, &family, "tcp", family.vip, PORT);
    world.connect(vip).unwrap_err();
    eyes.next_to(vip);
}
