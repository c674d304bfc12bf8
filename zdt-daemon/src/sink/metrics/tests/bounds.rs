//! How many series there can be.

use super::*;

#[test]
fn thousand_workloads_with_all_causes_stay_under_the_bound_and_lose_no_count() {
    let (metrics, mut sink) = Metrics::new().unwrap();
    let own = metrics.own();
    for hook in zdt_common::Hook::ALL {
        own.hooks(&[hook.name()], &[]);
        own.events(hook.name(), 1);
        own.run_time(hook.name(), 0.1, 1);
    }
    let causes: Vec<&'static str> = RULES.iter().map(|r| r.name).chain([UNEXPLAINED]).collect();
    let mut wanted = 0;
    for n in 0..1_000_u64 {
        let name = format!("web-{n}");
        for cause in &causes {
            for outcome in OUTCOMES {
                // Every trigger in its turn, for every cause and outcome.
                let trigger = TRIGGERS[usize::try_from(n).unwrap() % TRIGGERS.len()];
                sink.verdict(Ktime(1), &verdict(&name, Blame::Rollout, cause, outcome, trigger));
                wanted += 1;
            }
        }
        let mut summed_up = summary(&name, Ktime(n));
        let mut cut = refused(&name);
        let finding = Finding {
            measures: vec![(Measure::ExitAfterTerm, 0.0)],
            ..Finding::default()
        };
        let cause = "immediate-exit";
        cut.judgement = Judgement::Explained { cause, finding };
        sink.verdict(Ktime(1), &cut);
        wanted += 1;
        summed_up.advice = vec![advice("a", Some(1), 1), advice("b", Some(1), 1)];
        sink.rollout(&summed_up);
        sink.propagation(&removal(&name, Some(5.0)));
    }
    let text = metrics.text().unwrap();
    let there = series(&text);
    assert!(there > 20_000, "the tables are full: {there}");
    assert!(there <= MOST_SERIES, "{there} series");
    let counts = text
        .lines()
        .filter(|l| l.starts_with("zdt_failed_requests_total{"));
    let sum: u64 = counts
        .map(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(sum, wanted, "what has no series of its own is in (other)");
    assert!(text.contains("zdt_label_overflows_total{metric=\"zdt_failed_requests_total\"}"));
}

#[test]
fn node_with_twenty_workloads_has_under_two_thousand_series() {
    let (metrics, mut sink) = Metrics::new().unwrap();
    for hook in zdt_common::Hook::ALL {
        metrics.own().events(hook.name(), 1);
        metrics.own().run_time(hook.name(), 0.1, 1);
    }
    for n in 0..20_u64 {
        let name = format!("web-{n}");
        for rule in RULES.iter().take(5) {
            let trigger = Trigger::RollingUpdate;
            sink.verdict(
                Ktime(1),
                &verdict(&name, rule.blame, rule.name, Outcome::Reset, trigger),
            );
        }
        sink.rollout(&summary(&name, Ktime(n)));
        sink.propagation(&removal(&name, Some(5.0)));
    }
    let there = series(&metrics.text().unwrap());
    assert!((1_000..2_000).contains(&there), "{there}");
}
