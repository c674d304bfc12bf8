//! Processes of a pod: their listeners, signals, exits, and what becomes of the requests that they had read.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use nix::sys::{
    signal::Signal,
    socket::{Backlog, listen},
};
use zdt_common::ADDR_LOCAL_POD;
use zdt_daemon::input::{Attribution, Observation, Place, PodUid, Side, TcpState};

use crate::{
    eyes::Eyes,
    world::{PORT, World},
};

/// Not a test: what [`World::server`] runs. It listens and takes one request.
#[test]
#[ignore = "runs in a pod, started by the other tests"]
fn server_in_a_pod() {
    let behaviour = std::env::var("ZDT_TEST_BEHAVIOUR").expect("only the other tests start this");
    let listener = TcpListener::bind(("::", PORT)).unwrap();
    println!("\nlistening");
    if behaviour == "grow" {
        grow();
    }
    if behaviour == "accept late" {
        // Again, with a backlog of its own: two may wait.
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        println!("\nbusy");
        std::thread::sleep(Duration::from_secs(4));
    }
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

/// Takes memory until the kernel ends it. The pages are written, or they would be no memory.
fn grow() -> ! {
    let mut taken = Vec::new();
    loop {
        taken.push(vec![1u8; 1 << 20]);
        std::hint::black_box(&taken);
    }
}

fn pod_place(world: &World, place: &Place) {
    let container = world.container.clone();
    assert_eq!(
        place.attribution,
        Attribution::Pod {
            uid: PodUid(world.uid.as_str().into()),
            container
        }
    );
    assert_eq!(place.cgroup.0, world.cgroup_id());
    assert_eq!(place.netns.0, world.pod_netns_inum());
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
    assert!(matches!(place.attribution, Attribution::Pod { uid, .. } if uid.0 == world.uid.as_str()));
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
fn a_connection_that_was_never_accepted_is_reset_when_its_listener_dies() {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    eyes.watch(world.pod4, ADDR_LOCAL_POD);
    eyes.serve(world.pod4);
    let mut server = world.server("read");
    let pod = SocketAddr::new(world.pod4, PORT);
    let mut accepted = world.in_client(move || TcpStream::connect(pod).unwrap());
    accepted.write_all(b"GET /").unwrap();
    server.says("read");
    let mut queued = world.in_client(move || TcpStream::connect(pod).unwrap());
    queued.write_all(b"GET /").unwrap();
    server.signal(Signal::SIGKILL);

    let queued = queued.local_addr().unwrap();
    let (_, sent) = eyes.until("reset", |o| matches!(o, Observation::ResetSent { .. }));
    let Observation::ResetSent {
        sock,
        to_syn,
        has_socket,
        ..
    } = sent
    else {
        unreachable!()
    };
    assert_eq!((sock.side, sock.local, sock.remote), (Side::Server, pod, queued));
    assert!(has_socket && !to_syn);
    assert_eq!(sock.tcp.unwrap().bytes_sent, 0);
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
fn a_pods_listener_opens_and_closes_with_its_process() {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    let mut server = world.server("read");
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

    // A connection's socket is born in state LISTEN, and that is not the listener's end.
    let pod = SocketAddr::new(world.pod4, PORT);
    let mut client = world.in_client(move || TcpStream::connect(pod).unwrap());
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    server.says("read");

    server.signal(Signal::SIGTERM);
    let (term_at, signal) = eyes.next();
    let Observation::Signal { place, sig, .. } = signal else {
        panic!("{signal:?} before the signal")
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

#[test]
fn a_victim_of_the_memory_limit_is_named_before_its_kill_and_exit() {
    let world = World::new();
    let mut eyes = Eyes::open(&world);
    world.limit_memory(64 << 20);
    let server = world.server("grow");
    let (_, victim) = eyes.until("victim", |o| matches!(o, Observation::OomVictim { .. }));
    let Observation::OomVictim { place, pid, .. } = victim else {
        unreachable!()
    };
    pod_place(&world, &place);
    assert_eq!(pid, server.pid());
    let (_, exit) = eyes.until("exit", |o| matches!(o, Observation::Exit { .. }));
    let Observation::Exit { exit_code, .. } = exit else {
        unreachable!()
    };
    assert_eq!(exit_code, Signal::SIGKILL as i32);
}

/// Two connections fill the queue of a listener, a third is dropped, a fourth gets the place of the first.
fn full_queue_is_seen(opened_before_zdt: bool) {
    let world = World::new();
    let early = opened_before_zdt.then(|| world.server("accept late"));
    let mut eyes = if opened_before_zdt {
        Eyes::with(&world, &zdt_daemon::kernel::Options::default())
    } else {
        Eyes::open(&world)
    };
    eyes.watch(world.pod4, ADDR_LOCAL_POD);
    eyes.serve(world.pod4);
    let mut server = early.unwrap_or_else(|| world.server("accept late"));
    server.says("busy");
    let pod = SocketAddr::new(world.pod4, PORT);
    let connect = move || TcpStream::connect_timeout(&pod, Duration::from_secs(10));
    let mut first = world.in_client(connect).unwrap();
    let _second = world.in_client(connect).unwrap();
    // Before its SYN is sent again.
    let in_vain = move || TcpStream::connect_timeout(&pod, Duration::from_millis(300));
    let dropped = world.in_client(in_vain).unwrap_err();
    assert_eq!(dropped.kind(), std::io::ErrorKind::TimedOut);
    first.write_all(b"GET /").unwrap();
    server.says("read");
    let _fourth = world.in_client(connect).unwrap();

    let is_look = |o: &Observation| matches!(o, Observation::ListenQueue { .. });
    let mut looks = Vec::new();
    for _ in 0..2 {
        let (at, look) = eyes.until("look at the queue", is_look);
        let Observation::ListenQueue {
            netns,
            local,
            since,
            dropped,
            waiting,
            backlog,
        } = look
        else {
            unreachable!()
        };
        assert_eq!((netns.0, local), (world.pod_netns_inum(), pod));
        assert!(since < at, "{since:?} {at:?}");
        looks.push((dropped, waiting, backlog));
    }
    assert_eq!(looks, [(0, 2, 1), (1, 2, 1)]);
}

#[test]
fn a_full_accept_queue_is_seen_when_a_connection_joins_it_with_what_was_dropped_meanwhile() {
    full_queue_is_seen(false);
}

#[test]
fn the_queue_of_a_listener_that_was_open_before_is_seen_too() {
    full_queue_is_seen(true);
}
