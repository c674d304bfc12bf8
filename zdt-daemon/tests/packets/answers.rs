//! What a pod in transition answers: errors when they are sent, and the last answer of a connection that it ends.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use socket2::SockRef;
use zdt_common::{HEAD_LEN, Hook};
use zdt_daemon::input::{AnswerEnd, Body, Observation};

use crate::{
    eyes::{Eyes, addr},
    world::{Family, World, target, v4, v6},
};

/// A client's connection to the pod, and the pod's end of it.
fn connected(world: &World, server: SocketAddr) -> (TcpStream, TcpStream) {
    let listener = world.inside("pod", move || TcpListener::bind(server).unwrap());
    let client = world.connect(server).unwrap();
    client.set_nodelay(true).unwrap();
    let (pod, _) = listener.accept().unwrap();
    pod.set_nodelay(true).unwrap();
    (client, pod)
}

fn cookie(pod: &TcpStream) -> u64 {
    SockRef::from(pod).cookie().unwrap()
}

/// One request, and what the pod writes, each piece a segment of its own; the client has read all of it.
fn exchange(client: &mut TcpStream, pod: &mut TcpStream, request: &str, answer: &[&str]) {
    client.write_all(request.as_bytes()).unwrap();
    let mut read = vec![0; request.len()];
    pod.read_exact(&mut read).unwrap();
    for piece in answer {
        pod.write_all(piece.as_bytes()).unwrap();
        let mut read = vec![0; piece.len()];
        client.read_exact(&mut read).unwrap();
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
const ERROR: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nno\n";
const LONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn watching(world: &World, family: Family) -> Eyes {
    let mut eyes = Eyes::open(world);
    eyes.endpoint(target(family.pod));
    eyes.transit(family.pod);
    eyes
}

/// Status, body, and how much of it had gone out when the connection ended.
fn told(observation: &Observation) -> (u16, Body, Option<AnswerEnd>) {
    match observation {
        Observation::Answer {
            status, body, end, ..
        } => (*status, *body, *end),
        other => panic!("{other:#?}"),
    }
}

/// The pod writes this, behind a whole answer, and closes.
fn closed_behind(request: &str, answer: &[&str]) -> Vec<Observation> {
    let (world, family) = (World::new(), v4());
    let mut eyes = watching(&world, family);
    let (mut client, mut pod) = connected(&world, target(family.pod));
    let connection = cookie(&pod);
    exchange(&mut client, &mut pod, GET, &[OK]);
    exchange(&mut client, &mut pod, request, answer);
    drop(pod);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    eyes.answers(connection)
}

fn last(request: &str, answer: &[&str]) -> (u16, Body, AnswerEnd) {
    let seen = closed_behind(request, answer);
    let [Observation::FlowEnd { sock, .. }, answer] = seen.as_slice() else {
        panic!("{seen:#?}");
    };
    let (status, body, end) = told(answer);
    assert!(sock.netns.0 != 0);
    (status, body, end.unwrap())
}

fn sent(sent: u32) -> AnswerEnd {
    AnswerEnd {
        sent: Some(sent),
        terminated: Some(false),
    }
}

fn every_error_of_a_kept_connection_is_seen_once(family: Family) {
    let world = World::new();
    let mut eyes = watching(&world, family);
    let server = target(family.pod);
    let (mut client, mut pod) = connected(&world, server);
    for answer in [OK, ERROR, OK, ERROR, "HTTP/1.0 500 X\r\n\r\n"] {
        exchange(&mut client, &mut pod, GET, &[answer]);
    }
    let seen = eyes.answers(cookie(&pod));
    let statuses: Vec<_> = seen.iter().map(told).collect();
    let error = (503, Body::Length(3), None);
    assert_eq!(statuses, [error, error, (500, Body::UntilClose, None)]);
    let Observation::Answer { sock, .. } = &seen[0] else {
        unreachable!()
    };
    assert_eq!(sock.remote, client.local_addr().unwrap());
    assert!(sock.cgroup.0 != 0);
}

#[test]
fn every_error_that_a_pod_in_transition_answers_is_seen_once() {
    every_error_of_a_kept_connection_is_seen_once(v4());
}

#[test]
fn every_error_that_a_pod_in_transition_answers_is_seen_once_over_ipv6() {
    every_error_of_a_kept_connection_is_seen_once(v6());
}

#[test]
fn interim_answer_is_no_answer() {
    let go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(last(GET, &[go_on, LONG, "part"]).1, Body::Length(10_000));
}

#[test]
fn answer_that_is_cut_is_told_with_what_had_gone_out() {
    assert_eq!(last(GET, &[LONG]), (200, Body::Length(10_000), sent(0)));
    assert_eq!(
        last(GET, &[LONG, "some", "more"]),
        (200, Body::Length(10_000), sent(8))
    );
    let whole = "x".repeat(10_000);
    assert_eq!(
        last(GET, &[LONG, &whole]),
        (200, Body::Length(10_000), sent(10_000))
    );
}

#[test]
fn head_of_nearly_the_kept_length_is_read_and_a_longer_one_is_not() {
    let head = |len: usize| {
        let rest = "HTTP/1.1 200 OK\r\nX: \r\nContent-Length: 9\r\n\r\n".len();
        let filler = "x".repeat(len - rest);
        format!("HTTP/1.1 200 OK\r\nX: {filler}\r\nContent-Length: 9\r\n\r\n")
    };
    assert_eq!(
        last(GET, &[&head(HEAD_LEN), "some"]),
        (200, Body::Length(9), sent(4))
    );
    let (status, body, end) = last(GET, &[&head(HEAD_LEN + 1), "some"]);
    assert_eq!((status, body, end.sent), (200, Body::Unknown, None));
}

#[test]
fn answer_of_many_pages_is_measured() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n";
    let part = [head, &"x".repeat(300_000)].concat();
    assert_eq!(last(GET, &[&part]), (200, Body::Length(400_000), sent(300_000)));
}

#[test]
fn answer_to_a_head_request_has_no_body() {
    let head = GET.replace("GET", "HEAD");
    assert_eq!(last(&head, &[LONG]).1, Body::None);
}

#[test]
fn last_chunk_is_seen_however_it_is_cut_up() {
    let end = |pieces: &[&str]| last(GET, pieces).2.terminated;
    let chunk = "3\r\nabc\r\n";
    assert_eq!(end(&[CHUNKED, chunk, "0\r\n\r\n"]), Some(true));
    assert_eq!(end(&[CHUNKED, chunk, "0", "\r\n", "\r", "\n"]), Some(true));
    assert_eq!(end(&[CHUNKED, "3\r\nabc", "\r\n0\r\n\r\n"]), Some(true));
    assert_eq!(end(&[&[CHUNKED, chunk, "0\r\n\r\n"].concat()]), Some(true));
    assert_eq!(end(&[CHUNKED, chunk]), Some(false));
    assert_eq!(end(&[CHUNKED]), Some(false));
    assert_eq!(end(&[CHUNKED, chunk, "0\r\n"]), Some(false));
}

#[test]
fn what_was_written_and_waits_for_the_clients_window_is_sent_behind_the_close() {
    let (world, family) = (World::new(), v4());
    let mut eyes = watching(&world, family);
    let (mut client, mut pod) = connected(&world, target(family.pod));
    client.write_all(GET.as_bytes()).unwrap();
    pod.read_exact(&mut [0; GET.len()]).unwrap();
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n";
    pod.write_all(head.as_bytes()).unwrap();
    pod.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut written = 0;
    while let Ok(more) = pod.write(&[b'x'; 4096]) {
        written += more;
    }
    pod.shutdown(Shutdown::Write).unwrap();
    let seen = eyes.answers(cookie(&pod));
    let (_, body, end) = told(seen.last().unwrap());
    assert_eq!(body, Body::Length(50_000_000));
    assert_eq!(end.unwrap().sent, Some(u32::try_from(written).unwrap()));
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), head.len() + written);
}

#[test]
fn who_lets_its_client_close_first_tells_nothing() {
    let (world, family) = (World::new(), v4());
    let mut eyes = watching(&world, family);
    let (mut client, mut pod) = connected(&world, target(family.pod));
    exchange(&mut client, &mut pod, GET, &[LONG]);
    let connection = cookie(&pod);
    drop(client);
    assert_eq!(pod.read(&mut [0]).unwrap(), 0);
    drop(pod);
    assert!(eyes.answers(connection).is_empty());
}

#[test]
fn pod_that_is_not_in_transition_tells_nothing() {
    let (world, family) = (World::new(), v4());
    let server = target(family.pod);
    let mut eyes = Eyes::open(&world);
    eyes.endpoint(server);
    eyes.transit(family.dead);
    let (mut client, mut pod) = connected(&world, server);
    exchange(&mut client, &mut pod, GET, &[ERROR]);
    exchange(&mut client, &mut pod, GET, &[LONG]);
    let connection = cookie(&pod);
    drop(pod);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert!(eyes.answers(connection).is_empty());
}

#[test]
fn answer_that_began_while_the_pod_was_beside_one_in_transition_is_known() {
    let (world, family) = (World::new(), v4());
    let server = target(family.pod);
    let mut eyes = Eyes::open(&world);
    eyes.endpoint(server);
    eyes.attached.watch_beside(addr(family.pod), true).unwrap();
    let (mut client, mut pod) = connected(&world, server);
    exchange(&mut client, &mut pod, GET, &[ERROR]);
    exchange(&mut client, &mut pod, GET, &[LONG]);
    let connection = cookie(&pod);
    assert!(eyes.answers(connection).is_empty());
    eyes.transit(family.pod);
    eyes.attached.watch_beside(addr(family.pod), false).unwrap();
    drop(pod);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let seen = eyes.answers(connection);
    assert_eq!(
        told(seen.last().unwrap()),
        (200, Body::Length(10_000), Some(sent(0)))
    );
}

#[test]
fn more_errors_than_are_worth_it_are_counted_as_lost() {
    let (world, family) = (World::alone(), v4());
    let mut eyes = watching(&world, family);
    let (mut client, mut pod) = connected(&world, target(family.pod));
    let all = 6_000;
    for _ in 0..all {
        exchange(&mut client, &mut pod, GET, &[ERROR]);
    }
    let seen = eyes.answers(cookie(&pod)).len() as u64;
    let lost = eyes.attached.take_losses().unwrap().take().unwrap();
    let lost = lost.iter().find(|(hook, _)| *hook == Hook::CgroupSkbEgress);
    assert!(seen + lost.map_or(0, |(_, n)| *n) >= all);
    assert!(seen <= all);
}
