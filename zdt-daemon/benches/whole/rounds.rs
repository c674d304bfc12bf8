//! The rounds: each observer in turn, in an order that rotates, beside each load; ratios are to nobody of the same round.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    figures::Figures,
    histogram::Histogram,
    machine::{self, Process},
    observer::{Observer, Running},
    report::{Absent, Row},
    traffic::{CLOSED, Done, Pace},
    world::{self, World},
};

/// What the clients do meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    pub name: &'static str,
    pace: Pace,
    /// One more pod dials a closed port as fast as it can.
    flood: bool,
    lasts: Duration,
}

/// Of each client; there are two.
const HEALTHY: f64 = 150.0;
const BUSY: f64 = 1_500.0;

pub const LOADS: [Load; 5] = [
    Load::new("short", Pace::Short, false, 3_000),
    Load::new("short, 3,000/s", Pace::Rate(BUSY), false, 1_500),
    Load::new("short, 300/s", Pace::Rate(HEALTHY), false, 1_500),
    Load::new("keep-alive", Pace::Keep, false, 1_500),
    Load::new("short, RST flood", Pace::Short, true, 1_500),
];

impl Load {
    const fn new(name: &'static str, pace: Pace, flood: bool, lasts_ms: u64) -> Self {
        let lasts = Duration::from_millis(lasts_ms);
        Self {
            name,
            pace,
            flood,
            lasts,
        }
    }
}

/// One window's figures.
#[derive(Clone, Copy, Debug)]
struct Window {
    throughput: f64,
    p50_ms: f64,
    p99_ms: f64,
    failed: u64,
    machine_cpu: f64,
    observer_cpu: f64,
    wake_ups: f64,
    rss_mib: f64,
    flood: f64,
}

fn window(world: &mut World, load: Load, running: &Running, lasts: Duration) -> Window {
    let look = || running.pid().map(Process::look).unwrap_or_default();
    let (busy, before, began) = (machine::busy(), look(), Instant::now());
    if load.flood {
        let closed = (world::SERVER, CLOSED).into();
        world.flooder.order(Pace::Refused, closed, lasts);
    }
    for client in &mut world.clients {
        client.order(load.pace, world::service(load.pace), lasts);
    }
    let done: Vec<Done> = world.clients.iter_mut().map(super::world::Pod::done).collect();
    let took = began.elapsed().as_secs_f64();
    let (after, busy) = (look(), machine::busy().saturating_sub(busy));
    let flood = if load.flood {
        world.flooder.done().latencies.count() as f64 / took
    } else {
        0.0
    };
    let mut latencies = Histogram::default();
    for one in &done {
        latencies.merge(&one.latencies);
    }
    Window {
        throughput: latencies.count() as f64 / took,
        p50_ms: latencies.quantile_ms(0.5),
        p99_ms: latencies.quantile_ms(0.99),
        failed: done.iter().map(|d| d.failed).sum(),
        machine_cpu: busy.as_secs_f64() / took,
        observer_cpu: after.cpu.saturating_sub(before.cpu).as_secs_f64() / took,
        wake_ups: after.wake_ups.saturating_sub(before.wake_ups) as f64 / took,
        rss_mib: after.rss_mib,
        flood,
    }
}

/// One round of one observer: a window for each load.
fn beside(world: &mut World, observer: Observer, shrink: u32) -> Result<Vec<Window>, String> {
    let mut running = observer.start()?;
    thread::sleep(Duration::from_millis(300));
    let windows = LOADS
        .iter()
        .map(|load| window(world, *load, &running, load.lasts / shrink));
    let windows = windows.collect();
    if running.has_ended() {
        return Err("it ended under the load".to_owned());
    }
    Ok(windows)
}

/// Tools take part in one round of so many: they are far from the noise.
const TOOLS_EVERY: usize = 4;

/// Rows for each load and observer, and the observers that could not look on.
pub fn run(world: &mut World, rounds: usize, quick: bool) -> (Vec<Row>, Vec<Absent>) {
    let observers = Observer::all();
    let mut absent: Vec<Absent> = Vec::new();
    let mut measured: Vec<Vec<Vec<Option<Window>>>> = vec![vec![Vec::new(); LOADS.len()]; observers.len()];
    let began = Instant::now();
    for round in 0..rounds {
        for turn in 0..observers.len() {
            let at = (turn + round) % observers.len();
            let observer = observers[at];
            let is_absent = absent.iter().any(|a| a.observer == observer.name());
            if is_absent || (observer.is_tool() && round % TOOLS_EVERY != 0) {
                measured[at].iter_mut().for_each(|windows| windows.push(None));
                continue;
            }
            eprintln!(
                "{:>5.0} s  round {} of {rounds}: {}",
                began.elapsed().as_secs_f64(),
                round + 1,
                observer.name()
            );
            match beside(world, observer, if quick { 3 } else { 1 }) {
                Ok(windows) => {
                    for (column, window) in measured[at].iter_mut().zip(windows) {
                        column.push(Some(window));
                    }
                }
                Err(why) => {
                    eprintln!("         left out: {why}");
                    let observer = observer.name().to_owned();
                    absent.push(Absent { observer, why });
                    measured[at].iter_mut().for_each(|windows| windows.push(None));
                }
            }
        }
    }
    let mut rows = Vec::new();
    for (of_load, load) in LOADS.iter().enumerate() {
        let nobody = measured[0][of_load].clone();
        for (observer, columns) in observers.iter().zip(&measured) {
            if columns[of_load].iter().any(Option::is_some) {
                rows.push(row(load, *observer, &columns[of_load], &nobody));
            }
        }
    }
    (rows, absent)
}

fn row(load: &Load, observer: Observer, windows: &[Option<Window>], nobody: &[Option<Window>]) -> Row {
    let of = |value: fn(&Window) -> f64| -> Figures { windows.iter().flatten().map(value).collect() };
    // Each window with that of nobody in the same round.
    let against = |compared: fn(&Window, &Window) -> f64| -> Figures {
        let pairs = windows.iter().zip(nobody);
        pairs
            .filter_map(|(own, none)| Some(compared(own.as_ref()?, none.as_ref()?)))
            .collect()
    };
    Row {
        load: load.name.to_owned(),
        observer: observer.name().to_owned(),
        throughput: of(|w| w.throughput),
        throughput_ratio: against(|w, none| w.throughput / none.throughput),
        p50_ms: of(|w| w.p50_ms),
        p99_ms: of(|w| w.p99_ms),
        p99_ratio: against(|w, none| w.p99_ms / none.p99_ms),
        machine_cpu_extra: against(|w, none| w.machine_cpu - none.machine_cpu),
        observer_cpu: of(|w| w.observer_cpu),
        wake_ups: of(|w| w.wake_ups),
        rss_mib: of(|w| w.rss_mib),
        flood: of(|w| w.flood),
        failed: windows.iter().flatten().map(|w| w.failed).sum(),
    }
}
