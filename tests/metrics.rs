//! What daemons serve on /metrics in a real lab rollout: clean for `promtool check metrics`, and equal to what they printed; what
//! a real Prometheus that scrapes them makes of it, for the dashboards and the rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

#[path = "metrics/panels.rs"]
mod panels;
#[path = "metrics/prometheus.rs"]
mod prometheus;

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use prometheus::Prometheus;
use serde_json::Value;

/// Short, and it fails some requests for more than one reason. The client is outside, so that the node which it dials sees its
/// connections; that node is the late one.
const SCENARIO: &str = "
name: metrics
description: A rolling update on two nodes that refuses, cuts and loses some requests.
topology: {nodes: 2}
workload: {replicas: 4, max_surge: 2, max_unavailable: 0}
app: {on_sigterm: exit, response_delay_ms: 20}
noise: false
client: {rate: 200, seconds: 5, timeout_ms: 1000, place: outside, via: node-port}
network: {min_sync_period_ms: 100, rules_delay_ms: 400, rules_delay_node: 1}
actions:
  - {at_ms: 800, do: rolling-update}
expect:
  failed: {min: 10}
  causes:
    endpoint-removal-race: {outcomes: [refused]}
    accept-queue-flush: {outcomes: [reset]}
    immediate-exit: {outcomes: [reset, closed-early]}
    pod-ip-gone: {outcomes: [timed-out, unreachable]}
    stale-node-port: {outcomes: [timed-out, unreachable]}
    stale-conntrack-entry: {outcomes: [timed-out, unreachable]}
";

struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the scenario; the folder with what it wrote.
fn rollout(dir: &Path) -> PathBuf {
    let lab = Path::new(env!("CARGO_BIN_EXE_zdt-lab"));
    let zdt = lab.with_file_name("zdt");
    let scenario = dir.join("metrics.yaml");
    fs::write(&scenario, SCENARIO).unwrap();
    let ran = Command::new(lab)
        .args(["run", "--scrape", "--prometheus", "--zdt"])
        .arg(zdt)
        .arg("--out")
        .arg(dir)
        .arg(scenario)
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    dir.join("metrics-1")
}

/// Series to value.
type Series = BTreeMap<String, f64>;

fn series(text: &str) -> Series {
    let samples = text.lines().filter(|l| !l.starts_with('#'));
    samples
        .map(|l| {
            let (name, value) = l.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

fn of(series: &Series, family: &str) -> Series {
    let start = format!("{family}{{");
    let all = series.iter().filter(|(name, _)| name.starts_with(&start));
    all.map(|(name, value)| (name.clone(), *value)).collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap()
}

/// As the label has it.
fn workload(of: &Value) -> String {
    format!("{}/{}", text(of, "/kind"), text(of, "/name"))
}

fn add(to: &mut Series, name: String, value: f64) {
    *to.entry(name).or_default() += value;
}

/// The series of verdicts and summaries, from the lines that the daemon printed.
fn printed(lines: &str) -> Series {
    let mut wanted = Series::new();
    let mut last: BTreeMap<String, Value> = BTreeMap::new();
    for line in lines.lines() {
        let output: Value = serde_json::from_str(line).unwrap();
        if output["kind"] == "rollout" {
            let workload = workload(&output["workload"]);
            // It comes again when a late verdict changes it.
            last.insert(
                format!("{}/{workload}/{}", output["namespace"], output["began"]),
                output,
            );
        } else if output["kind"] == "verdict" {
            let blame = text(&output, "/blame");
            let level = text(&output, "/confidence/level");
            add(
                &mut wanted,
                format!("zdt_verdicts_total{{blame=\"{blame}\",confidence=\"{level}\"}}"),
                1.0,
            );
            if blame == "not-a-request" {
                continue;
            }
            let name = format!(
                "zdt_failed_requests_total{{blame=\"{blame}\",cause=\"{}\",namespace=\"{}\",outcome=\"{}\",trigger=\"{}\",\
                 workload=\"{}\"}}",
                text(&output, "/cause"),
                text(&output, "/pod/namespace"),
                text(&output, "/outcome"),
                text(&output, "/trigger"),
                workload(&output["pod"]["workload"]),
            );
            add(&mut wanted, name, 1.0);
        } else if output["kind"] == "propagation" {
            stages(&mut wanted, &output);
        }
    }
    for output in last.values() {
        let namespace = text(output, "/namespace");
        let workload = workload(&output["workload"]);
        let labels = format!("namespace=\"{namespace}\"");
        let trigger = text(output, "/trigger");
        add(
            &mut wanted,
            format!("zdt_rollouts_total{{{labels},trigger=\"{trigger}\",workload=\"{workload}\"}}"),
            1.0,
        );
    }
    wanted
}

/// The stages of one pod that ended or began: each is said once.
fn stages(wanted: &mut Series, pod: &Value) {
    let removal = pod["change"] == "removal";
    let named = |removed: &'static str, added: &'static str| if removal { removed } else { added };
    for (stage, field) in [
        (named("slice", "slice-ready"), "slice_ms"),
        (named("rules", "first-rule"), "rules_ms"),
        (named("last-connection", "first-connection"), "connection_ms"),
        ("stopped-serving", "stopped_serving_ms"),
    ] {
        let Some(ms) = pod[field].as_f64() else { continue };
        let labels = format!(
            "{{namespace=\"{}\",stage=\"{stage}\",workload=\"{}\"}}",
            text(pod, "/namespace"),
            workload(&pod["workload"])
        );
        add(wanted, format!("zdt_propagation_seconds_count{labels}"), 1.0);
        add(
            wanted,
            format!("zdt_propagation_seconds_sum{labels}"),
            ms.max(0.0) / 1000.0,
        );
    }
}

fn promtool_is_content_with(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("no promtool: cargo xtask setup installs it");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let words = [said.stdout, said.stderr].concat();
    assert!(
        said.status.success() && words.is_empty(),
        "{}",
        String::from_utf8_lossy(&words)
    );
}

/// Both were of one node.
fn equal(served: &str, verdicts: &str) {
    let served = series(served);
    let wanted = printed(verdicts);
    for family in [
        "zdt_failed_requests_total",
        "zdt_verdicts_total",
        "zdt_rollouts_total",
    ] {
        assert!(!of(&wanted, family).is_empty(), "{family}: {wanted:#?}");
        assert_eq!(of(&served, family), of(&wanted, family));
    }
    // A pod that was sent nothing is waited for, and told of when the daemon ends: after the scrape.
    let late = ["slice-ready", "first-rule", "first-connection"].map(|stage| format!("stage=\"{stage}\""));
    let late = |name: &str| late.iter().any(|stage| name.contains(stage));
    for family in ["zdt_propagation_seconds_count", "zdt_propagation_seconds_sum"] {
        let (served, wanted) = (of(&served, family), of(&wanted, family));
        assert!(wanted.keys().any(|name| !late(name)), "{wanted:#?}");
        assert!(served.keys().all(|name| wanted.contains_key(name)), "{served:#?}");
        for (name, value) in wanted {
            let there = served.get(&name).copied().unwrap_or_default();
            assert!(
                (there - value).abs() < 1e-6 || (late(&name) && there < value),
                "{name}: {there} for {value}"
            );
        }
    }
    assert!(served["zdt_hooks_attached"] >= 5.0);
    for gauge in ["zdt_watches_synced", "zdt_api_server_up"] {
        assert!(served[gauge] > 0.0, "{gauge}");
    }
    assert!(served["zdt_events_total{hook=\"tcp_send_reset\"}"] > 0.0);
    let exported =
        |result: &str| served[&format!("zdt_exported_outputs_total{{result=\"{result}\",sink=\"stdout\"}}")];
    assert!(exported("delivered") > 0.0);
    assert!(exported("failed") + exported("dropped") < f64::EPSILON);
    let lost: f64 = of(&served, "zdt_events_lost_total").values().sum();
    assert!(lost.abs() < f64::EPSILON, "{lost} lost");
}

/// What the text of several daemons says of it.
fn lost_to_rollouts(texts: &str) -> f64 {
    let failed = texts
        .lines()
        .filter(|l| l.starts_with("zdt_failed_requests_total{blame=\"rollout\""));
    failed
        .map(|l| l.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum()
}

fn deploy(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(folder)
}

#[test]
fn a_lab_rollout_is_in_the_metrics_as_in_the_verdicts_and_in_every_panel_and_rule() {
    let dir = Dir(std::env::temp_dir().join(format!("zdt-test-{}-metrics", std::process::id())));
    fs::create_dir_all(&dir.0).unwrap();
    let rules = deploy("alerts").join("zdt.rules.yaml").canonicalize().unwrap();
    let prometheus = Prometheus::start(&dir.0, &dir.0.join("metrics-1/targets.json"), &rules);
    let out = rollout(&dir.0);
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let mut served_by_all = String::new();
    for (metrics, verdicts) in [
        ("metrics.prom", "verdicts.jsonl"),
        ("metrics-n2.prom", "verdicts-n2.jsonl"),
    ] {
        let (served, verdicts) = (read(metrics), read(verdicts));
        promtool_is_content_with(&served);
        equal(&served, &verdicts);
        served_by_all += &served;
    }
    for cause in ["endpoint-removal-race", "immediate-exit"] {
        assert!(
            served_by_all.contains(&format!("cause=\"{cause}\"")),
            "no {cause}"
        );
    }
    let at = prometheus.scraped_until(2);
    panels::panels_answer(&prometheus, &deploy("dashboards"), at);
    panels::panels_are_right(
        &prometheus,
        &deploy("dashboards"),
        at,
        lost_to_rollouts(&served_by_all),
    );
    panels::rules_answer(&prometheus, at);
    // The daemons have ended.
    prometheus.wait_for("ALERTS{alertname=\"ZdtBlindOnNode\",alertstate=\"pending\",node=\"n1\"}");
}

#[test]
fn rules_for_prometheus_do_what_their_tests_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/alerts");
    for args in [
        ["check", "rules", "zdt.rules.yaml"],
        ["test", "rules", "zdt.test.yaml"],
    ] {
        let said = Command::new("promtool").args(args).current_dir(&folder).output();
        let said = said.expect("no promtool: cargo xtask setup installs it");
        assert!(
            said.status.success(),
            "{}{}",
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        );
    }
    let rules = fs::read_to_string(folder.join("zdt.rules.yaml")).unwrap();
    let runbooks = fs::read_to_string(folder.join("../../docs/alerts.md")).unwrap();
    let alerts = rules.lines().filter_map(|l| l.trim().strip_prefix("- alert: "));
    let mut count = 0;
    for alert in alerts {
        count += 1;
        assert!(
            runbooks.contains(&format!("\n## {alert}\n")),
            "no runbook for {alert}"
        );
        let anchor = format!("runbook: docs/alerts.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&anchor), "no {anchor}");
    }
    assert!(count >= 4);
}
