//! The verdicts as Prometheus metrics, and what zdt knows about itself.
//!
//! Labels are namespace, workload and closed sets; never an address, pod or port. Series are bounded by [`MOST_SERIES`]:
//! the first workloads get series of their own, what comes later is counted under `(other)`, cause by cause, and
//! `zdt_label_overflows_total` says so.

mod counted;
mod exports;
mod family;
mod last;
mod own;
mod process;
mod told;

use std::io;

use prometheus::{Histogram, IntCounter, IntCounterVec, Opts, Registry, Result, TextEncoder};
use serde::Serialize;

pub use exports::{ExportCount, ExportCounts};
pub use own::Own;
pub use told::EventCounts;

pub(in crate::sink) use self::counted::Counted;
use self::{
    family::{Described, Family},
    last::LastRollouts,
    process::Process,
};
use super::Sink;
use crate::{
    clock,
    input::{Ktime, Workload},
    verdict::{Blame, Measure, Output, Propagation, RolloutSummary, Verdict},
};

/// The type of [`Metrics::text`].
pub const TEXT_FORMAT: &str = prometheus::TEXT_FORMAT;

/// Most series there ever are: with 1,000 workloads and every cause, outcome and trigger (tests.rs). A node of 110 pods of 20
/// workloads has under 2,000.
pub const MOST_SERIES: usize = 60_000;

/// Where no pod is known, or its owner is not.
const UNKNOWN: &str = "(unknown)";

const FAILED: Described = Described {
    name: "zdt_failed_requests_total",
    help: "Failed requests that this node answers for, one verdict each: whose failure it is (blame), why (cause), what \
           the client saw (outcome), and who started it (trigger).",
    labels: &["namespace", "workload", "blame", "cause", "outcome", "trigger"],
    buckets: &[],
    most: 10_000,
};

const UNFINISHED: Described = Described {
    name: "zdt_requests_unfinished_at_sigterm_total",
    help: "Requests that their pod had not answered when it ended, over connections that were open when it was told to stop \
           (SIGTERM): what a longer grace, or an application that finishes its requests, would have saved. Requests that \
           were finished in time leave no trace.",
    labels: &["namespace", "workload"],
    buckets: &[],
    most: 500,
};

const ROLLOUTS: Described = Described {
    name: "zdt_rollouts_total",
    help: "Rollouts, scale-downs and deletions in which pods of this node ended.",
    labels: &["namespace", "workload", "trigger"],
    buckets: &[],
    most: 2_000,
};

const DURATION: Described = Described {
    name: "zdt_rollout_duration_seconds",
    help: "From the first change of a pod of this node to the last one of the same rollout.",
    labels: &["namespace", "workload"],
    buckets: &[1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0],
    most: 500,
};

const PROPAGATION: Described = Described {
    name: "zdt_propagation_seconds",
    help: "From the time that this node saw a pod's deletion to the time that a stage was done: slice (no longer ready in \
           its slice), rules (no rule of this node sends it new connections), last-connection (the last new connection \
           that this node sent to it), stopped-serving (listener closed or network gone). From the time that it saw a new \
           pod Ready: slice-ready, first-rule, first-connection. Pods of other nodes count from their slice's update.",
    labels: &["namespace", "workload", "stage"],
    buckets: &[
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ],
    most: 2_000,
};

/// What `/metrics` reads.
pub struct Metrics {
    registry: Registry,
    process: Process,
    own: Own,
    events: EventCounts,
    exports: ExportCounts,
}

impl Metrics {
    /// The metrics, and the sink that keeps them.
    pub fn new() -> Result<(Self, MetricsSink)> {
        let registry = Registry::new();
        let overflows = IntCounterVec::new(
            Opts::new(
                "zdt_label_overflows_total",
                "Counts that went to the workload (other), since the metric has as many series as it may have.",
            ),
            &["metric"],
        )?;
        registry.register(Box::new(overflows.clone()))?;
        let overflow = |of: &Described| overflows.with_label_values(&[of.name]);
        let verdicts = IntCounterVec::new(
            Opts::new(
                "zdt_verdicts_total",
                "Verdicts, also those about what is no request (blame=not-a-request), by how far they can be trusted.",
            ),
            &["blame", "confidence"],
        )?;
        registry.register(Box::new(verdicts.clone()))?;
        let latency = Histogram::with_opts(
            prometheus::HistogramOpts::new(
                "zdt_verdict_latency_seconds",
                "From a request's failure to its verdict; 2 s of it are grace for what comes late.",
            )
            .buckets(vec![1.0, 2.0, 2.25, 2.5, 3.0, 5.0, 10.0, 30.0]),
        )?;
        registry.register(Box::new(latency.clone()))?;
        let sink = MetricsSink {
            failed: Family::register(FAILED, &registry, overflow(&FAILED))?,
            unfinished: Family::register(UNFINISHED, &registry, overflow(&UNFINISHED))?,
            rollouts: Family::register(ROLLOUTS, &registry, overflow(&ROLLOUTS))?,
            durations: Family::register(DURATION, &registry, overflow(&DURATION))?,
            propagation: Family::register(PROPAGATION, &registry, overflow(&PROPAGATION))?,
            verdicts,
            latency,
            last: LastRollouts::register(&registry, overflow)?,
            counted: Counted::default(),
        };
        let events = EventCounts::new()?;
        events.register(&registry)?;
        let exports = ExportCounts::new()?;
        exports.register(&registry)?;
        let metrics = Self {
            events,
            exports,
            process: Process::register(&registry)?,
            own: Own::register(&registry)?,
            registry,
        };
        Ok((metrics, sink))
    }

    /// What zdt keeps about itself.
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// What becomes of the Events in Kubernetes.
    pub fn events(&self) -> &EventCounts {
        &self.events
    }

    /// What becomes of the outputs that leave over a queue.
    pub fn exports(&self) -> &ExportCounts {
        &self.exports
    }

    /// All metrics in Prometheus' text format. Takes milliseconds where there are tens of thousands of series.
    pub fn text(&self) -> Result<String> {
        self.process.read();
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Keeps the metrics up to date. It does no IO and waits for nobody.
pub struct MetricsSink {
    failed: Family<IntCounter>,
    unfinished: Family<IntCounter>,
    rollouts: Family<IntCounter>,
    durations: Family<Histogram>,
    propagation: Family<Histogram>,
    verdicts: IntCounterVec,
    latency: Histogram,
    last: LastRollouts,
    counted: Counted,
}

impl Sink for MetricsSink {
    fn deliver(&mut self, output: &Output) -> io::Result<()> {
        match output {
            Output::Verdict(verdict) => self.verdict(clock::now(), verdict),
            Output::Propagation(propagation) => self.propagation(propagation),
            Output::Rollout(rollout) => self.rollout(rollout),
            Output::SelectorSwitch(_) | Output::NotSeen(_) => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MetricsSink {
    fn verdict(&mut self, now: Ktime, verdict: &Verdict) {
        self.verdicts
            .with_label_values(&[word(&verdict.blame).as_str(), verdict.confidence.level()])
            .inc();
        self.latency
            .observe(now.ms_since(verdict.ended).max(0.0) / 1000.0);
        if verdict.blame == Blame::NotARequest {
            return;
        }
        let namespace = match (&verdict.pod, &verdict.service) {
            (Some(pod), _) => pod.pod.namespace.as_str(),
            (None, Some(service)) => service.namespace.as_str(),
            (None, None) => UNKNOWN,
        };
        let workload = verdict.pod.as_ref().and_then(|p| p.workload.as_ref());
        let workload = workload.map_or_else(|| UNKNOWN.to_owned(), kind_and_name);
        if unfinished_at_sigterm(verdict)
            && let Some(count) = self.unfinished.of(vec![namespace.to_owned(), workload.clone()])
        {
            count.inc();
        }
        let labels = vec![
            namespace.to_owned(),
            workload,
            word(&verdict.blame),
            verdict.cause().to_owned(),
            word(&verdict.outcome),
            word(&verdict.trigger),
        ];
        if let Some(count) = self.failed.of(labels) {
            count.inc();
        }
    }

    fn rollout(&mut self, rollout: &RolloutSummary) {
        let workload = kind_and_name(&rollout.workload);
        let labels = |more: &[&str]| {
            let mut labels = vec![rollout.namespace.clone(), workload.clone()];
            labels.extend(more.iter().map(|l| (*l).to_owned()));
            labels
        };
        self.last.summed_up(&workload, rollout);
        if self.counted.first(&rollout.namespace, &workload, rollout.began) {
            if let Some(count) = self.rollouts.of(labels(&[&word(&rollout.trigger)])) {
                count.inc();
            }
            if let Some(duration) = self.durations.of(labels(&[])) {
                duration.observe(rollout.took_ms.max(0.0) / 1000.0);
            }
        }
    }

    /// One of each pod: it is said once.
    fn propagation(&mut self, of: &Propagation) {
        let workload = of
            .workload
            .as_ref()
            .map_or_else(|| UNKNOWN.to_owned(), kind_and_name);
        for (stage, ms) in of.stages() {
            let labels = vec![of.namespace.clone(), workload.clone(), stage.to_owned()];
            if let Some(seconds) = self.propagation.of(labels) {
                seconds.observe(ms.max(0.0) / 1000.0);
            }
        }
    }
}

/// It was cut by the end of its pod, and its connection was older than the stop signal (or, where that was not seen, the
/// deletion).
fn unfinished_at_sigterm(verdict: &Verdict) -> bool {
    let stopping_ms = verdict
        .measure(Measure::ExitAfterTerm)
        .or_else(|| verdict.measure(Measure::KillAfterTerm));
    stopping_ms.is_some_and(|ms| verdict.ended.ms_since(verdict.began) >= ms)
}

/// `deployment/web`, as kubectl has it.
fn kind_and_name(workload: &Workload) -> String {
    format!("{}/{}", workload.kind, workload.name)
}

/// A value of a closed set, as it stands in the JSON output.
pub(in crate::sink) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => UNKNOWN.to_owned(),
    }
}

#[cfg(test)]
mod tests;
