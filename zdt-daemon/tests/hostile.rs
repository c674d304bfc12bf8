//! Names that a process, a pod or a node may have to harm whoever reads of them, through everything that zdt says.
//!
//! They come in as inputs, in every field that is free text, and the same name stands for the same thing everywhere: so the
//! verdicts are made of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy.toml allows them in tests only by `#[test]`; what fails here must fail the test"
)]

mod api;
mod zdt;

use std::{fs, path::PathBuf};

use serde_json::Value;
use zdt_daemon::{
    correlate::{Correlator, Settings},
    input::Input,
    record::Reader,
    report::{self, Report, Style, Wanted, live_stories, story_svg},
    sink::{
        FanOut, Sink,
        events::EventsSink,
        metrics::{EventCounts, Metrics},
        recent::Recent,
    },
    verdict::Output,
};

/// Each begins where an ordinary name would, and goes on with it.
const HOSTILE: &[&str] = &[
    // A terminal's title, its colours, C1's CSI, a bell, the end of a line.
    "\u{1b}]0;pwned\u{7}\u{1b}[31m\u{9b}2J\r\n\n# pwned\n## pwned ",
    "</title><script>alert(1)</script><img src=x onerror=alert(1)>\"'`&]]>--><!--",
    "\u{202e}\u{2066}\u{200b}\u{feff}\u{61c}drowssap",
    "```\n| a | b |\n[x](javascript:alert(1)) ![y](http://example.org/z) @everyone `",
    "\",\"cause\":\"pwned\"}\n{\"kind\":\"pwned\"}\ndata: pwned\n\nevent: pwned\n",
    "\u{fffd}\u{0}\u{7f}\\\\x1b[31m%1b%n{}",
];

/// Fields whose text comes from outside.
const FREE: &[&str] = &[
    "comm",
    "sender_comm",
    "by",
    "name",
    "namespace",
    "node",
    "service",
    "deployment",
    "template_hash",
    "disruption",
];

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name);
    fs::read_to_string(path).unwrap()
}

fn bent(value: &mut Value, free: bool, hostile: &str) {
    match value {
        Value::String(text) if free && !text.is_empty() => *text = format!("{hostile}{text}"),
        // `pod` of an endpoint is an uid and a name.
        Value::Array(all) => {
            for (n, one) in all.iter_mut().enumerate() {
                bent(one, free && n == 1, hostile);
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                bent(
                    value,
                    FREE.contains(&key.as_str()) || (key == "pod" && value.is_array()),
                    hostile,
                );
            }
        }
        _ => {}
    }
}

/// The record with such names.
fn record(fixture: &str, hostile: &str) -> String {
    let mut lines = fixture.lines();
    let mut record = lines.next().unwrap().to_owned() + "\n";
    for line in lines {
        let mut value: Value = serde_json::from_str(line).unwrap();
        bent(&mut value, false, hostile);
        record += &(value.to_string() + "\n");
    }
    record
}

fn outputs(record: &str) -> Vec<Output> {
    let mut correlator = Correlator::new(Settings::default());
    let mut out = Vec::new();
    for input in Reader::new(record.as_bytes()).unwrap() {
        let input: Input = input.unwrap();
        correlator.step(&input, &mut out);
    }
    correlator.finish(&mut out);
    out
}

/// No character that a terminal obeys or that hides another; no line that a name has begun.
#[track_caller]
fn harmless(what: &str, text: &str) {
    for line in text.split('\n') {
        assert_eq!(report::escape(line), line, "{what}");
        for begun in [
            "# pwned",
            "## pwned",
            "data: pwned",
            "event: pwned",
            "{\"kind\":\"pwned\"",
            "| a |",
        ] {
            assert!(!line.trim_start().starts_with(begun), "{what}: {line}");
        }
    }
}

/// No element that a name has begun.
#[track_caller]
fn no_mark_up(what: &str, text: &str) {
    harmless(what, text);
    for begun in ["<script>alert", "<img src", "</title><script", "<!--\"", "]]>"] {
        assert!(!text.contains(begun), "{what}: {begun}");
    }
}

/// Records about each kind of name: the process that ended, the pod that is gone, the container that crashed.
const RECORDS: &[&str] = &[
    "immediate-exit/yes-answer-cut.jsonl",
    "pod-ip-reused/yes-no-such-port.jsonl",
    "crash-after-ready/yes-cut.jsonl",
    "stale-conntrack-entry/yes-port-used-again.jsonl",
];

#[test]
fn names_do_no_harm_in_any_sink_or_report() {
    for (name, hostile) in RECORDS.iter().flat_map(|r| HOSTILE.iter().map(move |h| (*r, *h))) {
        let plain = outputs(&fixture(name));
        let outputs = outputs(&record(&fixture(name), hostile));
        assert_eq!(outputs.len(), plain.len(), "{name}: the names alone are others");
        assert!(
            outputs
                .iter()
                .any(|o| serde_json::to_string(o).unwrap().contains("pwned")
                    || matches!(o, Output::Verdict(_)))
        );

        let (metrics, counting) = Metrics::new().unwrap();
        let (recent, keeping) = Recent::new(hostile);
        let (telling, mut told) = EventsSink::new(EventCounts::new().unwrap());
        let mut sinks = FanOut(vec![Box::new(counting), Box::new(keeping), Box::new(telling)]);
        for output in &outputs {
            sinks.deliver(output).unwrap();
            harmless("json", &report::json(output).unwrap());
            if let Output::Verdict(verdict) = output {
                harmless("explain", &report::explanation(verdict, Style::PLAIN));
                harmless("line", &report::verdict_line(verdict, Style::PLAIN));
            }
            if let Output::Rollout(rollout) = output {
                harmless("block", &report::rollout_block(rollout, Style::PLAIN));
            }
        }
        harmless("metrics", &metrics.text().unwrap());
        while let Ok(event) = told.try_recv() {
            harmless("event", &event.note);
            assert!(event.note.len() <= 1024 && !event.note.contains('\n'));
        }
        for kept in recent.behind(0, usize::MAX, usize::MAX).kept {
            harmless("kept", std::str::from_utf8(&kept.line).unwrap());
        }
        let report = Report::of(live_stories(outputs, &[]), &Wanted::default());
        harmless("screen", &report::screen(&report, Style::PLAIN));
        harmless("markdown", &report::markdown(&report));
        let markdown = report::markdown(&report);
        let outside_of_code = markdown.split("\n```").step_by(2);
        for text in outside_of_code {
            assert!(!text.contains("@everyone") && !text.contains("<script"), "{text}");
        }
        no_mark_up("html", &report::html(&report));
        for story in &report.rollouts {
            no_mark_up("svg", &story_svg(story));
        }
    }
}

#[test]
fn names_do_no_harm_in_what_the_program_prints() {
    let dir = zdt::Dir::new("hostile");
    for (n, hostile) in HOSTILE.iter().enumerate() {
        let file = dir.file(&format!("{n}.jsonl"), &record(&fixture(RECORDS[0]), hostile));
        let file = file.to_str().unwrap();
        let print = |args: &[&str]| {
            let output = zdt::zdt(zdt::ZDT.as_ref()).args(args).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(!said.contains("panicked"), "{said}");
            harmless("log", &said);
            let out = String::from_utf8(output.stdout).unwrap();
            assert!(!out.is_empty() || !said.is_empty(), "{args:?} says nothing");
            out
        };
        for args in [
            &["replay", file][..],
            &["replay", file, "-o", "json"],
            &["propagation", "--record", file],
            &["propagation", "--record", file, "-o", "json"],
            &["report", "--record", file],
            &["report", "--record", file, "--format", "json"],
            &["report", "--record", file, "--format", "markdown"],
            &["report", "--record", file, "--patch"],
            &["gate", "deployment/web", "--record", file],
            &["gate", &format!("deployment/{hostile}"), "--record", file],
            &["explain", "10.", "--record", file],
            &["explain", hostile, "--record", file],
        ] {
            // An argument cannot have one, so nobody can give it.
            if args.iter().any(|a| a.contains('\0')) {
                continue;
            }
            harmless(&args.join(" "), &print(args));
        }
        for format in ["junit", "markdown", "json"] {
            let told = print(&["gate", "deployment/web", "--record", file, "--format", format]);
            harmless(format, &told);
        }
        no_mark_up(
            "junit",
            &print(&["gate", "deployment/web", "--record", file, "--format", "junit"]),
        );
        no_mark_up("html", &print(&["report", "--record", file, "--format", "html"]));
    }
}

#[test]
fn names_that_are_very_long_cost_no_more_than_their_length() {
    let long = "n".repeat(5_000);
    let short = record(&fixture(RECORDS[0]), "n");
    let outputs = outputs(&record(&fixture(RECORDS[0]), &long));
    let said: usize = outputs.iter().map(|o| report::json(o).unwrap().len()).sum();
    let ordinary: usize = self::outputs(&short)
        .iter()
        .map(|o| report::json(o).unwrap().len())
        .sum();
    // An output names a handful of things.
    assert!(
        said < ordinary + outputs.len() * 60 * long.len(),
        "{said} for {ordinary}"
    );
    let (telling, mut told) = EventsSink::new(EventCounts::new().unwrap());
    let mut telling = FanOut(vec![Box::new(telling)]);
    for output in &outputs {
        telling.deliver(output).unwrap();
    }
    let mut events = 0;
    while let Ok(event) = told.try_recv() {
        assert!(
            event.note.len() <= 1024 && event.name.len() <= 253,
            "{}",
            event.name.len()
        );
        events += 1;
    }
    assert!(events > 0);
}
