//! `zdt propagation`: the same table from a record and from the outputs of its replay, and the exit codes.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests only by `#[test]`; what fails here must fail the test"
)]

mod api;
mod zdt;

use std::path::Path;

use zdt::{Dir, ZDT, ends, zdt};

/// A rollout of three pods without a preStop sleep, recorded in the lab.
const RECORD: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/fixtures/pod-ip-gone/yes-timed-out.jsonl"
);

/// Pods of node n1: this long served, this long routed to.
fn removal(pod: &str, node: &str, rules_ms: f64, stopped_ms: Option<f64>) -> String {
    let stopped = stopped_ms.map_or("null".to_owned(), |ms| ms.to_string());
    format!(
        "{{\"kind\":\"propagation\",\"node\":\"{node}\",\"namespace\":\"shop\",\"workload\":{{\"kind\":\"deployment\",\
         \"name\":\"web\"}},\"pod\":\"{pod}\",\"change\":\"removal\",\"since\":\"deletion\",\"at\":5,\"wall\":7,\
         \"slice_ms\":5.0,\"rules_ms\":{rules_ms},\"connection_ms\":null,\"stopped_serving_ms\":{stopped}}}\n"
    )
}

fn propagation(file: &Path, more: &[&str], code: i32, says: &[&str]) -> Vec<u8> {
    let mut command = zdt(ZDT.as_ref());
    command.arg("propagation").arg("--record").arg(file).args(more);
    ends(&mut command, code, says).stdout
}

#[test]
fn record_and_the_outputs_of_its_replay_give_the_same_table() {
    let dir = Dir::new("propagation-same");
    let outputs = ends(zdt(ZDT.as_ref()).args(["replay", RECORD, "-o", "json"]), 0, &[]).stdout;
    let outputs = dir.file("outputs", &String::from_utf8(outputs).unwrap());
    let table = propagation(
        RECORD.as_ref(),
        &[],
        1,
        &[
            "after the deletion of 3 pods",
            "rules let go of it                      3    1.13 s    1.15 s    1.15 s  n1",
            "a preStop sleep that is 3 s longer",
            "2 more pods are needed",
        ],
    );
    assert_eq!(propagation(&outputs, &[], 1, &[]), table);
    assert_eq!(
        propagation(&outputs, &["-n", "shop", "deployment/web"], 1, &[]),
        table
    );
}

#[test]
fn pods_that_served_for_long_enough_are_no_finding() {
    let dir = Dir::new("propagation-fine");
    let file = dir.file("outputs", &removal("web-1", "n1", 900.0, Some(3_016.0)));
    propagation(&file, &[], 0, &["every pod served", "2.12 s longer at least"]);
}

#[test]
fn another_nodes_slower_rules_are_a_finding() {
    let dir = Dir::new("propagation-two");
    let one = dir.file("n1", &removal("web-1", "n1", 900.0, Some(3_016.0)));
    let two = dir.file("n2", &removal("web-1", "n2", 4_016.0, None));
    let more = ["--record", two.to_str().unwrap()];
    propagation(
        &one,
        &more,
        1,
        &["1.00 s before the rules of node n2 let go of it"],
    );
}

#[test]
fn workload_or_namespace_without_a_sample_is_an_error() {
    for more in [&["-n", "elsewhere"][..], &["api"], &["statefulset/web"]] {
        propagation(RECORD.as_ref(), more, 2, &["no pod of"]);
    }
}

#[test]
fn line_that_is_no_output_is_named() {
    let dir = Dir::new("propagation-bad");
    let file = dir.file("outputs", &(removal("web-1", "n1", 1.0, None) + "{}\n"));
    propagation(&file, &[], 2, &["line 2 is not an output"]);
    let other = dir.file("other", "hello\n");
    propagation(&other, &[], 2, &["not the head of a zdt record"]);
}
