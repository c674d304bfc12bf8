//! What the first node's daemon takes, again and again while a run goes on.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::scrape;
use crate::{clock::monotonic_ns, node::Node};

/// One look at a daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the first.
    pub at_s: f64,
    /// Resident memory, and that of it which is its own (`RssAnon`), KiB.
    pub rss_kib: u64,
    pub anon_kib: u64,
    pub fds: u64,
    pub threads: u64,
    /// What its own metrics say: entries of the correlator's tables, by table.
    pub tables: BTreeMap<String, u64>,
    /// Outputs that are kept for the HTTP interface: up to its bound they grow.
    pub kept: u64,
    /// Entries that the tables' bounds have cost, and what was lost, since the start.
    pub evicted: u64,
    pub lost: u64,
}

/// Takes samples until it is dropped.
#[derive(Debug)]
pub(super) struct Sampling {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sampling {
    /// Writes a line to `file` each `every`, of the daemon with this pid, which serves on `addr` in the node's namespace.
    pub(super) fn start(
        (node, pid, addr): (Arc<Node>, u32, SocketAddr),
        file: &Path,
        every: Duration,
    ) -> Result<Self> {
        let mut to = fs::File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        let began = monotonic_ns();
        // The first one fails where the others would.
        look(&node, pid, addr, began)?;
        let (stop, stopped) = sync_channel::<()>(1);
        let thread = thread::Builder::new().name("samples".to_owned()).spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                // A daemon that does not answer once is a sample less, which its reader sees.
                let line = look(&node, pid, addr, began).and_then(|s| Ok(serde_json::to_string(&s)?));
                let written = line.and_then(|line| Ok(writeln!(to, "{line}")?));
                if let Err(error) = written {
                    tracing::warn!("no sample of the daemon: {error:#}");
                }
            }
        })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has said what went wrong.
            let _ = thread.join();
        }
    }
}

fn look(node: &Node, pid: u32, addr: SocketAddr, began: u64) -> Result<Sample> {
    let of = PathBuf::from(format!("/proc/{pid}"));
    let status = read(&of.join("status"))?;
    let number = |name: &str| {
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|l| l.split_whitespace().next()?.parse().ok())
            .with_context(|| format!("no {name} in {status}"))
    };
    let name = read(&of.join("comm"))?;
    if name.trim() != "zdt" {
        bail!("process {pid} is {}, not zdt", name.trim());
    }
    let fds =
        fs::read_dir(of.join("fd")).with_context(|| format!("cannot read the files of process {pid}"))?;
    let metrics = scrape::metrics(node, addr)?;
    Ok(Sample {
        at_s: Duration::from_nanos(monotonic_ns().saturating_sub(began)).as_secs_f64(),
        rss_kib: number("VmRSS")?,
        anon_kib: number("RssAnon")?,
        fds: fds.count() as u64,
        threads: number("Threads")?,
        ..told(&metrics)
    })
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// What the metrics say.
fn told(text: &str) -> Sample {
    let mut sample = Sample::default();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let Ok(value) = value.parse::<u64>() else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        match name {
            "zdt_table_entries" => {
                let table = labels.split('"').nth(1).unwrap_or_default();
                sample.tables.insert(table.to_owned(), value);
            }
            "zdt_table_evictions_total" => sample.evicted += value,
            "zdt_events_lost_total" => sample.lost += value,
            "zdt_kept_outputs" => sample.kept = value,
            _ => {}
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_losses_are_read_from_the_metrics() {
        let text = "# TYPE zdt_table_entries gauge\nzdt_table_entries{table=\"flows\"} 7\n\
                    zdt_table_entries{table=\"pods\"} 3\nzdt_table_evictions_total{table=\"pods\"} 2\n\
                    zdt_events_lost_total{source=\"ring:x\"} 4\nzdt_events_lost_total{source=\"rules\"} 1\n\
                    zdt_kept_outputs 12\nzdt_input_lag_seconds_sum 0.5\n";
        let sample = told(text);
        assert_eq!(
            sample.tables,
            [("flows".to_owned(), 7), ("pods".to_owned(), 3)].into()
        );
        assert_eq!((sample.evicted, sample.lost, sample.kept), (2, 5, 12));
    }
}
