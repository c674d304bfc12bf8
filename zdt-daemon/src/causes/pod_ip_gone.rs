//! A4: new connections to a pod whose network had been removed.

use super::{
    Rule, Sample, Setting, fix,
    pre_stop::pre_stop_sleep,
    sample::{quantile, say_ms, sorted},
};
use crate::{
    correlate::{Case, Phase},
    verdict::{Blame, Finding, Measure, Outcome},
};

/// Between the last process of the sandbox and the last packet that its network answers: a SYN that was on its way may
/// still be answered. Measured: 30 ms (kubelet's SIGKILL to the pause process at +50 ms, silence from +50 to +80 ms).
pub(super) const TEARDOWN_MS: u64 = 50;

pub static RULE: Rule = Rule {
    name: "pod-ip-gone",
    id: "A4",
    blame: Blame::Rollout,
    what: "the node still sent new connections to a pod whose network had been removed: silence until the client gave up, \
           or host unreachable",
    told_by: "the node's translation chose the address of a pod whose sandbox had ended by then, and nothing answered. \
              Not a RST (the network is alive), not a living pod (overload, policy).",
    remedy: "lifecycle.preStop.sleep.seconds, long enough for the slowest consumer to drop the endpoint; a connect \
             timeout of 1 to 3 s with a retry in the client",
    fix: Some(fix::PRE_STOP),
    needs: &["inet_sock_set_state", "tcp_retransmit_skb", "sched_process_exit"],
    judge,
    summarise,
    advise: pre_stop_sleep,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    if case.phase != Phase::Connect || !matches!(case.outcome, Outcome::TimedOut | Outcome::Unreachable) {
        return None;
    }
    let server = case.server?;
    if case.flow.server_reset.is_some() || case.flow.translated().is_some_and(|t| t.replied) {
        return None;
    }
    // No service leads to this port: what a pod of another node does with it is not known here (port-never-served).
    if case.target.pod.is_none() && !case.endpoints.is_endpoint(server) {
        return None;
    }
    // An old entry of conntrack did it, not the rules; or nobody can tell.
    if case.routed_when_begun() == Some(false) || case.rules_changed_while_beginning() {
        return None;
    }
    let deleted = case.deletion_seen().filter(|d| *d <= case.ended)?;
    // On the pod's node its end is seen; elsewhere the slice's removal is the latest sign of it.
    let down = match case.target.pod {
        Some(pod) => pod.network_down()?,
        None => case.target.endpoint.and_then(|e| e.removed)?,
    };
    let began = case.flow.began;
    if began.plus_ms(TEARDOWN_MS) < down && case.target.pod.is_some() {
        return None;
    }
    let stopped = case
        .target
        .pod
        .and_then(|p| p.listener_closed(server.port(), case.ended))
        .and_then(|l| l.closed)
        .map_or(down, |closed| closed.min(down));

    let routed = began.ms_since(deleted);
    let because = format!(
        "no answer: node {} sent the connection to {} of {} {} after the deletion, {} after its network ended",
        case.node,
        server,
        case.pod_name(),
        say_ms(routed),
        say_ms(began.ms_since(down).max(0.0)),
    );
    let mut evidence = vec![
        case.evidence(deleted, "deletion of the pod seen"),
        case.evidence(
            down,
            "last process of the pod's sandbox ended, its network is removed",
        ),
        case.evidence(began, format!("first SYN from {}", case.flow.client())),
    ];
    if case.flow.translated().is_some_and(|t| t.reply.is_some()) {
        let dialled = case.flow.dialled().map(|d| d.to_string()).unwrap_or_default();
        evidence.push(case.evidence(
            began,
            format!("conntrack: {dialled} translated to {server}, UNREPLIED"),
        ));
    }
    if let Some(lost) = &case.flow.seldom().lost_reset {
        evidence.push(case.evidence(lost.at, "RST to the SYN, lost: the network was being removed"));
    }
    evidence.extend(
        case.rules_dropped()
            .map(|at| case.evidence(at, format!("rules of node {} let go of {server}", case.node))),
    );
    evidence.push(case.evidence(
        case.ended,
        format!(
            "{} after {} SYN retransmits",
            case.outcome, case.flow.syn_retransmits
        ),
    ));
    let measures = vec![
        (Measure::StoppedServingAfterDeletion, stopped.ms_since(deleted)),
        (Measure::RoutedAfterDeletion, routed),
    ];
    Some(Finding {
        because,
        evidence,
        measures,
    })
}

fn summarise(samples: &[&Sample], setting: &Setting) -> String {
    let routed = sorted(samples, Measure::RoutedAfterDeletion);
    let (Some(p50), Some(p99)) = (quantile(&routed, 0.5), quantile(&routed, 0.99)) else {
        return "new connections after the pod's network was removed".to_owned();
    };
    let mut pods: Vec<&str> = samples.iter().map(|s| s.pod.as_str()).collect();
    pods.sort_unstable();
    pods.dedup();
    let whom = match pods.as_slice() {
        [one] => (*one).to_owned(),
        many => format!("{} pods", many.len()),
    };
    format!(
        "new connections to {whom} after their network was removed; node {} kept routing for {} (p99 {})",
        setting.node,
        say_ms(p50),
        say_ms(p99),
    )
}
