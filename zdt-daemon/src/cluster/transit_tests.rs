//! Tests of `transit`: when an address comes into transition, and when it leaves.

use super::*;
use crate::input::{Deletion, EndpointState};

const OLD: &str = "10.244.0.5";
const NEW: &str = "10.244.0.6";

/// An endpoint: `+` ready, `-` unready, `x` terminating, then the address.
fn slice(name: &str, endpoints: &[&str]) -> What {
    let endpoint = |text: &&str| {
        let (sign, addr) = text.split_at(1);
        EndpointState {
            addrs: vec![addr.parse().unwrap()],
            ready: sign == "+",
            serving: sign != "-",
            terminating: sign == "x",
            ..EndpointState::default()
        }
    };
    What::Slice(SliceState {
        slice: ns_name(name),
        endpoints: endpoints.iter().map(endpoint).collect(),
        ..SliceState::default()
    })
}

fn ns_name(name: &str) -> NsName {
    NsName {
        namespace: "n".into(),
        name: name.into(),
    }
}

fn pod(deleted: bool, phase: &str, ips: &[&str]) -> What {
    What::Pod(PodState {
        uid: PodUid("u".into()),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        deletion: deleted.then(Deletion::default),
        phase: phase.into(),
        ..PodState::default()
    })
}

/// What changes at second `at`, as `+addr` and `-addr`.
fn at(transit: &mut Transit, at_s: u64, what: &What) -> Vec<String> {
    let (at, mut out) = (Ktime(at_s * 1_000_000_000), Vec::new());
    transit.follow(at, what, &mut out);
    transit.expire(at, &mut out);
    let text = |change: Change| match change {
        Change::Transit { addr, on: true } => format!("+{addr}"),
        Change::Transit { addr, on: false } => format!("-{addr}"),
        other => panic!("{other:?}"),
    };
    out.into_iter().map(text).collect()
}

/// After the first list, with [`OLD`] in it.
fn settled() -> Transit {
    let mut transit = Transit::default();
    assert_eq!(at(&mut transit, 0, &slice("s", &["+10.244.0.5"])), [""; 0]);
    transit.settle();
    transit
}

fn nothing_until(transit: &mut Transit, seconds: u64) {
    assert_eq!(at(transit, seconds, &What::Tick), [""; 0], "at {seconds} s");
}

#[test]
fn what_the_first_list_holds_is_not_new_but_may_be_going() {
    let mut transit = Transit::default();
    let list = slice("s", &["+10.244.0.5", "-10.244.0.6", "x10.244.0.7"]);
    assert_eq!(at(&mut transit, 0, &list), ["+10.244.0.7"]);
}

#[test]
fn terminating_endpoint_is_in_transition_until_130_s_after_it_is_removed() {
    let mut transit = settled();
    assert_eq!(
        at(&mut transit, 1, &slice("s", &["x10.244.0.5"])),
        [format!("+{OLD}")]
    );
    nothing_until(&mut transit, 3600);
    assert_eq!(at(&mut transit, 3600, &slice("s", &[])), [""; 0]);
    nothing_until(&mut transit, 3729);
    assert_eq!(at(&mut transit, 3730, &What::Tick), [format!("-{OLD}")]);
}

#[test]
fn endpoint_removed_without_a_word_is_in_transition_for_130_s() {
    let mut transit = settled();
    let gone = What::SliceGone { slice: ns_name("s") };
    assert_eq!(at(&mut transit, 1, &gone), [format!("+{OLD}")]);
    nothing_until(&mut transit, 130);
    assert_eq!(at(&mut transit, 131, &What::Tick), [format!("-{OLD}")]);
}

#[test]
fn new_endpoint_is_waited_for_and_leaves_10_s_after_it_turned_ready() {
    let mut transit = settled();
    let new = |sign: &str| slice("s", &["+10.244.0.5", &format!("{sign}{NEW}")]);
    assert_eq!(at(&mut transit, 1, &new("-")), [format!("+{NEW}")]);
    nothing_until(&mut transit, 59);
    assert_eq!(at(&mut transit, 59, &new("+")), [""; 0]);
    nothing_until(&mut transit, 68);
    assert_eq!(at(&mut transit, 69, &What::Tick), [format!("-{NEW}")]);
}

#[test]
fn endpoint_that_never_turns_ready_does_not_stay() {
    let mut transit = settled();
    let never = slice("s", &["+10.244.0.5", "-10.244.0.6"]);
    assert_eq!(at(&mut transit, 1, &never), [format!("+{NEW}")]);
    assert_eq!(at(&mut transit, 61, &never), [format!("-{NEW}")]);
    nothing_until(&mut transit, 3600);
}

#[test]
fn endpoint_that_turns_unready_is_let_go_by_the_rules_too() {
    let mut transit = settled();
    assert_eq!(
        at(&mut transit, 1, &slice("s", &["-10.244.0.5"])),
        [format!("+{OLD}")]
    );
    nothing_until(&mut transit, 130);
    assert_eq!(at(&mut transit, 131, &What::Tick), [format!("-{OLD}")]);
}

#[test]
fn address_taken_over_by_a_new_pod_stays_for_the_old_ones_sake() {
    let mut transit = settled();
    at(&mut transit, 1, &slice("s", &["x10.244.0.5"]));
    at(&mut transit, 2, &slice("s", &["+10.244.0.5"]));
    nothing_until(&mut transit, 131);
    assert_eq!(at(&mut transit, 132, &What::Tick), [format!("-{OLD}")]);
}

#[test]
fn deleted_pod_of_this_node_is_in_transition_before_its_slice_says_so_and_until_both_are_done() {
    let mut transit = settled();
    assert_eq!(at(&mut transit, 1, &pod(false, "Running", &[OLD])), [""; 0]);
    assert_eq!(
        at(&mut transit, 2, &pod(true, "Running", &[OLD])),
        [format!("+{OLD}")]
    );
    at(&mut transit, 2, &slice("s", &["x10.244.0.5"]));
    at(&mut transit, 3, &slice("s", &[]));
    nothing_until(&mut transit, 200);
    at(
        &mut transit,
        200,
        &What::PodGone {
            uid: PodUid("u".into()),
        },
    );
    nothing_until(&mut transit, 329);
    assert_eq!(at(&mut transit, 330, &What::Tick), [format!("-{OLD}")]);
}

#[test]
fn deleted_pod_whose_address_goes_blank_keeps_it_and_one_that_ended_is_done() {
    let mut transit = settled();
    at(&mut transit, 1, &pod(true, "Running", &[NEW]));
    at(&mut transit, 2, &pod(true, "Running", &[]));
    nothing_until(&mut transit, 1000);
    at(&mut transit, 1000, &pod(true, "Succeeded", &[]));
    nothing_until(&mut transit, 1129);
    assert_eq!(at(&mut transit, 1130, &What::Tick), [format!("-{NEW}")]);
}

#[test]
fn endpoint_of_two_services_leaves_when_the_last_of_them_is_done() {
    let mut transit = settled();
    at(&mut transit, 0, &slice("t", &["+10.244.0.5"]));
    at(&mut transit, 1, &slice("s", &["x10.244.0.5"]));
    at(&mut transit, 1, &slice("t", &["x10.244.0.5"]));
    at(&mut transit, 2, &slice("s", &[]));
    nothing_until(&mut transit, 500);
    at(&mut transit, 500, &slice("t", &[]));
    assert_eq!(at(&mut transit, 630, &What::Tick), [format!("-{OLD}")]);
}
