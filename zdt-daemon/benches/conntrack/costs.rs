//! What one question costs, by how many entries the table has.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    thread,
    time::Instant,
};

use nix::sched::{CloneFlags, unshare};
use zdt_daemon::{
    input::{Protocol, Tuple},
    netfilter::{conntrack::Lookup, counters::Counters, dump::Counter},
};

use crate::{
    figures::{Figures, Table},
    run,
};

const ENTRIES: [u32; 3] = [0, 10_000, 100_000];
/// Look-ups in one figure.
const BATCH: u32 = 500;
/// A pod; each gets so many entries.
const PER_POD: u32 = 100;

fn pod(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a01_0000 + n)
}

/// Datagrams to addresses that take none: an entry each.
fn fill(entries: u32) -> SocketAddr {
    for command in [
        "ip link set lo up",
        "ip route add local 10.1.0.0/16 dev lo",
        "iptables -A INPUT -p udp -m conntrack --ctstate NEW -j DROP",
        "sysctl -q -w net.netfilter.nf_conntrack_udp_timeout=3600",
    ] {
        run(command);
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..entries {
        let port = u16::try_from(1000 + n % PER_POD).unwrap();
        socket.send_to(b"?", (pod(n / PER_POD), port)).unwrap();
    }
    socket.local_addr().unwrap()
}

fn micros<T>(times: u32, mut f: impl FnMut() -> T) -> f64 {
    let started = Instant::now();
    for _ in 0..times {
        f();
    }
    started.elapsed().as_secs_f64() * 1e6 / f64::from(times)
}

fn figures<T>(rounds: usize, times: u32, mut f: impl FnMut() -> T) -> Figures {
    f();
    (0..rounds).map(|_| micros(times, &mut f)).collect()
}

fn with(entries: u32, rounds: usize) -> Vec<Figures> {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let from = fill(entries);
    let (mut lookup, mut counters) = (Lookup::open().unwrap(), Counters::open().unwrap());
    assert_eq!(counters.since_last().unwrap().entries, u64::from(entries));
    let orig = |to: Ipv4Addr| Tuple {
        from,
        to: SocketAddr::from((to, 1000)),
    };
    let found = lookup.translation(Protocol::Udp, orig(pod(0))).unwrap();
    assert_eq!(found.reply.is_some(), entries > 0);
    let one = [IpAddr::V4(pod(0))];
    let ten: Vec<IpAddr> = (0..10).map(|n| IpAddr::V4(pod(n))).collect();
    let six = [IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let (mut filtered, mut unfiltered) = (Counter::default(), Counter::unfiltered());
    let expected = if entries > 0 { PER_POD } else { 0 };
    assert_eq!(filtered.pinned(&one).unwrap()[0].udp, expected);
    assert_eq!(unfiltered.pinned(&one).unwrap()[0].udp, expected);
    vec![
        figures(rounds, BATCH, || {
            lookup.translation(Protocol::Udp, orig(pod(0))).unwrap()
        }),
        figures(rounds, BATCH, || {
            lookup.translation(Protocol::Tcp, orig(pod(0))).unwrap()
        }),
        figures(rounds, BATCH, || counters.since_last().unwrap()),
        figures(rounds, 1, || filtered.pinned(&one).unwrap()),
        figures(rounds, 1, || filtered.pinned(&ten).unwrap()),
        figures(rounds, 1, || unfiltered.pinned(&one).unwrap()),
        figures(rounds, 1, || filtered.pinned(&six).unwrap()),
    ]
}

pub fn table(rounds: usize) -> Table {
    let mut table = Table::new(
        "entries",
        &[
            ("look-up, found, us", 1),
            ("look-up, none, us", 1),
            ("counters, us", 1),
            ("dump of 1 pod, us", 0),
            ("of 10 pods, us", 0),
            ("unfiltered, us", 0),
            ("of 1 IPv6 pod, us", 0),
        ],
    );
    for entries in ENTRIES {
        // On a thread of its own: the namespace ends with it.
        let figures = thread::spawn(move || with(entries, rounds)).join().unwrap();
        table.row(entries.to_string(), figures);
    }
    table
}
