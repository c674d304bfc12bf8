//! Tests of the table parser: tables that the kernel gave for a real cluster's rules, made ones, and any bytes at all.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::netfilter::ruleset::{Protocol, Route};

/// What `IPT_SO_GET_ENTRIES` gave (6.18, iptables 1.8.9) for the rules of a real kube-proxy before and after a rolling
/// update; the IPv6 ones are the same rules with other addresses.
const BEFORE4: &[u8] = include_bytes!("blobs/before.nat4");
const AFTER4: &[u8] = include_bytes!("blobs/after.nat4");
const BEFORE6: &[u8] = include_bytes!("blobs/before.nat6");
const AFTER6: &[u8] = include_bytes!("blobs/after.nat6");

const REAL: [(&[u8], Family); 4] = [
    (BEFORE4, Family::V4),
    (AFTER4, Family::V4),
    (BEFORE6, Family::V6),
    (AFTER6, Family::V6),
];

fn tos(routes: &[Route]) -> Vec<String> {
    assert!(routes.iter().all(|r| r.protocol == Protocol::Tcp));
    routes.iter().map(|r| r.to.to_string()).collect()
}

fn routes(table: &[u8], family: Family) -> Vec<Route> {
    let table = parse(table, family).unwrap();
    assert_eq!(table.odd, 0);
    table.routes.iter().copied().collect()
}

#[test]
fn a_real_rolling_update_is_the_change_that_iptables_save_shows() {
    let before = parse(BEFORE4, Family::V4).unwrap();
    let after = parse(AFTER4, Family::V4).unwrap();
    let change = before.routes.diff(&after.routes);
    assert_eq!(
        tos(&change.removed),
        [
            "10.244.0.17:8080",
            "10.244.1.13:8080",
            "10.244.1.14:8080",
            "10.244.1.15:8080"
        ]
    );
    assert_eq!(
        tos(&change.added),
        ["10.244.0.20:8080", "10.244.0.21:8080", "10.244.1.17:8080"]
    );
    assert_eq!((before.odd, after.odd), (0, 0));
    assert!(tos(&routes(AFTER4, Family::V4)).contains(&"10.99.0.1:6443".to_owned()));
}

#[test]
fn the_same_in_ipv6() {
    assert_eq!(
        tos(&routes(AFTER6, Family::V6)),
        [
            "[fd00:99::1]:6443",
            "[fd00:244::20]:8080",
            "[fd00:244::21]:8080",
            "[fd00:244::1:17]:8080"
        ]
        .map(str::to_owned)
    );
    assert_eq!(routes(BEFORE6, Family::V6).len(), 5);
}

/// Writes tables as libiptc does, entry by entry.
struct Writer {
    family: Family,
    bytes: Vec<u8>,
}

impl Writer {
    fn new(family: Family) -> Self {
        let bytes = Vec::new();
        let mut writer = Self { family, bytes };
        writer.verdict(-2);
        writer
    }

    /// An entry; returns where it starts.
    fn entry(&mut self, proto: u16, inverted: u8, name: &[u8], revision: u8, rest: &[u8]) -> usize {
        let at = self.bytes.len();
        let (len, proto_at, target_at) = match self.family {
            Family::V4 => (112, 80, 88),
            Family::V6 => (168, 128, 140),
        };
        let target_len = (32 + rest.len()).next_multiple_of(8);
        let next = len + target_len;
        self.bytes.resize(at + next, 0);
        let entry = &mut self.bytes[at..];
        let put = |entry: &mut [u8], offset: usize, value: usize| {
            entry[offset..offset + 2].copy_from_slice(&u16::try_from(value).unwrap().to_ne_bytes());
        };
        put(entry, proto_at, usize::from(proto));
        entry[if self.family == Family::V4 { 83 } else { 132 }] = inverted;
        put(entry, target_at, len);
        put(entry, target_at + 2, next);
        put(entry, len, target_len);
        entry[len + 2..len + 2 + name.len()].copy_from_slice(name);
        entry[len + 31] = revision;
        entry[len + 32..len + 32 + rest.len()].copy_from_slice(rest);
        at
    }

    fn verdict(&mut self, verdict: i32) -> usize {
        self.entry(0, 0, b"", 0, &verdict.to_ne_bytes())
    }

    fn jump(&mut self, to: usize) -> usize {
        self.verdict(i32::try_from(to).unwrap())
    }

    /// Where a jump to the chain goes.
    fn chain(&mut self, name: &[u8]) -> usize {
        let mut rest = [0; 32];
        rest[..name.len()].copy_from_slice(name);
        self.entry(0, 0, b"ERROR", 0, &rest);
        self.bytes.len()
    }

    fn dnat(&mut self, proto: u16, revision: u8, range: &[u8]) -> usize {
        self.entry(proto, 0, b"DNAT", revision, range)
    }
}

/// `struct nf_nat_range` with one address and port.
fn range(to: SocketAddr) -> Vec<u8> {
    let mut range = 3_u32.to_ne_bytes().to_vec();
    for _ in 0..2 {
        let mut address = [0; 16];
        match to.ip() {
            std::net::IpAddr::V4(ip) => address[..4].copy_from_slice(&ip.octets()),
            std::net::IpAddr::V6(ip) => address.copy_from_slice(&ip.octets()),
        }
        range.extend(address);
    }
    range.extend(to.port().to_be_bytes());
    range.extend(to.port().to_be_bytes());
    range
}

/// `struct nf_nat_ipv4_multi_range_compat` with one range.
fn multi_range(to: &str) -> Vec<u8> {
    let to: std::net::SocketAddrV4 = to.parse().unwrap();
    let mut range = 1_u32.to_ne_bytes().to_vec();
    range.extend(3_u32.to_ne_bytes());
    range.extend(to.ip().octets());
    range.extend(to.ip().octets());
    range.extend(to.port().to_be_bytes());
    range.extend(to.port().to_be_bytes());
    range
}

fn to(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn every_revision_and_protocol_of_dnat_is_read() {
    let mut w = Writer::new(Family::V4);
    w.chain(b"KUBE-SERVICES");
    w.dnat(6, 0, &multi_range("10.0.0.1:80"));
    w.dnat(17, 1, &range(to("10.0.0.2:53")));
    let mut range2 = range(to("10.0.0.3:5000"));
    range2.extend([0; 4]);
    w.dnat(132, 2, &range2);
    let found = routes(&w.bytes, Family::V4);
    let expect = [
        (Protocol::Tcp, "10.0.0.1:80"),
        (Protocol::Udp, "10.0.0.2:53"),
        (Protocol::Sctp, "10.0.0.3:5000"),
    ];
    assert_eq!(found, expect.map(|(protocol, t)| Route { protocol, to: to(t) }));
}

#[test]
fn a_chain_that_nothing_jumps_to_is_no_route() {
    let mut w = Writer::new(Family::V6);
    let lonely = w.chain(b"KUBE-SEP-LONELY");
    w.dnat(6, 1, &range(to("[fd00::1]:80")));
    w.verdict(-5);
    let used = w.chain(b"KUBE-SEP-USED");
    w.dnat(6, 1, &range(to("[fd00::2]:80")));
    w.verdict(-5);
    let other = w.chain(b"SOMEBODY-ELSES");
    w.jump(lonely);
    w.verdict(-5);
    w.chain(b"KUBE-NODEPORTS");
    w.jump(used);
    w.verdict(-5);
    let _ = other;
    assert_eq!(tos(&routes(&w.bytes, Family::V6)), ["[fd00::2]:80"]);
}

#[test]
fn chains_may_jump_in_circles() {
    let mut w = Writer::new(Family::V4);
    let first = w.chain(b"KUBE-SERVICES");
    let second = w.bytes.len() + 152 + 176;
    w.jump(second);
    assert_eq!(w.chain(b"KUBE-SVC-X"), second);
    w.jump(first);
    w.dnat(6, 0, &multi_range("10.0.0.1:80"));
    assert_eq!(tos(&routes(&w.bytes, Family::V4)), ["10.0.0.1:80"]);
}

#[test]
fn what_is_not_one_endpoint_is_counted_and_not_guessed() {
    let mut w = Writer::new(Family::V4);
    w.chain(b"KUBE-SERVICES");
    // Any protocol, an inverted protocol, a revision from the future, a range that is cut off, no port, two addresses.
    w.dnat(0, 0, &multi_range("10.0.0.1:80"));
    w.entry(6, 0x40, b"DNAT", 0, &multi_range("10.0.0.1:80"));
    w.dnat(6, 3, &range(to("10.0.0.1:80")));
    w.dnat(6, 1, &range(to("10.0.0.1:80"))[..32]);
    let mut no_port = multi_range("10.0.0.1:80");
    no_port[4] = 1;
    w.dnat(6, 0, &no_port);
    let mut two = multi_range("10.0.0.1:80");
    two[15] = 9;
    w.dnat(6, 0, &two);
    // A jump into the middle of a chain.
    w.jump(152 + 8);
    let table = parse(&w.bytes, Family::V4).unwrap();
    assert_eq!((table.routes.len(), table.odd), (0, 7));
}

#[test]
fn an_empty_table_has_no_routes() {
    for family in Family::ALL {
        assert_eq!(parse(&[], family).unwrap(), Table::default());
    }
}

#[test]
fn a_table_cut_off_anywhere_is_an_error_or_a_shorter_table() {
    let mut whole = 0;
    for end in 0..BEFORE4.len() {
        whole += usize::from(parse(&BEFORE4[..end], Family::V4).is_ok());
    }
    // 63 entries: it can end before each of them.
    assert_eq!(whole, 63);
}

#[test]
fn a_malformed_entry_says_where_it_is() {
    let mut w = Writer::new(Family::V4);
    w.verdict(-2);
    let at = w.bytes.len();
    w.verdict(-2);
    for (offset, value, what) in [
        (90, 100_u16, "the target is longer than the entry"),
        (90, 5000, "it is longer than the table"),
        (88, 8, "the target lies inside the entry's own fields"),
        (112, 8, "the target is shorter than its header"),
        (112, 64, "the target is longer than the entry"),
        (112, 32, "the target is too short for its kind"),
    ] {
        let mut bytes = w.bytes.clone();
        bytes[at + offset..at + offset + 2].copy_from_slice(&value.to_ne_bytes());
        assert_eq!(parse(&bytes, Family::V4), Err(Malformed { at, what }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        for family in Family::ALL {
            let _ = parse(&bytes, family);
        }
    }

    /// Bytes that look like entries get further in.
    #[test]
    fn a_real_table_with_bytes_changed_is_survived_and_bounded(
        which in 0..REAL.len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in any::<prop::sample::Index>(),
        keep in any::<bool>(),
    ) {
        let (real, family) = REAL[which];
        let mut bytes = real.to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if !keep {
            bytes.truncate(cut.index(real.len()));
        }
        if let Ok(table) = parse(&bytes, family) {
            prop_assert!(table.routes.len() as u64 + table.odd <= bytes.len() as u64 / 152);
        }
    }

    /// Every offset field, aimed at: sizes at their limits, jumps anywhere.
    #[test]
    fn lengths_and_jumps_at_their_limits_are_survived(
        which in 0..REAL.len(),
        entry in any::<prop::sample::Index>(),
        field in 0..4_usize,
        value in prop_oneof![
            Just(0_u16), Just(1), Just(31), Just(32), Just(111), Just(112), Just(168), Just(u16::MAX), any::<u16>()
        ],
        high in any::<u16>(),
    ) {
        let (real, family) = REAL[which];
        let starts: Vec<usize> = blob::entries(real, family).map(|e| e.unwrap().at).collect();
        let at = starts[entry.index(starts.len())];
        let (len, target_at) = if family == Family::V4 { (112, 88) } else { (168, 140) };
        let target = at + usize::from(u16::from_ne_bytes([real[at + target_at], real[at + target_at + 1]]));
        let mut bytes = real.to_vec();
        let offset = [at + target_at, at + target_at + 2, target, target + 32][field];
        prop_assert!(target >= at + len);
        bytes[offset..offset + 2].copy_from_slice(&value.to_ne_bytes());
        if field == 3 {
            bytes[offset + 2..offset + 4].copy_from_slice(&high.to_ne_bytes());
        }
        let _ = parse(&bytes, family);
    }

    #[test]
    fn any_range_of_any_revision_is_survived(revision: u8, range in proptest::collection::vec(any::<u8>(), 0..64)) {
        for family in Family::ALL {
            let _ = dnat::endpoint(family, revision, &range);
        }
    }

    #[test]
    fn an_endpoint_comes_back_as_it_was_written(octets: [u8; 16], port: u16, sctp: bool) {
        let endpoint = SocketAddr::new(octets.into(), port);
        let mut w = Writer::new(Family::V6);
        w.chain(b"KUBE-SERVICES");
        w.dnat(if sctp { 132 } else { 6 }, 1, &range(endpoint));
        let found = routes(&w.bytes, Family::V6);
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(found[0].to, endpoint);
        prop_assert_eq!(found[0].protocol == Protocol::Sctp, sctp);
    }
}
