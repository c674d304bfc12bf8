//! What became of the Events that were to be written in Kubernetes.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry, Result};

/// Counted by those who know; kept also where nothing is served.
#[derive(Clone, Debug)]
pub struct EventCounts {
    all: IntCounterVec,
    pub written: IntCounter,
    /// The API server refused it, or could not be reached for too long.
    pub failed: IntCounter,
    /// Too many waited.
    pub dropped: IntCounter,
}

impl EventCounts {
    pub fn new() -> Result<Self> {
        let all = IntCounterVec::new(
            Opts::new(
                "zdt_kubernetes_events_total",
                "Kubernetes Events about rollouts that lost requests, by what became of them: written, failed (refused, or no \
                 API server), dropped (too many waited).",
            ),
            &["result"],
        )?;
        let of = |result: &str| all.with_label_values(&[result]);
        Ok(Self {
            written: of("written"),
            failed: of("failed"),
            dropped: of("dropped"),
            all,
        })
    }

    pub(super) fn register(&self, registry: &Registry) -> Result<()> {
        registry.register(Box::new(self.all.clone()))
    }
}
