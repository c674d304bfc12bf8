//! The pure correlator on one core: inputs a second, and bytes for each flow and pod, as both grow. Each size runs in a
//! process of its own.

use std::{fs::File, io::BufReader, path::Path, process::Command, time::Duration};

use nix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use zdt_daemon::{
    correlate::{Correlator, Settings},
    input::{Input, Ktime, What},
    record::Reader,
    verdict::Output,
};

use crate::{
    alloc::Allocated,
    inputs::Cluster,
    repeat::Repeated,
    report::{Replayed, Size},
};

/// Inputs that exist at a time: what is made for the measurement must not be what is measured.
const BATCH: usize = 4_096;
/// Connections that begin, go on or end in each second of input time.
const A_SECOND: u64 = 50_000;
const TICK: Duration = Duration::from_millis(250);
const BEGIN: Ktime = Ktime(1_000_000_000_000);

/// Time of this thread on a CPU: what else runs on the machine is not in it, but for the caches that it takes.
fn on_cpu() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap())
}

struct Driver {
    correlator: Correlator,
    out: Vec<Output>,
    now: Ktime,
    ticked: Ktime,
    verdicts: usize,
    inputs: u64,
    calls: u64,
    in_ticks: Duration,
}

impl Driver {
    fn new(flows: usize) -> Self {
        let settings = Settings {
            max_flows: flows.max(Settings::default().max_flows),
            ..Settings::default()
        };
        Self {
            correlator: Correlator::new(settings),
            out: Vec::new(),
            now: BEGIN,
            ticked: BEGIN,
            verdicts: 0,
            inputs: 0,
            calls: 0,
            in_ticks: Duration::ZERO,
        }
    }

    /// How long the correlator works on these inputs.
    fn take(&mut self, inputs: &[Input]) -> Duration {
        let calls = Allocated::now();
        let began = on_cpu();
        for input in inputs {
            self.correlator.step(input, &mut self.out);
        }
        let took = on_cpu().saturating_sub(began);
        self.calls += Allocated::now().since(calls).calls;
        self.inputs += inputs.len() as u64;
        self.verdicts += self
            .out
            .iter()
            .filter(|o| matches!(o, Output::Verdict(_)))
            .count();
        self.out.clear();
        took
    }

    fn tick(&mut self) -> Duration {
        let took = self.take(&[Input {
            at: self.now,
            what: What::Tick,
        }]);
        self.in_ticks += took;
        took
    }

    /// One event of each connection, with the ticks between.
    fn each(&mut self, flows: usize, event: impl Fn(usize, Ktime) -> Input) -> Duration {
        let mut took = Duration::ZERO;
        let mut made = Vec::with_capacity(BATCH);
        let mut next = 0;
        while next < flows {
            made.clear();
            let to = flows.min(next + BATCH);
            for n in next..to {
                self.now.0 += 1_000_000_000 / A_SECOND;
                made.push(event(n, self.now));
            }
            next = to;
            took += self.take(&made);
            if self.now.ms_since(self.ticked) >= TICK.as_secs_f64() * 1e3 {
                self.ticked = self.now;
                took += self.tick();
            }
        }
        took
    }

    /// Time goes on and nothing else happens.
    fn quiet(&mut self, for_ms: u64) -> Duration {
        let until = self.now.plus_ms(for_ms);
        let mut took = Duration::ZERO;
        while self.now < until {
            self.now.0 += u64::try_from(TICK.as_nanos()).unwrap();
            took += self.tick();
        }
        took
    }
}

/// One size, in this process.
pub fn measure(flows: usize, pods: usize) -> Size {
    let cluster = Cluster { pods };
    let mut driver = Driver::new(flows);
    let lists = cluster.lists(BEGIN);
    let before = Allocated::now();
    let lists_took = driver.take(&lists);
    let bytes_per_pod = Allocated::now().since(before).live as f64 / pods as f64;
    drop(lists);
    driver.quiet(1_000);
    (driver.inputs, driver.calls, driver.in_ticks) = (0, 0, Duration::ZERO);

    let before = Allocated::now();
    let open = driver.each(flows, |n, at| cluster.retransmit(n, at));
    let bytes_per_flow = Allocated::now().since(before).live as f64 / flows as f64;
    // Not in the order in which they came: 7,907 is a prime that divides no number of flows here.
    let mixed = |n: usize| n * 7_907 % flows;
    let translate = driver.each(flows, |n, at| cluster.translation(mixed(n), at));
    let end = driver.each(flows, |n, at| cluster.end(mixed(n), at)) + driver.quiet(5_000);
    let each_ns = |took: Duration| took.as_nanos() as f64 / flows as f64;
    let all = (open + translate + end).as_secs_f64();
    Size {
        flows,
        pods,
        inputs_per_s: driver.inputs as f64 / all,
        open_ns: each_ns(open),
        translate_ns: each_ns(translate),
        end_ns: each_ns(end),
        ticks_share: driver.in_ticks.as_secs_f64() / all,
        bytes_per_flow,
        bytes_per_pod,
        lists_s: lists_took.as_secs_f64(),
        verdicts: driver.verdicts,
        allocations_per_input: driver.calls as f64 / driver.inputs as f64,
    }
}

/// A recorded rollout so often, in this process.
pub fn replay(record: &Path, times: usize) -> Replayed {
    let file = File::open(record).unwrap_or_else(|e| panic!("{}: {e}", record.display()));
    let inputs: Vec<Input> = Reader::new(BufReader::new(file))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut driver = Driver::new(0);
    let mut took = Duration::ZERO;
    let repeated = Repeated::new(&inputs);
    for n in 0..times {
        took += driver.take(&repeated.copy(n));
    }
    Replayed {
        inputs: driver.inputs,
        verdicts: driver.verdicts,
        inputs_per_s: driver.inputs as f64 / took.as_secs_f64(),
        allocations_per_input: driver.calls as f64 / driver.inputs as f64,
    }
}

/// This program again, with words that [`part`] knows.
pub fn in_own_process<T: for<'a> Deserialize<'a>>(words: &[&str]) -> T {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command
        .args(words)
        .stderr(std::process::Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?} ended with {}", output.status);
    serde_json::from_slice(&output.stdout).expect("the figures of a part")
}

/// Flows and pods of each run.
pub fn sizes(quick: bool) -> Vec<(usize, usize)> {
    let all = [
        (1_000, 1_000),
        (10_000, 1_000),
        (100_000, 1_000),
        (1_000_000, 1_000),
        (10_000, 100),
        (10_000, 10_000),
        (10_000, 150_000),
    ];
    let small = |(flows, pods): &(usize, usize)| !quick || (*flows <= 100_000 && *pods <= 10_000);
    all.into_iter().filter(small).collect()
}
