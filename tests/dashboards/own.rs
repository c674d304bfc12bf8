//! *zdt itself*: does it see everything, in time, and what does it cost?

use super::{
    build::{Column, Dashboard, Kind, Panel, Query, Row, counted, panel, query},
    rollouts::variables,
};

const NODE: &str = "{node=~\"$node\"}";

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "zdt-itself",
        title: "zdt / itself",
        description: "Does zdt see everything, in time, and what does it cost? An absence of failures means something only where \
                      it does.",
        // All of them: the marks of rollouts need them.
        variables: variables(),
        rows: vec![blind(), losses(), late(), inside(), costs()],
    }
}

fn number(
    title: &'static str,
    description: &'static str,
    unit: &'static str,
    red: Option<f64>,
    expr: String,
) -> Panel {
    panel(
        Kind::Number { red },
        (title, description),
        unit,
        (4, 4),
        vec![query(expr, "")],
    )
}

fn over_time(
    kind: Kind,
    title: &'static str,
    description: &'static str,
    unit: &'static str,
    queries: Vec<Query>,
) -> Panel {
    panel(kind, (title, description), unit, (12, 8), queries)
}

fn count(below: &str) -> String {
    format!("count({below}) or vector(0)")
}

fn blind() -> Row {
    let of = |metric: &str| format!("{metric}{NODE}");
    let blind = format!(
        "{} == 0 or {} == 0 or {} == 0",
        of("zdt_hooks_attached"),
        of("zdt_watches_synced"),
        of("zdt_api_server_up")
    );
    let down = "up == 0 and on (job, instance) last_over_time(zdt_build_info{node=~\"$node\"}[$__range])";
    let missing = "sum by (node, hook) (zdt_hook_attached{node=~\"$node\"} == bool 0)";
    let mut hooks = over_time(
        Kind::Table(
            [
                ("node", "Node", ""),
                ("Value #A", "Attached", "short"),
                ("Value #B", "Missing", "short"),
                ("Value #C", "Watches synced", "short"),
                ("Value #D", "API server answers", "short"),
                ("Value #E", "Started", "dateTimeAsIso"),
                ("instance", "Page", ""),
            ]
            .map(|(of, title, unit)| Column { of, title, unit })
            .into(),
        ),
        "What each node sees",
        "Missing above 0: `zdt doctor` on that node says which causes cannot be named there, and why. Watches synced or API server \
         0: its log says what keeps it from the API server; verdicts there have no names meanwhile. The address opens its page, if \
         your browser reaches it.",
        "short",
        Vec::new(),
    );
    hooks.queries = [
        format!("max by (node, instance) ({})", of("zdt_hooks_attached")),
        format!("max by (node, instance) ({})", of("zdt_hooks_missing")),
        format!("min by (node, instance) ({})", of("zdt_watches_synced")),
        format!("min by (node, instance) ({})", of("zdt_api_server_up")),
        format!(
            "1000 * max by (node, instance) (process_start_time_seconds{NODE} and on (job, instance) zdt_build_info)"
        ),
    ]
    .map(|expr| query(expr, ""))
    .into();
    Row {
        title: "Does it see everything?",
        panels: vec![
            number(
                "Nodes watched",
                "Daemons that Prometheus reads. Fewer than nodes in the cluster: `kubectl -n zdt get pods -o wide` shows which \
                 are missing; failures there are not seen.",
                "short",
                None,
                count(&of("zdt_build_info")),
            ),
            number(
                "Blind",
                "Daemons without hooks, without a first list of a watch, or without an API server. Above 0: an absence of failures \
                 there means nothing; the table below says what is missing, `/readyz` and the log why.",
                "short",
                Some(1.0),
                count(&blind),
            ),
            number(
                "Not answering",
                "Daemons that Prometheus knows and cannot read. Above 0: see whether the pod runs, and whether its port (9734) can \
                 be reached from Prometheus.",
                "short",
                Some(1.0),
                count(down),
            ),
            number(
                "Hooks missing",
                "Hooks that could not be attached, over all nodes. Above 0: an older kernel or a permission that was taken; `zdt \
                 doctor` says which causes that costs.",
                "short",
                Some(1.0),
                format!("sum({}) or vector(0)", of("zdt_hooks_missing")),
            ),
            number(
                "Lost",
                "Pieces of information that were lost on the way in the window. Above 0: verdicts of that time are less sure; the \
                 losses by source below say where.",
                "short",
                Some(1.0),
                format!(
                    "sum({}) or vector(0)",
                    counted(&of("zdt_events_lost_total"), "$__range")
                ),
            ),
            number(
                "Versions",
                "Different versions of zdt that run. Above 1 for long: the update of the DaemonSet is stuck (`kubectl -n zdt \
                 rollout status daemonset/zdt`).",
                "short",
                Some(2.0),
                format!(
                    "count(count by (version) ({})) or vector(0)",
                    of("zdt_build_info")
                ),
            ),
            hooks,
            over_time(
                Kind::Bars,
                "Missing hooks",
                "Which ones, and where. Nothing is drawn for a hook that is attached: 0 everywhere is what you want. `zdt doctor` \
                 says what each one is for.",
                "short",
                vec![query(missing, "{{node}} {{hook}}")],
            ),
        ],
    }
}

fn losses() -> Row {
    let window = "$__rate_interval";
    let of = |metric: &str| counted(&format!("{metric}{NODE}"), window);
    let sum =
        |metric: &str, of_what: &'static str| query(format!("sum({}) or vector(0)", of(metric)), of_what);
    Row {
        title: "Losses",
        panels: vec![
            over_time(
                Kind::Bars,
                "Losses by source",
                "ring:*: more kernel events than the reader took, input-channel: the correlator did not keep up: give zdt more \
                 CPU. conntrack-*: more failing connections than could be looked up. rules: the rules were read anew.",
                "short",
                vec![
                    query(
                        format!("sum by (node, source) ({}) > 0", of("zdt_events_lost_total")),
                        "{{node}} {{source}}",
                    ),
                    sum("zdt_events_lost_total", "all"),
                ],
            ),
            over_time(
                Kind::Bars,
                "Gaps and repeated reads",
                "Watches that were interrupted and listed anew, and rules that were read anew: changes in between may have been \
                 missed. Again and again: the API server drops watches, or the node changes its rules faster than they are read.",
                "short",
                vec![
                    sum("zdt_watch_gaps_total", "watches listed anew"),
                    sum("zdt_rules_resyncs_total", "rules read anew"),
                ],
            ),
            over_time(
                Kind::Bars,
                "What bounds have cost",
                "Entries that a full table gave up, and counts that went to the workload (other) since a metric has all the series \
                 it may have. Above 0: the node has more failures at once, or more workloads, than zdt keeps apart.",
                "short",
                vec![
                    query(
                        format!("sum by (table) ({})", of("zdt_table_evictions_total")),
                        "{{table}}",
                    ),
                    sum("zdt_label_overflows_total", "series"),
                ],
            ),
            over_time(
                Kind::Bars,
                "Ways out",
                "What became of Kubernetes Events about lost requests, and of lines and OTLP records. failed: refused (the role \
                 lacks `create events`?) or nobody there; dropped: too many waited.",
                "short",
                vec![
                    query(
                        format!("sum by (result) ({})", of("zdt_kubernetes_events_total")),
                        "{{result}}",
                    ),
                    query(
                        format!("sum by (sink, result) ({})", of("zdt_exported_outputs_total")),
                        "{{sink}} {{result}}",
                    ),
                ],
            ),
        ],
    }
}

fn late() -> Row {
    let quantile = |metric: &str| {
        format!(
            "histogram_quantile(0.99, sum by (node, le) ({}))",
            counted(&format!("{metric}_bucket{NODE}"), "$__rate_interval")
        )
    };
    Row {
        title: "Is it in time?",
        panels: vec![
            over_time(
                Kind::Lines,
                "Input lag (p99)",
                "How long an input waited for the correlator. Above 1 s: zdt does not keep up on that node; give it more CPU, or \
                 see what floods it (events by hook).",
                "s",
                vec![query(quantile("zdt_input_lag_seconds"), "{{node}}")],
            ),
            over_time(
                Kind::Lines,
                "Verdict latency (p99)",
                "From a request's failure to its verdict; 2 s of it are grace for what comes late. Far above: the lag beside it, \
                 or clients outside the cluster, whose silence takes longer to be sure of.",
                "s",
                vec![query(quantile("zdt_verdict_latency_seconds"), "{{node}}")],
            ),
            over_time(
                Kind::Lines,
                "Inputs that wait",
                "There is room for 16384; what comes beyond is lost and counted. A line that climbs: the correlator is too slow, \
                 or its standard output is not read.",
                "short",
                vec![query(
                    format!("max by (node) (zdt_input_queue_length{NODE})"),
                    "{{node}}",
                )],
            ),
            over_time(
                Kind::Lines,
                "Inputs a second",
                "What the correlator takes: kernel events, rules, watches, ticks (4 a second). A node far above the others has more \
                 failing connections; its hooks are in the panel below.",
                "cps",
                vec![query(
                    format!("sum by (node) (rate(zdt_inputs_total{NODE}[$__rate_interval]))"),
                    "{{node}}",
                )],
            ),
        ],
    }
}

fn inside() -> Row {
    Row {
        title: "What it does",
        panels: vec![
            over_time(
                Kind::Lines,
                "Kernel events a second, by hook",
                "Written by the kernel half. Each event is a failure, an end, a signal of a pod under change; thousands a second \
                 outside of rollouts mean a service that is refused all the time.",
                "ops",
                vec![query(
                    format!("sum by (hook) (rate(zdt_events_total{NODE}[$__rate_interval])) > 0"),
                    "{{hook}}",
                )],
            ),
            over_time(
                Kind::Lines,
                "Table entries",
                "The fullest node of each table. flows and attempts hold what is not judged yet (65536 at most), pods what is \
                 remembered (16384). Near the bound, evictions follow.",
                "short",
                vec![query(
                    format!("max by (table) (zdt_table_entries{NODE})"),
                    "{{table}}",
                )],
            ),
            over_time(
                Kind::Lines,
                "Requests to its HTTP interface",
                "By page and status code. 429: somebody asks more often than it answers; 503 on /readyz: it is not ready, and says \
                 why.",
                "reqps",
                vec![query(
                    format!("sum by (page, code) (rate(zdt_http_requests_total{NODE}[$__rate_interval]))"),
                    "{{page}} {{code}}",
                )],
            ),
            over_time(
                Kind::Lines,
                "Series",
                "Series that each daemon serves; 60,000 at most, 2,000 on a usual node. Most are workloads: what has no room \
                 is counted under (other).",
                "short",
                vec![query(
                    "sum by (node) (scrape_samples_scraped and on (job, instance) zdt_build_info{node=~\"$node\"})",
                    "{{node}}",
                )],
            ),
        ],
    }
}

fn costs() -> Row {
    let own = |metric: &str| format!("{metric}{NODE} and on (job, instance) zdt_build_info");
    Row {
        title: "What it costs",
        panels: vec![
            over_time(
                Kind::Lines,
                "CPU",
                "Of the daemon, in cores; the hooks' part is beside. Above 0.1 for long: see which hook writes most events, and \
                 whether something polls /metrics.",
                "none",
                vec![query(
                    format!(
                        "sum by (node) (rate(process_cpu_seconds_total{NODE}[$__rate_interval]) and on (job, instance) \
                         zdt_build_info)"
                    ),
                    "{{node}}",
                )],
            ),
            over_time(
                Kind::Lines,
                "CPU of the hooks",
                "Time that the kernel spent in zdt's programs, in cores, and by hook. Empty while kernel.bpf_stats_enabled is 0, \
                 which is the default: set it for a while (`sysctl kernel.bpf_stats_enabled=1`); counting costs some \
                 nanoseconds for each run of any BPF program.",
                "none",
                vec![query(
                    format!("sum by (hook) (rate(zdt_hook_run_seconds_total{NODE}[$__rate_interval])) > 0"),
                    "{{hook}}",
                )],
            ),
            over_time(
                Kind::Lines,
                "Memory",
                "Resident memory; the DaemonSet's limit is 256 MiB. A line that climbs without end is a defect: please report it \
                 with the table entries of that time.",
                "bytes",
                vec![query(
                    format!("max by (node) ({})", own("process_resident_memory_bytes")),
                    "{{node}}",
                )],
            ),
            over_time(
                Kind::Lines,
                "Threads and file descriptors",
                "Steady on a node that is. Descriptors that climb without end end in failed accepts (process_max_fds); report it \
                 with the log.",
                "short",
                vec![
                    query(
                        format!("max by (node) ({})", own("process_open_fds")),
                        "{{node}} descriptors",
                    ),
                    query(
                        format!("max by (node) ({})", own("process_threads")),
                        "{{node}} threads",
                    ),
                ],
            ),
        ],
    }
}
