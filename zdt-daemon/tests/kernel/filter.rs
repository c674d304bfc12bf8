//! What must not be seen, and what is told when not everything could be.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use zdt_common::{ADDR_LOCAL_POD, ADDR_POD, Hook};
use zdt_daemon::{input::Observation, kernel::Options};

use crate::{
    eyes::{self, Eyes},
    refused,
    world::{PORT, World},
};

/// One connection each way of ending; 200 exchanges in all, and 50 connections without any.
fn healthy(world: &World) {
    let pod = SocketAddr::new(world.pod4, PORT);
    let listener = world.in_pod(move || TcpListener::bind(pod).unwrap());
    let serve = std::thread::spawn(move || {
        for round in 0..150 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 5];
            while stream.read_exact(&mut request).is_ok() {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                if round % 3 == 0 {
                    break; // the server closes first
                }
            }
        }
    });
    world.in_client(move || {
        for round in 0..150 {
            let mut stream = TcpStream::connect(pod).unwrap();
            // 0: one exchange, the server closes first. 1: three exchanges, the client does. 2: a TCP probe.
            let exchanges = [1, 3, 0][round % 3];
            for _ in 0..exchanges {
                stream.write_all(b"GET /").unwrap();
                stream.read_exact(&mut [0; 19]).unwrap();
            }
            if round % 3 == 0 {
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            }
        }
    });
    serve.join().unwrap();
}

#[test]
fn two_hundred_healthy_exchanges_emit_nothing() {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    eyes.watch(world.pod4, ADDR_LOCAL_POD);
    eyes.watch(world.client4, ADDR_LOCAL_POD);
    eyes.serve(world.pod4);
    healthy(&world);
    // What comes first is what was provoked last.
    refused(&world, world.pod4);
    let (_, first) = eyes.next();
    assert!(
        matches!(&first, Observation::ResetSent { to_syn: true, .. }),
        "{first:#?}"
    );
}

#[test]
fn other_nodes_pods_and_their_clients_are_not_seen() {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    // The cluster knows the pod and its endpoint, but it is not of this node.
    eyes.watch(world.pod4, ADDR_POD);
    eyes.serve(world.pod4);
    refused(&world, world.pod4);
    eyes.watch(world.pod6, ADDR_LOCAL_POD);
    eyes.serve(world.pod6);
    refused(&world, world.pod6);
    let (_, first) = eyes.next();
    let Observation::ResetSent { sock, .. } = first else {
        panic!("{first:#?}")
    };
    assert_eq!(sock.local.ip(), world.pod6);
}

#[test]
fn what_the_ring_cannot_hold_is_counted_by_hook() {
    let world = World::new();
    let mut eyes = Eyes::with(
        &world,
        &Options {
            ring_bytes: 4096,
            ..Options::default()
        },
    );
    eyes.watch(world.pod4, ADDR_LOCAL_POD);
    eyes.serve(world.pod4);
    for _ in 0..100 {
        refused(&world, world.pod4);
    }
    let mut losses = eyes.attached.take_losses().unwrap();
    let lost = losses.take().unwrap();
    let emitted = losses.emitted().unwrap();
    let of = |counts: &[(Hook, u64)]| {
        counts
            .iter()
            .find(|(h, _)| *h == Hook::TcpSendReset)
            .map_or(0, |(_, n)| *n)
    };
    assert_eq!(
        of(&lost) + of(&emitted),
        100,
        "lost {lost:?}, emitted {emitted:?}"
    );
    assert!(of(&lost) > 50, "{lost:?}");
    assert_eq!(losses.take().unwrap(), [], "a loss is told once");
}

#[test]
fn a_forgotten_endpoint_is_not_seen() {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    for ip in [world.pod4, world.pod6] {
        eyes.watch(ip, ADDR_LOCAL_POD);
        eyes.serve(ip);
    }
    let endpoint = zdt_common::Endpoint {
        addr: eyes::addr(world.pod4),
        port: PORT,
        pad: 0,
    };
    for _ in 0..2 {
        eyes.attached.unwatch_endpoint(endpoint).unwrap();
    }
    refused(&world, world.pod4);
    eyes.attached.unwatch_addr(eyes::addr(world.pod4)).unwrap();
    eyes.attached.unwatch_addr(eyes::addr(world.pod4)).unwrap();
    refused(&world, world.pod6);
    let (_, first) = eyes.next();
    let Observation::ResetSent { sock, .. } = first else {
        panic!("{first:#?}")
    };
    assert_eq!(sock.local.ip(), world.pod6);
}
