//! Where outcomes go: the truth file and the totals, written by one thread.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
};

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::{Summary, pace::Job};
use crate::truth::Request;

/// A handle for each task that ends requests.
#[derive(Clone)]
pub(super) struct Writer {
    lines: mpsc::Sender<(f64, Request)>,
    thread: Arc<std::sync::Mutex<Option<JoinHandle<io::Result<Totals>>>>>,
}

impl Writer {
    /// `path` None: only the totals are kept; `-`: standard output.
    pub(super) fn start(path: Option<&Path>) -> anyhow::Result<Self> {
        let create = |path: &Path| -> anyhow::Result<Box<dyn io::Write + Send>> {
            if path == Path::new("-") {
                return Ok(Box::new(io::stdout()));
            }
            let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
            Ok(Box::new(file))
        };
        let file = path.map(create).transpose()?;
        let (lines, received) = mpsc::channel(4096);
        let thread = thread::Builder::new()
            .name("truth".to_owned())
            .spawn(move || write(file.map(BufWriter::new), received))?;
        Ok(Self {
            lines,
            thread: Arc::new(std::sync::Mutex::new(Some(thread))),
        })
    }

    pub(super) async fn record(&self, job: &Job, request: Request) {
        let late_ms = request.began_ns.saturating_sub(job.due_ns) as f64 / 1e6;
        // The thread ends early only on a write error, which `finish` reports.
        let _ = self.lines.send((late_ms, request)).await;
    }

    /// Waits until everything is written. All other handles must be gone.
    pub(super) fn finish(self) -> anyhow::Result<Totals> {
        drop(self.lines);
        let thread = self.thread.lock().ok().and_then(|mut t| t.take());
        let thread = thread.context("the truth writer was finished twice")?;
        let totals = thread
            .join()
            .map_err(|_| anyhow::anyhow!("the truth writer panicked"))?;
        totals.context("cannot write the ground truth: is the disk full?")
    }
}

fn write(
    mut file: Option<BufWriter<Box<dyn io::Write + Send>>>,
    mut received: mpsc::Receiver<(f64, Request)>,
) -> io::Result<Totals> {
    let mut totals = Totals::default();
    while let Some((late_ms, request)) = received.blocking_recv() {
        if let Some(file) = &mut file {
            serde_json::to_writer(&mut *file, &request)?;
            file.write_all(b"\n")?;
        }
        totals.add(late_ms, &request);
    }
    if let Some(file) = &mut file {
        file.flush()?;
    }
    Ok(totals)
}

/// Counts so far.
#[derive(Debug, Default)]
pub(super) struct Totals {
    requests: u64,
    failed: u64,
    outcomes: BTreeMap<String, u64>,
    servers: BTreeMap<String, u64>,
    late_ms: Vec<f64>,
}

impl Totals {
    fn add(&mut self, late_ms: f64, request: &Request) {
        self.requests += 1;
        self.failed += u64::from(request.outcome.failed());
        *self
            .outcomes
            .entry(request.outcome.name().to_owned())
            .or_default() += 1;
        if let Some(server) = &request.server {
            *self.servers.entry(server.clone()).or_default() += 1;
        }
        self.late_ms.push(late_ms);
    }

    pub(super) fn summary(mut self, seconds: f64) -> Summary {
        self.late_ms.sort_by(f64::total_cmp);
        let p99 = self.late_ms.len().saturating_mul(99) / 100;
        Summary {
            requests: self.requests,
            failed: self.failed,
            outcomes: self.outcomes,
            servers: self.servers,
            seconds,
            late_max_ms: self.late_ms.last().copied().unwrap_or_default(),
            late_p99_ms: self.late_ms.get(p99).copied().unwrap_or_default(),
            wall_ahead_ns: crate::clock::wall_ahead_ns(),
        }
    }
}
