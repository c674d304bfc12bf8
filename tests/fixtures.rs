//! Recorded inputs and the verdicts they must give. `tests/fixtures/<cause>/yes-*.jsonl` must name the cause,
//! `no-*.jsonl` is a look-alike that must not. Beside each stands `<name>.verdicts.jsonl`, byte for byte what a replay
//! prints; `ZDT_BLESS=1` writes it. Read what it wrote before you commit it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

mod support;

use std::{collections::BTreeSet, fs};

use support::{Fixture, fixtures, outputs};
use zdt_daemon::{
    causes::{RULES, UNEXPLAINED},
    verdict::Output,
};

#[test]
fn every_fixture_replays_to_its_verdicts_byte_for_byte() {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    let bless = std::env::var("ZDT_BLESS").is_ok_and(|v| v == "1");
    let mut wrong = Vec::new();
    for fixture in fixtures() {
        let lines: String = outputs(&fixture.inputs)
            .iter()
            .map(|o| serde_json::to_string(o).unwrap() + "\n")
            .collect();
        if bless {
            fs::write(&fixture.verdicts, &lines).unwrap();
        }
        let expected = fs::read_to_string(&fixture.verdicts).unwrap_or_default();
        if lines != expected {
            wrong.push(format!(
                "{}:\n--- expected\n{expected}+++ got\n{lines}",
                fixture.path.display()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n(ZDT_BLESS=1 accepts what was got)",
        wrong.join("\n")
    );
}

#[test]
fn a_yes_names_its_cause_and_a_no_does_not() {
    for Fixture {
        cause, name, inputs, ..
    } in fixtures()
    {
        let named = outputs(&inputs)
            .iter()
            .any(|o| matches!(o, Output::Verdict(v) if v.cause() == cause));
        assert_eq!(named, name.starts_with("yes-"), "{cause}/{name}");
    }
}

#[test]
fn every_cause_has_a_yes_and_a_no() {
    let have: BTreeSet<(String, bool)> = fixtures()
        .into_iter()
        .map(|f| (f.cause, f.name.starts_with("yes-")))
        .collect();
    let mut missing = Vec::new();
    for cause in RULES.iter().map(|r| r.name).chain([UNEXPLAINED]) {
        for (yes, kind) in [(true, "yes"), (false, "no")] {
            if !have.contains(&(cause.to_owned(), yes)) {
                missing.push(format!("tests/fixtures/{cause}/{kind}-*.jsonl"));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "missing fixtures (CONTRIBUTING.md says how to cut one): {missing:#?}"
    );
}
