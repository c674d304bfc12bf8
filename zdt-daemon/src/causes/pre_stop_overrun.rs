//! B3: preStop used up the grace period, and SIGKILL cut what the application was still answering.

use super::{
    Rule, Sample, Setting,
    cut::{self, unanswered},
    fix,
    sample::{quantile, say_ms, sorted},
};
use crate::{
    correlate::Case,
    verdict::{Advice, Blame, Finding, Measure},
};

/// What the kubelet leaves the application when preStop took all of the grace: 2 s (pkg/kubelet/kuberuntime,
/// minimumGracePeriodInSeconds), and half a second for the runtime.
const LEFT_MS: f64 = 2_500.0;

/// Grace counts in whole seconds from the API server's sight of the deletion.
const ROUNDED_MS: f64 = 1_500.0;

pub static RULE: Rule = Rule {
    name: "pre-stop-overrun",
    id: "B3",
    blame: Blame::Rollout,
    what: "the preStop hook took (nearly) all of the grace period: the application got SIGTERM and 2 s later SIGKILL, with \
           requests unanswered",
    told_by: "a preStop hook is set, SIGTERM came when the grace was all but over, and the runtime's SIGKILL at most 2.5 s \
              behind it cut the connection. Without preStop, or with time left after it, the grace itself is too short \
              (grace-period-exceeded).",
    remedy: "terminationGracePeriodSeconds above preStop plus the longest request: the hook's time counts against the grace",
    fix: Some(fix::GRACE),
    needs: &["inet_sock_set_state", "signal_generate"],
    judge,
    summarise,
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let cut = cut::cut(case)?;
    let container = case.serving_container()?;
    let pod = case.target.pod?;
    let hook = pod.state.containers.iter().find_map(|c| c.pre_stop.as_deref())?;
    let since = pod.end_began();
    let killed = container.killed(since, cut)?;
    let asked = container.asked_to_stop(since, killed.at)?;
    let deleted = pod.deletion_seen.filter(|d| *d <= asked.at)?;
    let grace_ms = pod.deletion.map_or(0.0, |d| d.grace_s as f64 * 1_000.0);
    let left = killed.at.ms_since(asked.at);
    let hook_took = asked.at.ms_since(deleted);
    if left > LEFT_MS || hook_took + ROUNDED_MS < grace_ms {
        return None;
    }
    let because = format!(
        "request cut by SIGKILL {} after SIGTERM in {}: preStop ({hook}) had taken {} of a grace of {:.0} s",
        say_ms(left),
        case.pod_name(),
        say_ms(hook_took),
        grace_ms / 1_000.0,
    );
    let evidence = vec![
        case.evidence(deleted, "deletion of the pod seen"),
        case.evidence(
            asked.at,
            format!("signal {} from {}", asked.sig, asked.sender_comm),
        ),
        case.evidence(killed.at, format!("SIGKILL from {}", killed.sender_comm)),
        case.evidence(cut, unanswered(case)),
    ];
    let measures = vec![
        (Measure::KillAfterTerm, left),
        (Measure::RequestUnfinishedFor, cut.ms_since(case.flow.began)),
    ];
    Some(Finding {
        because,
        evidence,
        measures,
    })
}

fn summarise(samples: &[&Sample], setting: &Setting) -> String {
    let left = quantile(&sorted(samples, Measure::KillAfterTerm), 0.5).map_or_else(String::new, say_ms);
    format!(
        "request cut by SIGKILL {left} after SIGTERM: preStop had used up the grace ({} s)",
        setting.grace_s
    )
}

fn advise(samples: &[&Sample], setting: &Setting) -> Option<Advice> {
    samples.first()?;
    Some(Advice {
        setting: "terminationGracePeriodSeconds: raise it above preStop plus the longest request".to_owned(),
        value: None,
        because: format!(
            "preStop's time counts against the grace ({} s) and used it up",
            setting.grace_s
        ),
        prevents: 0,
    })
}
