//! What an event costs on its way through user space, in allocations and bytes: figures that no load of the machine moves.
//! `budget.txt` holds what they may be; one that grows by more than 5 % needs a new line there, with the reason.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "clippy knows tests by their attribute; this whole file is one, and the modules are the benchmark's"
)]

#[path = "../benches/whole/alloc.rs"]
mod alloc;
#[path = "budget/file.rs"]
mod file;
#[path = "../benches/whole/inputs.rs"]
mod inputs;

use std::collections::BTreeMap;

use alloc::Allocated;
use inputs::Cluster;
use zdt_common::{ABI, Addr, HEADER_LEN, Header, Hook, Retransmit, SockView, StateChange, decode};
use zdt_daemon::{
    correlate::{Correlator, Settings},
    input::{Input, Ktime, What},
    kernel::Translator,
    verdict::Output,
};
use zerocopy::IntoBytes as _;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// The test's last line: what was measured is in the budget.
fn holds(figure: &str, measured: f64) {
    if let Err(why) = file::within(figure, measured) {
        panic!("{why}");
    }
    println!("{figure} {measured:.3}");
}

/// Bytes of one record of the ring; the ring aligns them as these words are.
fn record(hook: Hook, payload: &[u8]) -> Vec<u64> {
    let header = Header {
        ktime_ns: 1_000_000_000,
        abi: ABI,
        hook: hook as u16,
        len: u32::try_from(payload.len()).unwrap(),
    };
    let mut words = vec![0; (HEADER_LEN + payload.len()).div_ceil(8)];
    let bytes = words.as_mut_bytes();
    bytes[..HEADER_LEN].copy_from_slice(header.as_bytes());
    bytes[HEADER_LEN..HEADER_LEN + payload.len()].copy_from_slice(payload);
    words
}

fn view() -> SockView {
    SockView {
        laddr: Addr::v4([10, 0, 1, 0]),
        raddr: Addr::v4([172, 0, 1, 0]),
        lport: 10_000,
        rport: 80,
        full: 1,
        state: 2,
        ..SockView::default()
    }
}

fn events() -> [Vec<u64>; 2] {
    let end = StateChange {
        view: view(),
        old_state: 2,
        new_state: 7,
        ..StateChange::default()
    };
    let again = Retransmit {
        view: view(),
        err: 0,
        silent: 0,
    };
    [
        record(Hook::InetSockSetState, end.as_bytes()),
        record(Hook::TcpRetransmitSkb, again.as_bytes()),
    ]
}

/// Calls of the allocator by `work`, for each of `of`.
fn calls<T>(of: usize, work: impl FnOnce() -> T) -> (f64, T) {
    let before = Allocated::now();
    let done = work();
    let calls = Allocated::now().since(before).calls;
    (calls as f64 / of as f64, done)
}

#[test]
fn bytes_become_inputs_without_an_allocation() {
    let translator = Translator::new(BTreeMap::new(), BTreeMap::new(), 250);
    let events = events();
    let (each, last) = calls(events.len(), || {
        let mut last = None;
        for event in &events {
            let decoded = decode(event.as_bytes()).unwrap();
            last = Some(translator.input(&decoded));
        }
        last
    });
    assert!(matches!(last.unwrap().what, What::Kernel(_)));
    holds("translate.allocations_per_event", each);
}

struct Node {
    correlator: Correlator,
    cluster: Cluster,
    at: Ktime,
    out: Vec<Output>,
}

impl Node {
    fn new() -> Self {
        let cluster = Cluster { pods: 1_000 };
        let at = Ktime(1_000_000_000_000);
        let mut node = Self {
            correlator: Correlator::new(Settings::default()),
            cluster,
            at,
            out: Vec::with_capacity(4_096),
        };
        for input in cluster.lists(at) {
            node.correlator.step(&input, &mut node.out);
        }
        node
    }

    /// One event of each of these connections. What the correlator does is counted, not what makes the events.
    fn each(
        &mut self,
        flows: std::ops::Range<usize>,
        event: fn(Cluster, usize, Ktime) -> Input,
    ) -> Allocated {
        let mut all = Allocated::default();
        for n in flows {
            self.at.0 += 20_000;
            let input = event(self.cluster, n, self.at);
            let before = Allocated::now();
            self.correlator.step(&input, &mut self.out);
            let one = Allocated::now().since(before);
            all.calls += one.calls;
            all.live += one.live;
        }
        all
    }

    fn ticks(&mut self, ticks: usize) -> Allocated {
        let before = Allocated::now();
        for _ in 0..ticks {
            self.at.0 += 250_000_000;
            let (at, what) = (self.at, What::Tick);
            self.correlator.step(&Input { at, what }, &mut self.out);
        }
        Allocated::now().since(before)
    }
}

#[test]
fn second_event_of_a_known_connection_allocates_nothing() {
    const FLOWS: usize = 2_000;
    let mut node = Node::new();
    node.each(0..FLOWS, Cluster::retransmit);
    let again = node.each(0..FLOWS, Cluster::retransmit);
    holds(
        "correlate.allocations_per_known_event",
        again.calls as f64 / FLOWS as f64,
    );
}

#[test]
fn live_flow_has_its_size() {
    // Tables double: right behind a doubling there is half as much in them as they have room for.
    const FLOWS: usize = 10_000;
    let mut node = Node::new();
    let live = node.each(0..FLOWS, Cluster::retransmit).live;
    holds("correlate.bytes_per_live_flow", live as f64 / FLOWS as f64);
}

#[test]
fn failed_connection_costs_what_it_may() {
    const FLOWS: usize = 1_000;
    let mut node = Node::new();
    let mut calls = 0;
    // The first thousand fills the tables.
    for flows in [0..FLOWS, FLOWS..2 * FLOWS] {
        node.out.clear();
        calls = node.each(flows.clone(), Cluster::retransmit).calls;
        calls += node.each(flows.clone(), Cluster::translation).calls;
        calls += node.each(flows, Cluster::end).calls;
        calls += node.ticks(20).calls;
    }
    let verdicts = node
        .out
        .iter()
        .filter(|o| matches!(o, Output::Verdict(_)))
        .count();
    assert_eq!(verdicts, FLOWS);
    holds(
        "correlate.allocations_per_failed_connection",
        calls as f64 / FLOWS as f64,
    );
}

#[test]
fn quiet_tick_allocates_nothing() {
    let mut node = Node::new();
    node.ticks(10);
    holds(
        "correlate.allocations_per_quiet_tick",
        node.ticks(100).calls as f64 / 100.0,
    );
}

#[test]
fn pod_elsewhere_has_its_size() {
    let cluster = Cluster { pods: 10_000 };
    let lists = cluster.lists(Ktime(1_000_000_000_000));
    let mut correlator = Correlator::new(Settings::default());
    let mut out = Vec::new();
    let before = Allocated::now();
    for input in &lists {
        correlator.step(input, &mut out);
    }
    let live = Allocated::now().since(before).live;
    holds("correlate.bytes_per_pod_elsewhere", live as f64 / 10_000.0);
}

#[test]
fn each_figure_of_the_budget_is_held_by_a_test() {
    let source = include_str!("budget.rs");
    // `cargo xtask bench instructions` looks after those that it counts.
    let counted = |figure: &str| figure.starts_with("instructions.");
    let held = |figure: &str| counted(figure) || source.contains(&format!("\"{figure}\""));
    assert_eq!(file::without_a_measure("", held), Vec::<String>::new());
}
