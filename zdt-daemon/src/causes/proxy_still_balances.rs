//! F1: who balances by itself (a proxy that dials pods, not the service) had not yet let go of the pod.

use super::{
    Rule, Sample, Setting, fix,
    pod_ip_gone::TEARDOWN_MS,
    pre_stop::pre_stop_sleep,
    sample::{quantile, say_ms, sorted},
};
use crate::{
    correlate::{Case, Phase},
    input::Ktime,
    verdict::{Advice, Blame, Evidence, Finding, Measure, Outcome},
};

pub static RULE: Rule = Rule {
    name: "proxy-still-balances",
    id: "F1",
    blame: Blame::Rollout,
    what: "a client that dials pods itself, as ingress controllers and gateways do, still chose a pod after the endpoint slice \
           had said that it is to go, and found its listener closed or its network gone",
    told_by: "the client's socket, on this node, dialled the pod's own address, so that no rule of the node chose it (as in \
              endpoint-removal-race and pod-ip-gone), and its SYN came after the slice's update. Where the slice was late \
              itself, or the pod lives and refuses nobody, it is not the client's list. Clients of other nodes show only in \
              what they do not get an answer to.",
    remedy: "lifecycle.preStop.sleep.seconds above what the proxy takes to follow the slice; or let it dial the service's \
             cluster address; a short connect timeout with a retry to another endpoint",
    fix: Some(fix::PRE_STOP),
    needs: &[
        "inet_sock_set_state",
        "tcp_send_reset",
        "sched_process_exit",
        "tcp_send_reset/no_socket",
    ],
    judge,
    summarise,
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let server = case.server?;
    // What its own socket dialled: behind another node's translation a connection looks the same from here.
    let dialled = case.flow.dialled().filter(|_| case.flow.client_end.is_some());
    let untranslated = dialled == Some(server) && !case.translated_to_a_pod();
    if case.phase != Phase::Connect || !untranslated || case.client_is_node() {
        return None;
    }
    // A port that no slice has was never the pod's to be balanced to (port-never-served).
    let endpoint = case
        .target
        .endpoint
        .filter(|_| case.endpoints.is_endpoint(server))?;
    let left = [endpoint.terminating, endpoint.removed]
        .into_iter()
        .flatten()
        .min()?;
    let began = case.flow.began;
    // When it began is not known to the moment where only a late drop tells of it.
    if began.minus_ms(case.flow.began_within_ms) < left {
        return None;
    }
    let (stopped, mut evidence) = match case.outcome {
        Outcome::Refused => refused(case)?,
        Outcome::TimedOut | Outcome::Unreachable => silent(case)?,
        _ => return None,
    };
    let deleted = case.deletion_seen()?;
    let lag = began.ms_since(left);
    let client = case.client_name();
    evidence.extend([
        case.evidence(deleted, "deletion of the pod seen"),
        case.evidence(left, "the endpoint slice said that it is to go"),
        case.evidence(began, format!("{client} dialled {server} itself")),
    ]);
    evidence.sort_by_key(|e| e.at);
    let got = match case.outcome {
        Outcome::Refused => "was refused",
        _ => "got no answer",
    };
    Some(Finding {
        because: format!(
            "{client} dialled {} itself {} after the endpoint slice had let go of it, and {got}",
            case.pod_name(),
            say_ms(lag),
        ),
        evidence,
        measures: vec![
            (Measure::StoppedServingAfterDeletion, stopped.ms_since(deleted)),
            (Measure::RoutedAfterDeletion, began.ms_since(deleted)),
            (Measure::DialledAfterSlice, lag),
        ],
    })
}

/// Since when nobody listened, and the proof.
fn refused(case: &Case<'_>) -> Option<(Ktime, Vec<Evidence>)> {
    let reset = case.flow.server_reset.as_ref();
    let reset = reset.filter(|r| r.to_syn && !r.has_socket)?;
    let pod = case.target.pod?;
    let listener = pod.listener_closed(case.server?.port(), reset.at)?;
    let closed = listener.closed?;
    let reason = reset.reason.as_deref().unwrap_or("no reason given");
    let evidence = vec![
        case.evidence(closed, format!("listener {} closed", listener.local)),
        case.evidence(reset.at, format!("RST to the SYN, {reason}")),
    ];
    pod.ending_at(reset.at).then_some((closed, evidence))
}

/// Since when nothing answered on its address, and the proof. On the pod's node its end is seen; elsewhere the slice's
/// removal is the latest sign of it.
fn silent(case: &Case<'_>) -> Option<(Ktime, Vec<Evidence>)> {
    if case.flow.server_reset.is_some() || case.flow.translated().is_some_and(|t| t.replied) {
        return None;
    }
    let down = match case.target.pod {
        Some(pod) => pod.network_down()?,
        None => case.target.endpoint?.removed?,
    };
    // A living pod that is silent is another matter.
    if down > case.ended || (case.target.pod.is_some() && case.flow.began.plus_ms(TEARDOWN_MS) < down) {
        return None;
    }
    let stopped = case.target.pod.and_then(|pod| {
        let listener = pod.listener_closed(case.server?.port(), case.ended)?;
        listener.closed.map(|closed| closed.min(down))
    });
    let evidence = vec![
        case.evidence(down, "the pod's network ended"),
        case.evidence(
            case.ended,
            format!(
                "{} after {} SYN retransmits",
                case.outcome, case.flow.syn_retransmits
            ),
        ),
    ];
    Some((stopped.unwrap_or(down), evidence))
}

fn summarise(samples: &[&Sample], _: &Setting) -> String {
    let lag = sorted(samples, Measure::DialledAfterSlice);
    let (Some(p50), Some(longest)) = (quantile(&lag, 0.5), lag.last()) else {
        return "new connections of a proxy that dials pods itself".to_owned();
    };
    format!(
        "a proxy dialled the pod itself {} (at most {}) after the endpoint slice had let go of it",
        say_ms(p50),
        say_ms(*longest)
    )
}

/// The preStop sleep that covers the proxy's lag, and the node's rules where they were later.
fn advise(samples: &[&Sample], setting: &Setting) -> Option<Advice> {
    let longest = sorted(samples, Measure::RoutedAfterDeletion).last().copied()?;
    let rules_are_later = setting.dropped_ms.iter().any(|ms| *ms > longest);
    let own = Setting {
        dropped_ms: if rules_are_later {
            setting.dropped_ms.clone()
        } else {
            Vec::new()
        },
        ..setting.clone()
    };
    let mut advice = pre_stop_sleep(samples, &own)?;
    let lag = sorted(samples, Measure::DialledAfterSlice).last().copied()?;
    advice.because = format!(
        "the proxy still dialled a pod {} after the endpoint slice had let go of it; {}; or let the proxy dial the service",
        say_ms(lag),
        advice.because
    );
    Some(advice)
}
