//! The fuzz targets start from what real kernels sent: their corpora are made of the fixtures, and are what the fixtures
//! make. `ZDT_BLESS=1 cargo test -p zdt-daemon --test corpus` writes them anew.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "a test as a whole; the modules are shared with others that use more of them"
)]

#[path = "corpus/others.rs"]
mod others;
#[path = "nftables/seed.rs"]
mod seed;

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::Value;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("fixtures/netfilter/", $name))
    };
}

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target)
}

fn datagrams(recording: &str) -> Vec<Vec<u8>> {
    let datagram = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let hex = line["hex"].as_str().unwrap();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    };
    recording.lines().map(datagram).collect()
}

/// Of `fuzz_targets/nftables.rs`: the length of the dump, the dump, the notifications.
fn nftables(dump: &[Vec<u8>], notified: &[Vec<u8>]) -> Vec<u8> {
    let dump = dump.concat();
    let length = u32::try_from(dump.len()).unwrap().to_le_bytes();
    [&length[..], &dump, &notified.concat()].concat()
}

/// Writes or compares. What a fuzzer has found beside them stays.
fn holds(target: &str, seeds: &BTreeMap<String, Vec<u8>>) {
    let dir = corpus(target);
    if std::env::var_os("ZDT_BLESS").is_some() {
        fs::create_dir_all(&dir).unwrap();
        for (name, seed) in seeds {
            fs::write(dir.join(name), seed).unwrap();
        }
    }
    for (name, seed) in seeds {
        let kept = fs::read(dir.join(name)).unwrap_or_default();
        assert!(
            kept == *seed,
            "{target}/{name} is not what the fixtures make: ZDT_BLESS=1 writes it"
        );
    }
}

#[test]
fn nftables_starts_from_a_real_kube_proxys_dumps_and_notifications() {
    let save = fixture!("iptables-before.iptables-save");
    let iptables = seed::dump(fixture!("iptables-before.nft.json"), &seed::destinations(save));
    let nftables_mode = seed::dump(fixture!("nftables-before.nft.json"), &BTreeMap::new());
    let mut seeds = BTreeMap::new();
    for (mode, dump, recording) in [
        ("iptables", iptables, fixture!("iptables-notifications.jsonl")),
        (
            "nftables",
            nftables_mode,
            fixture!("nftables-notifications.jsonl"),
        ),
    ] {
        let notified = datagrams(recording);
        // Long ones are slow, and two generations have all that the others have. NFT_MSG_NEWGEN is 15 and comes alone.
        let mut ends = notified
            .iter()
            .enumerate()
            .filter(|(_, datagram)| datagram[4] == 15);
        let (second, _) = ends.nth(1).unwrap();
        let first = &notified[..=second];
        seeds.insert(format!("{mode}-rollout"), nftables(&dump, first));
        seeds.insert(format!("{mode}-dump"), nftables(&dump, &[]));
        // Short ones are changed more often: each kind of message once.
        let mut kinds: BTreeMap<[u8; 2], &Vec<u8>> = BTreeMap::new();
        for datagram in &notified {
            kinds.entry([datagram[4], datagram[5]]).or_insert(datagram);
        }
        for ([kind, _], datagram) in kinds {
            seeds.insert(
                format!("{mode}-{kind}"),
                nftables(&[], std::slice::from_ref(datagram)),
            );
        }
    }
    holds("nftables", &seeds);
}

#[test]
fn conntrack_starts_from_a_real_clusters_entries() {
    let all = datagrams(fixture!("conntrack-notifications.jsonl"));
    let seeds = all.into_iter().enumerate();
    holds(
        "conntrack",
        &seeds.map(|(n, d)| (format!("entry-{n:02}"), d)).collect(),
    );
}

#[test]
fn iptables_starts_from_tables_that_a_real_kernel_gave() {
    let blob = |name: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/netfilter/iptables/blobs");
        (name.to_owned(), fs::read(path.join(name)).unwrap())
    };
    holds(
        "iptables",
        &["before.nat4", "after.nat4", "before.nat6", "after.nat6"]
            .map(blob)
            .into(),
    );
}
