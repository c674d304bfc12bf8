//! Connections that end with a RST: which of them leave nothing open and are not reported, and that all others are.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use nix::libc::{IPPROTO_TCP, TCP_INFO};
use socket2::SockRef;
use zdt_common::ADDR_LOCAL_POD;
use zdt_daemon::{
    clock,
    input::{Observation, Side, TcpState},
};

use crate::{
    eyes::Eyes,
    told_by_getsockopt,
    world::{PORT, World},
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const PATIENCE_MS: f64 = 10_000.0;

/// A port of the pod that no service leads to.
const UNSERVED: u16 = PORT + 1;

fn listens(world: &World, pod: SocketAddr) -> TcpListener {
    world.in_pod(move || TcpListener::bind(pod).unwrap())
}

/// The client's end and the server's, accepted.
fn accepted(world: &World, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let pod = listener.local_addr().unwrap();
    let client = world.in_client(move || TcpStream::connect(pod).unwrap());
    (client, listener.accept().unwrap().0)
}

fn connected(world: &World, pod: SocketAddr) -> (TcpStream, TcpStream) {
    accepted(world, &listens(world, pod))
}

fn ask(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(REQUEST).unwrap();
    server.read_exact(&mut [0; REQUEST.len()]).unwrap();
}

/// One request and its answer, until the server knows that it has arrived.
fn exchange(client: &mut TcpStream, server: &mut TcpStream) {
    ask(client, server);
    server.write_all(ANSWER).unwrap();
    client.read_exact(&mut [0; ANSWER.len()]).unwrap();
    await_acknowledged(server);
}

fn await_acknowledged(stream: &TcpStream) {
    let began = clock::now();
    loop {
        let info: [u8; 216] = told_by_getsockopt(stream, IPPROTO_TCP, TCP_INFO);
        // tcp_info::tcpi_unacked (include/uapi/linux/tcp.h)
        if info[24..28] == [0; 4] {
            return;
        }
        assert!(clock::now().ms_since(began) < PATIENCE_MS, "no acknowledgement");
        std::thread::yield_now();
    }
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Until the RST has come.
fn await_reset(server: &mut TcpStream) {
    let error = server.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

fn hangs_up_with_nothing_open(world: &World, ip: IpAddr) -> TcpListener {
    // One for all: a process that another test forks at this moment holds a closed one open, and its port taken.
    let listener = listens(world, SocketAddr::new(ip, PORT));
    // A probe, a request, a kept connection.
    for exchanges in [0, 1, 3] {
        let (mut client, mut server) = accepted(world, &listener);
        for _ in 0..exchanges {
            exchange(&mut client, &mut server);
        }
        reset(client);
        await_reset(&mut server);
    }
    // The server closes, and nobody waits for its FIN to be acknowledged.
    let (mut client, mut server) = accepted(world, &listener);
    exchange(&mut client, &mut server);
    drop(server);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    reset(client);
    // The same without a word, at a port that the filter does not know for a server's.
    let (mut client, server) = connected(world, SocketAddr::new(ip, UNSERVED));
    drop(server);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    reset(client);
    listener
}

#[test]
fn a_client_that_hangs_up_by_a_reset_with_nothing_open_makes_no_record() {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    for ip in [world.pod4, world.pod6] {
        eyes.watch(ip, ADDR_LOCAL_POD);
        eyes.serve(ip);
    }
    for ip in [world.client4, world.client6] {
        eyes.watch(ip, ADDR_LOCAL_POD);
    }
    hangs_up_with_nothing_open(&world, world.pod6);
    let listener = hangs_up_with_nothing_open(&world, world.pod4);
    // What comes first is what was provoked last.
    let (mut client, mut server) = accepted(&world, &listener);
    let provoked = client.local_addr().unwrap();
    ask(&mut client, &mut server);
    reset(client);
    let (_, first) = eyes.next();
    let (Observation::FlowEnd { sock, .. }
    | Observation::ResetSent { sock, .. }
    | Observation::ResetReceived { sock }) = &first
    else {
        panic!("{first:#?}")
    };
    assert!(sock.local == provoked || sock.remote == provoked, "{first:#?}");
}

fn watched(world: &World) -> (Eyes, SocketAddr) {
    let mut eyes = Eyes::open(world);
    eyes.watch(world.pod4, ADDR_LOCAL_POD);
    eyes.watch(world.client4, ADDR_LOCAL_POD);
    eyes.serve(world.pod4);
    (eyes, SocketAddr::new(world.pod4, PORT))
}

/// What comes until all of it is there: the kernel says that it has sent a RST when that may have arrived already.
fn seen(eyes: &mut Eyes, wanted: &[&dyn Fn(&Observation) -> bool]) -> Vec<Observation> {
    let mut seen = Vec::new();
    while !wanted.iter().all(|wanted| seen.iter().any(wanted)) {
        seen.push(eyes.next().1);
    }
    seen
}

/// That the RST came, and the end that it made.
fn is_got(o: &Observation, whose: Side) -> bool {
    matches!(o, Observation::ResetReceived { sock } if sock.side == whose)
}

fn is_end(o: &Observation, whose: Side) -> bool {
    let Observation::FlowEnd { sock, old, new, .. } = o else {
        return false;
    };
    let ends = (TcpState::Established, TcpState::Close) == (*old, *new);
    ends && sock.side == whose && sock.err == nix::libc::ECONNRESET
}

fn is_sent(o: &Observation, whose: Side) -> bool {
    matches!(o, Observation::ResetSent { sock, has_socket: true, to_syn: false, .. } if sock.side == whose)
}

fn told_from_both_sides(eyes: &mut Eyes, by: Side, to: Side) -> Vec<Observation> {
    seen(
        eyes,
        &[&|o| is_sent(o, by), &|o| is_got(o, to), &|o| is_end(o, to)],
    )
}

fn told_by_who_gets_it(eyes: &mut Eyes, whose: Side) {
    seen(eyes, &[&|o| is_got(o, whose), &|o| is_end(o, whose)]);
}

#[test]
fn a_client_that_hangs_up_on_its_request_is_told_from_both_sides() {
    let world = World::new();
    let (mut eyes, pod) = watched(&world);
    let (mut client, mut server) = connected(&world, pod);
    ask(&mut client, &mut server);
    reset(client);
    await_reset(&mut server);
    told_from_both_sides(&mut eyes, Side::Client, Side::Server);
}

#[test]
fn a_client_that_hangs_up_on_its_second_request_is_told_by_its_server() {
    let world = World::new();
    let (mut eyes, pod) = watched(&world);
    let (mut client, mut server) = connected(&world, pod);
    exchange(&mut client, &mut server);
    ask(&mut client, &mut server);
    reset(client);
    await_reset(&mut server);
    told_by_who_gets_it(&mut eyes, Side::Server);
}

#[test]
fn a_reset_to_an_answer_that_is_not_acknowledged_is_told_by_its_server() {
    let world = World::new();
    let (mut eyes, pod) = watched(&world);
    let (mut client, mut server) = connected(&world, pod);
    ask(&mut client, &mut server);
    // As much as its client's window and its own buffer hold.
    server.set_nonblocking(true).unwrap();
    while server.write(&[b'x'; 8_192]).is_ok() {}
    server.set_nonblocking(false).unwrap();
    reset(client);
    await_reset(&mut server);
    told_by_who_gets_it(&mut eyes, Side::Server);
}

#[test]
fn a_queue_that_is_flushed_is_told_from_both_sides() {
    let world = World::new();
    let (mut eyes, pod) = watched(&world);
    let listener = world.in_pod(move || TcpListener::bind(pod).unwrap());
    let mut client = world.in_client(move || TcpStream::connect(pod).unwrap());
    drop(listener);
    await_reset(&mut client);
    let told = told_from_both_sides(&mut eyes, Side::Server, Side::Client);
    let sent = told.iter().find(|o| is_sent(o, Side::Server)).unwrap();
    let Observation::ResetSent { sock, .. } = sent else {
        unreachable!()
    };
    let tcp = sock.tcp.unwrap();
    assert_eq!((tcp.bytes_received, tcp.bytes_sent), (0, 0));
}

#[test]
fn a_server_that_resets_what_it_has_answered_is_told_from_both_sides() {
    let world = World::new();
    let (mut eyes, pod) = watched(&world);
    let (mut client, mut server) = connected(&world, pod);
    exchange(&mut client, &mut server);
    reset(server);
    await_reset(&mut client);
    told_from_both_sides(&mut eyes, Side::Server, Side::Client);
}

#[test]
fn a_pod_that_no_service_leads_to_is_a_server_by_its_listener() {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    eyes.watch(world.pod4, ADDR_LOCAL_POD);
    eyes.watch(world.client4, ADDR_LOCAL_POD);
    let mut server = world.server("answer and reset");
    let pod = SocketAddr::new(world.pod4, PORT);
    let mut client = world.in_client(move || TcpStream::connect(pod).unwrap());
    client.write_all(REQUEST).unwrap();
    client.read_exact(&mut [0; ANSWER.len()]).unwrap();
    server.says("reset");
    await_reset(&mut client);
    let of_the_pod = |o: &Observation| matches!(o, Observation::ResetSent { sock, .. } if sock.local == pod);
    seen(&mut eyes, &[&|o| is_sent(o, Side::Client) && of_the_pod(o)]);
}

/// What the last test's server does with its connection.
pub fn answer_and_reset(mut stream: TcpStream) {
    stream.write_all(ANSWER).unwrap();
    await_acknowledged(&stream);
    reset(stream);
}
