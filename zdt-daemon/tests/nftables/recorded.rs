//! Replays of a real kube-proxy's notifications.

use std::{collections::BTreeMap, net::SocketAddr};

use serde_json::Value;
use zdt_daemon::{
    input::Ktime,
    netfilter::{
        nftables::{Losses, Tracker},
        ruleset::{Backend, Generation, Protocol, Route, Routes},
    },
};

use super::seed;

pub const IPTABLES: &str = include_str!("../fixtures/netfilter/iptables-notifications.jsonl");
pub const IPTABLES_BEFORE: &str = include_str!("../fixtures/netfilter/iptables-before.nft.json");
pub const IPTABLES_BEFORE_SAVE: &str = include_str!("../fixtures/netfilter/iptables-before.iptables-save");
pub const IPTABLES_AFTER_SAVE: &str = include_str!("../fixtures/netfilter/iptables-after.iptables-save");
pub const NFTABLES: &str = include_str!("../fixtures/netfilter/nftables-notifications.jsonl");
pub const NFTABLES_BEFORE: &str = include_str!("../fixtures/netfilter/nftables-before.nft.json");
pub const NFTABLES_AFTER: &str = include_str!("../fixtures/netfilter/nftables-after.nft.json");

/// Generations 159, 161, 163, 165 and 167 are of the filter table; 164 rewrites the service as it is.
const IPTABLES_TOLD: [&str; 4] = [
    "0.011 160 iptables-restor +10.244.0.18:8080 -10.244.1.13:8080 -10.244.1.15:8080",
    "1.043 162 iptables-restor +10.244.0.19:8080 +10.244.1.16:8080 -10.244.0.17:8080 -10.244.1.14:8080",
    "9.623 166 iptables-restor +10.244.0.20:8080 +10.244.1.17:8080 -10.244.0.18:8080 -10.244.0.19:8080",
    "10.650 168 iptables-restor +10.244.0.21:8080 -10.244.1.16:8080",
];

/// Generations 208 and 209 rewrite the service as it is.
const NFTABLES_TOLD: [&str; 5] = [
    "0.000 206 nft +10.244.1.20:8080 -10.244.1.18:8080",
    "1.021 207 nft +10.244.0.26:8080 +10.244.1.21:8080 -10.244.0.24:8080 -10.244.1.19:8080",
    "10.673 210 nft +10.244.0.27:8080 -10.244.1.21:8080",
    "11.701 211 nft -10.244.1.20:8080",
    "12.717 212 nft +10.244.0.28:8080 +10.244.1.22:8080 -10.244.0.26:8080",
];

pub fn tcp(to: SocketAddr) -> Route {
    Route {
        protocol: Protocol::Tcp,
        to,
    }
}

/// The datagrams of a recording with their times.
pub fn datagrams(recording: &str) -> Vec<(Ktime, Vec<u8>)> {
    let datagram = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let hex = line["hex"].as_str().unwrap();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (
            Ktime(line["t"].as_u64().unwrap()),
            (0..hex.len()).step_by(2).map(byte).collect(),
        )
    };
    recording.lines().map(datagram).collect()
}

pub fn seeded(listing: &str, destinations: &BTreeMap<String, SocketAddr>) -> Tracker {
    let mut tracker = Tracker::default();
    for message in seed::dump(listing, destinations) {
        tracker.dumped(&message);
    }
    tracker.dump_ended(None);
    tracker
}

pub fn replay(tracker: &mut Tracker, recording: &str) -> Vec<Generation> {
    let mut generations = Vec::new();
    for (at, datagram) in datagrams(recording) {
        tracker.notified(&datagram, at, &mut generations);
    }
    generations
}

/// What `iptables-save` says: every endpoint whose chain some rule jumps to.
pub fn of_save(save: &str) -> Routes {
    let jumped_to = |(chain, _): &(&String, _)| save.lines().any(|l| l.ends_with(&format!("-j {chain}")));
    let all = seed::destinations(save);
    all.iter().filter(jumped_to).map(|(_, to)| tcp(*to)).collect()
}

/// What `nft -j` says: every address and port that some rule translates to.
pub fn of_listing(listing: &str) -> Routes {
    let listing: Value = serde_json::from_str(listing).unwrap();
    let mut routes = Vec::new();
    for rule in listing["nftables"].as_array().unwrap() {
        for part in rule["rule"]["expr"].as_array().into_iter().flatten() {
            for element in part["dnat"]["addr"]["map"]["data"]["set"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let to = &element[1]["concat"];
                routes.push(tcp(format!("{}:{}", to[0].as_str().unwrap(), to[1])
                    .parse()
                    .unwrap()));
            }
        }
    }
    routes.into_iter().collect()
}

/// One line for each generation: seconds since the first datagram, number, process, + added, - removed.
pub fn told(generations: &[Generation], recording: &str) -> Vec<String> {
    let start = datagrams(recording)[0].0;
    let line = |g: &Generation| {
        assert!(!g.resynced);
        let added = g.change.added.iter().map(|r| format!(" +{}", r.to));
        let removed = g.change.removed.iter().map(|r| format!(" -{}", r.to));
        let changes: String = added.chain(removed).collect();
        format!(
            "{:.3} {} {}{changes}",
            g.at.ms_since(start) / 1e3,
            g.generation.unwrap(),
            g.by.as_deref().unwrap()
        )
    };
    generations.iter().map(line).collect()
}

#[test]
fn iptables_mode_each_endpoint_change_of_a_rollout_is_told_once_in_its_generation() {
    let before = of_save(IPTABLES_BEFORE_SAVE);
    let mut tracker = seeded(IPTABLES_BEFORE, &seed::destinations(IPTABLES_BEFORE_SAVE));
    assert_eq!(tracker.routes(), before);
    assert_eq!(before.len(), 5);

    let generations = replay(&mut tracker, IPTABLES);

    assert!(generations.iter().all(|g| g.backend == Backend::IptablesNft));
    assert_eq!(told(&generations, IPTABLES), IPTABLES_TOLD);
    assert_eq!(tracker.routes(), of_save(IPTABLES_AFTER_SAVE));
    only_foreign(tracker.losses());
}

#[test]
fn nftables_mode_each_endpoint_change_of_a_rollout_is_told_once_in_its_generation() {
    let mut tracker = seeded(NFTABLES_BEFORE, &BTreeMap::new());
    assert_eq!(tracker.routes(), of_listing(NFTABLES_BEFORE));
    assert_eq!(tracker.routes().len(), 4);

    let generations = replay(&mut tracker, NFTABLES);

    assert!(generations.iter().all(|g| g.backend == Backend::Nftables));
    assert_eq!(told(&generations, NFTABLES), NFTABLES_TOLD);
    assert_eq!(tracker.routes(), of_listing(NFTABLES_AFTER));
    only_foreign(tracker.losses());
}

fn only_foreign(losses: Losses) {
    assert_eq!(
        losses,
        Losses {
            foreign: losses.foreign,
            ..Losses::default()
        }
    );
}
