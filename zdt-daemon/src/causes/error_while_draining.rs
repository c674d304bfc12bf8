//! B7: a terminating pod answered with an error.

use super::{
    Rule, Sample, Setting, fix,
    sample::{quantile, say_ms, sorted},
};
use crate::{
    correlate::Case,
    verdict::{Advice, Blame, Finding, Measure},
};

pub static RULE: Rule = Rule {
    name: "error-while-draining",
    id: "B7",
    blame: Blame::Rollout,
    what: "a pod that had been told to stop answered a request with a status of 500 or more, instead of serving on until \
           nobody asked any more",
    told_by: "the answer's own status line, sent from a pod that is deleted, after the stop signal (or a preStop hook) had reached a \
              container of it. Not a pod that answers with errors anyway: one that did so between its deletion and the \
              signal is left out, and so is every pod that lives. Not a probe of the kubelet, which conntrack tells from a \
              masqueraded client. Only HTTP/1 in plain text can be read.",
    remedy: "on SIGTERM serve on as before, and shut down in this order: stop taking in, finish what is in flight, then close what \
             it needs (database, caches); a preStop sleep until nobody sends any more",
    fix: Some(fix::PRE_STOP),
    needs: &["cgroup_skb_egress", "cgroup_skb_ingress", "signal_generate"],
    judge,
    summarise,
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let answer = case.flow.served_error()?;
    // The node's own address may be a masquerade, or a probe's.
    if case.client_is_node() && case.flow.translated().is_none() {
        return None;
    }
    let pod = case.target.pod?;
    let deleted = pod.deletion_seen.filter(|_| pod.errs_because_told(answer.at))?;
    // A proxy beside the application may be stopped last, and errs because that is gone.
    let asked = case
        .serving_container()
        .and_then(|c| c.asked_to_stop(pod.end_began(), answer.at))
        .or_else(|| pod.asked_to_stop(answer.at));
    let (told, by) = match asked {
        Some(asked) => (
            asked.at,
            format!("signal {} from {}", asked.sig, asked.sender_comm),
        ),
        None => (deleted, "deletion, told by its preStop hook".to_owned()),
    };
    let after = answer.at.ms_since(told);
    let mut evidence = vec![case.evidence(deleted, "deletion of the pod seen")];
    if asked.is_some() {
        evidence.push(case.evidence(told, by.as_str()));
    }
    let text = format!("answer with status {}", answer.status);
    evidence.push(case.evidence(answer.at, text));
    Some(Finding {
        because: format!(
            "{} answered with status {} {} after {by}",
            case.pod_name(),
            answer.status,
            say_ms(after)
        ),
        evidence,
        measures: vec![(Measure::ErrorAfterTold, after)],
    })
}

fn summarise(samples: &[&Sample], _: &Setting) -> String {
    match sorted(samples, Measure::ErrorAfterTold).last() {
        Some(last) => format!(
            "answered with errors for {} after it was told to stop",
            say_ms(*last)
        ),
        None => "answered with errors after it was told to stop".to_owned(),
    }
}

fn advise(samples: &[&Sample], _: &Setting) -> Option<Advice> {
    let after = sorted(samples, Measure::ErrorAfterTold);
    let (first, last) = (quantile(&after, 0.0)?, after.last()?);
    Some(Advice {
        setting: "on SIGTERM serve on: answer requests as before until nobody sends any more".to_owned(),
        value: None,
        because: format!(
            "answers with errors came {} to {} after the stop signal",
            say_ms(first),
            say_ms(*last)
        ),
        prevents: 0,
    })
}
