//! What the kernel half costs each connection: the run time of its programs as the kernel counts it, read from zdt's own metrics.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use aya::sys::{Stats, enable_stats};

use crate::{
    observer::{LISTEN, Observer},
    report::{Kernel, Program, Programs},
    traffic::Pace,
    world::{self, World},
};

/// zdt reads the kernel's counters once a second, and the text of its metrics is a second old at most.
const SETTLED: Duration = Duration::from_millis(2_600);

fn metrics() -> String {
    let mut stream = TcpStream::connect(LISTEN).unwrap();
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nhost: zdt\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The values of one metric by the label `hook`.
pub fn by_hook(text: &str, metric: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(metric));
    lines
        .filter_map(|rest| {
            let (hook, value) = rest.strip_prefix("{hook=\"")?.split_once("\"} ")?;
            Some((hook.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// Beside short connections as fast as they come. The kernel counts only meanwhile: counting costs, too.
fn beside(world: &mut World, moving: bool, lasts: Duration) -> Programs {
    // Ends when this is dropped.
    let _counting = enable_stats(Stats::RunTime).expect("the kernel counts the run time of programs");
    let _zdt = Observer::Zdt(moving).start().unwrap();
    thread::sleep(SETTLED);
    let before = metrics();
    for client in &mut world.clients {
        client.order(Pace::Short, world::service(Pace::Short), lasts);
    }
    let connections: u64 = world.clients.iter_mut().map(|c| c.done().latencies.count()).sum();
    thread::sleep(SETTLED);
    let after = metrics();
    let more = |metric: &str| {
        let before = by_hook(&before, metric);
        let mut after = by_hook(&after, metric);
        for (hook, value) in &mut after {
            *value -= before.get(hook).copied().unwrap_or(0.0);
        }
        after
    };
    let (seconds, runs) = (more("zdt_hook_run_seconds_total"), more("zdt_hook_runs_total"));
    let mut programs: Vec<Program> = seconds
        .into_iter()
        .filter_map(|(program, seconds)| {
            let runs = runs.get(&program).copied().filter(|r| *r > 0.0)?;
            Some(Program {
                program,
                runs_per_connection: runs / connections as f64,
                ns_per_run: seconds * 1e9 / runs,
                ns_per_connection: seconds * 1e9 / connections as f64,
            })
        })
        .collect();
    programs.sort_by(|a, b| b.ns_per_connection.total_cmp(&a.ns_per_connection));
    let events: f64 = more("zdt_events_total").values().sum();
    Programs {
        programs,
        events_per_connection: events / connections as f64,
    }
}

pub fn measure(world: &mut World, quick: bool) -> Kernel {
    let lasts = Duration::from_secs(if quick { 1 } else { 4 });
    eprintln!("kernel half: nothing in transition ...");
    let idle = beside(world, false, lasts);
    eprintln!("kernel half: pods in transition ...");
    let in_transition = beside(world, true, lasts);
    Kernel { idle, in_transition }
}
