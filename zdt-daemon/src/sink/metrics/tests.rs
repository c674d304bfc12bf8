//! The text that Prometheus gets, from verdicts and summaries; and its bound.

mod bounds;

use super::*;
use crate::{
    causes::{RULES, UNEXPLAINED},
    input::{NsName, PodUid, Wall},
    verdict::{Advice, Change, Confidence, Finding, Judgement, Outcome, PodRef, Since, Trigger},
};

const TRIGGERS: [Trigger; 5] = [
    Trigger::RollingUpdate,
    Trigger::ScaleDown,
    Trigger::Delete,
    Trigger::Eviction,
    Trigger::None,
];
const OUTCOMES: [Outcome; 6] = [
    Outcome::Refused,
    Outcome::Reset,
    Outcome::TimedOut,
    Outcome::Unreachable,
    Outcome::ClosedEarly,
    Outcome::ServedError,
];

fn workload(name: &str) -> Workload {
    Workload {
        kind: "deployment".into(),
        name: name.into(),
    }
}

fn verdict(name: &str, blame: Blame, cause: &'static str, outcome: Outcome, trigger: Trigger) -> Verdict {
    Verdict {
        id: String::new(),
        node: "n1".into(),
        began: Ktime(0),
        ended: Ktime(1_000_000_000),
        wall: Wall(0),
        outcome,
        blame,
        client: "10.244.7.7:40000".parse().unwrap(),
        dialled: None,
        server: Some("10.244.1.4:8080".parse().unwrap()),
        service: None,
        pod: Some(PodRef {
            uid: PodUid("u".into()),
            pod: NsName {
                namespace: "shop".into(),
                name: format!("{name}-5895c69847-abcde"),
            },
            workload: Some(workload(name)),
            template_hash: None,
        }),
        trigger,
        amplifiers: Vec::new(),
        judgement: if cause == UNEXPLAINED {
            Judgement::Unexplained {
                seen: Vec::new(),
                missing: Vec::new(),
            }
        } else {
            Judgement::Explained {
                cause,
                finding: Finding::default(),
            }
        },
        also_matched: Vec::new(),
        gaps: Vec::new(),
        confidence: Confidence::Full,
    }
}

fn refused(name: &str) -> Verdict {
    let (cause, trigger) = ("endpoint-removal-race", Trigger::RollingUpdate);
    verdict(name, Blame::Rollout, cause, Outcome::Refused, trigger)
}

fn summary(name: &str, began: Ktime) -> RolloutSummary {
    RolloutSummary {
        node: "n1".into(),
        namespace: "shop".into(),
        workload: workload(name),
        trigger: Trigger::RollingUpdate,
        from: None,
        to: None,
        pods: 1,
        pods_elsewhere: 0,
        began,
        wall: Wall(0),
        took_ms: 4_600.0,
        failed: 0,
        explained: 0,
        unexplained: 0,
        events_lost: 0,
        gaps: Vec::new(),
        not_the_rollout: 0,
        causes: Vec::new(),
        propagation: Vec::new(),
        advice: Vec::new(),
        template: None,
        savings: Vec::new(),
    }
}

fn advice(setting: &str, value: Option<u64>, prevents: usize) -> Advice {
    Advice {
        setting: setting.into(),
        value,
        because: String::new(),
        prevents,
    }
}

fn removal(name: &str, rules_ms: Option<f64>) -> Propagation {
    Propagation {
        node: "n1".into(),
        namespace: "shop".into(),
        workload: Some(workload(name)),
        pod: format!("{name}-5895c69847-abcde"),
        pod_node: None,
        change: Change::Removal,
        since: Since::Deletion,
        at: Ktime(0),
        wall: Wall(0),
        slice_ms: Some(8.0),
        rules_ms,
        connection_ms: None,
        stopped_serving_ms: Some(-0.2),
        own: crate::verdict::PodSteps::default(),
    }
}

/// Series of a text: lines that are no comment.
fn series(text: &str) -> usize {
    text.lines().filter(|l| !l.starts_with('#')).count()
}

#[track_caller]
fn has(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "no line {line}\n{text}");
}

#[test]
fn failed_request_is_counted_by_cause_and_workload() {
    let (metrics, mut sink) = Metrics::new().unwrap();
    sink.verdict(Ktime(3_100_000_000), &refused("web"));
    sink.verdict(Ktime(3_100_000_000), &refused("web"));
    let text = metrics.text().unwrap();
    has(
        &text,
        "zdt_failed_requests_total{blame=\"rollout\",cause=\"endpoint-removal-race\",namespace=\"shop\",\
         outcome=\"refused\",trigger=\"rolling-update\",workload=\"deployment/web\"} 2",
    );
    has(
        &text,
        "zdt_verdicts_total{blame=\"rollout\",confidence=\"full\"} 2",
    );
    has(&text, "zdt_verdict_latency_seconds_bucket{le=\"2.25\"} 2");
    assert!(
        !text.contains("10.244") && !text.contains("abcde"),
        "no address, no pod"
    );
}

#[test]
fn probe_that_was_refused_is_a_verdict_and_no_failed_request() {
    let (metrics, mut sink) = Metrics::new().unwrap();
    let probe = verdict(
        "web",
        Blame::NotARequest,
        "kubelet-probe",
        Outcome::Refused,
        Trigger::None,
    );
    sink.verdict(Ktime(1), &probe);
    let text = metrics.text().unwrap();
    assert!(!text.contains("\nzdt_failed_requests_total{"), "{text}");
    has(
        &text,
        "zdt_verdicts_total{blame=\"not-a-request\",confidence=\"full\"} 1",
    );
}

#[test]
fn verdict_without_a_pod_has_the_namespace_of_its_service() {
    let (metrics, mut sink) = Metrics::new().unwrap();
    let mut nowhere = refused("web");
    nowhere.pod = None;
    nowhere.service = Some(NsName {
        namespace: "shop".into(),
        name: "web".into(),
    });
    nowhere.confidence = Confidence::Degraded { lost: 3 };
    sink.verdict(Ktime(1), &nowhere);
    nowhere.service = None;
    sink.verdict(Ktime(1), &nowhere);
    let text = metrics.text().unwrap();
    assert!(text.contains(
        "namespace=\"shop\",outcome=\"refused\",trigger=\"rolling-update\",workload=\"(unknown)\"} 1"
    ));
    assert!(text.contains("namespace=\"(unknown)\",outcome=\"refused\""));
    has(
        &text,
        "zdt_verdicts_total{blame=\"rollout\",confidence=\"degraded\"} 2",
    );
}

#[test]
fn summary_that_comes_again_counts_once_and_a_stage_where_it_is_known() {
    let (metrics, mut sink) = Metrics::new().unwrap();
    for began in [5, 5, 5, 9] {
        sink.rollout(&summary("web", Ktime(began)));
    }
    for rules_ms in [None, Some(1_030.0), Some(40.0)] {
        sink.propagation(&removal("web", rules_ms));
    }
    let text = metrics.text().unwrap();
    let of = "namespace=\"shop\",";
    has(
        &text,
        &format!("zdt_rollouts_total{{{of}trigger=\"rolling-update\",workload=\"deployment/web\"}} 2"),
    );
    has(
        &text,
        &format!("zdt_rollout_duration_seconds_sum{{{of}workload=\"deployment/web\"}} 9.2"),
    );
    for (stage, count) in [("slice", 3), ("rules", 2), ("stopped-serving", 3)] {
        let labels = format!("{{{of}stage=\"{stage}\",workload=\"deployment/web\"}}");
        has(&text, &format!("zdt_propagation_seconds_count{labels} {count}"));
    }
    assert!(
        text.contains("stage=\"rules\",workload=\"deployment/web\",le=\"0.05\"} 1"),
        "{text}"
    );
}

#[test]
fn request_of_before_the_stop_signal_was_unfinished_then_and_a_later_one_was_not() {
    let (metrics, mut sink) = Metrics::new().unwrap();
    // Cut at 1 s, 400 ms after SIGTERM: the one connection is of 0 s, the other of 700 ms.
    for began in [Ktime(0), Ktime(700_000_000)] {
        let mut cut = refused("web");
        cut.began = began;
        let finding = Finding {
            measures: vec![(Measure::ExitAfterTerm, 400.0)],
            ..Finding::default()
        };
        let cause = "immediate-exit";
        cut.judgement = Judgement::Explained { cause, finding };
        sink.verdict(Ktime(1), &cut);
    }
    sink.verdict(Ktime(1), &refused("web"));
    let text = metrics.text().unwrap();
    let of = "{namespace=\"shop\",workload=\"deployment/web\"}";
    has(&text, &format!("zdt_requests_unfinished_at_sigterm_total{of} 1"));
}

#[test]
fn last_rollout_stands_with_its_advice_until_a_later_one() {
    let (metrics, mut sink) = Metrics::new().unwrap();
    let mut first = summary("web", Ktime(5));
    first.wall = Wall(1_700_000_000_500);
    first.failed = 7;
    first.advice = vec![advice("lifecycle.preStop.sleep.seconds", Some(3), 6)];
    sink.rollout(&first);
    let of = "namespace=\"shop\",";
    let web = "workload=\"deployment/web\"} ";
    let pre_stop = "setting=\"lifecycle.preStop.sleep.seconds\",";
    let text = metrics.text().unwrap();
    has(
        &text,
        &format!("zdt_last_rollout_timestamp_seconds{{{of}{web}1700000000.5"),
    );
    has(&text, &format!("zdt_last_rollout_duration_seconds{{{of}{web}4.6"));
    has(&text, &format!("zdt_last_rollout_failed_requests{{{of}{web}7"));
    let prevents = format!("zdt_last_rollout_advice_prevents_requests{{{of}{pre_stop}{web}");
    has(&text, &format!("{prevents}6"));
    has(
        &text,
        &format!("zdt_last_rollout_advice_value{{{of}{pre_stop}{web}3"),
    );

    let mut second = summary("web", Ktime(9));
    second.wall = Wall(1_700_000_060_000);
    sink.rollout(&second);
    // A late verdict sums the first one up again.
    sink.rollout(&first);
    let text = metrics.text().unwrap();
    has(
        &text,
        &format!("zdt_last_rollout_timestamp_seconds{{{of}{web}1700000060"),
    );
    has(&text, &format!("zdt_last_rollout_failed_requests{{{of}{web}0"));
    has(&text, &format!("{prevents}0"));
}

#[test]
fn ready_is_hooks_and_watches_and_alive_is_a_tick_in_the_last_minute() {
    let (metrics, _) = Metrics::new().unwrap();
    let own = metrics.own();
    assert!(own.ready().unwrap_err().contains("hooks"));
    own.hooks(&["a", "b"], &["c"]);
    assert!(own.ready().unwrap_err().contains("watches"));
    own.synced();
    assert_eq!(own.ready(), Ok(()));

    assert_eq!(own.alive(Ktime(0)), Ok(()), "starting");
    let tick = crate::input::Input {
        at: Ktime(1_000_000_000),
        what: crate::input::What::Tick,
    };
    own.input(Ktime(1_500_000_000), &tick, 7);
    assert_eq!(own.alive(Ktime(60_000_000_000)), Ok(()));
    assert!(own.alive(Ktime(62_000_000_000)).is_err());
    let text = metrics.text().unwrap();
    has(&text, "zdt_input_lag_seconds_sum 0.5");
    has(&text, "zdt_input_queue_length 7");
    has(&text, "zdt_hooks_attached 2");
    has(&text, "zdt_hook_attached{hook=\"c\"} 0");
}

#[test]
fn losses_and_gaps_are_counted_where_they_were() {
    let (metrics, _) = Metrics::new().unwrap();
    let lost = |source: &str, count| crate::input::Input {
        at: Ktime(1),
        what: crate::input::What::Loss {
            source: source.into(),
            count,
        },
    };
    metrics.own().input(Ktime(1), &lost("ring:tcp_send_reset", 3), 0);
    metrics.own().input(Ktime(1), &lost("ring:tcp_send_reset", 4), 0);
    let gap = crate::input::What::WatchGap {
        resource: "pods".into(),
        since: Ktime(0),
    };
    metrics.own().input(
        Ktime(1),
        &crate::input::Input {
            at: Ktime(1),
            what: gap,
        },
        0,
    );
    metrics.own().table("flows", 5, 2);
    metrics.own().table("flows", 4, 2);
    let text = metrics.text().unwrap();
    has(&text, "zdt_events_lost_total{source=\"ring:tcp_send_reset\"} 7");
    has(&text, "zdt_watch_gaps_total{resource=\"pods\"} 1");
    has(&text, "zdt_table_entries{table=\"flows\"} 4");
    has(&text, "zdt_table_evictions_total{table=\"flows\"} 2");
}
