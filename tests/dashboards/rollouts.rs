//! *Rollouts*: did the last rollouts lose requests, why, and what to change?

use super::build::{Column, Dashboard, Kind, Panel, Query, Row, Variable, counted, panel, query};

const FAILED: &str =
    "zdt_failed_requests_total{namespace=~\"$namespace\",workload=~\"$workload\",node=~\"$node\"}";

/// Of the workloads and nodes that are chosen.
const OF: &str = "namespace=~\"$namespace\",workload=~\"$workload\",node=~\"$node\"";

const REPORT: &str = "\
**The whole story of a rollout** (each failed request with its evidence, a timeline of every pod, the patch) is the report. The \
daemons' output has it:

```
kubectl -n zdt logs -l app.kubernetes.io/name=zdt --tail=-1 --max-log-requests=1000 \\
  | grep '^{\"kind\"' | zdt report --record - -n NAMESPACE deployment/NAME
```

`--format html` writes it as one page, `--patch` prints the patch for `kubectl patch`. `zdt causes NAME` explains a cause.";

pub fn variables() -> Vec<Variable> {
    let of = |name, label, query| Variable { name, label, query };
    vec![
        of(
            "namespace",
            "Namespace",
            "label_values({__name__=~\"zdt_rollouts_total|zdt_failed_requests_total|zdt_propagation_seconds_count\"}, namespace)",
        ),
        of(
            "workload",
            "Workload",
            "label_values({__name__=~\"zdt_rollouts_total|zdt_failed_requests_total|zdt_propagation_seconds_count\", \
             namespace=~\"$namespace\"}, workload)",
        ),
        of("node", "Node", "label_values(zdt_build_info, node)"),
    ]
}

fn with(blame: &str) -> String {
    FAILED.replace('}', &format!(",blame=\"{blame}\"}}"))
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

fn table(
    title: &'static str,
    description: &'static str,
    columns: &[(&'static str, &'static str, &'static str)],
) -> Panel {
    let columns = columns
        .iter()
        .map(|&(of, title, unit)| Column { of, title, unit });
    panel(
        Kind::Table(columns.collect()),
        (title, description),
        "short",
        (12, 9),
        Vec::new(),
    )
}

fn bars(title: &'static str, description: &'static str, queries: Vec<Query>) -> Panel {
    panel(Kind::Bars, (title, description), "short", (12, 9), queries)
}

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "zdt-rollouts",
        title: "zdt / Rollouts",
        description: "Did the last rollouts lose requests, why, and what to change?",
        variables: variables(),
        rows: vec![lost(), last(), why(), rest()],
    }
}

fn lost() -> Row {
    let sum = |series: &str| format!("sum({}) or vector(0)", counted(series, "$__range"));
    let unexplained = with("unknown");
    let degraded = format!(
        "(sum({}) or vector(0)) / clamp_min(sum({}) or vector(0), 1)",
        counted(
            "zdt_verdicts_total{node=~\"$node\",confidence=\"degraded\"}",
            "$__range"
        ),
        counted("zdt_verdicts_total{node=~\"$node\"}", "$__range"),
    );
    Row {
        title: "Did rollouts lose requests?",
        panels: vec![
            number(
                "Lost to rollouts",
                "Requests that failed since pods ended or began, in the window. Above 0: the tables below name the rollouts \
                 and the setting that prevents it.",
                "short",
                Some(1.0),
                sum(&with("rollout")),
            ),
            number(
                "Unexplained",
                "Failed requests for which no cause was found. Above 0: look at zdt itself, whether hooks are missing or events \
                 were lost; `zdt explain` says of each what was missing to decide.",
                "short",
                Some(1.0),
                sum(&unexplained),
            ),
            number(
                "Not the rollout",
                "Requests that failed for another reason: a crash, a client that gave up, an overload. They are no reason to \
                 hold a rollout back; look at the application.",
                "short",
                None,
                sum(&with("not-the-rollout")),
            ),
            number(
                "Rollouts",
                "Rollouts, scale-downs and deletions in the window; each counts once for each node that lost a pod to it. 0 with \
                 failed requests beside it: no pod ended, look at the causes.",
                "short",
                None,
                sum(&format!("zdt_rollouts_total{{{OF}}}")),
            ),
            number(
                "Unfinished at SIGTERM",
                "Requests that were under way when their pod was told to stop, and that it never answered. Above 0: let the \
                 application finish its requests before it exits, and give it the grace for it.",
                "short",
                Some(1.0),
                sum(&format!("zdt_requests_unfinished_at_sigterm_total{{{OF}}}")),
            ),
            number(
                "Verdicts with losses",
                "Share of verdicts (of all workloads) in whose time something was lost on the way, so that they are less sure. \
                 Above 0: see Losses on the dashboard of zdt itself before you rely on them.",
                "percentunit",
                Some(0.01),
                degraded,
            ),
        ],
    }
}

/// As it stood last: a daemon that was updated begins anew and knows no earlier rollout.
fn stood(series: &str) -> String {
    format!("last_over_time({series}{{{OF}}}[$__range])")
}

/// Each node has a last rollout of its own: one that lost no pod to the newest still tells of an earlier. Those count that began
/// within an hour of the newest.
fn of_the_newest(series: &str) -> String {
    let began = stood("zdt_last_rollout_timestamp_seconds");
    format!(
        "({} and on (namespace, workload, node, instance) ({began} > on (namespace, workload) group_left () (max by \
         (namespace, workload) ({began}) - 3600)))",
        stood(series)
    )
}

fn last() -> Row {
    let by = "by (namespace, workload)";
    let at = format!(
        "1000 * max {by} ({})",
        stood("zdt_last_rollout_timestamp_seconds")
    );
    let took = format!(
        "max {by} ({})",
        of_the_newest("zdt_last_rollout_duration_seconds")
    );
    let failed = of_the_newest("zdt_last_rollout_failed_requests");
    let counted_by = format!("sum by (namespace, workload, node, instance) ({failed}) > 0");
    let failed = format!("sum {by} ({failed})");
    let by = "by (namespace, workload, setting)";
    let prevents = of_the_newest("zdt_last_rollout_advice_prevents_requests");
    let value = format!(
        "max {by} ({} and {prevents} > 0)",
        of_the_newest("zdt_last_rollout_advice_value")
    );
    let prevents = format!("sum {by} ({prevents}) > 0");
    let mut rollouts = table(
        "The last rollout of each workload",
        "When it began, how long it took, and what failed in it, over all nodes. Failed above 0: the table beside says what to \
         change; the report says the rest.",
        &[
            ("namespace", "Namespace", ""),
            ("workload", "Workload", ""),
            ("Value #A", "Began", "dateTimeAsIso"),
            ("Value #B", "Took", "s"),
            ("Value #C", "Failed", "short"),
        ],
    );
    rollouts.queries = [at, took, failed].map(|expr| query(expr, "")).into();
    rollouts.link = Some(("How long did nodes route to its old pods?", "zdt-propagation"));
    let mut advice = table(
        "What to change",
        "The settings that would have prevented the failures of the last rollout, with the value that follows from what was \
         measured (the largest that a node asks for) and how many requests it would have saved. Change it, roll out again, and \
         the row goes.",
        &[
            ("namespace", "Namespace", ""),
            ("workload", "Workload", ""),
            ("setting", "Setting", ""),
            ("Value #A", "Would have prevented", "short"),
            ("Value #B", "Value", "short"),
        ],
    );
    advice.queries = [prevents, value].map(|expr| query(expr, "")).into();
    let mut nodes = table(
        "Which node has the report",
        "Each failed request of the last rollouts was counted by one node: where its pod was, or its client. The address opens          what that node says of it, with every pod's timeline, while its zdt has it and your browser reaches the node;          `zdt report` joins all nodes and needs neither.",
        &[
            ("namespace", "Namespace", ""),
            ("workload", "Workload", ""),
            ("node", "Node", ""),
            ("Value", "Failed", "short"),
            ("instance", "Report", ""),
        ],
    );
    (nodes.width, nodes.height) = (24, 6);
    nodes.queries = vec![query(counted_by, "")];
    Row {
        title: "The last rollouts, and what to change",
        panels: vec![rollouts, advice, nodes],
    }
}

fn why() -> Row {
    let by = |label: &str| {
        format!(
            "sum by ({label}) ({}) > 0",
            counted(&with("rollout"), "$__rate_interval")
        )
    };
    Row {
        title: "Why",
        panels: vec![
            bars(
                "Lost to rollouts, by cause",
                "Why requests failed. `zdt causes NAME` (and docs/causes) explains each cause and shows the fix as YAML.",
                vec![query(by("cause"), "{{cause}}")],
            ),
            bars(
                "Lost to rollouts, by what the client saw",
                "refused and unreachable: the connection came too late, let pods serve longer (preStop). reset and closed-early: a \
                 request was cut, let the application finish. timed-out: packets went to a pod that was gone.",
                vec![query(by("outcome"), "{{outcome}}")],
            ),
            bars(
                "Lost to rollouts, by workload",
                "Whose rollouts lose requests. Begin with the tallest, and choose it above for its causes alone.",
                vec![query(by("namespace, workload"), "{{namespace}} {{workload}}")],
            ),
            bars(
                "Lost to rollouts, by trigger",
                "Who ended the pods. rolling-update: the Deployment's settings; drain and eviction: a PodDisruptionBudget and the \
                 same settings; liveness, oom and crash: the application or its limits; \
                 delete-and-create: somebody replaced the Deployment as a whole.",
                vec![query(by("trigger"), "{{trigger}}")],
            ),
        ],
    }
}

fn rest() -> Row {
    let took = format!(
        "histogram_quantile(0.9, sum by (namespace, workload, le) ({}))",
        counted(
            &format!("zdt_rollout_duration_seconds_bucket{{{OF}}}"),
            "$__range"
        )
    );
    let others = format!(
        "sum by (cause) ({}) > 0",
        counted(
            &FAILED.replace('}', ",blame=~\"not-the-rollout|unknown\"}"),
            "$__rate_interval"
        )
    );
    Row {
        title: "Beside",
        panels: vec![
            Panel {
                kind: Kind::Ranking { red: Some(1_800.0) },
                title: "How long rollouts take (p90)",
                description: "From the first change of a pod to the last one on the same node. Long ones wait for readiness, \
                              minReadySeconds, preStop or the grace: `zdt report` shows which, and says when a preStop is far \
                              longer than it has to be.",
                unit: "s",
                width: 12,
                height: 9,
                queries: vec![query(took, "{{namespace}} {{workload}}")],
                link: None,
            },
            bars(
                "Failed, but not by a rollout",
                "By cause; unexplained is one of them. Look at the application or its clients. What is unexplained again and \
                 again deserves a record (`zdt record`) and an issue.",
                vec![query(others, "{{cause}}")],
            ),
            Panel {
                kind: Kind::Text(REPORT),
                title: "The report",
                description: "How to get the report of a rollout, and the patch that it advises.",
                unit: "short",
                width: 24,
                height: 6,
                queries: Vec::new(),
                link: None,
            },
        ],
    }
}
