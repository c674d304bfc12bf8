//! Legacy iptables for real: tables replaced in a namespace of this test, seen by the kernel half, read, compared.
//! Needs root, and fails without.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

#[path = "iptables_legacy/world.rs"]
mod world;

use std::collections::BTreeSet;

use world::{Cost, Eyes, World, Writes as _, grow, kube_proxy, seen, shrink};
use zdt_daemon::{
    clock,
    input::{Input, What},
    netfilter::{
        iptables::{Error, Family, LegacyTables, Pending, Read},
        losses::{Counts, Loss},
        ruleset::{Backend, Protocol, Route},
    },
};

fn a_replacement_is_reported(family: Family) {
    let world = World::new();
    let other = World::new();
    let mut eyes = Eyes::open(&world);
    let before = clock::now();
    other.restore(family, &kube_proxy(family, 3, 2));
    world.restore(family, &kube_proxy(family, 3, 2));
    let (at, table, number, by, netns) = seen(&eyes.replaced());
    let after = clock::now();
    assert_eq!(
        (table.as_str(), number, netns),
        ("nat", family.number(), world.inum())
    );
    assert!(by.starts_with("ip"), "{by}");
    assert!(before < at && at < after);
    assert!(eyes.drain().is_empty(), "one replacement is one event");
    world.restore(family, &shrink(family, 1, 1, 2));
    assert_eq!(seen(&eyes.replaced()).1, "nat");
}

#[test]
fn a_replaced_ipv4_table_is_reported_with_its_name_and_its_writer() {
    a_replacement_is_reported(Family::V4);
}

#[test]
fn a_replaced_ipv6_table_is_reported_with_its_name_and_its_writer() {
    a_replacement_is_reported(Family::V6);
}

/// The endpoints, as the parser and the reader say them.
fn routes(tables: &LegacyTables, family: Family) -> BTreeSet<String> {
    let known = tables.known(family);
    assert_eq!(known.odd, 0);
    known.routes.iter().map(|route| route.to.to_string()).collect()
}

fn endpoints(family: Family, of: impl Iterator<Item = (usize, usize)>) -> BTreeSet<String> {
    of.map(|(s, e)| canonical(&family.endpoint(s, e))).collect()
}

fn canonical(endpoint: &str) -> String {
    endpoint.parse::<std::net::SocketAddr>().unwrap().to_string()
}

fn tos(routes: &[Route]) -> Vec<String> {
    assert!(routes.iter().all(|route| route.protocol == Protocol::Tcp));
    routes.iter().map(|route| route.to.to_string()).collect()
}

/// What the daemon does with an event.
fn next_read(eyes: &mut Eyes, pending: &mut Pending) -> Read {
    loop {
        if let Some(read) = pending.take(clock::now()) {
            return read;
        }
        if pending.due().is_none() {
            see(pending, &eyes.replaced());
        }
        for input in eyes.drain() {
            see(pending, &input);
        }
        std::thread::yield_now();
    }
}

fn see(pending: &mut Pending, input: &Input) {
    let What::Kernel(observation) = &input.what else {
        panic!("{input:?}")
    };
    pending.observe(input.at, observation);
}

fn a_removed_endpoint_is_exactly_the_change(family: Family) {
    let world = World::new();
    world.enter();
    let mut eyes = Eyes::open(&world);
    let mut pending = Pending::default();
    let mut tables = LegacyTables::open().unwrap();
    assert_eq!(tables.read(clock::now(), None).unwrap(), None);

    world.restore(family, &kube_proxy(family, 20, 3));
    let read = next_read(&mut eyes, &mut pending);
    assert_eq!(read.family, family);
    let first = tables.read_one(read).unwrap().unwrap();
    let all = endpoints(family, (0..20).flat_map(|s| (0..3).map(move |e| (s, e))));
    assert_eq!(BTreeSet::from_iter(tos(&first.change.added)), all);
    assert_eq!(routes(&tables, family), all);

    let before = clock::now();
    world.restore(family, &shrink(family, 7, 2, 3));
    let after = clock::now();
    let read = next_read(&mut eyes, &mut pending);
    let generation = tables.read_one(read).unwrap().unwrap();
    assert_eq!(
        tos(&generation.change.removed),
        [canonical(&family.endpoint(7, 2))]
    );
    assert_eq!(tos(&generation.change.added), Vec::<String>::new());
    assert_eq!(generation.backend, Backend::IptablesLegacy);
    assert!(before < generation.at && generation.at < after);
    assert!(generation.by.as_deref().unwrap().starts_with("ip"));
    assert!(!generation.resynced);

    // The same rules again: another replacement, no change.
    world.restore(family, &shrink(family, 7, 2, 2));
    let read = next_read(&mut eyes, &mut pending);
    assert_eq!(tables.read_one(read).unwrap(), None);

    // A flush by hand.
    let mut flush = world.command(family.flusher(), &["-t", "nat", "-F"]);
    assert!(flush.status().unwrap().success());
    let read = next_read(&mut eyes, &mut pending);
    let generation = tables.read_one(read).unwrap().unwrap();
    assert_eq!(
        (generation.change.removed.len(), generation.change.added.len()),
        (59, 0)
    );
}

#[test]
fn a_removed_ipv4_endpoint_is_exactly_the_change() {
    a_removed_endpoint_is_exactly_the_change(Family::V4);
}

#[test]
fn a_removed_ipv6_endpoint_is_exactly_the_change() {
    a_removed_endpoint_is_exactly_the_change(Family::V6);
}

#[test]
fn both_families_are_one_read_when_nothing_says_which() {
    let world = World::new();
    world.enter();
    world.restore(Family::V4, &kube_proxy(Family::V4, 2, 2));
    world.restore(Family::V6, &kube_proxy(Family::V6, 2, 2));
    let mut tables = LegacyTables::open().unwrap();
    let generation = tables.read(clock::now(), None).unwrap().unwrap();
    assert!(generation.resynced, "the first read has nothing to compare with");
    assert_eq!(generation.change.added.len(), 8);
    assert_eq!(tables.read(clock::now(), None).unwrap(), None);
}

#[test]
fn reading_makes_no_table() {
    let world = World::new();
    world.enter();
    let names = || {
        ["ip_tables_names", "ip6_tables_names"]
            .map(|name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default())
    };
    assert_eq!(names(), ["", ""], "a new namespace has no tables");
    let mut tables = LegacyTables::open().unwrap();
    assert_eq!(tables.read(clock::now(), None).unwrap(), None);
    assert_eq!(names(), ["", ""]);
}

#[test]
fn a_table_above_the_limit_is_an_error_that_says_so_and_the_next_read_a_resync() {
    let world = World::new();
    world.enter();
    world.restore(Family::V4, &kube_proxy(Family::V4, 20, 2));
    let mut tables = LegacyTables::with_limit(10_000).unwrap();
    let error = tables.read(clock::now(), None).unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 10_000, .. }), "{error}");
    assert!(error.to_string().contains("more than the 10000 that zdt reads"));
    let mut flush = world.command("iptables-legacy", &["-t", "nat", "-F"]);
    assert!(flush.status().unwrap().success());
    let mut clear = world.command("iptables-legacy", &["-t", "nat", "-X"]);
    assert!(clear.status().unwrap().success());
    world.restore(Family::V4, &kube_proxy(Family::V4, 1, 1));
    let generation = tables.read(clock::now(), None).unwrap().unwrap();
    assert!(generation.resynced);
    assert_eq!(tos(&generation.change.added), [Family::V4.endpoint(0, 0)]);
}

#[test]
fn a_flush_by_hand_is_counted_and_a_service_without_endpoints_is_not() {
    let world = World::new();
    world.enter();
    world.restore(Family::V4, &kube_proxy(Family::V4, 1, 1));
    let mut tables = LegacyTables::open().unwrap();
    tables.read(clock::now(), None).unwrap().unwrap();
    world.restore(Family::V4, &shrink(Family::V4, 0, 0, 1));
    assert_eq!(
        tables
            .read(clock::now(), None)
            .unwrap()
            .unwrap()
            .change
            .removed
            .len(),
        1
    );
    assert_eq!(tables.counts(), Counts::default());

    world.restore(Family::V4, &grow(Family::V4, 0, 1));
    tables.read(clock::now(), None).unwrap().unwrap();
    let mut flush = world.command("iptables-legacy", &["-t", "nat", "-F"]);
    assert!(flush.status().unwrap().success());
    assert_eq!(
        tables
            .read(clock::now(), None)
            .unwrap()
            .unwrap()
            .change
            .removed
            .len(),
        1
    );
    assert_eq!(tables.counts().of(Loss::Flushed), 1);
}

#[test]
fn a_rule_that_cannot_be_understood_is_counted_while_it_stands() {
    let world = World::new();
    world.enter();
    world.restore(Family::V4, &kube_proxy(Family::V4, 2, 2));
    let mut tables = LegacyTables::open().unwrap();
    tables.read(clock::now(), None).unwrap().unwrap();
    let range = |operation| {
        let rule = "KUBE-SERVICES -p tcp -j DNAT --to-destination 10.9.0.1-10.9.0.4:80";
        let words: Vec<_> = ["-t", "nat", operation]
            .into_iter()
            .chain(rule.split(' '))
            .collect();
        assert!(
            world
                .command("iptables-legacy", &words)
                .status()
                .unwrap()
                .success()
        );
    };
    range("-A");
    assert_eq!(tables.read(clock::now(), None).unwrap(), None);
    assert_eq!(tables.counts().of(Loss::Odd), 1);
    range("-D");
    assert_eq!(tables.read(clock::now(), None).unwrap(), None);
    assert_eq!(tables.counts(), Counts::default());
}

/// A table that another thread rewrites all the time, in two sizes.
#[test]
fn a_table_that_changes_while_it_is_read_is_one_of_its_states() {
    let world = World::new();
    world.enter();
    let whole = kube_proxy(Family::V4, 40, 3);
    world.restore(Family::V4, &whole);
    let mut tables = LegacyTables::open().unwrap();
    let (mut reads, mut changes) = (0, 0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..20 {
                world.restore(Family::V4, &shrink(Family::V4, 5, 1, 3));
                world.restore(Family::V4, &grow(Family::V4, 5, 3));
            }
        });
        while !writer.is_finished() {
            let known = tables.known(Family::V4).routes.len();
            let generation = tables.read(clock::now(), None).unwrap();
            let now = tables.known(Family::V4).routes.len();
            assert!(now == 120 || now == 118, "{now}");
            assert_eq!(generation.is_some(), known != now);
            reads += 1;
            changes += usize::from(generation.is_some());
        }
    });
    assert!(reads > 40 && changes > 2, "{reads} reads, {changes} changes");
}

/// One endpoint of 50,000 goes. `cargo test -p zdt-daemon --test iptables_legacy ten_thousand -- --nocapture` prints
/// what it took; the ratio must hold in an unoptimised build too.
#[test]
fn one_read_of_ten_thousand_services_costs_less_than_the_write_before_it() {
    let world = World::new();
    world.enter();
    let mut eyes = Eyes::open(&world);
    let mut pending = Pending::default();
    let mut tables = LegacyTables::open().unwrap();
    let first = world.restore(Family::V4, &kube_proxy(Family::V4, 10_000, 5));
    let read = next_read(&mut eyes, &mut pending);
    tables.read_one(read).unwrap().unwrap();
    assert_eq!(routes(&tables, Family::V4).len(), 50_000);
    while pending.due().is_some() {
        let read = next_read(&mut eyes, &mut pending);
        assert_eq!(tables.read_one(read).unwrap(), None);
    }

    let write = world.restore(Family::V4, &shrink(Family::V4, 777, 4, 5));
    let read = next_read(&mut eyes, &mut pending);
    let (at, by) = (read.at, read.by.clone());
    let (cost, generation) = Cost::of(|| tables.read_one(read).unwrap().unwrap());
    let known = clock::now().ms_since(at);
    assert_eq!(tos(&generation.change.removed), [Family::V4.endpoint(777, 4)]);
    assert!(generation.change.added.is_empty());
    eprintln!(
        "10000 services, 50000 endpoints, by {by:?}\nfirst write {first:.0?}\none endpoint removed: write \
         {write:.0?}, read {cost:.0?}, known {known:.0} ms after the switch\nratio read/write: elapsed {:.3}, CPU {:.3}",
        cost.elapsed_ms / write.elapsed_ms,
        cost.cpu_ms / write.cpu_ms
    );
    assert!(cost.cpu_ms < write.cpu_ms, "{cost:?} {write:?}");
}
