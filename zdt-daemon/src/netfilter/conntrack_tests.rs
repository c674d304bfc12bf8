//! Tests of `conntrack` against real tables, each in a network namespace of its own. They need root and fail without.

use std::{
    net::{TcpListener, TcpStream},
    process::Command,
};

use nix::sched::{CloneFlags, unshare};

use super::*;

const SETUP: &[&str] = &[
    "ip link set lo up",
    "ip addr add 10.0.0.5/32 dev lo",
    "ip route add 10.96.0.0/16 dev lo",
    "ip addr add fd00::5/128 dev lo",
    "ip route add fd00:96::/64 dev lo",
    "iptables -t nat -A OUTPUT -d 10.96.0.1 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.5:8080",
    "ip6tables -t nat -A OUTPUT -d fd00:96::1 -p tcp --dport 80 -j DNAT --to-destination [fd00::5]:8080",
    "iptables -A INPUT -p tcp --dport 9090 -j DROP",
    "iptables -t nat -A OUTPUT -d 10.96.0.1 -p tcp --dport 90 -j DNAT --to-destination 10.0.0.5:9090",
];

/// Runs `test` on a thread in a new network namespace with a ClusterIP for port 8080 of 10.0.0.5 and fd00::5, and
/// one for a port that never answers. The namespace ends with the thread and its sockets.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test makes a network namespace: run it as root");
        for line in SETUP {
            let words: Vec<_> = line.split(' ').collect();
            let status = Command::new(words[0]).args(&words[1..]).status();
            assert!(status.is_ok_and(|s| s.success()), "{line}");
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn looked_up(vip: &str, pod: &str) {
    let listener = TcpListener::bind(pod).unwrap();
    let client = TcpStream::connect(vip).unwrap();
    let _server = listener.accept().unwrap();
    let orig = Tuple {
        from: client.local_addr().unwrap(),
        to: client.peer_addr().unwrap(),
    };
    let translation = Lookup::open().unwrap().translation(orig).unwrap();
    let reply = Tuple {
        from: pod.parse().unwrap(),
        to: orig.from,
    };
    assert_eq!(
        translation,
        Translation {
            protocol: crate::input::Protocol::Tcp,
            orig,
            reply: Some(reply),
            replied: true
        }
    );
}

#[test]
fn a_translated_ipv4_connection_is_found_by_what_the_client_dialled() {
    in_namespace(|| looked_up("10.96.0.1:80", "10.0.0.5:8080"));
}

#[test]
fn a_translated_ipv6_connection_is_found_by_what_the_client_dialled() {
    in_namespace(|| looked_up("[fd00:96::1]:80", "[fd00::5]:8080"));
}

#[test]
fn a_connection_that_nobody_answers_is_found_and_not_replied() {
    in_namespace(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket
            .bind(&"10.0.0.5:40001".parse::<SocketAddr>().unwrap().into())
            .unwrap();
        socket.set_nonblocking(true).unwrap();
        let to: SocketAddr = "10.96.0.1:90".parse().unwrap();
        let error = socket.connect(&to.into()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
        let from = "10.0.0.5:40001".parse().unwrap();
        let translation = Lookup::open().unwrap().translation(Tuple { from, to }).unwrap();
        assert_eq!(
            translation.reply.map(|r| r.from),
            Some("10.0.0.5:9090".parse().unwrap())
        );
        assert!(!translation.replied);
    });
}

#[test]
fn no_entry_is_an_answer_and_the_next_lookup_is_not_confused() {
    in_namespace(|| {
        let mut lookup = Lookup::open().unwrap();
        let orig = Tuple {
            from: "10.0.0.5:1".parse().unwrap(),
            to: "10.96.0.1:80".parse().unwrap(),
        };
        for _ in 0..2 {
            assert_eq!(lookup.translation(orig).unwrap().reply, None);
        }
    });
}

#[test]
fn a_tuple_of_two_families_is_refused_before_asking() {
    let orig = Tuple {
        from: "10.0.0.5:1".parse().unwrap(),
        to: "[fd00::5]:80".parse().unwrap(),
    };
    assert!(matches!(request(orig, 1), Err(Error::MixedFamilies { .. })));
}
