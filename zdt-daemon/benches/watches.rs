//! What the watches of a large cluster cost each node. `cargo xtask bench watches`.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "a benchmark stops at the first surprise, as a test does; the figures are the other benchmarks', too"
)]

#[path = "whole/alloc.rs"]
mod alloc;
mod figures;
#[path = "watches/observer.rs"]
mod observer;
#[path = "watches/owners.rs"]
mod owners;
#[path = "watches/server.rs"]
mod server;

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use figures::{Args, Figures, Table};
use observer::Measured;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

const METHOD: &str = "\
An API server generates its objects as they are asked for, in a process of its own on the same machine: 5,000 nodes, 150,000 pods
in the endpoint slices of 10,000 services, 10,000 ReplicaSets, 30 pods of this node, listed in pages of 500. The watches and the
correlator run as in `zdt run`, in a fresh process each round, without a kernel half: the kernel's maps take no time here.
First lists: from the start until all are in. Then 500 pods a second change, in their slices; lag is from the server's writing of
an event until the correlator has taken it in. Who keeps what: each that follows the objects takes them alone, bytes as the
allocator was asked for them.";

pub use server::Size;

impl Size {
    fn shrunk(by: usize) -> Self {
        Self {
            nodes: (5_000 / by).max(1),
            services: (10_000 / by).max(1),
            pods_of_each: 15,
            changes_a_second: 500,
            seconds: if by == 1 { 30 } else { 5 },
        }
    }
}

/// This program again, as one of its parts.
fn part(name: &str, args: &[String]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(name).args(args).stdout(Stdio::piped());
    command.spawn().expect("the benchmark starts itself")
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    line.trim().to_owned()
}

fn round(shrink: usize) -> Measured {
    let shrink = shrink.to_string();
    let mut serving = part("serve", std::slice::from_ref(&shrink));
    let addr = first_line(&mut serving);
    let mut observing = part("observe", &[shrink, addr]);
    let line = first_line(&mut observing);
    let ended = observing.wait().unwrap();
    serving.kill().unwrap();
    serving.wait().unwrap();
    assert!(ended.success(), "the observer ended with {ended}");
    serde_json::from_str(&line).expect("the observer's figures")
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", shrink] => return server::serve(Size::shrunk(shrink.parse().unwrap())),
        ["observe", shrink, addr] => {
            let measured = observer::observe(Size::shrunk(shrink.parse().unwrap()), addr.parse().unwrap());
            return println!("{}", serde_json::to_string(&measured).unwrap());
        }
        ["owners", shrink] => {
            let mut table = Table::new("objects, kept by", &owners::COLUMNS);
            for (row, figures) in owners::measure(Size::shrunk(shrink.parse().unwrap())) {
                table.row(row, vec![figures]);
            }
            return println!("{}", table.text());
        }
        _ => {}
    }
    let args = Args::read(3);
    let mut columns: Vec<Figures> = Measured::COLUMNS.iter().map(|_| Figures::default()).collect();
    for n in 0..args.rounds {
        eprintln!("round {} of {} ...", n + 1, args.rounds);
        for (column, value) in columns.iter_mut().zip(round(args.shrink).values()) {
            column.add(value);
        }
    }
    let size = Size::shrunk(args.shrink);
    let mut table = Table::new("pods", &Measured::COLUMNS);
    table.row((size.services * size.pods_of_each).to_string(), columns);
    args.print(METHOD, &[table]);
}
