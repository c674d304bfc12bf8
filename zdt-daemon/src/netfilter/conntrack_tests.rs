//! Tests of `conntrack` against real tables, each in a network namespace of its own. They need root and fail without.

use std::net::{TcpListener, TcpStream, UdpSocket};

use nix::libc;

use super::*;
use crate::netfilter::namespace;

const SETUP: &[&str] = &[
    "ip link set lo up",
    "ip addr add 10.0.0.5/32 dev lo",
    "ip route add 10.96.0.0/16 dev lo",
    "ip addr add fd00::5/128 dev lo",
    "ip route add fd00:96::/64 dev lo",
    "iptables -t nat -A OUTPUT -d 10.96.0.1 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.5:8080",
    "ip6tables -t nat -A OUTPUT -d fd00:96::1 -p tcp --dport 80 -j DNAT --to-destination [fd00::5]:8080",
    "iptables -t nat -A OUTPUT -d 10.96.0.1 -p udp --dport 53 -j DNAT --to-destination 10.0.0.5:5353",
    "iptables -A INPUT -p tcp --dport 9090 -j DROP",
    "iptables -A INPUT -p udp --dport 5353 -j DROP",
    "iptables -t nat -A OUTPUT -d 10.96.0.1 -p tcp --dport 90 -j DNAT --to-destination 10.0.0.5:9090",
];

fn in_namespace(test: impl FnOnce() + Send + 'static) {
    namespace::prepared(SETUP, test);
}

fn looked_up(vip: &str, pod: &str) {
    let listener = TcpListener::bind(pod).unwrap();
    let client = TcpStream::connect(vip).unwrap();
    let _server = listener.accept().unwrap();
    let orig = Tuple {
        from: client.local_addr().unwrap(),
        to: client.peer_addr().unwrap(),
    };
    let translation = Lookup::open().unwrap().translation(Protocol::Tcp, orig).unwrap();
    let reply = Tuple {
        from: pod.parse().unwrap(),
        to: orig.from,
    };
    assert_eq!(
        translation,
        Translation {
            protocol: Protocol::Tcp,
            orig,
            reply: Some(reply),
            replied: true
        }
    );
    // From the pod's end.
    let answered = Lookup::open().unwrap().answered(Protocol::Tcp, reply);
    assert_eq!(answered.unwrap(), Some(translation));
    let other = Lookup::open().unwrap().answered(Protocol::Tcp, orig);
    assert_eq!(other.unwrap(), None);
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
        let translation = Lookup::open()
            .unwrap()
            .translation(Protocol::Tcp, Tuple { from, to })
            .unwrap();
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
            assert_eq!(lookup.translation(Protocol::Tcp, orig).unwrap().reply, None);
        }
    });
}

#[test]
fn a_datagrams_translation_is_found_by_its_protocol() {
    in_namespace(|| {
        let socket = UdpSocket::bind("10.0.0.5:0").unwrap();
        socket.send_to(b"?", "10.96.0.1:53").unwrap();
        let orig = Tuple {
            from: socket.local_addr().unwrap(),
            to: "10.96.0.1:53".parse().unwrap(),
        };
        let mut lookup = Lookup::open().unwrap();
        let translation = lookup.translation(Protocol::Udp, orig).unwrap();
        let from = translation.reply.map(|r| r.from);
        assert_eq!(from, Some("10.0.0.5:5353".parse().unwrap()));
        assert_eq!(
            (translation.protocol, translation.replied),
            (Protocol::Udp, false)
        );
        assert_eq!(lookup.translation(Protocol::Tcp, orig).unwrap().reply, None);
    });
}

#[test]
fn a_tuple_of_two_families_is_refused_before_asking() {
    let orig = Tuple {
        from: "10.0.0.5:1".parse().unwrap(),
        to: "[fd00::5]:80".parse().unwrap(),
    };
    let asked = Lookup::open().unwrap().translation(Protocol::Tcp, orig);
    assert!(matches!(asked, Err(Error::MixedFamilies { .. })));
}
