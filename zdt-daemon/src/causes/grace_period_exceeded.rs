//! B2: SIGKILL at the end of the grace period cut requests.

use super::{
    Rule, Sample, Setting,
    cut::{cut, unanswered},
    fix, pre_stop,
    sample::{quantile, say_ms, sorted},
};
use crate::{
    correlate::Case,
    verdict::{Advice, Blame, Finding, Measure},
};

/// The kubelet counts the grace from its own sight of the deletion and in whole seconds, and grants 2 s once when
/// preStop overran (pod-lifecycle): a kill this much before the grace's end is another matter.
const EARLY_MS: f64 = 1_500.0;

pub static RULE: Rule = Rule {
    name: "grace-period-exceeded",
    id: "B2",
    blame: Blame::Rollout,
    what: "the container was still at work when its grace period ended, and SIGKILL cut its requests",
    told_by: "the runtime's SIGKILL (code 0) came after the stop signal, when the grace was over, and the server's socket \
              ended after it with a request unanswered. Not the out-of-memory killer (mark_victim, code 128), not the \
              SIGKILL for the sandbox, which is another container.",
    remedy: "terminationGracePeriodSeconds above preStop plus the longest request; an application that ignores SIGTERM must \
             handle it",
    fix: Some(fix::GRACE),
    needs: &["inet_sock_set_state", "signal_generate"],
    judge,
    summarise,
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let at = cut(case)?;
    let container = case.serving_container()?;
    if container.oom.is_some_and(|o| o <= at) {
        return None;
    }
    let pod = case.target.pod?;
    let since = pod.end_began();
    let killed = container.killed(since, at)?;
    let deleted = pod.deletion_seen.filter(|d| *d <= killed.at)?;
    let grace_ms = pod.deletion.map_or(0.0, |d| d.grace_s as f64 * 1_000.0);
    let after_deletion = killed.at.ms_since(deleted);
    if after_deletion + EARLY_MS < grace_ms {
        return None;
    }
    let asked = container.asked_to_stop(since, killed.at);
    // preStop may have used up the grace: without SIGTERM's time that cannot be told.
    let hook = pod.state.containers.iter().any(|c| c.pre_stop.is_some());
    if hook && asked.is_none() {
        return None;
    }
    let port = case.server?.port();
    let closed = pod
        .listener_closed(port, killed.at)
        .and_then(|l| l.closed)
        .filter(|c| *c < killed.at);
    let drained = closed.is_some();
    // Discarded when it was sent: PID 1 of a pid namespace gets no signal that it has no handler for (pid_namespaces(7)).
    let discarded = asked.is_some_and(|a| !a.delivered);
    let why = match (drained, discarded) {
        (true, _) => "it had stopped accepting, and was still answering",
        (false, true) => {
            "it was still accepting: the kernel discarded SIGTERM, which its first process does not handle"
        }
        (false, false) => "it was still accepting: it ignores SIGTERM",
    };
    let because = format!(
        "request cut by SIGKILL {} after the deletion (grace {:.0} s) in {}; {why}",
        say_ms(after_deletion),
        grace_ms / 1_000.0,
        case.pod_name(),
    );
    let mut evidence = vec![case.evidence(deleted, "deletion of the pod seen")];
    if let Some(asked) = asked {
        evidence.push(case.evidence(
            asked.at,
            format!("signal {} from {}", asked.sig, asked.sender_comm),
        ));
    }
    evidence.push(case.evidence(killed.at, format!("SIGKILL from {}", killed.sender_comm)));
    evidence.push(case.evidence(at, unanswered(case)));
    let mut measures = vec![(
        Measure::KillAfterTerm,
        killed.at.ms_since(asked.map_or(deleted, |a| a.at)),
    )];
    if let Some(closed) = closed {
        // Only a server that drains would have been saved by a longer grace. What it accepted, it accepted before.
        let began = case.flow.began.min(closed);
        measures.push((Measure::RequestUnfinishedFor, at.ms_since(began)));
    }
    Some(Finding {
        because,
        evidence,
        measures,
    })
}

fn summarise(samples: &[&Sample], setting: &Setting) -> String {
    let killed = quantile(&sorted(samples, Measure::KillAfterTerm), 0.5).map_or_else(String::new, say_ms);
    format!(
        "request cut by SIGKILL {killed} after SIGTERM (grace {} s)",
        setting.grace_s
    )
}

fn advise(samples: &[&Sample], setting: &Setting) -> Option<Advice> {
    samples.first()?;
    let unfinished = sorted(samples, Measure::RequestUnfinishedFor);
    if unfinished.is_empty() {
        return Some(Advice {
            setting: "handle SIGTERM: stop accepting, finish requests in flight, exit".to_owned(),
            value: None,
            because: "the application kept accepting until SIGKILL".to_owned(),
            prevents: 0,
        });
    }
    // It was cut, so it takes longer than it was seen to.
    let longest = unfinished.last().copied().unwrap_or(0.0);
    let grace = u64::try_from(setting.grace_s).unwrap_or(0);
    let value = pre_stop::grace_seconds(setting, longest).max(grace + 1);
    Some(Advice {
        setting: "terminationGracePeriodSeconds".to_owned(),
        value: Some(value).filter(|_| setting.known),
        because: format!(
            "at least: preStop {} s, the longest request had been running for {} when SIGKILL cut it and was not finished \
             ({} samples), margin {}; now it is {grace} s",
            setting.pre_stop_s.unwrap_or(0),
            say_ms(longest),
            unfinished.len(),
            say_ms(pre_stop::MARGIN_MS),
        ),
        prevents: 0,
    })
}
