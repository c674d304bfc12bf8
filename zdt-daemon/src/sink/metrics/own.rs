//! What zdt knows about itself: what it sees, what it lost, how far behind it is, and whether it is ready.

use prometheus::{
    CounterVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    Result,
    core::{Collector, GenericGauge},
};

use crate::{
    clock,
    input::{Backend, Input, Ktime, Wall, What},
    live::Health,
};

/// A consumer that has not got to a tick for so long is stuck. Ticks come each second; what waits on a slow standard
/// output for a while is no reason to be restarted.
const STUCK_MS: f64 = 60_000.0;

/// Kept by those who know; labels are from closed sets.
#[derive(Clone)]
pub struct Own {
    hooks_attached: IntGauge,
    hooks_missing: IntGauge,
    hook_attached: IntGaugeVec,
    events: IntCounterVec,
    lost: IntCounterVec,
    run_seconds: CounterVec,
    runs: IntCounterVec,
    inputs: IntCounter,
    lag: Histogram,
    queue: IntGauge,
    watches_synced: IntGauge,
    api_server_up: IntGauge,
    watch_gaps: IntCounterVec,
    rules_changes: IntCounterVec,
    rules_resyncs: IntCounterVec,
    entries: IntGaugeVec,
    evictions: IntCounterVec,
    http: IntCounterVec,
    kept: IntGauge,
    forgotten: IntCounter,
    dropped_listeners: IntCounter,
    /// Sums over the labels of `lost` and `watch_gaps`.
    all_lost: GenericGauge<prometheus::core::AtomicU64>,
    all_gaps: GenericGauge<prometheus::core::AtomicU64>,
    /// Wall clock of the newest of both, milliseconds; 0: there was none.
    lost_at: GenericGauge<prometheus::core::AtomicI64>,
    /// CLOCK_MONOTONIC of the newest tick that was consumed; in no metric, since the lag says it.
    ticked: GenericGauge<prometheus::core::AtomicU64>,
}

impl Own {
    pub(super) fn register(registry: &Registry) -> Result<Self> {
        let build = IntGauge::with_opts(
            Opts::new("zdt_build_info", "Always 1; its label says what runs.")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1);
        let gauge = |name: &str, help: &str| kept(registry, IntGauge::new(name, help)?);
        let counts = |name: &str, help: &str, labels: &[&str]| {
            kept(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            kept(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
        };
        kept(registry, build)?;
        Ok(Self {
            hooks_attached: gauge("zdt_hooks_attached", "Kernel hooks that are attached.")?,
            hooks_missing: gauge(
                "zdt_hooks_missing",
                "Kernel hooks that could not be attached; zdt doctor says which causes that costs.",
            )?,
            hook_attached: gauges(
                "zdt_hook_attached",
                "Whether this kernel hook is attached (1) or not (0).",
                &["hook"],
            )?,
            events: counts(
                "zdt_events_total",
                "Events that the kernel half wrote, by kind.",
                &["hook"],
            )?,
            lost: counts(
                "zdt_events_lost_total",
                "Pieces of information that were lost on the way to a verdict, by where; they lower the confidence of \
                 the verdicts they may touch (record: what the file of --record lacks, so of its replay's).",
                &["source"],
            )?,
            run_seconds: kept(
                registry,
                CounterVec::new(
                    Opts::new(
                        "zdt_hook_run_seconds_total",
                        "Time that the kernel spent in zdt's program; counted while kernel.bpf_stats_enabled is 1.",
                    ),
                    &["hook"],
                )?,
            )?,
            runs: counts(
                "zdt_hook_runs_total",
                "Runs of zdt's program in the kernel; counted while kernel.bpf_stats_enabled is 1.",
                &["hook"],
            )?,
            inputs: kept(
                registry,
                IntCounter::new("zdt_inputs_total", "Inputs that the correlator has taken.")?,
            )?,
            lag: kept(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "zdt_input_lag_seconds",
                        "How long an input waited for the correlator, measured with each tick, one to four times a second.",
                    )
                    .buckets(vec![0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 30.0]),
                )?,
            )?,
            queue: gauge(
                "zdt_input_queue_length",
                "Inputs that wait for the correlator; room is for 16384.",
            )?,
            watches_synced: gauge(
                "zdt_watches_synced",
                "Whether every watch of the Kubernetes API has had its first list (1) or not yet (0).",
            )?,
            api_server_up: gauge(
                "zdt_api_server_up",
                "Whether the API server answered when it was last heard of (1) or not (0).",
            )?,
            watch_gaps: counts(
                "zdt_watch_gaps_total",
                "Interruptions of a watch after which it was listed anew: changes may have been missed.",
                &["resource"],
            )?,
            rules_changes: counts(
                "zdt_rules_changes_total",
                "Changes of this node's rules that were read, by backend.",
                &["backend"],
            )?,
            rules_resyncs: counts(
                "zdt_rules_resyncs_total",
                "Times that this node's rules were read anew since notifications about them were lost, by backend.",
                &["backend"],
            )?,
            entries: gauges(
                "zdt_table_entries",
                "Entries of the correlator's tables.",
                &["table"],
            )?,
            evictions: counts(
                "zdt_table_evictions_total",
                "Entries that a table's bound has cost.",
                &["table"],
            )?,
            http: counts(
                "zdt_http_requests_total",
                "Requests to this interface, by page and status code.",
                &["page", "code"],
            )?,
            kept: gauge(
                "zdt_kept_outputs",
                "Outputs that are kept for the HTTP interface.",
            )?,
            forgotten: kept(
                registry,
                IntCounter::new(
                    "zdt_forgotten_outputs_total",
                    "Outputs that the HTTP interface had to let go of for newer ones.",
                )?,
            )?,
            dropped_listeners: kept(
                registry,
                IntCounter::new(
                    "zdt_dropped_listeners_total",
                    "Listeners to the events of the HTTP interface that took nothing for 20 s.",
                )?,
            )?,
            all_lost: GenericGauge::new("zdt_all_lost", "Not registered.")?,
            all_gaps: GenericGauge::new("zdt_all_gaps", "Not registered.")?,
            lost_at: GenericGauge::new("zdt_lost_at", "Not registered.")?,
            ticked: GenericGauge::new("zdt_ticked", "Not registered.")?,
        })
    }

    /// What was attached and what was not, by kernel name.
    pub fn hooks(&self, attached: &[&str], missing: &[&str]) {
        self.hooks_attached.set(signed(attached.len()));
        self.hooks_missing.set(signed(missing.len()));
        for (names, state) in [(attached, 1), (missing, 0)] {
            for hook in names {
                self.hook_attached.with_label_values(&[*hook]).set(state);
            }
        }
    }

    /// Events that the kernel half has written since the start.
    pub fn events(&self, hook: &str, total: u64) {
        raise(&self.events.with_label_values(&[hook]), total);
    }

    /// Time and runs of a program since it was loaded.
    pub fn run_time(&self, hook: &str, seconds: f64, runs: u64) {
        let time = self.run_seconds.with_label_values(&[hook]);
        time.inc_by((seconds - time.get()).max(0.0));
        raise(&self.runs.with_label_values(&[hook]), runs);
    }

    /// Every watch has had its first list.
    pub fn synced(&self) {
        self.watches_synced.set(1);
    }

    /// Whether the API server answers.
    pub fn api_server(&self, up: bool) {
        self.api_server_up.set(i64::from(up));
    }

    /// The correlator takes `input` now, and `waiting` more are behind it.
    pub fn input(&self, now: Ktime, input: &Input, waiting: usize) {
        self.inputs.inc();
        match &input.what {
            What::Tick => {
                self.lag.observe(now.ms_since(input.at).max(0.0) / 1000.0);
                self.queue.set(signed(waiting));
                self.ticked.set(now.0);
            }
            What::Loss { source, count } => {
                self.lost.with_label_values(&[source.as_str()]).inc_by(*count);
                self.all_lost.add(*count);
                self.lost_at.set(clock::wall().0);
            }
            What::WatchGap { resource, .. } => {
                self.watch_gaps.with_label_values(&[resource.as_str()]).inc();
                self.all_gaps.inc();
                self.lost_at.set(clock::wall().0);
            }
            What::Rules(rules) => {
                // The first list of routes has no backend of its own.
                let Some(backend) = rules.backend.map(name) else {
                    return;
                };
                self.rules_changes.with_label_values(&[backend]).inc();
                if rules.resynced {
                    self.rules_resyncs.with_label_values(&[backend]).inc();
                }
            }
            _ => {}
        }
    }

    /// How full a table is.
    pub fn table(&self, table: &str, entries: usize, evicted: u64) {
        self.entries.with_label_values(&[table]).set(signed(entries));
        raise(&self.evictions.with_label_values(&[table]), evicted);
    }

    /// Inputs that the record lacks since the start: a replay has lost them, this daemon's own verdicts have not.
    pub fn record_lost(&self, total: u64) {
        if total > 0 {
            raise(&self.lost.with_label_values(&["record"]), total);
        }
    }

    /// A page was asked for.
    pub fn asked(&self, page: &str, code: u16) {
        self.http.with_label_values(&[page, &code.to_string()]).inc();
    }

    /// Outputs that the HTTP interface keeps, and those that it had to let go of.
    pub fn kept(&self, forgotten: u64, kept: usize) {
        self.kept.set(signed(kept));
        raise(&self.forgotten, forgotten);
    }

    /// Whoever listened to events took nothing for too long.
    pub fn dropped_listener(&self) {
        self.dropped_listeners.inc();
    }

    /// Whether everything is seen now.
    pub fn health(&self) -> Health {
        let missing = self.hooks_missing.get();
        let hooks = (missing > 0)
            .then(|| format!("{missing} kernel hooks are not attached (`zdt doctor` says what that costs)"));
        let starting = self.ready().err().map(str::to_owned);
        let silent = (starting.is_none() && self.api_server_up.get() == 0)
            .then(|| "the Kubernetes API does not answer".to_owned());
        Health {
            blind: [starting, silent, hooks].into_iter().flatten().collect(),
            hooks_attached: self.hooks_attached.get().unsigned_abs(),
            hooks_missing: missing.unsigned_abs(),
            events_lost: self.all_lost.get(),
            watch_gaps: self.all_gaps.get(),
            last_lost: Some(self.lost_at.get()).filter(|at| *at > 0).map(Wall),
        }
    }

    /// Why zdt does not see everything that it will see.
    pub fn ready(&self) -> std::result::Result<(), &'static str> {
        if self.hooks_attached.get() == 0 {
            Err("the kernel hooks are not attached yet")
        } else if self.watches_synced.get() == 0 {
            Err("the watches of the Kubernetes API have not all had their first list")
        } else {
            Ok(())
        }
    }

    /// Why zdt is stuck. Before the first tick it is starting.
    pub fn alive(&self, now: Ktime) -> std::result::Result<(), &'static str> {
        match self.ticked.get() {
            ticked if ticked > 0 && now.ms_since(Ktime(ticked)) > STUCK_MS => {
                Err("the correlator has taken no input for a minute")
            }
            _ => Ok(()),
        }
    }
}

fn kept<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// Sets a counter to a total that somebody else counts.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn name(backend: Backend) -> &'static str {
    match backend {
        Backend::IptablesNft => "iptables-nft",
        Backend::Nftables => "nftables",
        Backend::IptablesLegacy => "iptables-legacy",
    }
}
