//! The kernel half on the running kernel: real connections, signals and exits, each seen as an observation, and
//! healthy traffic not seen at all. Needs root, and fails without.
#![expect(
    clippy::disallowed_methods,
    reason = "a test of the daemon's edges reads clocks and the environment"
)]

#[path = "kernel/eyes.rs"]
mod eyes;
#[path = "kernel/world.rs"]
mod world;

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use eyes::Eyes;
use nix::sys::signal::Signal;
use world::{PORT, World};
use zdt_common::{ADDR_LOCAL_POD, ADDR_NODE, ADDR_POD, Hook};
use zdt_daemon::{
    clock,
    input::{Attribution, Observation, Place, PodUid, Side, TcpState},
    kernel::Options,
};

/// Not a test: what [`World::server`] runs. It listens and takes one request.
#[test]
#[ignore = "runs in a pod, started by the other tests"]
fn server_in_a_pod() {
    let behaviour = std::env::var("ZDT_TEST_BEHAVIOUR").expect("only the other tests start this");
    let listener = TcpListener::bind(("::", PORT)).unwrap();
    println!("\nlistening");
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = [0; 64];
    let read = stream.read(&mut request).unwrap();
    assert!(read > 0);
    if behaviour == "answer half" {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n")
            .unwrap();
        let read = stream.read(&mut request).unwrap();
        assert!(read > 0);
    }
    println!("\nread");
    loop {
        std::thread::park();
    }
}

fn pod_place(world: &World, place: &Place) {
    let container = world.container.clone();
    assert_eq!(
        place.attribution,
        Attribution::Pod {
            uid: PodUid(world.uid.clone()),
            container
        }
    );
    assert_eq!(place.cgroup.0, world.cgroup_id());
    assert_eq!(place.netns.0, world.pod_netns_inum());
}

/// A SYN to a port of the pod that nobody serves; returns the client's error.
fn refused(world: &World, ip: IpAddr) {
    let error = world.in_client(move || TcpStream::connect((ip, PORT)).unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

fn refused_is_seen_from_both_sides(pod: fn(&World) -> IpAddr, client: fn(&World) -> IpAddr) {
    let world = World::new();
    let (pod, client) = (pod(&world), client(&world));
    let mut eyes = Eyes::open(&world);
    eyes.watch(pod, ADDR_LOCAL_POD);
    eyes.watch(client, ADDR_NODE);
    eyes.serve(pod);
    let before = clock::now();
    refused(&world, pod);

    let (at, sent) = eyes.until("reset", |o| matches!(o, Observation::ResetSent { .. }));
    let Observation::ResetSent {
        sock,
        reason,
        to_syn,
        has_socket,
    } = sent
    else {
        unreachable!()
    };
    assert_eq!(reason.as_deref(), Some("NO_SOCKET"));
    assert!(to_syn && !has_socket);
    assert_eq!(
        (sock.side, sock.local),
        (Side::Server, SocketAddr::new(pod, PORT))
    );
    assert_eq!(sock.remote.ip(), client);
    assert_eq!(sock.netns.0, world.pod_netns_inum());
    assert_eq!(sock.tcp, None);
    assert!(at >= before && at <= clock::now());
    let client_end = sock.remote;

    let (_, end) = eyes.until("flow end", |o| matches!(o, Observation::FlowEnd { .. }));
    let Observation::FlowEnd {
        sock,
        old,
        new,
        exiting,
        tgid,
    } = end
    else {
        unreachable!()
    };
    assert_eq!(
        (sock.side, sock.local, sock.remote),
        (Side::Client, client_end, SocketAddr::new(pod, PORT))
    );
    assert_eq!((old, new), (TcpState::SynSent, TcpState::Close));
    assert_eq!(sock.err, nix::libc::ECONNREFUSED);
    assert_eq!((exiting, tgid), (false, std::process::id()));
    let first_syn = sock.tcp.unwrap().first_syn.unwrap();
    assert!(
        first_syn >= before.minus_ms(2) && first_syn <= at.plus_ms(2),
        "{first_syn:?} of {at:?}"
    );
}

#[test]
fn a_refused_syn_is_a_reset_without_socket() {
    refused_is_seen_from_both_sides(|w| w.pod4, |w| w.client4);
}

#[test]
fn a_refused_ipv6_syn_is_a_reset_without_socket() {
    refused_is_seen_from_both_sides(|w| w.pod6, |w| w.client6);
}

#[test]
fn a_close_with_unread_data_is_an_abort_with_its_counters() {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    eyes.watch(world.pod4, ADDR_LOCAL_POD);
    eyes.serve(world.pod4);
    let pod = SocketAddr::new(world.pod4, PORT);
    let listener = world.in_pod(move || TcpListener::bind(pod).unwrap());
    let mut client = world.in_client(move || TcpStream::connect(pod).unwrap());
    let (server, _) = listener.accept().unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    server.peek(&mut [0]).unwrap();
    drop(server);

    let (_, sent) = eyes.until("reset", |o| matches!(o, Observation::ResetSent { .. }));
    let Observation::ResetSent {
        sock,
        reason,
        to_syn,
        has_socket,
    } = sent
    else {
        unreachable!()
    };
    assert_eq!(reason.as_deref(), Some("TCP_ABORT_ON_CLOSE"));
    assert!(has_socket && !to_syn);
    assert_eq!(
        (sock.side, sock.local, sock.remote),
        (Side::Server, pod, client.local_addr().unwrap())
    );
    let tcp = sock.tcp.unwrap();
    assert_eq!((tcp.bytes_received, tcp.bytes_sent, tcp.unread), (18, 0, 18));
}

#[test]
fn a_server_killed_after_it_read_a_request_ends_with_a_fin_and_an_unanswered_request() {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    eyes.watch(world.pod4, ADDR_LOCAL_POD);
    eyes.serve(world.pod4);
    let mut server = world.server("read");
    let pod = SocketAddr::new(world.pod4, PORT);
    let mut client = world.in_client(move || TcpStream::connect(pod).unwrap());
    client.write_all(b"GET /").unwrap();
    server.says("read");
    server.signal(Signal::SIGKILL);

    let (killed_at, signal) = eyes.until("signal", |o| matches!(o, Observation::Signal { .. }));
    let Observation::Signal {
        place,
        tgid,
        sig,
        code,
        delivered,
        sender_tgid,
        ..
    } = signal
    else {
        unreachable!()
    };
    pod_place(&world, &place);
    assert_eq!(
        (tgid, sig, code, delivered),
        (server.pid(), Signal::SIGKILL as i32, Some(0), true)
    );
    assert_eq!(sender_tgid, std::process::id());

    let mut exit = None;
    let mut end = None;
    while exit.is_none() || end.is_none() {
        match eyes.next() {
            (
                at,
                Observation::Exit {
                    place,
                    tgid,
                    exit_code,
                    ..
                },
            ) => exit = Some((at, place, tgid, exit_code)),
            (
                _,
                Observation::FlowEnd {
                    sock,
                    old,
                    new,
                    exiting,
                    ..
                },
            ) => end = Some((sock, old, new, exiting)),
            _ => {}
        }
    }
    let (exited_at, place, tgid, exit_code) = exit.unwrap();
    assert!(exited_at >= killed_at);
    assert_eq!((tgid, exit_code), (server.pid(), Signal::SIGKILL as i32));
    assert!(matches!(place.attribution, Attribution::Pod { uid, .. } if uid.0 == world.uid));
    let (sock, old, new, exiting) = end.unwrap();
    // The socket is an IPv6 one; its IPv4 connection has IPv4 addresses.
    assert_eq!(
        (sock.side, sock.local, sock.remote),
        (Side::Server, pod, client.local_addr().unwrap())
    );
    assert_eq!(
        (old, new, exiting),
        (TcpState::Established, TcpState::FinWait1, true)
    );
    assert_eq!(sock.cgroup.0, world.cgroup_id());
    let tcp = sock.tcp.unwrap();
    assert_eq!((tcp.bytes_received, tcp.bytes_sent), (5, 0));
}

#[test]
fn a_response_cut_before_the_second_request_was_answered_is_seen() {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    eyes.watch(world.pod6, ADDR_LOCAL_POD);
    eyes.serve(world.pod6);
    let mut server = world.server("answer half");
    let pod = SocketAddr::new(world.pod6, PORT);
    let mut client = world.in_client(move || TcpStream::connect(pod).unwrap());
    client.write_all(b"GET /").unwrap();
    assert!(client.read(&mut [0; 64]).unwrap() > 0);
    client.write_all(b"GET /again").unwrap();
    server.says("read");
    server.signal(Signal::SIGKILL);
    let (_, end) = eyes.until("flow end", |o| matches!(o, Observation::FlowEnd { .. }));
    let Observation::FlowEnd { sock, .. } = end else {
        unreachable!()
    };
    let tcp = sock.tcp.unwrap();
    assert_eq!(tcp.bytes_received, 15);
    assert!(tcp.bytes_sent > 0);
    assert!(
        tcp.since_last_segment > 0 || tcp.last_in_after_out_jiffies > 0,
        "{tcp:?}"
    );
}

#[test]
fn a_syn_into_silence_is_a_retransmit_that_knows_its_first_syn() {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    eyes.watch(world.client4, ADDR_LOCAL_POD);
    eyes.watch(world.dead4, ADDR_POD);
    let before = clock::now();
    let dead = SocketAddr::new(world.dead4, PORT);
    let error =
        world.in_client(move || TcpStream::connect_timeout(&dead, Duration::from_millis(2500)).unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    let (at, observation) = eyes.until("retransmit", |o| matches!(o, Observation::Retransmit { .. }));
    let Observation::Retransmit { sock, err } = observation else {
        unreachable!()
    };
    assert_eq!(
        (sock.side, sock.remote, sock.state, err),
        (Side::Client, dead, TcpState::SynSent, 0)
    );
    let tcp = sock.tcp.unwrap();
    let first_syn = tcp.first_syn.unwrap();
    assert!(
        first_syn >= before.minus_ms(2) && first_syn <= before.plus_ms(500),
        "{first_syn:?} {before:?}"
    );
    assert!(
        at.ms_since(first_syn) > 900.0,
        "the first retransmission comes after a second"
    );
    let (_, end) = eyes.until("flow end", |o| matches!(o, Observation::FlowEnd { .. }));
    let Observation::FlowEnd { sock, old, .. } = end else {
        unreachable!()
    };
    assert_eq!((old, sock.remote), (TcpState::SynSent, dead));
    assert_eq!(sock.tcp.unwrap().first_syn, Some(first_syn));
}

#[test]
fn a_pods_listener_opens_and_closes_with_its_process() {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    let server = world.server("read");
    let (_, opened) = eyes.until("listener", |o| matches!(o, Observation::Listener { .. }));
    let Observation::Listener {
        place,
        local,
        open,
        exiting,
        tgid,
    } = opened
    else {
        unreachable!()
    };
    pod_place(&world, &place);
    assert_eq!(local, format!("[::]:{PORT}").parse().unwrap());
    assert_eq!((open, exiting, tgid), (true, false, server.pid()));

    server.signal(Signal::SIGTERM);
    let (term_at, signal) = eyes.until("signal", |o| matches!(o, Observation::Signal { .. }));
    let Observation::Signal { place, sig, .. } = signal else {
        unreachable!()
    };
    pod_place(&world, &place);
    assert_eq!(sig, Signal::SIGTERM as i32);
    let (close_at, closed) = eyes.until("listener", |o| matches!(o, Observation::Listener { .. }));
    let Observation::Listener {
        place,
        open,
        exiting,
        tgid,
        ..
    } = closed
    else {
        unreachable!()
    };
    pod_place(&world, &place);
    assert_eq!((open, exiting, tgid), (false, true, server.pid()));
    assert!(close_at > term_at);
}

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
