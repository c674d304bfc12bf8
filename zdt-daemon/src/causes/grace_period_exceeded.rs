//! B2: SIGKILL at the end of the grace period cut requests.

use super::{
    Rule, Sample, Setting,
    sample::{quantile, say_ms, sorted},
};
use crate::{
    correlate::{Case, Phase},
    input::Side,
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
    needs: &["inet_sock_set_state", "signal_generate"],
    judge,
    summarise,
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    if case.phase != Phase::Established || case.ended_by != Some(Side::Server) {
        return None;
    }
    let end = case.flow.server_end.as_ref().map(|e| e.at);
    let reset = case
        .flow
        .server_reset
        .as_ref()
        .filter(|r| r.has_socket)
        .map(|r| r.at);
    let at = [end, reset].into_iter().flatten().min()?;
    // What the kernel reset in the accept queue, no application had.
    if !case.flow.cut_by_server() {
        return None;
    }
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
    let port = case.server?.port();
    let drained = pod
        .listener_closed(port, killed.at)
        .and_then(|l| l.closed)
        .is_some_and(|c| c < killed.at);
    let why = if drained {
        "it had stopped accepting, and was still answering"
    } else {
        "it was still accepting: it ignores SIGTERM"
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
    evidence.push(case.evidence(at, "connection ends with the request unanswered"));
    let mut measures = vec![(
        Measure::KillAfterTerm,
        killed.at.ms_since(asked.map_or(deleted, |a| a.at)),
    )];
    if drained {
        // Only a server that drains would have been saved by a longer grace.
        measures.push((Measure::RequestUnfinishedFor, at.ms_since(case.flow.began)));
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
    Some(Advice {
        setting: "terminationGracePeriodSeconds: raise it above preStop plus the longest request".to_owned(),
        value: None,
        because: format!(
            "the grace is {} s, and requests were unanswered when it ended",
            setting.grace_s
        ),
        prevents: 0,
    })
}
