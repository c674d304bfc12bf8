//! Verdicts as OpenTelemetry log records, sent to a collector (OTLP over HTTP, protobuf).
//!
//! The messages are those of `opentelemetry-proto`; the queue, the tries and the counting are ours, since the SDK's exporter
//! tells nobody how many records the collector has rejected, and drops without a count that can be read. A verdict is
//! at the collector once, or (when an answer was lost) twice with the same `zdt.verdict.id`; what did not get there is counted.

mod collector;
mod record;

use std::io;

use tokio::sync::mpsc;

pub use self::collector::{Collector, Patience};
use super::{Sink, metrics::ExportCount};
use crate::verdict::{Output, Verdict};

/// Verdicts that may wait; one is two kilobytes.
pub const WAITING: usize = 4_096;

/// Verdicts in one request: half a megabyte.
const BATCH: usize = 256;

/// Puts verdicts into the queue.
pub struct OtlpSink {
    to: mpsc::Sender<Box<Verdict>>,
    count: ExportCount,
}

/// The other end: what is to be sent.
pub struct Exporting {
    from: mpsc::Receiver<Box<Verdict>>,
    count: ExportCount,
    collector: Collector,
}

impl OtlpSink {
    /// The sink, and the end that is to be sent.
    pub fn new(collector: Collector, count: ExportCount) -> (Self, Exporting) {
        let (to, from) = mpsc::channel(WAITING);
        let exporting = Exporting {
            from,
            count: count.clone(),
            collector,
        };
        (Self { to, count }, exporting)
    }
}

impl Sink for OtlpSink {
    fn deliver(&mut self, output: &Output) -> io::Result<()> {
        if let Output::Verdict(verdict) = output
            && self.to.try_send(verdict.clone()).is_err()
        {
            self.count.dropped.inc();
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Exporting {
    /// Sends until there is nothing more to come. `node` is what all of it is about.
    pub async fn send(mut self, node: String) {
        let (mut batch, mut complained) = (Vec::with_capacity(BATCH), false);
        while self.from.recv_many(&mut batch, BATCH).await > 0 {
            let sent = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            let request = record::request(&node, &batch);
            batch.clear();
            let complaint = match self.collector.persistently(&request).await {
                Ok(rejected) => {
                    let failed = rejected.count.min(sent);
                    self.count.failed.inc_by(failed);
                    self.count.delivered.inc_by(sent - failed);
                    (failed > 0).then(|| format!("it rejected {failed} of {sent}: {}", rejected.why))
                }
                Err(error) => {
                    self.count.failed.inc_by(sent);
                    Some(error.to_string())
                }
            };
            if let Some(complaint) = complaint.as_ref().filter(|_| !complained) {
                tracing::warn!("verdicts do not get to {}: {complaint}", self.collector);
            }
            complained = complaint.is_some();
        }
    }
}
