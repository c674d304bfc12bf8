//! B1: the process ended on its stop signal with requests unanswered.

use super::{
    Rule, Sample, Setting,
    cut::{cut, sent},
    fix,
    sample::{quantile, say_ms, sorted},
};
use crate::{
    correlate::Case,
    verdict::{Advice, Blame, Finding, Measure},
};

pub static RULE: Rule = Rule {
    name: "immediate-exit",
    id: "B1",
    blame: Blame::Rollout,
    what: "the application ended (or closed its connections) on its stop signal with requests unanswered",
    told_by: "the server's socket ended with a request in and no answer out, or with less of it out than its head had promised, after the stop signal and without a \
              SIGKILL. A request that had been read ends in a FIN, one that had not in a RST (TCP_ABORT_ON_CLOSE). Not \
              a kill at the end of the grace, not a crash (nobody asked it to stop), not a client that left first.",
    remedy: "handle SIGTERM: finish requests in flight before exit; declare the right STOPSIGNAL; exec-form ENTRYPOINT so \
             that PID 1 gets the signal",
    fix: Some(fix::STOP_SIGNAL),
    needs: &["inet_sock_set_state", "tcp_send_reset", "signal_generate"],
    judge,
    summarise,
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let at = cut(case)?;
    let end = case.flow.server_end.as_ref();
    let reset = case.flow.server_reset.as_ref().filter(|r| r.has_socket);
    let container = case.serving_container()?;
    let pod = case.target.pod?;
    let since = pod.end_began();
    if container.killed(since, at).is_some() || container.oom.is_some_and(|o| o <= at) {
        return None;
    }
    let asked = container.asked_to_stop(since, at)?;
    // Asked to stop without a deletion: its kubelet restarts it, another cause.
    let deleted = pod.deletion_seen.filter(|_| pod.ending_at(at))?;
    // An end when the grace is over is a SIGKILL's, even when that signal was not seen.
    let grace_ms = pod.deletion.map_or(f64::INFINITY, |d| d.grace_s as f64 * 1_000.0);
    if at.ms_since(deleted) >= grace_ms && grace_ms > 0.0 {
        return None;
    }
    let exiting = end.is_some_and(|e| e.exiting);
    let after = at.ms_since(asked.at);
    let how = match (reset, exiting) {
        (Some(_), _) if case.flow.closed_before_any_answer() => "before its first request came (FIN)",
        (Some(_), _) => "with the request unread (RST)",
        (None, true) => "with the request read (FIN)",
        (None, false) => "which it closed itself (FIN)",
    };
    let because = format!(
        "request cut: {} ended the connection {} after SIGTERM {how}, {}",
        case.pod_name(),
        say_ms(after),
        sent(case),
    );
    let mut evidence = vec![case.evidence(deleted, "deletion of the pod seen")];
    evidence.push(case.evidence(
        asked.at,
        format!("signal {} from {}", asked.sig, asked.sender_comm),
    ));
    if let Some(exit) = container.exits.iter().find(|e| e.at >= asked.at) {
        evidence.push(case.evidence(exit.at, format!("process {} ({}) exits", exit.tgid, exit.comm)));
    }
    if let Some(end) = end {
        let text = format!(
            "connection ends: {} bytes in, {} bytes out",
            end.received(),
            end.tcp.bytes_sent
        );
        evidence.push(case.evidence(end.at, text));
    }
    if let Some(reset) = reset {
        let reason = reset.reason.as_deref().unwrap_or("no reason given");
        evidence.push(case.evidence(reset.at, format!("RST sent, {reason}")));
    }
    Some(Finding {
        because,
        evidence,
        measures: vec![(Measure::ExitAfterTerm, after)],
    })
}

fn summarise(samples: &[&Sample], _: &Setting) -> String {
    match quantile(&sorted(samples, Measure::ExitAfterTerm), 0.5) {
        Some(after) => format!(
            "request cut {} after SIGTERM, not answered or not wholly",
            say_ms(after)
        ),
        None => "request cut after SIGTERM, not answered or not wholly".to_owned(),
    }
}

fn advise(samples: &[&Sample], _: &Setting) -> Option<Advice> {
    let after = quantile(&sorted(samples, Measure::ExitAfterTerm), 0.5)?;
    Some(Advice {
        setting: "handle SIGTERM: finish requests in flight before exit".to_owned(),
        value: None,
        because: format!(
            "connections ended {} after SIGTERM with requests unanswered",
            say_ms(after)
        ),
        prevents: 0,
    })
}
