//! One endpoint of 50,000 goes: when zdt knows, and what that costs it beside the write itself. `cargo xtask bench rules`.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "a benchmark stops at the first surprise, as a test does; the modules are the tests'"
)]

#[path = "../tests/nftables/cluster.rs"]
mod cluster;
mod figures;
#[path = "../tests/iptables_legacy/world.rs"]
mod legacy;
#[path = "../tests/nftables/netns.rs"]
mod netns;

use std::{
    thread,
    time::{Duration, Instant},
};

use figures::{Args, Figures, Table};
use legacy::{Cost, Eyes, Writes as _};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::resource::UsageWho,
};
use zdt_daemon::{
    clock,
    netfilter::{
        iptables::{Family, LegacyTables, Pending},
        nftables::{Losses, Watcher},
        ruleset::Generation,
    },
};

const SERVICES: u32 = 10_000;
/// The endpoint of each touched service that goes.
const GONE: u32 = 2;

const METHOD: &str = "\
10,000 services with 5 endpoints each, in a network namespace. Each round removes one endpoint of another service, as
kube-proxy writes it. CPU is user and system time: the writer's of its process, zdt's of the thread that follows the rules.
\"known\" counts from the moment that the new rules were in force at the latest: the first notification of the transaction
(nf_tables), the kernel's report of the replaced table (legacy).";

const COLUMNS: &[figures::Column] = &[
    ("writer alone, CPU ms", 1),
    ("writer watched, CPU ms", 1),
    ("zdt CPU ms", 1),
    ("zdt / writer", 3),
    ("known after ms", 1),
];

/// One round's figures, in the order of the columns after the first.
struct Round {
    writer: f64,
    zdt: f64,
    known: f64,
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The first generation that changes routes.
fn next(watcher: &mut Watcher) -> Vec<Generation> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(30) {
        poll(
            &mut [PollFd::new(watcher.as_fd(), PollFlags::POLLIN)],
            PollTimeout::from(1000u16),
        )
        .unwrap();
        let generations = watcher.next_generations(clock::now()).unwrap();
        if !generations.is_empty() {
            return generations;
        }
    }
    panic!("no change came in 30 s")
}

fn watched(watcher: &mut Watcher, command: &str, input: &str) -> Round {
    let before = netns::cpu(UsageWho::RUSAGE_THREAD);
    let (generations, known, writer) = thread::scope(|scope| {
        let writer = scope.spawn(|| netns::feed(command, input));
        let generations = next(watcher);
        (generations, clock::now(), writer.join().unwrap())
    });
    let zdt = netns::cpu(UsageWho::RUSAGE_THREAD).saturating_sub(before);
    let [generation] = &generations[..] else {
        panic!("{generations:#?}")
    };
    assert_eq!(
        (generation.change.removed.len(), generation.change.added.len()),
        (1, 0)
    );
    assert_eq!(watcher.losses(), Losses::default());
    Round {
        writer: ms(writer),
        zdt: ms(zdt),
        known: known.ms_since(generation.at),
    }
}

/// Each service's turn comes once: the first half without a watcher.
fn nf_tables(
    rounds: usize,
    base: &[String],
    command: &'static str,
    write: impl Fn(u32) -> String,
) -> Vec<Figures> {
    let setup = if command.starts_with("nft") {
        "nft -f -"
    } else {
        command
    };
    for input in base {
        netns::feed(setup, input);
    }
    let rounds = u32::try_from(rounds).unwrap();
    let alone: Figures = (0..rounds).map(|n| ms(netns::feed(command, &write(n)))).collect();
    let mut watcher = Watcher::open().unwrap();
    let measured = (rounds..2 * rounds).map(|n| watched(&mut watcher, command, &write(n)));
    columns(alone, &measured.collect::<Vec<_>>())
}

fn columns(alone: Figures, rounds: &[Round]) -> Vec<Figures> {
    vec![
        alone,
        rounds.iter().map(|r| r.writer).collect(),
        rounds.iter().map(|r| r.zdt).collect(),
        rounds.iter().map(|r| r.zdt / r.writer).collect(),
        rounds.iter().map(|r| r.known).collect(),
    ]
}

/// The kernel half sees the table replaced; the table is then read once.
fn legacy_tables(rounds: usize) -> Vec<Figures> {
    let world = legacy::World::new();
    world.enter();
    let (family, services) = (Family::V4, SERVICES as usize);
    world.restore(family, &legacy::kube_proxy(family, services, 5));
    let shrink = |s| legacy::shrink(family, s, 4, 5);
    let alone: Figures = (0..rounds)
        .map(|n| world.restore(family, &shrink(n)).cpu_ms)
        .collect();
    let mut tables = LegacyTables::open().unwrap();
    tables.read(clock::now(), None).unwrap().unwrap();
    let mut eyes = Eyes::open(&world);
    eyes.drain();
    let mut measured = Vec::new();
    for service in rounds..2 * rounds {
        let mut pending = Pending::default();
        let writer = world.restore(family, &shrink(service));
        let mut zdt = 0.0;
        let (removed, known) = loop {
            for input in std::iter::once(eyes.replaced()).chain(eyes.drain()) {
                if let zdt_daemon::input::What::Kernel(observation) = &input.what {
                    pending.observe(input.at, observation);
                }
            }
            while pending.due().is_some_and(|due| clock::now() < due) {
                thread::sleep(Duration::from_micros(100));
            }
            let Some(read) = pending.take(clock::now()) else {
                continue;
            };
            let at = read.at;
            let (cost, generation) = Cost::of(|| tables.read_one(read).unwrap());
            zdt += cost.cpu_ms;
            if let Some(generation) = generation {
                break (generation.change.removed, clock::now().ms_since(at));
            }
        };
        assert_eq!(removed.len(), 1);
        assert_eq!(removed[0].to.to_string(), family.endpoint(service, 4));
        measured.push(Round {
            writer: writer.cpu_ms,
            zdt,
            known,
        });
    }
    columns(alone, &measured)
}

fn main() {
    let args = Args::read(5);
    let rounds = args.rounds;
    let mut table = Table::new("kube-proxy's mode", COLUMNS);
    eprintln!("iptables mode, nft backend ...");
    let iptables = netns::in_namespace(move || {
        let write = |n: u32| cluster::iptables_without(SERVICES, 7 + n, &[GONE]);
        nf_tables(
            rounds,
            &cluster::iptables(SERVICES),
            "iptables-nft-restore --noflush",
            write,
        )
    });
    table.row("iptables, nft backend", iptables);
    eprintln!("nftables mode ...");
    let nftables = netns::in_namespace(move || {
        let write = |n: u32| cluster::nftables_without(7 + n, &[GONE]);
        nf_tables(rounds, &[cluster::nftables(SERVICES)], "nft -f -", write)
    });
    table.row("nftables", nftables);
    eprintln!("iptables mode, legacy backend ...");
    // On a thread of its own, which stays in the namespace.
    let legacy = thread::spawn(move || legacy_tables(rounds)).join().unwrap();
    table.row("iptables, legacy backend", legacy);
    args.print(METHOD, &[table]);
}
