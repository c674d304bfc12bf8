//! `zdt report`, `explain` and `propagation` from a laptop: what every zdt of a cluster has said, through the API server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml allows them in tests only by `#[test]`; what fails here must fail the test"
)]

mod api;
mod zdt;

use std::process::Command;

use zdt::{Dir, ZDT, ends, zdt};

const FIXTURE: &str =
    include_str!("../../tests/fixtures/endpoint-removal-race/yes-masqueraded.verdicts.jsonl");

fn asks(server: &api::Api, dir: &Dir, verb: &[&str]) -> Command {
    let mut command = zdt(ZDT.as_ref());
    command
        .args(verb)
        .arg("--kubeconfig")
        .arg(api::kubeconfig(&dir.0, server.addr));
    command
}

#[test]
fn every_daemon_is_asked_and_who_did_not_answer_is_said() {
    let dir = Dir::new("daemons");
    let store = api::Store::default();
    store.daemon(
        "a",
        Some(&format!(
            "2026-01-01T00:00:00Z  INFO ready: 14 hooks attached\n{FIXTURE}"
        )),
    );
    store.daemon("b", None);
    // The other node has seen the same failures.
    store.daemon("c", Some(FIXTURE));
    let server = api::Api::start(&store);
    let one = ends(
        &mut asks(&server, &dir, &["report", "--format", "json"]),
        1,
        &["the zdt of node node-of-b did not answer", "connection refused"],
    );
    let report: serde_json::Value = serde_json::from_slice(&one.stdout).unwrap();
    let file = dir.file("outputs", FIXTURE);
    let mut alone = zdt(ZDT.as_ref());
    alone.args(["report", "--format", "json", "--record"]).arg(&file);
    let alone = ends(&mut alone, 1, &[]);
    let alone: serde_json::Value = serde_json::from_slice(&alone.stdout).unwrap();
    let failed = |r: &serde_json::Value| {
        let text = r.to_string();
        text.matches("\"kind\":\"verdict\"")
            .count()
            .max(text.matches("\"because\"").count())
    };
    assert!(failed(&report) > 0);
    assert_eq!(
        failed(&report),
        failed(&alone),
        "a failure that two nodes saw is one"
    );
}

#[test]
fn no_daemon_says_how_to_install_one() {
    let dir = Dir::new("none");
    let server = api::Api::start(&api::Store::default());
    ends(
        &mut asks(&server, &dir, &["report"]),
        2,
        &["there is no pod of zdt in namespace zdt", "kubectl apply -k"],
    );
}

#[test]
fn daemons_that_all_are_silent_are_an_error_and_no_empty_report() {
    let dir = Dir::new("silent");
    let store = api::Store::default();
    store.daemon("b", None);
    let server = api::Api::start(&store);
    ends(
        &mut asks(&server, &dir, &["propagation"]),
        2,
        &["none of the 1 zdt pods in namespace zdt answered"],
    );
}
