//! When each request begins: a thread that sleeps to absolute times, because tokio's timer rounds to whole milliseconds.

use std::{
    io,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::ensure;
use tokio::sync::mpsc;

use super::Args;
use crate::clock::monotonic_ns;

/// One request to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub id: u64,
    /// When it was to begin: CLOCK_MONOTONIC, nanoseconds.
    pub due_ns: u64,
    /// The client hangs up on this one.
    pub abort: bool,
}

/// All requests of a run.
#[derive(Debug)]
pub(super) struct Schedule {
    pub requests: u64,
    gap_ns: f64,
    /// Share of a gap before the first request.
    phase: f64,
    abort_share: f64,
    random: fastrand::Rng,
}

impl Schedule {
    pub(super) fn new(args: &Args) -> anyhow::Result<Self> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates; bounded by the caller"
        )]
        let by_time = args.seconds.map(|s| (s * args.rate).round() as u64);
        let requests = match (by_time, args.requests) {
            (Some(a), Some(b)) => a.min(b),
            (Some(n), None) | (None, Some(n)) => n,
            (None, None) => 0,
        };
        ensure!(requests > 0, "no requests: give --seconds or --requests above 0");
        let mut random = fastrand::Rng::with_seed(args.seed);
        Ok(Self {
            requests,
            gap_ns: 1e9 / args.rate,
            phase: random.f64(),
            abort_share: if args.abort_after_ms.is_some() {
                args.abort_share
            } else {
                0.0
            },
            random,
        })
    }
}

/// Starts the thread; it ends after the last request, or when nobody takes them.
pub(super) fn start(mut schedule: Schedule, jobs: mpsc::Sender<Job>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("pace".to_owned()).spawn(move || {
        let start = monotonic_ns() as f64 + schedule.phase * schedule.gap_ns;
        for id in 0..schedule.requests {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "f64 holds nanoseconds of uptime to below a microsecond for decades"
            )]
            let due_ns = (start + id as f64 * schedule.gap_ns) as u64;
            let abort = schedule.random.f64() < schedule.abort_share;
            sleep_until(due_ns);
            if jobs.blocking_send(Job { id, due_ns, abort }).is_err() {
                return;
            }
        }
    })
}

fn sleep_until(due_ns: u64) {
    loop {
        let now = monotonic_ns();
        if now >= due_ns {
            return;
        }
        thread::sleep(Duration::from_nanos(due_ns - now));
    }
}
