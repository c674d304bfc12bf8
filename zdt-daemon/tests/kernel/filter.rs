//! What must not be seen, and what is told when not everything could be.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use zdt_common::{ADDR_LOCAL_POD, ADDR_POD, Hook};
use zdt_daemon::{
    input::Observation,
    kernel::{LoadError, Loaded, Options},
};

use crate::{
    eyes::{self, Eyes},
    refused,
    world::{PORT, World},
};

const SMALL: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
const BIG_LEN: usize = 300_000;
const ROUNDS: usize = 200;

/// How a healthy connection goes: its requests, and who closes first.
#[derive(Clone, Copy)]
enum Healthy {
    /// One exchange, then the server closes.
    ServerCloses,
    /// Three exchanges on one connection, then the client closes.
    KeepAlive,
    /// A TCP probe: no exchange at all.
    Probe,
    /// A response that still is on its way when the server closes.
    Big,
    /// A response that takes longer than a jiffy.
    Slow,
}

const KINDS: [Healthy; 5] = [
    Healthy::ServerCloses,
    Healthy::KeepAlive,
    Healthy::Probe,
    Healthy::Big,
    Healthy::Slow,
];

/// [`ROUNDS`] connections and 240 exchanges.
fn healthy(world: &World) {
    let pod = SocketAddr::new(world.pod4, PORT);
    let listener = world.in_pod(move || TcpListener::bind(pod).unwrap());
    let serve = std::thread::spawn(move || {
        for kind in KINDS.iter().cycle().take(ROUNDS) {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 5];
            while stream.read_exact(&mut request).is_ok() {
                match kind {
                    Healthy::Big => stream.write_all(&vec![b'x'; BIG_LEN]).unwrap(),
                    Healthy::Slow => {
                        std::thread::sleep(Duration::from_millis(5));
                        stream.write_all(SMALL).unwrap();
                    }
                    _ => stream.write_all(SMALL).unwrap(),
                }
                if matches!(kind, Healthy::ServerCloses | Healthy::Big) {
                    break;
                }
            }
        }
    });
    world.in_client(move || {
        for kind in KINDS.iter().cycle().take(ROUNDS) {
            let mut stream = TcpStream::connect(pod).unwrap();
            let (exchanges, length) = match kind {
                Healthy::Probe => (0, 0),
                Healthy::KeepAlive => (3, SMALL.len()),
                Healthy::Big => (1, BIG_LEN),
                Healthy::ServerCloses | Healthy::Slow => (1, SMALL.len()),
            };
            for _ in 0..exchanges {
                stream.write_all(b"GET /").unwrap();
                stream.read_exact(&mut vec![0; length]).unwrap();
            }
            if matches!(kind, Healthy::ServerCloses | Healthy::Big) {
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            }
        }
    });
    serve.join().unwrap();
}

#[test]
fn healthy_exchanges_emit_nothing_however_they_end() {
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
    let losses = eyes.losses();
    let lost = losses.take().unwrap();
    let emitted = losses.emitted().unwrap();
    let of = |counts: &[(Hook, u64)]| {
        // The second before 6.10.
        let resets = [Hook::TcpSendReset, Hook::TcpV4SendReset];
        let of_resets = counts.iter().filter(|(h, _)| resets.contains(h));
        of_resets.map(|(_, n)| *n).sum::<u64>()
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
        eyes.attached().unwatch_endpoint(endpoint).unwrap();
    }
    refused(&world, world.pod4);
    eyes.attached().unwatch_addr(eyes::addr(world.pod4)).unwrap();
    eyes.attached().unwatch_addr(eyes::addr(world.pod4)).unwrap();
    refused(&world, world.pod6);
    let (_, first) = eyes.next();
    let Observation::ResetSent { sock, .. } = first else {
        panic!("{first:#?}")
    };
    assert_eq!(sock.local.ip(), world.pod6);
}

#[test]
fn without_the_capabilities_loading_says_which_are_missing() {
    // aya asks the kernel once in a process what it can: nobody would learn that it can nothing, for all tests here.
    drop(Loaded::load(&Options::default()).unwrap());
    let error = std::thread::spawn(|| {
        become_nobody();
        Loaded::load(&Options::default()).err().unwrap()
    })
    .join()
    .unwrap();
    assert!(matches!(error, LoadError::NotPermitted { .. }), "{error:?}");
    assert!(error.to_string().contains("CAP_BPF"), "{error}");
}

/// This thread alone becomes nobody and loses its capabilities: the system call is per thread, only libc's wrapper
/// changes the whole process.
#[expect(unsafe_code, reason = "a bare system call")]
fn become_nobody() {
    use nix::libc::{SYS_setresuid, syscall};
    // SAFETY: three integers, no memory.
    let result = unsafe { syscall(SYS_setresuid, 65534, 65534, 65534) };
    assert_eq!(result, 0, "these tests need root");
}
