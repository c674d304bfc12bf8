//! What became of the outputs that were to leave this process over a queue.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry, Result};

/// Of one way out; counted by those who know.
#[derive(Clone, Debug)]
pub struct ExportCount {
    pub delivered: IntCounter,
    /// Refused, or the other end could not be reached for too long.
    pub failed: IntCounter,
    /// Too many waited.
    pub dropped: IntCounter,
}

/// Of all ways out; kept also where nothing is served.
#[derive(Clone, Debug)]
pub struct ExportCounts(IntCounterVec);

impl ExportCounts {
    pub fn new() -> Result<Self> {
        let all = IntCounterVec::new(
            Opts::new(
                "zdt_exported_outputs_total",
                "Outputs by way out (stdout, otlp) and what became of them: delivered, failed (refused, or nobody there), \
                 dropped (too many waited for a reader that is slow).",
            ),
            &["sink", "result"],
        )?;
        Ok(Self(all))
    }

    /// Begins at 0 with the first call.
    pub fn of(&self, sink: &str) -> ExportCount {
        let of = |result: &str| self.0.with_label_values(&[sink, result]);
        ExportCount {
            delivered: of("delivered"),
            failed: of("failed"),
            dropped: of("dropped"),
        }
    }

    pub(super) fn register(&self, registry: &Registry) -> Result<()> {
        registry.register(Box::new(self.0.clone()))
    }
}
