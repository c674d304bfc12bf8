//! What zdt costs, and how fast it answers: the application beside it and beside what people use instead, its own CPU, memory
//! and programs, the correlator alone, latency and start. `cargo xtask bench`.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "a benchmark stops at the first surprise, as a test does; the modules are the tests' and other benchmarks', too"
)]

#[path = "whole/alloc.rs"]
mod alloc;
#[path = "../tests/api/mod.rs"]
mod api;
mod beside;
#[path = "whole/correlator.rs"]
mod correlator;
mod figures;
#[path = "whole/histogram.rs"]
mod histogram;
#[path = "whole/inputs.rs"]
mod inputs;
#[path = "whole/kernel.rs"]
mod kernel;
#[path = "whole/latency.rs"]
mod latency;
#[path = "whole/machine.rs"]
mod machine;
#[path = "whole/observer.rs"]
mod observer;
#[path = "whole/plot.rs"]
mod plot;
#[path = "whole/repeat.rs"]
mod repeat;
#[path = "whole/report.rs"]
mod report;
#[path = "whole/rounds.rs"]
mod rounds;
#[path = "whole/served.rs"]
mod served;
#[path = "watches/server.rs"]
mod server;
#[path = "whole/start.rs"]
mod start;
#[path = "whole/traffic.rs"]
mod traffic;
#[path = "whole/world.rs"]
mod world;

use std::{path::Path, thread, time::Duration};

use figures::Args;
use report::{Correlator, Report};
use tokio::signal::unix::{SignalKind, signal};
use world::World;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

const METHOD: &str = "\
Application: two clients and a server, each in a network namespace of its own behind a node's, connect through a service's
address (DNAT); both ends are on this one kernel, which doubles the events of a real node. Every observer in every round (tools in
every fourth), in an order that rotates, beside each load; ratios and extra CPU are to \"nobody\" of the same round. \"In transition\":
another pod of the loaded service ends, and each second a new one begins to. Correlator: generated connections that are refused an
answer, each opened, translated, ended and judged, one core, each size in a process of its own. Kernel half: run time of the
programs as the kernel counts it, by the connections of that time. Latency: from the kernel's time of the failure to the line read,
to the first scrape that counts it (16 a second, of a text that is made at most once a second), and to the page's stream.
Start: an API server that generates its objects, against `kubectl get --raw` of the same lists from it.";

/// A recorded rollout with refused connections.
const RECORD: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/fixtures/endpoint-removal-race/yes-refused.jsonl"
);
const REPEATED: usize = 1_000;

/// This program as one of its parts.
fn part(words: &[String]) -> bool {
    let Some((name, rest)) = words.split_first() else {
        return false;
    };
    let number = |n: usize| rest[n].parse().unwrap();
    match name.as_str() {
        "serve" => traffic::serve(rest),
        "client" => traffic::client(rest),
        "serve-api" => start::serve(rest),
        "correlate" => {
            let size = correlator::measure(number(0), number(1));
            println!("{}", serde_json::to_string(&size).unwrap());
        }
        "replay" => {
            let replayed = correlator::replay(Path::new(RECORD), number(0));
            println!("{}", serde_json::to_string(&replayed).unwrap());
        }
        _ => return false,
    }
    true
}

fn correlate(quick: bool) -> Correlator {
    let sizes = correlator::sizes(quick).into_iter().map(|(flows, pods)| {
        eprintln!("correlator: {flows} flows, {pods} pods ...");
        correlator::in_own_process(&["correlate", &flows.to_string(), &pods.to_string()])
    });
    let sizes = sizes.collect();
    eprintln!("correlator: a recorded rollout, repeated ...");
    let times = if quick { REPEATED / 10 } else { REPEATED };
    let replayed = correlator::in_own_process(&["replay", &times.to_string()]);
    Correlator { sizes, replayed }
}

/// Ctrl-C, and what a job runner sends: the processes end with this one, the namespaces with them, and the cgroup here.
fn clean_up_when_told() {
    // Handlers, not a mask: the observers would inherit that, and hear of no end.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (mut interrupt, mut terminate) = {
        let _here = runtime.enter();
        let listen = |kind| signal(kind).unwrap();
        (listen(SignalKind::interrupt()), listen(SignalKind::terminate()))
    };
    thread::spawn(move || {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            }
        });
        eprintln!("interrupted");
        world::end_processes();
        world::forget();
        std::process::exit(code);
    });
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if part(&words) {
        return;
    }
    let args = Args::read(10);
    let rounds = if args.quick {
        args.rounds.min(2)
    } else {
        args.rounds
    };
    clean_up_when_told();
    let wanted = |part: &str| args.only.as_deref().is_none_or(|only| only == part);
    let mut report = Report {
        machine: machine::describe(),
        ..Report::default()
    };
    if wanted("correlator") {
        report.correlator = Some(correlate(args.quick));
    }
    if ["application", "kernel", "latency", "start"]
        .into_iter()
        .any(wanted)
    {
        let mut world = World::start();
        thread::sleep(Duration::from_millis(200));
        if wanted("latency") {
            report.latency = Some(latency::measure(&mut world, args.quick));
        }
        if wanted("kernel") {
            report.kernel = Some(kernel::measure(&mut world, args.quick));
        }
        if wanted("application") {
            report.rounds = rounds;
            (report.rows, report.absent) = rounds::run(&mut world, rounds, args.quick);
        }
        if wanted("start") {
            report.start = start::measure(args.quick);
        }
    }
    if let Some(plot) = args.plot.as_deref().filter(|_| !report.rows.is_empty()) {
        std::fs::write(plot, plot::svg(&report)).unwrap_or_else(|e| panic!("{}: {e}", plot.display()));
        eprintln!("plot: {}", plot.display());
    }
    if args.json {
        println!("{}", report.json(METHOD));
    } else {
        println!("{METHOD}\n\n{}\n\n{}", report.machine, report.text());
    }
}
