//! The stages of many propagations as a table: samples, median, 99th percentile, longest, and the slowest node.

use std::fmt::Write as _;

use super::escape;
use crate::{
    causes::{ENOUGH_PODS, MARGIN_MS, quantile, say_ms},
    verdict::{Change, Propagation},
};

/// One line a stage, under a heading for each change; empty where no stage is known.
pub fn propagation_table(all: &[Propagation]) -> String {
    let mut text = String::new();
    for change in [Change::Removal, Change::Addition] {
        let of: Vec<&Propagation> = all.iter().filter(|p| p.change == change).collect();
        text.push_str(&table(change, &of));
    }
    text
}

/// By how much a pod stopped serving before the last node that was seen let go of it, milliseconds: the largest such gap; negative
/// where every pod served for longer. None: of no pod both are known.
pub fn stopped_before_rules(all: &[Propagation]) -> Option<f64> {
    gaps(all)
        .into_iter()
        .map(|(gap_ms, _)| gap_ms)
        .max_by(f64::total_cmp)
}

/// Of each pod whose end of serving was seen: the gap, and the node that let go of it last. A pod of another node has its
/// zero a few milliseconds later (see [`crate::verdict::Since`]).
fn gaps(all: &[Propagation]) -> Vec<(f64, &str)> {
    let removals = || all.iter().filter(|p| p.change == Change::Removal);
    let stopped = removals().filter_map(|p| Some((&p.namespace, &p.pod, p.stopped_serving_ms?)));
    let of = |(namespace, pod, stopped_ms): (&String, &String, f64)| {
        let same = removals().filter(|p| p.namespace == *namespace && p.pod == *pod);
        let rules = same.filter_map(|p| Some((p.rules_ms? - stopped_ms, p.node.as_str())));
        rules.max_by(|a, b| a.0.total_cmp(&b.0))
    };
    stopped.filter_map(of).collect()
}

/// What the preStop sleep lacks, in sentences: over all nodes that were read.
pub fn propagation_advice(all: &[Propagation]) -> Vec<String> {
    let gaps = gaps(all);
    let Some((gap_ms, node)) = gaps.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0)) else {
        return Vec::new();
    };
    let node = escape(node);
    let mut lines = vec![if gap_ms > 0.0 {
        format!(
            "do: a preStop sleep that is {:.0} s longer than it was     (a pod stopped serving {} before the rules of node {node} let \
             go of it; {} pods; margin {})",
            ((gap_ms + MARGIN_MS) / 1_000.0).ceil(),
            say_ms(gap_ms),
            gaps.len(),
            say_ms(MARGIN_MS),
        )
    } else {
        format!(
            "every pod served until the rules had let go of it: for {} longer at least (node {node}; {} pods)",
            say_ms(-gap_ms),
            gaps.len(),
        )
    }];
    let missing = ENOUGH_PODS.saturating_sub(gaps.len());
    if missing > 0 {
        lines.push(format!("{missing} more pods are needed to rely on it"));
    }
    lines
}

fn table(change: Change, all: &[&Propagation]) -> String {
    let mut text = String::new();
    let mut names: Vec<&'static str> = Vec::new();
    for (name, _) in all.iter().flat_map(|p| p.stages()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return text;
    }
    names.sort_by_key(|name| ORDER.iter().position(|o| o == name));
    let pods = if all.len() == 1 { "pod" } else { "pods" };
    let title = match change {
        Change::Removal => format!("after the deletion of {} {pods}", all.len()),
        Change::Addition => format!("after {} {pods} became Ready", all.len()),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{title:<34}  {:>7}  {:>8}  {:>8}  {:>8}  slowest node",
        "samples", "p50", "p99", "max"
    );
    for name in names {
        let mut samples: Vec<(f64, &str)> = Vec::new();
        for p in all {
            let found = p.stages().find(|(stage, _)| *stage == name);
            samples.extend(found.map(|(_, ms)| (ms, p.node.as_str())));
        }
        samples.sort_by(|a, b| a.0.total_cmp(&b.0));
        let times: Vec<f64> = samples.iter().map(|(ms, _)| *ms).collect();
        let say = |q| quantile(&times, q).map_or_else(String::new, say_ms);
        let slowest = samples.last().map_or("", |(_, node)| *node);
        let _ = writeln!(
            text,
            "  {:<32}  {:>7}  {:>8}  {:>8}  {:>8}  {}",
            what(name),
            samples.len(),
            say(0.5),
            say(0.99),
            say(1.0),
            escape(slowest),
        );
    }
    text
}

/// Stages in the order in which they should come.
const ORDER: [&str; 7] = [
    "slice",
    "rules",
    "last-connection",
    "stopped-serving",
    "slice-ready",
    "first-rule",
    "first-connection",
];

fn what(stage: &str) -> &str {
    match stage {
        "slice" => "slice said terminating",
        "rules" => "rules let go of it",
        "last-connection" => "last new connection to it",
        "stopped-serving" => "it stopped serving",
        "slice-ready" => "slice said ready",
        "first-rule" => "rules led to it",
        "first-connection" => "first new connection to it",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        input::{Ktime, Wall},
        verdict::{PodSteps, Since},
    };

    pub(super) fn removal(node: &str, rules_ms: Option<f64>) -> Propagation {
        Propagation {
            node: node.into(),
            namespace: "shop".into(),
            workload: None,
            pod: "web-1".into(),
            pod_node: None,
            change: Change::Removal,
            since: Since::Deletion,
            at: Ktime(0),
            wall: Wall(0),
            slice_ms: Some(5.0),
            rules_ms,
            connection_ms: None,
            stopped_serving_ms: None,
            own: PodSteps::default(),
        }
    }

    #[test]
    fn each_stage_has_its_samples_and_its_slowest_node() {
        let all = [
            removal("n1", Some(400.0)),
            removal("n2", Some(2_310.0)),
            removal("n1", None),
        ];
        assert_eq!(
            propagation_table(&all),
            "after the deletion of 3 pods        samples       p50       p99       max  slowest node\n\
             \x20 slice said terminating                  3      5 ms      5 ms      5 ms  n1\n\
             \x20 rules let go of it                      2    400 ms    2.31 s    2.31 s  n2\n"
        );
    }

    #[test]
    fn the_slowest_node_of_a_pod_says_what_the_sleep_lacks() {
        let own = Propagation {
            stopped_serving_ms: Some(16.0),
            ..removal("n1", Some(400.0))
        };
        let far = removal("n2", Some(2_316.0));
        assert_eq!(stopped_before_rules(&[own.clone(), far.clone()]), Some(2_300.0));
        let lines = propagation_advice(&[own.clone(), far]);
        assert!(
            lines[0].starts_with("do: a preStop sleep that is 4 s longer"),
            "{lines:?}"
        );
        assert!(
            lines[0].contains("2.30 s before the rules of node n2"),
            "{lines:?}"
        );
        assert_eq!(lines[1], "4 more pods are needed to rely on it");
        let enough = Propagation {
            stopped_serving_ms: Some(3_016.0),
            ..own
        };
        assert_eq!(stopped_before_rules(&[enough]), Some(-2_616.0));
    }

    #[test]
    fn nothing_seen_is_no_table() {
        assert_eq!(propagation_table(&[]), "");
    }
}
