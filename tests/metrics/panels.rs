//! Every query of the dashboards and of the rules returns data after a rollout.

use std::{fs, path::Path};

use serde_json::Value;

use super::prometheus::Prometheus;

/// Queries that are empty after this rollout, by panel (or alert) and name, and why.
const EMPTY: &[(&str, &str)] = &[
    (
        "Losses by source A",
        "nothing was lost; the other query of the panel says 0",
    ),
    ("Failed, but not by a rollout A", "nothing else failed"),
    (
        "CPU of the hooks A",
        "kernel.bpf_stats_enabled is the machine's, and 0",
    ),
    (
        "ZdtBlindOnNode",
        "no daemon was blind; asked again when they have ended",
    ),
    ("ZdtLosesEvents", "nothing was lost"),
];

/// Values for the variables: Grafana joins several with `|`.
const VARIABLES: &[(&str, &str)] = &[
    ("$__rate_interval", "60s"),
    ("$__range", "300s"),
    ("$namespace", "shop"),
    ("$workload", "deployment/web"),
    ("$node", "n1|n2"),
];

fn filled(expr: &str) -> String {
    VARIABLES
        .iter()
        .fold(expr.to_owned(), |expr, (name, value)| expr.replace(name, value))
}

/// What is empty and should not be, and the other way round.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn check(&mut self, of: &Prometheus, name: &str, expr: &str, at: f64) {
        let values = of.values(expr, at);
        let some = values.iter().any(|v| v.is_finite());
        let empty = EMPTY.iter().any(|(known, _)| *known == name);
        if some == empty {
            self.0.push(format!("{name}: {values:?}\n  {expr}"));
        }
    }
}

/// All dashboards, at a time after the rollout.
pub fn panels_answer(prometheus: &Prometheus, folder: &Path, at: f64) {
    let (mut wrong, mut queries) = (Wrong::default(), 0);
    for file in fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()) {
        if file.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let list = |pointer: &str| dashboard.pointer(pointer).unwrap().as_array().unwrap();
        for panel in list("/panels") {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let name = format!("{} {}", text(panel, "title"), text(target, "refId"));
                wrong.check(prometheus, &name, &filled(text(target, "expr")), at);
                queries += 1;
            }
        }
        for annotation in list("/annotations/list") {
            wrong.check(
                prometheus,
                text(annotation, "name"),
                &filled(text(&annotation["target"], "expr")),
                at,
            );
        }
        for variable in list("/templating/list").iter().filter(|v| v["type"] == "query") {
            // label_values(SERIES, LABEL)
            let asked = text(&variable["query"], "query");
            let asked = asked
                .strip_prefix("label_values(")
                .unwrap()
                .strip_suffix(')')
                .unwrap();
            let (series, label) = asked.rsplit_once(", ").unwrap();
            let there = prometheus.ask(&format!("label/{label}/values"), &[("match[]", &filled(series))]);
            if there.as_array().unwrap().is_empty() {
                wrong.0.push(format!("no value for {asked}"));
            }
        }
    }
    assert!(wrong.0.is_empty(), "{}", wrong.0.join("\n"));
    assert!(queries > 50, "{queries}");
}

/// A query of a panel, by title and name.
fn asked(folder: &Path, file: &str, title: &str, name: &str) -> String {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(folder.join(file)).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let panel = panels.iter().find(|p| p["title"] == title).expect(title);
    let mut targets = panel["targets"].as_array().unwrap().iter();
    filled(text(targets.find(|t| t["refId"] == name).expect(name), "expr"))
}

/// The panels that answer the dashboards' questions give the right answers. `lost`: requests that the rollout failed, as the
/// daemons counted them, all of them in this rollout.
pub fn panels_are_right(prometheus: &Prometheus, folder: &Path, at: f64, lost: f64) {
    let values =
        |file: &str, title: &str, name: &str| prometheus.values(&asked(folder, file, title, name), at);
    let rollouts = "zdt-rollouts.json";
    assert_eq!(values(rollouts, "Lost to rollouts", "A"), [lost]);
    assert_eq!(values(rollouts, "The last rollout of each workload", "C"), [lost]);
    let by_cause: f64 = values(rollouts, "Lost to rollouts, by cause", "A").iter().sum();
    assert!((by_cause - lost).abs() < 1e-6, "{by_cause} of {lost}");
    let prevented: f64 = values(rollouts, "What to change", "A").iter().sum();
    assert!((1.0..=lost).contains(&prevented), "{prevented} of {lost}");
    let slowest = asked(folder, "zdt-propagation.json", "Slowest nodes: rules (p90)", "A");
    let said = prometheus.ask("query", &[("query", &slowest), ("time", &at.to_string())]);
    // topk sorts.
    assert_eq!(
        said["result"][0]["metric"]["node"], "n1",
        "its rules come 400 ms later: {said}"
    );
    assert_eq!(values("zdt-itself.json", "Nodes watched", "A"), [2.0]);
    assert_eq!(values("zdt-itself.json", "Blind", "A"), [0.0]);
}

/// All rules, at the same time: none has an error, what is recorded is there, and each alert would fire.
pub fn rules_answer(prometheus: &Prometheus, at: f64) {
    let mut wrong = Wrong::default();
    let said = prometheus.ask("rules", &[]);
    let mut rules = 0;
    for rule in said["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|g| g["rules"].as_array().unwrap())
    {
        let name = text(rule, "name");
        assert_eq!(rule["health"], "ok", "{name}: {}", rule["lastError"]);
        let recorded = rule["type"] == "recording";
        wrong.check(
            prometheus,
            name,
            if recorded { name } else { text(rule, "query") },
            at,
        );
        rules += 1;
    }
    assert!(wrong.0.is_empty(), "{}", wrong.0.join("\n"));
    assert!(rules >= 6, "{rules}");
    let firing =
        "ALERTS{alertname=\"ZdtRolloutLostRequests\",alertstate=\"firing\",workload=\"deployment/web\"}";
    assert_eq!(
        prometheus.values(firing, at),
        [1.0],
        "it has no `for`: it fires at once"
    );
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}
