//! Tests of `counters` against real counters, each in a network namespace of its own. They need root and fail without.

use std::net::UdpSocket;

use super::*;
use crate::netfilter::namespace;

const SETUP: &[&str] = &[
    "ip link set lo up",
    // conntrack works in a namespace while a rule asks for it.
    "iptables -A OUTPUT -m conntrack --ctstate INVALID -j DROP",
    "iptables -A INPUT -p tcp --dport 9 -j DROP",
];

fn in_namespace(test: impl FnOnce() + Send + 'static) {
    namespace::prepared(SETUP, test);
}

/// What the files of proc(5) say in this namespace.
fn proc(name: &str) -> u64 {
    let path = format!("/proc/sys/net/netfilter/{name}");
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

#[test]
fn entries_and_the_limit_are_what_proc_says_in_a_namespace_of_its_own() {
    in_namespace(|| {
        let mut counters = Counters::open().unwrap();
        let sockets: Vec<_> = (0..7).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for socket in &sockets {
            socket.send_to(b"?", "127.0.0.1:9").unwrap();
        }
        let state = counters.since_last().unwrap();
        assert_eq!(state.entries, 7);
        assert_eq!(state.entries, proc("nf_conntrack_count"));
        assert_eq!(state.max, proc("nf_conntrack_max"));
    });
}

#[test]
fn a_counter_is_told_as_its_change_and_once() {
    in_namespace(|| {
        let mut counters = Counters::open().unwrap();
        let first = counters.since_last().unwrap();
        assert_eq!((first.drop, first.invalid), (0, 0));
        // A TCP header with SYN and FIN belongs to no connection and can begin none (tcp_error in
        // net/netfilter/nf_conntrack_proto_tcp.c).
        let raw = socket2::Socket::new(
            socket2::Domain::IPV4,
            socket2::Type::RAW,
            Some(socket2::Protocol::TCP),
        )
        .unwrap();
        let mut segment = [0u8; 20];
        segment[3] = 9;
        segment[12] = 5 << 4;
        segment[13] = 0b11;
        let to: std::net::SocketAddr = "127.0.0.1:9".parse().unwrap();
        for _ in 0..3 {
            let _ = raw.send_to(&segment, &to.into());
        }
        assert_eq!(counters.since_last().unwrap().invalid, 3);
        assert_eq!(counters.since_last().unwrap().invalid, 0);
    });
}

/// Two clients want the one port that a masquerade may use towards one server (`get_unique_tuple` in
/// net/netfilter/nf_nat_core.c, `__nf_conntrack_confirm` in net/netfilter/nf_conntrack_core.c).
#[test]
fn an_entry_that_could_not_be_inserted_is_counted() {
    in_namespace(|| {
        namespace::run(
            "iptables -t nat -A POSTROUTING -p tcp --dport 9 -j SNAT --to-source 127.0.0.2:1000-1000",
        );
        let mut counters = Counters::open().unwrap();
        counters.since_last().unwrap();
        let connecting = || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let to: std::net::SocketAddr = "127.0.0.1:9".parse().unwrap();
            let _ = socket.connect(&to.into());
            socket
        };
        let _clients = [connecting(), connecting()];
        let state = counters.since_last().unwrap();
        assert!(state.insert_failed > 0, "{state:?}");
    });
}
