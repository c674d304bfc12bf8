//! What is told of a rollout, and how often.

use super::*;
use crate::{
    input::{Ktime, Wall},
    verdict::{CauseCount, Revision},
};

fn cause(cause: &'static str, count: usize) -> CauseCount {
    CauseCount {
        cause,
        count,
        summary: "SYN refused".into(),
    }
}

fn rollout() -> RolloutSummary {
    let revision = |hash: &str| {
        Some(Revision {
            number: None,
            template_hash: hash.into(),
        })
    };
    RolloutSummary {
        template: None,
        node: "n1".into(),
        namespace: "shop".into(),
        workload: Workload {
            kind: "deployment".into(),
            name: "web".into(),
        },
        trigger: Trigger::RollingUpdate,
        from: revision("5895c69847"),
        to: revision("8cc9f4fb5"),
        pods: 3,
        pods_elsewhere: 0,
        began: Ktime(7),
        wall: Wall(1_700_000_000_000),
        took_ms: 4_000.0,
        failed: 50,
        explained: 50,
        unexplained: 0,
        events_lost: 0,
        gaps: Vec::new(),
        not_the_rollout: 4,
        causes: vec![cause("endpoint-removal-race", 49), cause("pod-ip-gone", 1)],
        propagation: Vec::new(),
        advice: vec![Advice {
            setting: "lifecycle.preStop.sleep.seconds".into(),
            value: Some(3),
            because: "slowest of 30 samples 2.31 s".into(),
            prevents: 48,
        }],
        savings: Vec::new(),
    }
}

#[test]
fn each_cause_is_one_event_with_count_advice_and_node() {
    let [race, gone] = told(&rollout()).try_into().unwrap();
    assert_eq!(race.reason, "EndpointRemovalRace");
    assert_eq!(race.action, "RollingUpdate");
    assert_eq!(race.template_hash.as_deref(), Some("8cc9f4fb5"));
    assert_eq!(
        race.note,
        "49 requests failed on node n1 (5895c69847 -> 8cc9f4fb5): SYN refused. Do: lifecycle.preStop.sleep.seconds: 3 \
         (slowest of 30 samples 2.31 s), would have prevented 48 of the rollout's 50."
    );
    assert_eq!(gone.reason, "PodIpGone");
    assert!(
        gone.note.starts_with("1 request failed on node n1 "),
        "{}",
        gone.note
    );
}

#[test]
fn rollout_that_lost_nothing_is_no_event() {
    let clean = RolloutSummary {
        failed: 0,
        explained: 0,
        causes: Vec::new(),
        advice: Vec::new(),
        ..rollout()
    };
    assert_eq!(told(&clean), []);
}

#[test]
fn what_is_unexplained_is_told_too() {
    let [.., last] = &told(&RolloutSummary {
        failed: 52,
        unexplained: 2,
        trigger: Trigger::None,
        ..rollout()
    })[..] else {
        panic!("nothing is told")
    };
    assert_eq!(
        (last.reason.as_str(), last.action.as_str()),
        ("Unexplained", "Rollout")
    );
    assert!(last.note.starts_with("2 requests failed"), "{}", last.note);
}

#[test]
fn name_is_the_same_for_the_same_and_differs_by_cause_node_and_rollout() {
    let names = |r: &RolloutSummary| told(r).into_iter().map(|t| t.name).collect::<Vec<_>>();
    let first = names(&rollout());
    assert_eq!(
        first,
        names(&RolloutSummary {
            failed: 60,
            took_ms: 1.0,
            ..rollout()
        })
    );
    let others = [
        RolloutSummary {
            node: "n2".into(),
            ..rollout()
        },
        RolloutSummary {
            began: Ktime(8),
            ..rollout()
        },
        RolloutSummary {
            wall: Wall(0),
            ..rollout()
        },
    ];
    let mut all = first;
    all.extend(others.iter().flat_map(names));
    let many = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), many);
}

#[test]
fn name_is_one_that_the_api_takes() {
    let mut long = rollout();
    long.workload.name = format!("{}-{}", "a".repeat(229), "b".repeat(23));
    let name = &told(&long)[0].name;
    assert!(name.len() <= 253 && name.starts_with("aaa"), "{name}");
    let (object, number) = name.rsplit_once('.').unwrap();
    assert!(object.ends_with('a'), "{name}");
    assert!(
        number.len() == 16 && number.bytes().all(|b| b.is_ascii_hexdigit()),
        "{name}"
    );
}

#[test]
fn note_keeps_the_limit_of_the_api() {
    let mut wordy = rollout();
    wordy.causes[0].summary = "ä".repeat(2_000);
    let note = &told(&wordy)[0].note;
    assert!(
        note.len() <= LONGEST_NOTE && note.len() > LONGEST_NOTE - 4,
        "{}",
        note.len()
    );
    assert!(note.ends_with("ä…"), "{note}");
}

#[test]
fn summary_that_comes_again_tells_only_what_is_new() {
    let (mut sink, mut from) = EventsSink::new(EventCounts::new().unwrap());
    sink.deliver(&Output::Rollout(Box::new(rollout()))).unwrap();
    let mut again = rollout();
    again.causes.push(cause("immediate-exit", 2));
    again.causes[0].count = 51;
    sink.deliver(&Output::Rollout(Box::new(again))).unwrap();
    drop(sink);
    let reasons: Vec<String> = std::iter::from_fn(|| from.try_recv().ok())
        .map(|t| t.reason)
        .collect();
    assert_eq!(reasons, ["EndpointRemovalRace", "PodIpGone", "ImmediateExit"]);
}

#[test]
fn writer_that_hangs_costs_events_and_a_count_and_no_time() {
    let counts = EventCounts::new().unwrap();
    let (mut sink, from) = EventsSink::new(counts.clone());
    for n in 0..WAITING as u64 {
        let one = RolloutSummary {
            began: Ktime(n),
            ..rollout()
        };
        sink.deliver(&Output::Rollout(Box::new(one))).unwrap();
    }
    assert_eq!(from.len(), WAITING);
    assert_eq!(
        counts.dropped.get(),
        WAITING as u64,
        "two causes each, and room for half"
    );
}
