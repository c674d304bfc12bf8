//! The arithmetic of the benchmark of the whole, and the shape of what it prints.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "clippy knows tests by their attribute; this whole file is one, and the modules are the benchmark's"
)]

#[path = "../benches/figures/mod.rs"]
mod figures;
#[path = "../benches/whole/histogram.rs"]
mod histogram;
#[path = "../benches/whole/inputs.rs"]
mod inputs;
#[path = "../benches/whole/plot.rs"]
mod plot;
#[path = "../benches/whole/repeat.rs"]
mod repeat;
#[path = "../benches/whole/report.rs"]
mod report;
#[path = "../benches/whole/served.rs"]
mod served;

use std::{fs::File, io::BufReader, time::Duration};

use figures::Figures;
use histogram::Histogram;
use report::{Absent, Correlator, Kernel, Latency, Program, Programs, Report, Row, Size, Start};
use serde_json::Value;
use zdt_daemon::{
    correlate::{Correlator as Pure, Settings},
    input::{Input, Ktime, What},
    record::Reader,
    verdict::Output,
};

#[test]
fn median_spread_and_quantile_of_figures() {
    let figures: Figures = [4.0, 1.0, 3.0, 2.0].into_iter().collect();
    assert!((figures.median() - 2.5).abs() < f64::EPSILON);
    assert_eq!(figures.spread(), (1.0, 4.0));
    let hundred: Figures = (1..=100).rev().map(f64::from).collect();
    assert!((hundred.quantile(0.99) - 99.0).abs() < f64::EPSILON);
    assert!((hundred.quantile(0.0) - 1.0).abs() < f64::EPSILON);
    assert!((hundred.quantile(1.0) - 100.0).abs() < f64::EPSILON);
    assert!(Figures::default().quantile(0.5).is_nan());
}

#[test]
fn histogram_finds_a_quantile_within_its_resolution() {
    let mut histogram = Histogram::default();
    for us in 1..=10_000_u64 {
        histogram.add(Duration::from_micros(us));
    }
    for (share, ms) in [(0.01, 0.1), (0.5, 5.0), (0.99, 9.9), (1.0, 10.0)] {
        let found = histogram.quantile_ms(share);
        assert!((found / ms - 1.0).abs() < 0.017, "{share}: {found} for {ms}");
    }
    assert!(Histogram::default().quantile_ms(0.5).is_nan());
}

#[test]
fn histograms_of_two_clients_add_up() {
    let (mut one, mut other, mut both) = <(Histogram, Histogram, Histogram)>::default();
    for ns in [0, 1, 63, 64, 127, 128, 129, 1_000, 1 << 40, u64::MAX] {
        let latency = Duration::from_nanos(ns);
        if ns % 2 == 0 { &mut one } else { &mut other }.add(latency);
        both.add(latency);
    }
    one.merge(&other);
    assert_eq!(one, both);
    assert_eq!(one.count(), 10);
}

fn row(load: &str, observer: &str, ratios: &[f64]) -> Row {
    let figures = || -> Figures { ratios.iter().copied().collect() };
    Row {
        load: load.into(),
        observer: observer.into(),
        throughput: figures(),
        throughput_ratio: figures(),
        p99_ratio: figures(),
        observer_cpu: figures(),
        rss_mib: figures(),
        ..Row::default()
    }
}

fn whole() -> Report {
    let program = |name: &str, ns: f64| Program {
        program: name.into(),
        runs_per_connection: 2.0,
        ns_per_run: ns / 2.0,
        ns_per_connection: ns,
    };
    Report {
        rounds: 3,
        rows: vec![
            row("short", "nobody", &[1.0, 1.0, 1.0]),
            row("short", "zdt, nothing <in> transition", &[0.99, 1.01, 0.98]),
            row("keep-alive", "nobody", &[1.0, 1.0, 1.0]),
        ],
        absent: vec![Absent {
            observer: "bcc tcplife".into(),
            why: "tcplife-bpfcc is not installed".into(),
        }],
        correlator: Some(Correlator {
            sizes: vec![Size {
                flows: Correlator::FLOWS,
                inputs_per_s: 2e6,
                bytes_per_flow: 200.0,
                ..Size::default()
            }],
            ..Correlator::default()
        }),
        kernel: Some(Kernel {
            idle: Programs {
                programs: vec![
                    program("inet_sock_set_state", 200.0),
                    program("tcp_send_reset", 50.0),
                ],
                events_per_connection: 0.0,
            },
            in_transition: Programs {
                programs: vec![program("net_dev_queue", 400.0)],
                events_per_connection: 0.5,
            },
        }),
        latency: Some(Latency {
            grace_ms: 2_000.0,
            printed_ms: [2_010.0, 2_020.0, 2_030.0].into_iter().collect(),
            counted_ms: [2_400.0, 2_500.0].into_iter().collect(),
            page_ms: [2_011.0, 2_021.0, 2_031.0].into_iter().collect(),
            failures: 3,
        }),
        start: vec![Start {
            endpoints: 100,
            ready_s: [0.5].into_iter().collect(),
            ..Start::default()
        }],
        ..Report::default()
    }
}

#[test]
fn json_has_the_promised_shape() {
    let text = whole().json("how").to_string();
    let json: Value = serde_json::from_str(&text).unwrap();
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for key in ["throughput_ratio", "p99_ratio", "observer_cpu", "rss_mib"] {
        assert!(rows[1][key].is_f64(), "{key} of {}", rows[1]);
    }
    assert_eq!(rows[1]["load"], "short");
    assert_eq!(rows[1]["throughput_ratio"], 0.99);
    assert_eq!(
        rows[1]["throughput_ratio_spread"],
        serde_json::json!([0.98, 1.01])
    );
    assert_eq!(json["correlator"]["inputs_per_s"], 2e6);
    assert_eq!(json["correlator"]["bytes_per_flow"], 200.0);
    assert_eq!(json["kernel"]["ns_per_connection"], 250.0);
    assert_eq!(json["kernel"]["ns_per_connection_in_transition"], 400.0);
    assert_eq!(json["kernel"]["in_transition"]["events_per_connection"], 0.5);
    assert_eq!(json["latency"]["beyond_grace_p50_ms"], 20.0);
    assert_eq!(json["latency"]["counted_beyond_grace_p99_ms"], 500.0);
    assert_eq!(json["latency"]["page_beyond_grace_p50_ms"], 21.0);
    assert_eq!(json["start"][0]["endpoints"], 100);
    // What was not measured is no number.
    assert!(json["start"][0]["ratio_to_kubectl"].is_null());
    assert!(rows[1]["p50_ms"].is_null());
    assert_eq!(json["absent"][0]["observer"], "bcc tcplife");
}

#[test]
fn part_alone_says_nothing_of_the_others() {
    let json = Report::default().json("how");
    assert_eq!(json["rows"], serde_json::json!([]));
    assert!(json.get("correlator").is_none() && json.get("kernel").is_none());
    assert_eq!(Report::default().text(), "");
}

#[test]
fn text_has_a_row_for_each_load_and_observer_and_names_who_is_left_out() {
    let text = whole().text();
    for wanted in [
        "of 3 rounds",
        "| short | zdt, nothing <in> transition | 1 | 0.990 [0.980 .. 1.010] |",
        "| keep-alive | nobody | 1 | 1.000 [1.000 .. 1.000] |",
        "bcc tcplife is left out: tcplife-bpfcc is not installed",
        "250 ns for each connection",
        "| verdict printed | 20.0 | 30.0 | 3 |",
        "| counted in a scrape | 400.0 | 500.0 | 2 |",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
}

#[test]
fn failure_counts_from_its_end_to_the_first_scrape_that_has_it() {
    let at = |ms: u64| Ktime::default().plus_ms(ms);
    let scrapes = [(at(10), 0.0), (at(20), 2.0), (at(30), 2.0), (at(40), 3.0)];
    let ended = [at(1), at(5), at(7), at(8)];
    assert_eq!(served::counted_ms(&ended, &scrapes), [19.0, 15.0, 33.0]);
    let text = "# TYPE x counter\nx{a=\"1\"} 2\nx{a=\"{ 9\"} 3\nx_total 7\ny 1\n";
    assert_eq!(
        (
            served::sum(text, "x"),
            served::sum(text, "y"),
            served::sum(text, "z")
        ),
        (5.0, 1.0, 0.0)
    );
}

#[test]
fn plot_draws_a_bar_for_each_row() {
    let svg = plot::svg(&whole());
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    // The background is one, too.
    assert_eq!(svg.matches("<rect ").count(), 3 + 1);
    assert!(svg.contains("zdt, nothing &lt;in&gt; transition"));
    assert!(plot::x(0.0) < plot::x(0.5) && plot::x(0.5) < plot::x(1.0));
    assert!((plot::x(9.0) - plot::x(1.2)).abs() < f64::EPSILON);
}

fn record() -> Vec<Input> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/endpoint-removal-race/yes-refused.jsonl"
    );
    let reader = Reader::new(BufReader::new(File::open(path).unwrap())).unwrap();
    reader.map(Result::unwrap).collect()
}

/// The causes that a correlator names, with the pods.
fn verdicts(correlator: &mut Pure, inputs: &[Input]) -> Vec<String> {
    let mut out = Vec::new();
    for input in inputs {
        correlator.step(input, &mut out);
    }
    let said = out.iter().filter_map(|o| match o {
        Output::Verdict(v) => Some(serde_json::to_value(v).unwrap()["cause"].to_string()),
        _ => None,
    });
    said.collect()
}

#[test]
fn record_that_is_repeated_gives_its_verdicts_each_time() {
    let inputs = record();
    let repeated = repeat::Repeated::new(&inputs);
    assert_eq!(repeated.copy(0).len(), inputs.len());
    let mut correlator = Pure::new(Settings::default());
    let tick = |inputs: &[Input]| Input {
        at: inputs.last().unwrap().at.plus_ms(5_000),
        what: What::Tick,
    };
    let mut all = Vec::new();
    for n in 0..3 {
        let mut copy = repeated.copy(n);
        copy.push(tick(&copy));
        all.push(verdicts(&mut correlator, &copy));
    }
    assert!(!all[0].is_empty());
    assert_eq!(all[1], all[0]);
    assert_eq!(all[2], all[0]);
}

#[test]
fn each_generated_connection_fails_once() {
    const FLOWS: usize = 500;
    let cluster = inputs::Cluster { pods: 250 };
    let mut correlator = Pure::new(Settings::default());
    let mut all = cluster.lists(Ktime(1_000_000_000_000));
    let mut at = Ktime(1_010_000_000_000);
    for event in [
        inputs::Cluster::retransmit,
        inputs::Cluster::translation,
        inputs::Cluster::end,
    ] {
        for n in 0..FLOWS {
            at.0 += 1_000;
            all.push(event(cluster, n, at));
        }
    }
    let what = What::Tick;
    all.push(Input {
        at: at.plus_ms(5_000),
        what,
    });
    assert_eq!(verdicts(&mut correlator, &all).len(), FLOWS);
}
