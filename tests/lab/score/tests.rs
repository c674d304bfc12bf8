//! Tests of the score.
#![expect(clippy::float_cmp, reason = "ratios of small counts are exact")]

use super::*;
use crate::{
    scenario::{ExpectedCause, Range},
    truth::Phase,
};

pub(super) const S: u64 = 1_000_000_000;

/// With nothing that was not seen.
fn score(truth: &[Request], claims: &[Claim], expect: &Expect, events_lost: u64) -> Score {
    super::score(truth, claims, &[], expect, events_lost)
}

pub(super) fn request(port: u16, ended_ns: u64, outcome: Outcome) -> Request {
    Request {
        id: u64::from(port),
        began_ns: ended_ns.saturating_sub(1000),
        ended_ns,
        local: Some(SocketAddr::from(([10, 244, 0, 9], port))),
        remote: SocketAddr::from(([10, 96, 0, 10], 80)),
        outcome,
        phase: Phase::Connect,
        errno: None,
        status: None,
        server: None,
        reused: false,
    }
}

pub(super) fn claim(port: u16, ended: u64, cause: &str, outcome: &str) -> Claim {
    Claim {
        began: ended.saturating_sub(1000),
        ended,
        client: SocketAddr::from(([10, 244, 0, 9], port)),
        outcome: outcome.to_owned(),
        blame: "rollout".to_owned(),
        cause: Some(cause.to_owned()),
        node: "n1".to_owned(),
        ..Claim::default()
    }
}

pub(super) fn expecting(causes: &[(&str, &[Outcome])]) -> Expect {
    let causes = causes.iter().map(|(name, outcomes)| {
        let outcomes = outcomes.to_vec();
        (
            (*name).to_owned(),
            ExpectedCause {
                outcomes,
                min_share: 0.0,
            },
        )
    });
    Expect {
        causes: Some(causes.collect()),
        ..Expect::default()
    }
}

#[test]
fn a_verdict_for_each_failed_request_is_a_perfect_score() {
    let truth = [
        request(1, 5 * S, Outcome::Refused),
        request(2, 6 * S, Outcome::Ok),
    ];
    let claims = [claim(1, 5 * S, "a", "refused")];
    let s = score(&truth, &claims, &expecting(&[("a", &[])]), 0);
    assert_eq!(
        (s.counts.recall(), s.counts.precision(), s.counts.cause_accuracy()),
        (1.0, 1.0, 1.0)
    );
    assert_eq!((s.counts.requests, s.counts.failed, s.counts.found), (2, 1, 1));
    assert!((s.counts.outcome_agreement() - 1.0).abs() < 1e-9);
    assert_eq!(s.findings, Vec::<String>::new());
}

#[test]
fn a_missed_request_lowers_recall_and_a_false_claim_lowers_precision() {
    let truth = [
        request(1, 5 * S, Outcome::Refused),
        request(2, 5 * S, Outcome::Reset),
    ];
    let claims = [claim(1, 5 * S, "a", "refused"), claim(3, 5 * S, "a", "refused")];
    let s = score(&truth, &claims, &Expect::default(), 0);
    assert_eq!((s.counts.recall(), s.counts.precision()), (0.5, 0.5));
    assert_eq!((s.missed, s.false_claims), (vec![1], vec![1]));
    assert_eq!(s.findings.len(), 2, "{:?}", s.findings);
}

#[test]
fn a_verdict_about_a_request_that_was_answered_is_a_false_claim() {
    let truth = [request(1, 5 * S, Outcome::Ok)];
    let s = score(&truth, &[claim(1, 5 * S, "a", "reset")], &Expect::default(), 0);
    assert_eq!((s.counts.precision(), s.counts.recall()), (0.0, 1.0));
}

#[test]
fn one_request_takes_one_verdict_and_the_nearest_wins() {
    let truth = [request(1, 5 * S, Outcome::Reset)];
    let claims = [
        claim(1, 5 * S + 900, "far", "reset"),
        claim(1, 5 * S + 1, "near", "reset"),
    ];
    let s = score(&truth, &claims, &Expect::default(), 0);
    assert_eq!(s.counts.precision(), 0.5);
    assert_eq!(s.confusion.keys().next(), Some(&("near".to_owned(), "reset")));
}

#[test]
fn the_same_port_at_another_time_is_another_request() {
    let truth = [request(1, 5 * S, Outcome::Reset)];
    let s = score(&truth, &[claim(1, 7 * S, "a", "reset")], &Expect::default(), 0);
    assert_eq!((s.counts.recall(), s.counts.precision()), (0.0, 0.0));
}

#[test]
fn requests_of_one_kept_connection_are_told_apart_by_their_end() {
    let truth = [
        request(1, 5 * S, Outcome::Reset),
        request(1, 5 * S + 500_000, Outcome::Reset),
    ];
    let claims = [
        claim(1, 5 * S + 490_000, "b", "reset"),
        claim(1, 5 * S + 10_000, "a", "reset"),
    ];
    let s = score(&truth, &claims, &Expect::default(), 0);
    assert_eq!((s.counts.recall(), s.counts.precision()), (1.0, 1.0));
}

#[test]
fn a_mapped_address_is_the_same_client() {
    let truth = [request(1, 5 * S, Outcome::Reset)];
    let mut c = claim(1, 5 * S, "a", "reset");
    c.client = "[::ffff:10.244.0.9]:1".parse().unwrap();
    assert_eq!(score(&truth, &[c], &Expect::default(), 0).counts.recall(), 1.0);
}

#[test]
fn a_cause_is_right_only_for_the_outcomes_the_scenario_allows() {
    let truth = [
        request(1, 5 * S, Outcome::TimedOut),
        request(2, 5 * S, Outcome::Refused),
    ];
    let claims = [
        claim(1, 5 * S, "gone", "timed-out"),
        claim(2, 5 * S, "gone", "refused"),
    ];
    let s = score(&truth, &claims, &expecting(&[("gone", &[Outcome::TimedOut])]), 0);
    assert_eq!((s.counts.cause_accuracy(), s.wrong_causes), (0.5, vec![(1, 1)]));
}

#[test]
fn unexplained_is_a_verdict_but_not_a_right_cause() {
    let truth = [request(1, 5 * S, Outcome::Reset)];
    let mut c = claim(1, 5 * S, "", "reset");
    c.cause = None;
    let s = score(&truth, &[c], &expecting(&[("a", &[])]), 0);
    assert_eq!(
        (s.counts.recall(), s.counts.cause_accuracy(), s.counts.unexplained),
        (1.0, 0.0, 1)
    );
}

#[test]
fn what_is_not_a_request_claims_nothing() {
    let mut c = claim(1, 5 * S, "probe", "refused");
    c.blame = "not-a-request".to_owned();
    let s = score(&[], &[c], &Expect::default(), 0);
    assert_eq!(
        (s.counts.verdicts, s.counts.claims, s.counts.precision()),
        (1, 0, 1.0)
    );
}

#[test]
fn a_hang_up_is_right_to_name_and_wrong_to_blame_on_the_rollout() {
    let truth = [
        request(1, 5 * S, Outcome::Aborted),
        request(2, 5 * S, Outcome::Aborted),
    ];
    let mut named = claim(1, 5 * S, "client-abort", "closed-early");
    named.blame = "not-the-rollout".to_owned();
    let s = score(
        &truth,
        &[named, claim(2, 5 * S, "a", "reset")],
        &Expect::default(),
        0,
    );
    assert_eq!(
        (s.counts.failed, s.counts.aborted, s.counts.aborts_found),
        (0, 2, 2)
    );
    assert_eq!(s.counts.precision(), 0.5);
}

#[test]
fn hang_ups_without_a_verdict_are_a_finding_where_the_scenario_names_them() {
    let truth = [request(1, 5 * S, Outcome::Aborted)];
    assert!(score(&truth, &[], &Expect::default(), 0).findings.is_empty());
    let s = score(
        &truth,
        &[],
        &expecting(&[("client-abort", &[Outcome::Aborted])]),
        0,
    );
    assert_eq!(s.findings.len(), 1, "{:?}", s.findings);
}

#[test]
fn bounds_shares_and_the_labs_own_errors_are_findings() {
    let truth = [
        request(1, 5 * S, Outcome::Reset),
        request(2, 5 * S, Outcome::LocalError),
    ];
    let mut expect = expecting(&[("a", &[])]);
    expect.failed = Range { min: 2, max: None };
    if let Some(a) = expect.causes.as_mut().and_then(|c| c.get_mut("a")) {
        a.min_share = 0.5;
    }
    let s = score(&truth, &[claim(1, 5 * S, "b", "reset")], &expect, 0);
    assert_eq!((s.counts.failed, s.counts.local_errors), (1, 1));
    // The client's machine, too few failures, the wrong cause, the missing share.
    assert_eq!(s.findings.len(), 4, "{:?}", s.findings);
}

#[test]
fn nothing_of_nothing_is_one_and_counts_add_up() {
    let mut total = score(&[], &[], &Expect::default(), 3).counts;
    assert_eq!(
        (total.recall(), total.precision(), total.cause_accuracy()),
        (1.0, 1.0, 1.0)
    );
    total.add(&score(&[request(1, S, Outcome::Reset)], &[], &Expect::default(), 4).counts);
    assert_eq!(
        (total.requests, total.failed, total.events_lost, total.recall()),
        (1, 1, 7, 0.0)
    );
}

#[test]
fn the_daemons_lines_are_read_as_they_are_written() {
    let text = concat!(
        r#"{"kind":"verdict","id":"x","node":"n1","began":1,"ended":2,"wall":3,"outcome":"timed-out","blame":"rollout","#,
        r#""client":"10.0.0.1:40000","dialled":null,"judgement":"explained","cause":"pod-ip-gone","finding":{}}"#,
        "\n",
        r#"{"kind":"verdict","began":1,"ended":2,"outcome":"reset","blame":"unknown","client":"[fd00::1]:40000","#,
        r#""judgement":"unexplained","seen":[],"missing":[]}"#,
        "\n",
        r#"{"kind":"rollout","events_lost":0}"#,
        "\n",
    );
    let printed = Printed::parse(text).unwrap();
    assert_eq!(printed.claims[0].cause(), "pod-ip-gone");
    assert_eq!(printed.claims[1].cause(), "unexplained");
    assert_eq!(printed.rollouts.len(), 1);
}

#[test]
fn a_torn_line_of_the_daemon_is_an_error_that_names_it() {
    let e = Printed::parse("{\"kind\":\"rollout\"}\n{\"kind\":\"ver").unwrap_err();
    assert_eq!(e.line, 2);
    let e = Printed::parse("{\"kind\":\"verdict\"}\n")
        .unwrap_err()
        .to_string();
    assert!(e.contains("line 1") && e.contains("missing field"), "{e}");
}

#[test]
fn the_same_failure_claimed_by_two_nodes_is_a_precision_error() {
    let truth = [request(1, 5 * S, Outcome::Refused)];
    let mut second = claim(1, 5 * S, "a", "refused");
    second.node = "n2".to_owned();
    let claims = [claim(1, 5 * S, "a", "refused"), second];
    let s = score(&truth, &claims, &Expect::default(), 0);
    assert_eq!((s.counts.recall(), s.counts.precision()), (1.0, 0.5));
    assert_eq!(s.by_node["n1"].right + s.by_node["n2"].right, 1);
    assert_eq!(s.false_claims.len(), 1);
}

#[test]
fn a_verdict_about_the_background_counts_only_when_it_blames_the_rollout() {
    let mut innocent = claim(1, 5 * S, "client-abort", "aborted");
    innocent.blame = "not-the-rollout".to_owned();
    let blaming = claim(2, 5 * S, "pod-ip-gone", "timed-out");
    let printed = Printed {
        gaps: Vec::new(),
        claims: vec![innocent, blaming.clone()],
        rollouts: Vec::new(),
        propagations: Vec::new(),
        stayed: 0,
    };
    let background = ["10.244.0.9".parse().unwrap()];
    assert_eq!(printed.about_the_workload(&background), [blaming]);
    assert_eq!(printed.about_the_workload(&[]).len(), 2);
}

#[test]
fn a_verdict_about_an_attempt_that_was_made_good_is_right_and_finds_no_request() {
    let truth = [request(1, 5 * S, Outcome::Ok)];
    let mut retried = claim(2, 5 * S, "a", "refused");
    retried.retried = true;
    let s = score(&truth, &[retried], &expecting(&[("a", &[Outcome::Refused])]), 0);
    assert_eq!((s.counts.precision(), s.counts.found), (1.0, 0));
    assert_eq!((s.counts.judged, s.counts.right_causes), (1, 1));
    assert_eq!(s.confusion.keys().next(), Some(&("a".to_owned(), "(retried)")));
}

#[test]
fn a_rollout_of_another_workload_than_the_expected_one_is_a_finding() {
    let truth = [request(1, 5 * S, Outcome::Refused)];
    let mut blamed = claim(1, 5 * S, "a", "refused");
    blamed.pod =
        serde_json::from_str(r#"{"namespace":"shop","workload":{"kind":"Deployment","name":"web"}}"#)
            .unwrap();
    let expect = |workload: &str| Expect {
        blamed: Some(workload.to_owned()),
        ..Expect::default()
    };
    let findings = |workload: &str| score(&truth, &[blamed.clone()], &expect(workload), 0).findings;
    assert_eq!(findings("shop/web"), Vec::<String>::new());
    assert_eq!(findings("ingress/proxy").len(), 1);
}
