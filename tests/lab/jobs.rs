//! Runs scenarios side by side, each in a world of its own; results come in the order of the scenarios.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, bail};
use tokio::sync::oneshot;

use crate::{
    run::{Ran, Setup, run},
    scenario::Scenario,
    world::interrupted,
};

/// One run to make.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    pub scenario: &'a Scenario,
    pub seed: u64,
}

/// What came of all runs, in the order of the jobs.
#[derive(Debug)]
pub struct Done {
    pub ran: Vec<Ran>,
    /// Runs that could not be made to the end.
    pub errors: Vec<anyhow::Error>,
}

/// Runs all, `setup.jobs` at a time. Ctrl-C starts no further run and is an error; what runs then removes what it made.
pub fn all(setup: &Setup, jobs: &[Job<'_>]) -> Result<Done> {
    let queue = Queue {
        setup,
        jobs,
        next: AtomicUsize::new(0),
        stopped: AtomicBool::new(false),
        results: Mutex::new(jobs.iter().map(|_| None).collect()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..usize::from(setup.jobs).min(jobs.len()).max(1))
            .map(|_| scope.spawn(|| queue.work()))
            .collect();
        // A run that is under way hears of Ctrl-C by itself; this is for those that judge just now.
        let (over, all_over) = oneshot::channel::<()>();
        let listener = scope.spawn(|| {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupted() => queue.stopped.store(true, Ordering::Release),
                    _ = all_over => {}
                }
            });
        });
        for worker in workers {
            if worker.join().is_err() {
                queue.stopped.store(true, Ordering::Release);
            }
        }
        drop(over);
        let _ = listener.join();
    });
    let results = queue.results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (mut ran, mut errors) = (Vec::with_capacity(jobs.len()), Vec::new());
    for result in results.into_iter().flatten() {
        match result {
            Ok(one) => ran.push(one),
            Err(error) => errors.push(error),
        }
    }
    if queue.stopped.load(Ordering::Acquire) {
        bail!("interrupted after {} of {} runs", ran.len(), jobs.len());
    }
    Ok(Done { ran, errors })
}

struct Queue<'a> {
    setup: &'a Setup,
    jobs: &'a [Job<'a>],
    next: AtomicUsize,
    stopped: AtomicBool,
    results: Mutex<Vec<Option<Result<Ran>>>>,
}

impl Queue<'_> {
    fn work(&self) {
        while !self.stopped.load(Ordering::Acquire) {
            let n = self.next.fetch_add(1, Ordering::AcqRel);
            let Some(job) = self.jobs.get(n) else { return };
            tracing::info!(
                "run {} of {}: {} with seed {}",
                n + 1,
                self.jobs.len(),
                job.scenario.name,
                job.seed
            );
            let result = run(self.setup, job.scenario, job.seed)
                .with_context(|| format!("scenario {} with seed {}", job.scenario.name, job.seed));
            if let Err(error) = &result {
                tracing::error!("{error:#}");
            }
            let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = results.get_mut(n) {
                *place = Some(result);
            }
        }
    }
}
