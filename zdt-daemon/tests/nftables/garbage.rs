//! What no kernel sends, and any order of what one does: nothing panics, what is lost is counted, counting references finds
//! the same routes as walking all rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use proptest::{collection::vec, prelude::*, sample::Index};
use zdt_daemon::{
    input::Ktime,
    netfilter::{
        nftables::{Losses, Tracker},
        ruleset::Route,
    },
};

use super::{recorded, seed};

/// A change of real messages.
#[derive(Clone, Debug)]
enum Damage {
    Byte(Index, Index, u8),
    Cut(Index, Index),
    Twice(Index),
    Swap(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => any::<(Index, Index, u8)>().prop_map(|(d, b, v)| Damage::Byte(d, b, v)),
        1 => any::<(Index, Index)>().prop_map(|(d, b)| Damage::Cut(d, b)),
        1 => any::<Index>().prop_map(Damage::Twice),
        1 => any::<(Index, Index)>().prop_map(|(a, b)| Damage::Swap(a, b)),
    ]
}

fn damaged(recording: &str, damages: &[Damage]) -> Vec<Vec<u8>> {
    let mut datagrams: Vec<_> = recorded::datagrams(recording)
        .into_iter()
        .map(|(_, d)| d)
        .collect();
    for damage in damages {
        let count = datagrams.len();
        match damage {
            Damage::Byte(datagram, byte, value) => {
                let datagram = &mut datagrams[datagram.index(count)];
                if !datagram.is_empty() {
                    let at = byte.index(datagram.len());
                    datagram[at] = *value;
                }
            }
            Damage::Cut(datagram, byte) => {
                let datagram = &mut datagrams[datagram.index(count)];
                datagram.truncate(byte.index(datagram.len() + 1));
            }
            Damage::Twice(datagram) => {
                datagrams.insert(datagram.index(count), datagrams[datagram.index(count)].clone());
            }
            Damage::Swap(a, b) => datagrams.swap(a.index(count), b.index(count)),
        }
    }
    datagrams
}

fn survives(mut tracker: Tracker, datagrams: &[Vec<u8>]) {
    let mut generations = Vec::new();
    for datagram in datagrams {
        tracker.notified(datagram, Ktime(1), &mut generations);
    }
    let losses = tracker.losses();
    assert!(losses.unparsed == 0 || tracker.needs_resync(), "{losses:?}");
    let mut tracker = Tracker::default();
    for datagram in datagrams {
        tracker.dumped(datagram);
    }
    tracker.dump_ended(None);
    tracker.routes();
}

/// One step of a writer: a rule added to a chain, leading to a later chain or to an endpoint; one removed; the end of the
/// transaction.
#[derive(Clone, Debug)]
enum Step {
    Add(usize, Result<usize, u8>),
    Remove(Index),
    Commit,
}

const CHAINS: usize = 8;

fn step() -> impl Strategy<Value = Step> {
    let leads_to = prop_oneof![(1..CHAINS).prop_map(Ok), (0u8..6).prop_map(Err)];
    prop_oneof![
        4 => (0..CHAINS, leads_to).prop_map(|(chain, to)| Step::Add(chain, to)),
        3 => any::<Index>().prop_map(Step::Remove),
        1 => Just(Step::Commit),
    ]
}

fn endpoint(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 80))
}

type Rules = BTreeMap<u64, (usize, Result<usize, u8>)>;

/// The routes of all rules, found by walking them.
fn walked(rules: &Rules) -> BTreeSet<Route> {
    let mut reached = BTreeSet::from([0]);
    for from in 0..CHAINS {
        let of_chain = rules
            .values()
            .filter(|(chain, _)| *chain == from && reached.contains(&from));
        let next: Vec<_> = of_chain.filter_map(|(_, to)| to.ok()).collect();
        reached.extend(next);
    }
    let translating = rules.values().filter(|(chain, _)| reached.contains(chain));
    translating
        .filter_map(|(_, to)| to.err())
        .map(|n| recorded::tcp(endpoint(n)))
        .collect()
}

proptest! {
    #[test]
    fn any_bytes_are_survived(datagrams in vec(vec(any::<u8>(), 0..200), 1..4)) {
        survives(Tracker::default(), &datagrams);
    }

    #[test]
    fn any_attributes_of_any_message_are_survived(number in 0u16..20, family in prop_oneof![Just(2u8), Just(10)], rest in vec(any::<u8>(), 0..120)) {
        survives(Tracker::default(), &[seed::message(number, family, 1, &[rest])]);
    }

    #[test]
    fn damaged_messages_are_survived_and_counted(damages in vec(damage(), 1..8), iptables in any::<bool>()) {
        let (tracker, recording) = if iptables {
            let destinations = seed::destinations(recorded::IPTABLES_BEFORE_SAVE);
            (recorded::seeded(recorded::IPTABLES_BEFORE, &destinations), recorded::IPTABLES)
        } else {
            (recorded::seeded(recorded::NFTABLES_BEFORE, &BTreeMap::new()), recorded::NFTABLES)
        };
        survives(tracker, &damaged(recording, &damages));
    }

    #[test]
    fn counting_references_finds_what_walking_all_rules_finds(steps in vec(step(), 1..120)) {
        let mut tracker = Tracker::default();
        (0..CHAINS).for_each(|at| tracker.dumped(&seed::chain(at)));
        // Always there, as kube-proxy's node ports are: without them it would be a flush by hand.
        let fixed = Rules::from([(1, (0, Ok(1))), (2, (1, Ok(2)))]);
        for (handle, (chain, to)) in &fixed {
            tracker.dumped(&seed::rule(seed::NEWRULE, 0, *chain, *handle, to.map_err(endpoint)));
        }
        tracker.dump_ended(None);
        let mut rules = Rules::new();
        let (mut handle, mut generation, mut told) = (100, 1, BTreeSet::new());
        let mut out = Vec::new();
        for step in steps.into_iter().chain([Step::Commit]) {
            let low = u16::try_from(generation).unwrap();
            match step {
                // The kernel refuses loops.
                Step::Add(chain, Ok(to)) if to <= chain => {}
                Step::Add(chain, to) => {
                    handle += 1;
                    rules.insert(handle, (chain, to));
                    let rule = seed::rule(seed::NEWRULE, low, chain, handle, to.map_err(endpoint));
                    tracker.notified(&rule, Ktime(1), &mut out);
                }
                Step::Remove(_) if rules.is_empty() => {}
                Step::Remove(which) => {
                    let gone = *rules.keys().nth(which.index(rules.len())).unwrap();
                    let (chain, to) = rules.remove(&gone).unwrap();
                    let rule = seed::rule(seed::DELRULE, low, chain, gone, to.map_err(endpoint));
                    tracker.notified(&rule, Ktime(1), &mut out);
                }
                Step::Commit => {
                    tracker.notified(&seed::generation(generation), Ktime(1), &mut out);
                    generation += 1;
                    let now = walked(&rules.iter().chain(&fixed).map(|(h, r)| (*h, *r)).collect());
                    prop_assert_eq!(tracker.routes(), now.iter().copied().collect());
                    let added: Vec<_> = now.difference(&told).copied().collect();
                    let removed: Vec<_> = told.difference(&now).copied().collect();
                    let changes: Vec<_> = out.drain(..).map(|g| (g.change.added, g.change.removed)).collect();
                    if added.is_empty() && removed.is_empty() {
                        prop_assert_eq!(changes, []);
                    } else {
                        prop_assert_eq!(changes, [(added, removed)]);
                    }
                    told = now;
                }
            }
        }
        prop_assert_eq!(tracker.losses(), Losses::default());
    }
}
