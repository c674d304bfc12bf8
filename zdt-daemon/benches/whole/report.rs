//! What the benchmark of the whole says, and its two shapes: one JSON object, and tables for people.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::figures::{Figures, Table};

/// The application beside one observer, under one load.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub load: String,
    pub observer: String,
    /// Requests a second.
    pub throughput: Figures,
    /// To nobody in the same round, as all ratios.
    pub throughput_ratio: Figures,
    pub p50_ms: Figures,
    pub p99_ms: Figures,
    pub p99_ratio: Figures,
    /// CPUs that the machine was busy with beyond what it was beside nobody.
    pub machine_cpu_extra: Figures,
    /// Seconds a second.
    pub observer_cpu: Figures,
    /// A second.
    pub wake_ups: Figures,
    pub rss_mib: Figures,
    /// Refused connections a second of the flood beside it.
    pub flood: Figures,
    pub failed: u64,
}

/// An observer that could not look on.
#[derive(Clone, Debug, Serialize)]
pub struct Absent {
    pub observer: String,
    pub why: String,
}

/// The correlator with so many flows and pods.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Size {
    pub flows: usize,
    pub pods: usize,
    /// Of the connections: each is opened, translated, ended and judged.
    pub inputs_per_s: f64,
    /// The same by step, for each connection: its first event, the second, the last with the judging.
    pub open_ns: f64,
    pub translate_ns: f64,
    pub end_ns: f64,
    /// The ticks among them, as a share of the time.
    pub ticks_share: f64,
    pub bytes_per_flow: f64,
    pub bytes_per_pod: f64,
    pub lists_s: f64,
    pub verdicts: usize,
    pub allocations_per_input: f64,
}

/// A recorded rollout, over and over, each time with other addresses, pods and times.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Replayed {
    pub inputs: u64,
    pub verdicts: usize,
    pub inputs_per_s: f64,
    pub allocations_per_input: f64,
}

#[derive(Clone, Debug, Default)]
pub struct Correlator {
    pub sizes: Vec<Size>,
    pub replayed: Replayed,
}

impl Correlator {
    /// The size that stands for a busy node.
    pub const FLOWS: usize = 10_000;

    fn typical(&self) -> Option<&Size> {
        self.sizes.iter().find(|s| s.flows == Self::FLOWS)
    }
}

/// One program of the kernel half while short connections come as fast as they can.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Program {
    pub program: String,
    pub runs_per_connection: f64,
    pub ns_per_run: f64,
    pub ns_per_connection: f64,
}

#[derive(Clone, Debug, Default)]
pub struct Kernel {
    pub idle: Programs,
    pub in_transition: Programs,
}

/// All of them, in one state.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Programs {
    pub programs: Vec<Program>,
    /// Events that they wrote to the ring.
    pub events_per_connection: f64,
}

pub fn ns_per_connection(all: &Programs) -> f64 {
    all.programs.iter().map(|p| p.ns_per_connection).sum()
}

/// From a failure in the kernel to its verdict.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    pub grace_ms: f64,
    /// Until the line was read from zdt's standard output.
    pub printed_ms: Figures,
    /// Until a scrape had counted it.
    pub counted_ms: Figures,
    /// Until the page's stream had told it.
    pub page_ms: Figures,
    pub failures: u64,
}

impl Latency {
    /// Each way out, its name in JSON, and when failures were there.
    fn ways(&self) -> [(&'static str, &'static str, &Figures); 3] {
        [
            ("verdict printed", "", &self.printed_ms),
            ("counted in a scrape", "counted_", &self.counted_ms),
            ("told to the page", "page_", &self.page_ms),
        ]
    }

    fn json(&self) -> Value {
        let mut all = json!({
            "failures": self.failures, "verdicts": self.printed_ms.len(), "counted": self.counted_ms.len(),
            "told_to_page": self.page_ms.len(), "grace_ms": self.grace_ms,
        });
        for (_, name, ms) in self.ways() {
            for (percent, share) in [("p50", 0.5), ("p99", 0.99)] {
                all[format!("{name}beyond_grace_{percent}_ms")] = number(ms.quantile(share) - self.grace_ms);
            }
        }
        all
    }

    fn text(&self) -> String {
        let mut lines = vec![
            format!(
                "| failure to, beyond the grace of {:.0} ms | p50 ms | p99 ms | of {} failures |",
                self.grace_ms, self.failures
            ),
            "|---|---|---|---|".to_owned(),
        ];
        for (way, _, ms) in self.ways() {
            let beyond = |share| ms.quantile(share) - self.grace_ms;
            lines.push(format!(
                "| {way} | {:.1} | {:.1} | {} |",
                beyond(0.5),
                beyond(0.99),
                ms.len()
            ));
        }
        lines.join("\n")
    }
}

/// From the start of the process to its line `ready`.
#[derive(Clone, Debug, Default)]
pub struct Start {
    pub endpoints: usize,
    pub ready_s: Figures,
    pub rss_mib: Figures,
    /// `kubectl get --raw` of the same lists from the same server; empty without kubectl.
    pub kubectl_s: Figures,
}

/// Everything that was measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub machine: Value,
    pub rounds: usize,
    pub rows: Vec<Row>,
    pub absent: Vec<Absent>,
    pub correlator: Option<Correlator>,
    pub kernel: Option<Kernel>,
    pub latency: Option<Latency>,
    pub start: Vec<Start>,
}

/// None where nothing was measured: JSON has no NaN.
fn number(value: f64) -> Value {
    json!(value.is_finite().then_some(value))
}

impl Row {
    fn json(&self) -> Value {
        let spread = |f: &Figures| {
            let (least, greatest) = f.spread();
            json!([number(least), number(greatest)])
        };
        json!({
            "load": self.load, "observer": self.observer, "rounds": self.throughput.len(), "failed": self.failed,
            "throughput": number(self.throughput.median()),
            "throughput_ratio": number(self.throughput_ratio.median()),
            "throughput_ratio_spread": spread(&self.throughput_ratio),
            "p50_ms": number(self.p50_ms.median()),
            "p99_ms": number(self.p99_ms.median()),
            "p99_ratio": number(self.p99_ratio.median()),
            "p99_ratio_spread": spread(&self.p99_ratio),
            "machine_cpu_extra": number(self.machine_cpu_extra.median()),
            "observer_cpu": number(self.observer_cpu.median()),
            "wake_ups_per_s": number(self.wake_ups.median()),
            "rss_mib": number(self.rss_mib.median()),
            "rss_mib_max": number(self.rss_mib.spread().1),
            "refused_per_s": number(self.flood.median()),
        })
    }
}

impl Report {
    pub fn json(&self, method: &str) -> Value {
        let mut all = json!({
            "method": method, "machine": self.machine, "rounds": self.rounds,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "absent": self.absent,
        });
        if let Some(correlator) = &self.correlator {
            let typical = correlator.typical();
            all["correlator"] = json!({
                "inputs_per_s": typical.map(|s| s.inputs_per_s),
                "bytes_per_flow": typical.map(|s| s.bytes_per_flow),
                "bytes_per_pod": typical.map(|s| s.bytes_per_pod),
                "sizes": correlator.sizes, "replayed": correlator.replayed,
            });
        }
        if let Some(kernel) = &self.kernel {
            all["kernel"] = json!({
                "ns_per_connection": number(ns_per_connection(&kernel.idle)),
                "ns_per_connection_in_transition": number(ns_per_connection(&kernel.in_transition)),
                "idle": kernel.idle, "in_transition": kernel.in_transition,
            });
        }
        if let Some(latency) = &self.latency {
            all["latency"] = latency.json();
        }
        let start = |s: &Start| {
            json!({
                "endpoints": s.endpoints, "ready_s": number(s.ready_s.median()), "rss_mib": number(s.rss_mib.median()),
                "kubectl_s": number(s.kubectl_s.median()),
                "ratio_to_kubectl": number(s.ready_s.median() / s.kubectl_s.median()),
            })
        };
        all["start"] = self.start.iter().map(start).collect();
        all
    }

    /// Tables for people, to paste.
    pub fn text(&self) -> String {
        let mut parts = Vec::new();
        if !self.rows.is_empty() {
            parts.push(format!(
                "Median [least .. greatest] of {} rounds (tools: a quarter of them):\n\n{}",
                self.rounds,
                self.table()
            ));
        }
        for absent in &self.absent {
            parts.push(format!("{} is left out: {}", absent.observer, absent.why));
        }
        if let Some(correlator) = &self.correlator {
            parts.push(correlator_text(correlator));
        }
        if let Some(kernel) = &self.kernel {
            parts.push(kernel_text("nothing in transition", &kernel.idle));
            parts.push(kernel_text("pods in transition", &kernel.in_transition));
        }
        if let Some(latency) = &self.latency {
            parts.push(latency.text());
        }
        if !self.start.is_empty() {
            let columns = [("ready s", 2), ("RSS MiB", 1), ("kubectl get s", 2)];
            let mut table = Table::new("endpoints", &columns);
            for s in &self.start {
                let figures = vec![s.ready_s.clone(), s.rss_mib.clone(), s.kubectl_s.clone()];
                table.row(s.endpoints.to_string(), figures);
            }
            parts.push(table.text());
        }
        parts.join("\n\n")
    }

    /// One row for each load and observer.
    fn table(&self) -> String {
        let mut lines = vec![
            "| load | observer | requests/s | ratio | p50 ms | p99 ms | p99 ratio | machine's CPUs more | its CPU, % of one | wake-ups/s | RSS MiB |"
                .to_owned(),
            "|---|---|---|---|---|---|---|---|---|---|---|".to_owned(),
        ];
        for row in &self.rows {
            lines.push(format!(
                "| {} | {} | {:.0} | {} | {:.2} | {:.2} | {} | {} | {:.2} | {:.0} | {:.1} |",
                row.load,
                row.observer,
                row.throughput.median(),
                row.throughput_ratio.text(3),
                row.p50_ms.median(),
                row.p99_ms.median(),
                row.p99_ratio.text(2),
                row.machine_cpu_extra.text(2),
                row.observer_cpu.median() * 100.0,
                row.wake_ups.median(),
                row.rss_mib.median(),
            ));
        }
        lines.join("\n")
    }
}

fn correlator_text(correlator: &Correlator) -> String {
    let mut lines = vec![
        "| flows | pods | inputs/s | open ns | translate ns | end and judge ns | ticks % | bytes/flow | bytes/pod | allocations/input |"
            .to_owned(),
        "|---|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    for s in &correlator.sizes {
        lines.push(format!(
            "| {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} |",
            s.flows,
            s.pods,
            s.inputs_per_s,
            s.open_ns,
            s.translate_ns,
            s.end_ns,
            s.ticks_share * 100.0,
            s.bytes_per_flow,
            s.bytes_per_pod,
            s.allocations_per_input
        ));
    }
    let r = &correlator.replayed;
    lines.push(format!(
        "\nA recorded rollout, repeated: {:.0} inputs/s, {:.2} allocations/input ({} inputs, {} verdicts)",
        r.inputs_per_s, r.allocations_per_input, r.inputs, r.verdicts
    ));
    lines.join("\n")
}

fn kernel_text(when: &str, all: &Programs) -> String {
    let mut lines = vec![format!(
        "kernel half, {when}: {:.0} ns for each connection (both ends on this kernel), {:.4} events",
        ns_per_connection(all),
        all.events_per_connection
    )];
    for p in &all.programs {
        lines.push(format!(
            "  {:<24}{:>6.2} runs of {:>5.0} ns = {:>5.0} ns",
            p.program, p.runs_per_connection, p.ns_per_run, p.ns_per_connection
        ));
    }
    lines.join("\n")
}
