//! *Propagation*: which node is late?

use super::{
    build::{Column, Dashboard, Kind, Panel, Row, counted, panel, query},
    rollouts::variables,
};

const BUCKETS: &str = "zdt_propagation_seconds_bucket{namespace=~\"$namespace\",workload=~\"$workload\",node=~\"$node\",stage=~\"STAGE\"}";

/// A quantile of a stage, by labels.
fn quantile(q: f64, stage: &str, by: &str, window: &str) -> String {
    let by = if by.is_empty() {
        "le".to_owned()
    } else {
        format!("{by}, le")
    };
    format!(
        "histogram_quantile({q}, sum by ({by}) ({}))",
        counted(&BUCKETS.replace("STAGE", stage), window)
    )
}

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "zdt-propagation",
        title: "zdt / Propagation",
        description: "How long do nodes send new connections to pods that end, and which node is late?",
        variables: variables(),
        rows: vec![late(), nodes(), new(), rules()],
    }
}

fn number(title: &'static str, description: &'static str, red: f64, expr: String) -> Panel {
    panel(
        Kind::Number { red: Some(red) },
        (title, description),
        "s",
        (6, 4),
        vec![query(expr, "")],
    )
}

fn ranking(
    title: &'static str,
    description: &'static str,
    stage: &str,
    by: &str,
    legend: &'static str,
) -> Panel {
    let slowest = format!("topk(15, {})", quantile(0.9, stage, by, "$__range"));
    panel(
        Kind::Ranking { red: Some(5.0) },
        (title, description),
        "s",
        (12, 9),
        vec![query(slowest, legend)],
    )
}

fn lines(
    title: &'static str,
    description: &'static str,
    stages: &str,
    by: &str,
    legend: &'static str,
) -> Panel {
    panel(
        Kind::Lines,
        (title, description),
        "s",
        (12, 9),
        vec![query(quantile(0.9, stages, by, "$__rate_interval"), legend)],
    )
}

fn late() -> Row {
    let slowest = format!("max({})", quantile(0.9, "rules", "node, instance", "$__range"));
    let short = format!(
        "count({} > on (namespace, workload) {}) or vector(0)",
        quantile(0.9, "rules", "namespace, workload", "$__range"),
        quantile(0.1, "stopped-serving", "namespace, workload", "$__range"),
    );
    let mut too_short = number(
        "Workloads that stop serving too early",
        "Workloads of which a tenth of the pods stop serving before a tenth of the rules have let go of them: each rollout loses \
         requests when there is traffic. Choose one in the table below, and make its preStop sleep longer than its Rules column.",
        1.0,
        short,
    );
    too_short.unit = "short";
    Row {
        title: "From a pod's deletion to the last new connection",
        panels: vec![
            number(
                "Rules let go, p90",
                "From the deletion of a pod until no rule of a node sends it new connections, over the chosen nodes and \
                 workloads. A preStop sleep has to be longer. Above 5 s: kube-proxy is late, see its minSyncPeriod and CPU limit.",
                5.0,
                quantile(0.9, "rules", "", "$__range"),
            ),
            number(
                "Slowest node, p90",
                "The same of the node that is last. Far above the number beside it: that node alone is late, and the ranking \
                 below names it.",
                5.0,
                slowest,
            ),
            number(
                "Slice update, p90",
                "From the deletion until the endpoint slice said so, as the nodes saw it. Above 1 s: the API server or the \
                 endpoint slice controller is slow, and no node can be faster.",
                1.0,
                quantile(0.9, "slice", "", "$__range"),
            ),
            too_short,
            lines(
                "Stages of a removal (p90)",
                "In the order in which they should come: slice, rules, last-connection, stopped-serving. Where stopped-serving is \
                 below rules, requests are refused: raise the preStop sleep until it is above.",
                "slice|rules|last-connection|stopped-serving",
                "stage",
                "{{stage}}",
            ),
            Panel {
                kind: Kind::Table(vec![
                    Column {
                        of: "namespace",
                        title: "Namespace",
                        unit: "",
                    },
                    Column {
                        of: "workload",
                        title: "Workload",
                        unit: "",
                    },
                    Column {
                        of: "Value #A",
                        title: "Slice",
                        unit: "s",
                    },
                    Column {
                        of: "Value #B",
                        title: "Rules",
                        unit: "s",
                    },
                    Column {
                        of: "Value #C",
                        title: "Last connection",
                        unit: "s",
                    },
                    Column {
                        of: "Value #D",
                        title: "Stopped serving",
                        unit: "s",
                    },
                ]),
                title: "By workload (p90; stopped serving: p10)",
                description: "Rules above Stopped serving: pods of this workload stop too early. Set \
                              lifecycle.preStop.sleep.seconds to more than the difference, and a second on top.",
                unit: "s",
                width: 12,
                height: 9,
                queries: [
                    (0.9, "slice"),
                    (0.9, "rules"),
                    (0.9, "last-connection"),
                    (0.1, "stopped-serving"),
                ]
                .map(|(q, stage)| query(quantile(q, stage, "namespace, workload", "$__range"), ""))
                .into(),
                link: Some(("What was lost, and what to change?", "zdt-rollouts")),
            },
        ],
    }
}

fn nodes() -> Row {
    Row {
        title: "Which node is late?",
        panels: vec![
            ranking(
                "Slowest nodes: rules (p90)",
                "How long the rules of each node led to pods that were ending. One node far above the others: look at its \
                 kube-proxy (logs, CPU throttling, minSyncPeriod) and at the node's load.",
                "rules",
                "node, instance",
                "{{node}} {{instance}}",
            ),
            ranking(
                "Slowest nodes: slice (p90)",
                "How late each node learned of the change. One node above the others: its connection to the API server is slow, \
                 and its kube-proxy is as late. All of them: it is the API server.",
                "slice",
                "node, instance",
                "{{node}} {{instance}}",
            ),
            lines(
                "Rules by node (p90)",
                "Since when a node is late. A step: what changed then (an update of kube-proxy, more services, a new node pool)?",
                "rules",
                "node",
                "{{node}}",
            ),
            lines(
                "Last new connection by node (p90)",
                "When clients on each node last opened a connection to an ending pod. Above the rules of the same node: those \
                 connections do not go by the rules (a proxy or a client that keeps a list of pods itself), see the cause \
                 proxy-still-balances.",
                "last-connection",
                "node",
                "{{node}}",
            ),
        ],
    }
}

fn new() -> Row {
    Row {
        title: "From a new pod's readiness to its first connection",
        panels: vec![
            lines(
                "Stages of an addition (p90)",
                "slice-ready, first-rule, first-connection. Where first-rule is late, a surge helps later than it should: \
                 maxUnavailable 0 keeps the old pods until the new ones are Ready, minReadySeconds until they are reached.",
                "slice-ready|first-rule|first-connection",
                "stage",
                "{{stage}}",
            ),
            ranking(
                "Slowest nodes: first rule (p90)",
                "How long each node took to send new pods their share. As late as its removals: kube-proxy of this node is slow.",
                "first-rule",
                "node, instance",
                "{{node}} {{instance}}",
            ),
        ],
    }
}

fn rules() -> Row {
    let samples = counted(
        "zdt_propagation_seconds_count{namespace=~\"$namespace\",workload=~\"$workload\",node=~\"$node\",stage=\"rules\"}",
        "$__range",
    );
    let changes = |metric: &str| {
        format!(
            "sum by (node, backend) ({}) > 0",
            counted(&format!("{metric}{{node=~\"$node\"}}"), "$__rate_interval")
        )
    };
    let resyncs = format!(
        "sum({}) or vector(0)",
        counted("zdt_rules_resyncs_total{node=~\"$node\"}", "$__rate_interval")
    );
    Row {
        title: "What these numbers rest on",
        panels: vec![
            Panel {
                kind: Kind::Ranking { red: None },
                title: "Removals seen, by node",
                description: "How many pods' removals each node has followed to the end. Below 5: too few to rely on; widen the \
                              window.",
                unit: "short",
                width: 12,
                height: 8,
                queries: vec![query(
                    format!("sum by (node, instance) ({samples})"),
                    "{{node}} {{instance}}",
                )],
                link: None,
            },
            Panel {
                kind: Kind::Bars,
                title: "Changes of rules that were read",
                description: "By backend of the node's kube-proxy; and how often the rules had to be read anew since \
                              notifications were lost. No changes during a rollout: zdt cannot read the rules of this node \
                              (`zdt doctor`), or something else than kube-proxy routes.",
                unit: "short",
                width: 12,
                height: 8,
                queries: vec![
                    query(changes("zdt_rules_changes_total"), "{{node}} {{backend}}"),
                    query(resyncs, "read anew"),
                ],
                link: None,
            },
        ],
    }
}
