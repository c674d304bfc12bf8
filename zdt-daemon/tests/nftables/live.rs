//! Rules in a real kernel, written the way kube-proxy writes them, one endpoint changed.

use std::{
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::io::unix::AsyncFd;
use zdt_daemon::{
    clock,
    netfilter::{
        nftables::{Losses, Watcher},
        ruleset::{Backend, Generation, RouteChange},
    },
};

use super::{cluster, netns, recorded};

/// The generations of the next notification that changes routes, or none within `within`.
pub fn next(watcher: &mut Watcher, within: Duration) -> Vec<Generation> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = readiness(watcher.as_fd().try_clone_to_owned().unwrap());
        let until = tokio::time::Instant::now() + within;
        while let Ok(readable) = tokio::time::timeout_at(until, socket.readable()).await {
            readable.unwrap().clear_ready();
            let generations = watcher.next_generations(clock::now()).unwrap();
            if !generations.is_empty() {
                return generations;
            }
        }
        Vec::new()
    })
}

#[expect(
    unsafe_code,
    reason = "AsyncFd::register relies on the descriptor staying the same file"
)]
fn readiness(fd: OwnedFd) -> AsyncFd<OwnedFd> {
    // SAFETY: an `OwnedFd` names the same open file until it is dropped, which `AsyncFd` does after deregistering.
    unsafe { AsyncFd::register(fd) }.unwrap()
}

/// What `nft` can read back of what it listed: chains before the maps that lead to them, without handles.
fn loadable(listing: &str) -> String {
    let listing: Value = serde_json::from_str(listing).unwrap();
    let objects = listing["nftables"].as_array().unwrap();
    let mut commands = Vec::new();
    for kind in ["table", "chain", "set", "map", "rule"] {
        commands.extend(
            objects
                .iter()
                .filter(|o| o.get(kind).is_some())
                .map(|o| json!({"add": o})),
        );
    }
    json!({ "nftables": commands }).to_string()
}

#[test]
fn a_table_replaced_as_a_whole_is_read_again_and_its_change_told_once() {
    netns::in_namespace(|| {
        netns::feed("iptables-nft-restore", recorded::IPTABLES_BEFORE_SAVE);
        let mut watcher = Watcher::open().unwrap();
        let before = recorded::of_save(recorded::IPTABLES_BEFORE_SAVE);
        assert_eq!(watcher.routes(), before);

        // Without --noflush it deletes the table and makes it anew, in one transaction.
        netns::feed("iptables-nft-restore", recorded::IPTABLES_AFTER_SAVE);
        let generations = next(&mut watcher, Duration::from_secs(1));

        let after = recorded::of_save(recorded::IPTABLES_AFTER_SAVE);
        let [generation] = &generations[..] else {
            panic!("{generations:#?}")
        };
        assert_eq!(generation.change, before.diff(&after));
        assert_eq!(generation.backend, Backend::IptablesNft);
        // TASK_COMM_LEN is 16.
        assert_eq!(generation.by.as_deref(), Some("iptables-nft-re"));
        assert!(generation.resynced);
        assert_eq!(watcher.routes(), after);
        let expected = Losses {
            tables_deleted: 1,
            resyncs: 1,
            ..Losses::default()
        };
        assert_eq!(watcher.losses(), expected);
    });
}

#[test]
fn nftables_mode_a_real_rule_set_is_read_and_its_change_seen() {
    netns::in_namespace(|| {
        netns::feed("nft -j -f -", &loadable(recorded::NFTABLES_BEFORE));
        let mut watcher = Watcher::open().unwrap();
        let before = recorded::of_listing(recorded::NFTABLES_BEFORE);
        assert_eq!(watcher.routes(), before);

        netns::feed(
            "nft -f -",
            "flush chain ip kube-proxy service-PFISGYVC-default/web/tcp/
             add rule ip kube-proxy service-PFISGYVC-default/web/tcp/ meta l4proto tcp dnat ip addr . port to \
                numgen random mod 2 map { 0 : 10.244.0.24 . 8080, 1 : 10.244.1.19 . 8080 }",
        );
        let generations = next(&mut watcher, Duration::from_secs(1));

        let [generation] = &generations[..] else {
            panic!("{generations:#?}")
        };
        assert_eq!(
            generation.change.removed,
            [recorded::tcp("10.244.1.18:8080".parse().unwrap())]
        );
        assert_eq!(generation.change.added, []);
        assert_eq!(generation.by.as_deref(), Some("nft"));
        assert_eq!(generation.backend, Backend::Nftables);
        assert_eq!(watcher.routes().len(), before.len() - 1);
        assert_eq!(watcher.losses(), Losses::default());
    });
}

/// Opens watchers while a writer goes on changing one service; all must agree with a look at the end.
fn opened_between_writes(command: &'static str, write: impl Fn(u32, &[u32]) -> String + Sync) {
    let done = AtomicBool::new(false);
    let mut watchers = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..30 {
                netns::feed(command, &write(round % 7, &[round % cluster::ENDPOINTS]));
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let mut watcher = Watcher::open().unwrap();
            watcher.next_generations(clock::now()).unwrap();
            watchers.push(watcher);
        }
    });
    let expected = Watcher::open().unwrap().routes();
    assert!(
        watchers.len() > 5,
        "{} watchers: the writer was too fast",
        watchers.len()
    );
    for watcher in &mut watchers {
        let mut known = watcher.routes();
        for generation in watcher.next_generations(clock::now()).unwrap() {
            assert!(!generation.resynced);
            known.apply(&generation.change);
        }
        assert_eq!(known.diff(&expected), RouteChange::default(), "told");
        assert_eq!(watcher.routes().diff(&expected), RouteChange::default(), "held");
        let losses = watcher.losses();
        let interrupted = losses.interrupted;
        assert_eq!(
            losses,
            Losses {
                interrupted,
                ..Losses::default()
            }
        );
    }
}

#[test]
fn a_watcher_opened_between_two_writes_misses_neither() {
    const SERVICES: u32 = 250;
    netns::in_namespace(|| {
        netns::feed("nft -f -", &cluster::nftables(SERVICES));
        opened_between_writes("nft -f -", cluster::nftables_without);
    });
    netns::in_namespace(|| {
        for input in cluster::iptables(SERVICES) {
            netns::feed("iptables-nft-restore --noflush", &input);
        }
        let write = |service: u32, gone: &[u32]| cluster::iptables_without(SERVICES, service, gone);
        opened_between_writes("iptables-nft-restore --noflush", write);
    });
}
