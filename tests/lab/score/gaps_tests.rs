//! Tests of what is counted apart.

use super::super::{
    score,
    tests::{S, claim, expecting, request},
};
use super::*;
use crate::{scenario::Range, truth::Outcome};

fn gap(of: &str, from_s: u64, to_s: u64) -> Gap {
    Gap {
        of: vec![of.to_owned()],
        from: from_s * S,
        to: to_s * S,
        seen_until: 0,
    }
}

fn unsure(mut claim: Claim) -> Claim {
    claim.confidence.level = "degraded".to_owned();
    claim.gaps.push(Mark {
        of: "pods".to_owned(),
        to: 8 * S,
    });
    claim
}

#[test]
fn what_is_missed_or_wrong_in_a_marked_gap_is_counted_apart_and_all_else_is_a_miss() {
    let truth = [
        request(1, 5 * S, Outcome::Refused),
        request(2, 6 * S, Outcome::Refused),
        request(3, 7 * S, Outcome::Refused),
        request(4, 20 * S, Outcome::Refused),
    ];
    let expect = Expect {
        marked: Range { min: 0, max: None },
        gaps: Range { min: 1, max: None },
        ..expecting(&[("a", &[])])
    };
    let claims = [
        unsure(claim(1, 5 * S, "b", "refused")),
        unsure(claim(2, 6 * S, "a", "refused")),
    ];
    let s = score(&truth, &claims, &[gap("pods", 4, 8)], &expect, 0);
    assert_eq!(
        (s.counts.marked, s.counts.judged, s.counts.right_causes),
        (2, 1, 1)
    );
    assert_eq!(s.missed, [3], "nobody said that this was not seen");
    assert_eq!(s.findings.len(), 1, "{:?}", s.findings);
    let none = score(&truth, &claims, &[], &expect, 0);
    assert_eq!((none.counts.marked, none.missed.len()), (0, 2));
    assert_eq!(none.counts.right_causes, 1);
}

#[test]
fn a_verdict_of_a_gap_that_is_sure_of_itself_is_a_finding_and_so_is_a_mark_that_nobody_expects() {
    let truth = [
        request(1, 5 * S, Outcome::Refused),
        request(2, 6 * S, Outcome::Refused),
    ];
    let gaps = [gap("pods", 4, 8)];
    let expect = Expect {
        gaps: Range { min: 1, max: Some(1) },
        longest_gap_ms: Some(3_000.0),
        ..expecting(&[("a", &[])])
    };
    let claims = [claim(1, 5 * S, "a", "refused")];
    let s = score(&truth, &claims, &gaps, &expect, 0);
    let found = s.findings.join("; ");
    for part in [
        "1 failed requests were missed",
        "1 verdicts about what was not all seen",
        "4000 ms",
    ] {
        assert!(found.contains(part), "{found}");
    }
}

#[test]
fn a_second_daemon_answers_for_the_time_since_the_first_and_for_no_failure_twice() {
    let line = |id: &str| {
        format!(
            r#"{{"kind":"verdict","id":"{id}","node":"n1","began":1,"ended":2,"client":"10.0.0.1:1","outcome":"reset","blame":"rollout"}}"#
        )
    };
    let start = r#"{"kind":"not-seen","node":"n1","of":["start"],"from":0,"to":9000,"wall":0}"#;
    let mut all = Printed::parse(&format!("{start}\n{}", line("x"))).unwrap();
    all.follows(None);
    assert!(all.gaps.is_empty() && all.repeated().is_none());
    let mut second = Printed::parse(&format!("{start}\n{}\n{}", line("x"), line("y"))).unwrap();
    second.follows(Some((8_100, 100)));
    assert_eq!((second.gaps[0].from, second.gaps[0].to), (8_000, 9_000));
    all.add(second);
    assert!(
        all.repeated().unwrap().starts_with("1 verdicts"),
        "{:?}",
        all.repeated()
    );
}
