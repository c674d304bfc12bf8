//! One endpoint changed among many: when it is seen, and what that costs beside the write itself. For the figures:
//! `cargo test --release -p zdt-daemon --test nftables large -- --nocapture --test-threads 1`.

use std::{thread, time::Duration};

use nix::sys::resource::UsageWho;
use zdt_daemon::{
    clock,
    netfilter::nftables::{Losses, Watcher},
};

use super::{cluster, live, netns, recorded};

const SERVICES: u32 = 10_000;

/// The service and its endpoint that goes while the watcher waits; another of the same service has gone before.
const SERVICE: u32 = 7;
const GONE: u32 = 2;
const GONE_BEFORE: u32 = 4;

/// The promise is of the release build; a debug build decodes the 20,000 messages of one rewrite many times slower.
const MOST_MS: f64 = if cfg!(debug_assertions) { 1000.0 } else { 50.0 };

fn one_endpoint_goes(what: &str, command: &'static str, write: impl Fn(&[u32]) -> String) {
    let unwatched = netns::feed(command, &write(&[GONE_BEFORE]));
    let input = &write(&[GONE_BEFORE, GONE]);
    let started = netns::cpu(UsageWho::RUSAGE_THREAD);
    let mut watcher = Watcher::open().unwrap();
    let opened = netns::cpu(UsageWho::RUSAGE_THREAD).saturating_sub(started);
    let known = watcher.routes().len();

    let before = netns::cpu(UsageWho::RUSAGE_THREAD);
    let (generations, seen, (written, write_cpu)) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let cpu = netns::feed(command, input);
            (clock::now(), cpu)
        });
        let generations = live::next(&mut watcher, Duration::from_secs(30));
        (generations, clock::now(), writer.join().unwrap())
    });
    let watch_cpu = netns::cpu(UsageWho::RUSAGE_THREAD).saturating_sub(before);

    let [generation] = &generations[..] else {
        panic!("{generations:#?}")
    };
    let to = (cluster::endpoint(SERVICE, GONE), 8080).into();
    assert_eq!(generation.change.removed, [recorded::tcp(to)]);
    assert_eq!(generation.change.added, []);
    assert!(!generation.resynced);
    assert_eq!(watcher.losses(), Losses::default());
    assert_eq!(watcher.routes().len(), known - 1);
    let reading = seen.ms_since(generation.at);
    println!(
        "{what}: {known} routes read in {opened:.0?} CPU; change seen {reading:.1} ms after its first notification, \
         {:.1} ms after the writer ended; CPU {watch_cpu:.1?} of the writer's {write_cpu:.1?} (unwatched {unwatched:.1?}), ratio {:.3}",
        seen.ms_since(written),
        watch_cpu.as_secs_f64() / write_cpu.as_secs_f64()
    );
    assert!(reading < MOST_MS, "seen after {reading} ms");
}

fn iptables(services: u32) {
    netns::in_namespace(move || {
        for input in cluster::iptables(services) {
            netns::feed("iptables-nft-restore --noflush", &input);
        }
        let what = format!("iptables mode, {services} services");
        let write = |gone: &[u32]| cluster::iptables_without(services, SERVICE, gone);
        one_endpoint_goes(&what, "iptables-nft-restore --noflush", write);
    });
}

fn nftables(services: u32) {
    netns::in_namespace(move || {
        netns::feed("nft -f -", &cluster::nftables(services));
        let what = format!("nftables mode, {services} services");
        let write = |gone: &[u32]| cluster::nftables_without(SERVICE, gone);
        one_endpoint_goes(&what, "nft -f -", write);
    });
}

#[test]
fn iptables_mode_an_endpoint_removed_by_iptables_restore_is_seen_within_50_ms() {
    iptables(10);
}

#[test]
fn nftables_mode_an_endpoint_removed_by_nft_is_seen_within_50_ms() {
    nftables(10);
}

#[test]
fn iptables_mode_one_endpoint_among_50_000_is_seen_within_50_ms() {
    iptables(SERVICES);
}

#[test]
fn nftables_mode_one_endpoint_among_50_000_is_seen_within_50_ms() {
    nftables(SERVICES);
}
