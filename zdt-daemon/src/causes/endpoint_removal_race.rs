//! A1: the pod closed its listener before its endpoint was out of every rule set.

use super::{
    Rule, Sample, Setting, fix,
    pre_stop::pre_stop_sleep,
    sample::{quantile, say_ms, sorted},
};
use crate::{
    correlate::{Case, Phase},
    verdict::{Blame, Finding, Measure, Outcome},
};

pub static RULE: Rule = Rule {
    name: "endpoint-removal-race",
    id: "A1",
    blame: Blame::Rollout,
    what: "a terminating pod closed its listener while the node still sent it new connections, which were refused",
    told_by: "the pod's kernel answered a SYN with a RST after the listener of that port had closed, and the pod was \
              asked to stop before that. Not a pod that has never listened, a crash (nobody asked it to stop), a RST \
              to an established connection, or the kubelet's probe.",
    remedy: "lifecycle.preStop.sleep.seconds, long enough for the slowest consumer to drop the endpoint; \
             terminationGracePeriodSeconds above preStop plus the longest request",
    fix: Some(fix::PRE_STOP),
    needs: &[
        "inet_sock_set_state",
        "tcp_send_reset",
        "signal_generate",
        "tcp_send_reset/no_socket",
    ],
    judge,
    summarise,
    advise: pre_stop_sleep,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    if case.phase != Phase::Connect || case.outcome != Outcome::Refused {
        return None;
    }
    let reset = case
        .flow
        .server_reset
        .as_ref()
        .filter(|r| r.to_syn && !r.has_socket)?;
    // Whether the client dialled the pod itself, its own side would tell: it is of this node.
    if case.flow.client_end.is_none() && case.client_pod.is_some() && !case.whole_since(case.flow.began) {
        return None;
    }
    let pod = case.target.pod?;
    let listener = pod.listener_closed(case.server?.port(), reset.at)?;
    let closed = listener.closed?;
    let asked = pod.asked_to_stop(closed)?;
    // A pod that is asked to stop without being deleted is restarted by its kubelet (liveness): another cause. This daemon may
    // have learned of the deletion a moment later than the kubelet.
    let deleted = pod.deletion_seen.filter(|_| pod.ending_at(reset.at))?;

    let began = case.flow.began;
    let after_term = closed.ms_since(asked.at);
    let routed = began.ms_since(deleted);
    let how = if listener.by_exit {
        "by the exit of its process"
    } else {
        "by the application"
    };
    let because = format!(
        "SYN refused: {} closed its listener {} after SIGTERM, node {} still routed to it {} after the deletion",
        case.pod_name(),
        say_ms(after_term),
        case.node,
        say_ms(routed.max(0.0)),
    );
    let mut evidence = vec![
        case.evidence(deleted, "deletion of the pod seen"),
        case.evidence(
            asked.at,
            format!("signal {} from {}", asked.sig, asked.sender_comm),
        ),
        case.evidence(closed, format!("listener {} closed {how}", listener.local)),
        case.evidence(began, format!("SYN from {}", case.flow.client_as_seen())),
        case.evidence(
            reset.at,
            format!(
                "RST to the SYN, {}",
                reset.reason.as_deref().unwrap_or("no reason given")
            ),
        ),
    ];
    evidence.extend(
        case.rules_dropped()
            .map(|at| case.evidence(at, format!("rules of node {} let go of the pod", case.node))),
    );
    let measures = vec![
        (Measure::ListenerClosedAfterTerm, after_term),
        (Measure::StoppedServingAfterDeletion, closed.ms_since(deleted)),
        (Measure::RoutedAfterDeletion, routed),
    ];
    Some(Finding {
        because,
        evidence,
        measures,
    })
}

fn summarise(samples: &[&Sample], setting: &Setting) -> String {
    let closed = sorted(samples, Measure::ListenerClosedAfterTerm);
    let routed = sorted(samples, Measure::RoutedAfterDeletion);
    let (Some(closed), Some(p50), Some(p99)) = (
        quantile(&closed, 0.5),
        quantile(&routed, 0.5),
        quantile(&routed, 0.99),
    ) else {
        return "SYN refused after the listener closed".to_owned();
    };
    format!(
        "SYN refused: listener closed {} after SIGTERM, node {} kept routing for {} (p99 {})",
        say_ms(closed),
        setting.node,
        say_ms(p50),
        say_ms(p99),
    )
}
