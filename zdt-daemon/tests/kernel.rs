//! The kernel half on the running kernel: real connections, signals and exits, each seen as an observation, and
//! healthy traffic not seen at all. Needs root, and fails without.
#![expect(
    clippy::disallowed_methods,
    reason = "a test of the daemon's edges reads the environment"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

#[path = "kernel/eyes.rs"]
mod eyes;
#[path = "kernel/filter.rs"]
mod filter;
#[path = "kernel/flood.rs"]
mod flood;
#[path = "kernel/processes.rs"]
mod processes;
#[path = "kernel/resets.rs"]
mod resets;
#[path = "kernel/world.rs"]
mod world;

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use eyes::Eyes;
use world::{PORT, World};
use zdt_common::{ADDR_LOCAL_POD, ADDR_NODE, ADDR_POD};
use zdt_daemon::{
    clock,
    input::{Observation, Side, TcpState},
};

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
        held,
        isn,
    } = sent
    else {
        unreachable!()
    };
    assert_eq!(reason.as_deref(), Some("NO_SOCKET"));
    assert!(to_syn && !has_socket && held.is_none());
    assert!(isn.is_some());
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
        held,
        isn,
    } = sent
    else {
        unreachable!()
    };
    assert_eq!(reason.as_deref(), Some("TCP_ABORT_ON_CLOSE"));
    assert!(has_socket && held == Some(true) && !to_syn && isn.is_none());
    assert_eq!(
        (sock.side, sock.local, sock.remote),
        (Side::Server, pod, client.local_addr().unwrap())
    );
    let tcp = sock.tcp.unwrap();
    assert_eq!((tcp.bytes_received, tcp.bytes_sent, tcp.unread), (18, 0, 18));
}

/// What the kernel tells the process that holds a socket.
#[expect(
    unsafe_code,
    reason = "a bare system call: the struct is longer than any crate has it"
)]
fn told_by_getsockopt<const N: usize>(socket: &TcpStream, level: i32, option: i32) -> [u8; N] {
    use std::os::fd::AsRawFd as _;
    let mut bytes = [0_u8; N];
    let mut len = u32::try_from(N).unwrap();
    let fd = socket.as_raw_fd();
    // SAFETY: the kernel writes at most `len` bytes.
    let done = unsafe { nix::libc::getsockopt(fd, level, option, bytes.as_mut_ptr().cast(), &raw mut len) };
    assert_eq!((done, usize::try_from(len).unwrap()), (0, N));
    bytes
}

#[test]
fn the_counters_are_those_that_the_socket_tells_its_process() {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    eyes.watch(world.pod4, ADDR_LOCAL_POD);
    eyes.serve(world.pod4);
    let pod = SocketAddr::new(world.pod4, PORT);
    let listener = world.in_pod(move || TcpListener::bind(pod).unwrap());
    let mut client = world.in_client(move || TcpStream::connect(pod).unwrap());
    let (mut server, _) = listener.accept().unwrap();
    // Three requests, two answers.
    let mut buffer = [0; 64];
    for answer in [&b"first answer"[..], &b"second"[..]] {
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(server.read(&mut buffer).unwrap(), 18);
        server.write_all(answer).unwrap();
        assert_eq!(client.read(&mut buffer).unwrap(), answer.len());
    }
    client.write_all(b"GET /again").unwrap();
    server.peek(&mut buffer).unwrap();
    // struct tcp_info (include/uapi/linux/tcp.h), of 5.10 and later.
    let info: [u8; 216] = told_by_getsockopt(&server, nix::libc::IPPROTO_TCP, nix::libc::TCP_INFO);
    let cookie: [u8; 8] = told_by_getsockopt(&server, nix::libc::SOL_SOCKET, nix::libc::SO_COOKIE);
    let wide = |at: usize| u64::from_ne_bytes(info[at..at + 8].try_into().unwrap());
    let narrow = |at: usize| u32::from_ne_bytes(info[at..at + 4].try_into().unwrap());
    drop(server);

    let (_, sent) = eyes.until("reset", |o| matches!(o, Observation::ResetSent { .. }));
    let Observation::ResetSent { sock, .. } = sent else {
        unreachable!()
    };
    assert_eq!(sock.cookie, u64::from_ne_bytes(cookie));
    assert_eq!(sock.netns.0, world.pod_netns_inum());
    let tcp = sock.tcp.unwrap();
    assert_eq!(
        (tcp.bytes_acked, tcp.bytes_received, tcp.bytes_sent),
        (wide(120), wide(128), wide(200))
    );
    assert_eq!((tcp.data_segs_in, tcp.data_segs_out), (narrow(152), narrow(156)));
    assert_eq!((tcp.bytes_received, tcp.bytes_sent, tcp.unread), (46, 18, 10));
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
    let Observation::Retransmit { sock, err, .. } = observation else {
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
