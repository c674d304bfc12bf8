//! What a daemon serves on /metrics after a real lab rollout: clean for `promtool check metrics`, and equal to what it printed;
//! and the rules that Prometheus makes of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// Short, and it fails some requests for more than one reason.
const SCENARIO: &str = "
name: metrics
description: A rolling update that refuses and loses some requests.
workload: {replicas: 2, max_surge: 1, max_unavailable: 0}
app: {on_sigterm: close-listener}
noise: false
client: {rate: 200, seconds: 5, timeout_ms: 1000}
network: {min_sync_period_ms: 100, rules_delay_ms: 400}
actions:
  - {at_ms: 800, do: rolling-update}
expect:
  failed: {min: 10}
  causes:
    endpoint-removal-race: {outcomes: [refused]}
    accept-queue-flush: {outcomes: [reset]}
    pod-ip-gone: {outcomes: [timed-out, unreachable]}
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
        .args(["run", "--scrape", "--zdt"])
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
            let workload = format!(
                "{}/{}",
                text(&output, "/workload/kind"),
                text(&output, "/workload/name")
            );
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
                 workload=\"{}/{}\"}}",
                text(&output, "/cause"),
                text(&output, "/pod/namespace"),
                text(&output, "/outcome"),
                text(&output, "/trigger"),
                text(&output, "/pod/workload/kind"),
                text(&output, "/pod/workload/name"),
            );
            add(&mut wanted, name, 1.0);
        } else if output["kind"] == "propagation" {
            stages(&mut wanted, &output);
        }
    }
    for output in last.values() {
        let namespace = text(output, "/namespace");
        let workload = format!(
            "{}/{}",
            text(output, "/workload/kind"),
            text(output, "/workload/name")
        );
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
            "{{namespace=\"{}\",stage=\"{stage}\",workload=\"{}/{}\"}}",
            text(pod, "/namespace"),
            text(pod, "/workload/kind"),
            text(pod, "/workload/name")
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

#[test]
fn metrics_after_a_lab_rollout_are_clean_and_equal_the_verdicts() {
    let dir = Dir(std::env::temp_dir().join(format!("zdt-test-{}-metrics", std::process::id())));
    fs::create_dir_all(&dir.0).unwrap();
    let out = rollout(&dir.0);
    let served = fs::read_to_string(out.join("metrics.prom")).unwrap();
    promtool_is_content_with(&served);

    let served = series(&served);
    let wanted = printed(&fs::read_to_string(out.join("verdicts.jsonl")).unwrap());
    assert!(
        wanted.keys().any(|n| n.contains("endpoint-removal-race")),
        "{wanted:#?}"
    );
    for family in [
        "zdt_failed_requests_total",
        "zdt_verdicts_total",
        "zdt_rollouts_total",
    ] {
        assert_eq!(of(&served, family), of(&wanted, family));
    }
    for family in ["zdt_propagation_seconds_count", "zdt_propagation_seconds_sum"] {
        let (served, wanted) = (of(&served, family), of(&wanted, family));
        assert!(
            !wanted.is_empty() && served.len() == wanted.len(),
            "{served:#?}\n{wanted:#?}"
        );
        for (name, value) in wanted {
            assert!(
                (served[&name] - value).abs() < 1e-6,
                "{name}: {} for {value}",
                served[&name]
            );
        }
    }
    assert!(served["zdt_hooks_attached"] >= 5.0);
    for gauge in ["zdt_watches_synced", "zdt_api_server_up"] {
        assert!(served[gauge] > 0.0, "{gauge}");
    }
    assert!(served["zdt_events_total{hook=\"tcp_send_reset\"}"] > 0.0);
    let lost: f64 = of(&served, "zdt_events_lost_total").values().sum();
    assert!(lost.abs() < f64::EPSILON, "{lost} lost");
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
