//! Tests of `dump` against real tables, each in a network namespace of its own. They need root and fail without.

use std::net::{TcpListener, TcpStream, UdpSocket};

use super::*;
use crate::netfilter::namespace;

/// A service with one pod that answers and one that is gone, and a service with another pod.
const SETUP: &[&str] = &[
    "ip link set lo up",
    "ip addr add 10.0.0.5/32 dev lo",
    "ip addr add 10.0.0.6/32 dev lo",
    "ip addr add fd00::5/128 dev lo",
    "ip route add 10.96.0.0/16 dev lo",
    "ip route add fd00:96::/64 dev lo",
    "iptables -t nat -A OUTPUT -d 10.96.0.1 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.5:8080",
    "iptables -t nat -A OUTPUT -d 10.96.0.1 -p tcp --dport 90 -j DNAT --to-destination 10.0.0.5:9090",
    "iptables -t nat -A OUTPUT -d 10.96.0.1 -p udp --dport 53 -j DNAT --to-destination 10.0.0.5:5353",
    "iptables -t nat -A OUTPUT -d 10.96.0.2 -p udp --dport 53 -j DNAT --to-destination 10.0.0.6:5353",
    "ip6tables -t nat -A OUTPUT -d fd00:96::1 -p udp --dport 53 -j DNAT --to-destination [fd00::5]:5353",
    "iptables -A INPUT -p tcp --dport 9090 -j DROP",
    "iptables -A INPUT -p udp --dport 5353 -j DROP",
    "ip6tables -A INPUT -p udp --dport 5353 -j DROP",
];

fn in_namespace(test: impl FnOnce() + Send + 'static) {
    namespace::prepared(SETUP, test);
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn datagrams(from: &str, to: &str, count: usize) {
    for _ in 0..count {
        let socket = UdpSocket::bind(from).unwrap();
        socket.send_to(b"?", to).unwrap();
    }
}

/// One connection that is answered, two that are not, datagrams to both pods and in IPv6.
fn traffic() -> (TcpStream, TcpStream, Vec<socket2::Socket>) {
    let listener = TcpListener::bind("10.0.0.5:8080").unwrap();
    let client = TcpStream::connect("10.96.0.1:80").unwrap();
    let server = listener.accept().unwrap().0;
    let unanswered = (0..2).map(|_| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let to: std::net::SocketAddr = "10.96.0.1:90".parse().unwrap();
        socket.connect(&to.into()).unwrap_err();
        socket
    });
    let unanswered = unanswered.collect();
    datagrams("0.0.0.0:0", "10.96.0.1:53", 3);
    datagrams("0.0.0.0:0", "10.96.0.2:53", 4);
    datagrams("[::]:0", "[fd00:96::1]:53", 5);
    (client, server, unanswered)
}

const SERVERS: [&str; 4] = ["10.0.0.5", "10.0.0.6", "10.0.0.7", "fd00::5"];

fn counted(counter: &mut Counter) -> Vec<(u32, u32, u32)> {
    let pinned = counter.pinned(&SERVERS.map(ip)).unwrap();
    assert!(pinned.iter().map(|p| p.server).eq(SERVERS.map(ip)));
    pinned
        .iter()
        .map(|p| (p.established, p.unanswered, p.udp))
        .collect()
}

const COUNTS: [(u32, u32, u32); 4] = [(1, 2, 3), (0, 0, 4), (0, 0, 0), (0, 0, 5)];

#[test]
fn entries_are_counted_by_the_pod_that_they_lead_to() {
    in_namespace(|| {
        let _open = traffic();
        let mut counter = Counter::default();
        assert_eq!(counted(&mut counter), COUNTS);
        assert_eq!(counted(&mut counter), COUNTS, "and again");
        assert_eq!(counter.take_cut(), 0);
    });
}

#[test]
fn the_kernel_filters_ipv4() {
    in_namespace(|| {
        let _open = traffic();
        let mut counter = Counter::default();
        let pinned = counter
            .filtered(&[ip("10.0.0.5"), ip("10.0.0.6")])
            .unwrap()
            .unwrap();
        assert_eq!(pinned.iter().map(|p| p.udp).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(counter.v4, Filter::Works, "this kernel knows CTA_FILTER");
    });
}

/// On a kernel that sends of IPv6 what does not match, an answer for the only pod is empty.
#[test]
fn a_filter_that_does_the_reverse_is_noticed_also_when_its_answer_is_empty() {
    in_namespace(|| {
        let _open = traffic();
        let reversed = !only(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |_| {}).unwrap().0;
        let mut counter = Counter::default();
        let pinned = counter.filtered(&[ip("fd00::5")]).unwrap();
        assert_eq!(pinned.is_none(), reversed);
        let expected = if reversed { Filter::Useless } else { Filter::Works };
        assert_eq!(counter.v6, expected);
        assert_eq!(counted(&mut counter), COUNTS);
    });
}

#[test]
fn a_filter_pays_for_few_pods_among_many_entries() {
    assert!(Filter::Works.pays(1, 10));
    assert!(Filter::Works.pays(1, 100_000));
    assert!(Filter::Works.pays(6, 100_000));
    assert!(!Filter::Works.pays(10, 100_000));
    assert!(!Filter::Works.pays(2, 1_000));
    assert!(!Filter::Unproven.pays(1, 1_000), "its proof is a walk of its own");
    assert!(!Filter::Useless.pays(1, 100_000));
}

#[test]
fn one_dump_for_all_counts_the_same_where_the_kernel_does_not_filter() {
    in_namespace(|| {
        let _open = traffic();
        let mut counter = Counter::unfiltered();
        assert_eq!(counted(&mut counter), COUNTS);
        assert_eq!(counter.take_cut(), 0);
    });
}

#[test]
fn a_table_without_entries_proves_nothing() {
    in_namespace(|| {
        let mut counter = Counter::default();
        assert_eq!(counted(&mut counter), [(0, 0, 0); 4]);
        let pinned = counter
            .filtered(&[ip("10.0.0.5"), ip("fd00::5")])
            .unwrap()
            .unwrap();
        assert!(pinned.iter().all(|p| p.udp + p.established + p.unanswered == 0));
        assert_eq!((counter.v4, counter.v6), (Filter::Unproven, Filter::Unproven));
    });
}

#[test]
fn a_dump_beyond_its_bound_is_cut_and_counted() {
    in_namespace(|| {
        let _open = traffic();
        let mut counter = Counter {
            most: 4,
            ..Counter::unfiltered()
        };
        let counts = counted(&mut counter);
        let read: u32 = counts.iter().map(|(e, u, d)| e + u + d).sum();
        assert_eq!(read, 8, "4 of each family");
        assert_eq!(counter.take_cut(), 2);
        assert_eq!(counter.take_cut(), 0);
    });
}
