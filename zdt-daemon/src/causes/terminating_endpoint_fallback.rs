//! D9: no endpoint was ready, so the rules sent new connections to a terminating one, by design; it served no more.

use super::{
    Rule, Sample, Setting, fix,
    sample::{quantile, say_ms, sorted},
};
use crate::{
    correlate::{Case, Phase, Policy},
    verdict::{Advice, Blame, Finding, Measure, Outcome},
};

pub static RULE: Rule = Rule {
    name: "terminating-endpoint-fallback",
    id: "D9",
    blame: Blame::Rollout,
    what: "every endpoint of the service was terminating, so that new connections went to one of them, which had closed \
           its listener or was gone",
    told_by: "when the connection began the slices had no ready endpoint, and this one as serving and terminating: that is \
              what the rules then choose (KEP-1669). Slices and rules agree, so it is no node that is late: with a ready \
              endpoint in the slices it is endpoint-removal-race or pod-ip-gone.",
    remedy: "strategy.rollingUpdate with maxUnavailable 0 and maxSurge 1 or more, so that a new pod is Ready first; in the \
             application: go on serving after SIGTERM, or fail the readiness probe at once",
    fix: Some(fix::NO_GAP),
    needs: &[
        "inet_sock_set_state",
        "tcp_send_reset",
        "signal_generate",
        "tcp_send_reset/no_socket",
    ],
    judge,
    summarise,
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    if case.phase != Phase::Connect {
        return None;
    }
    let flow = case.flow;
    let server = case.server?;
    let began = flow.began;
    let dialled = case.dialled()?;
    if !case.choice_when_begun(Policy::Cluster)?.only_terminating() {
        return None;
    }
    // The slices name this one, and the rules do not say otherwise.
    let mut behind = case.endpoints.behind(&dialled);
    let (_, endpoint) = behind.find(|(addr, e)| *addr == server && e.falls_back(began))?;
    if case.routed_when_begun() == Some(false) {
        return None;
    }
    let deleted = case.deletion_seen().filter(|d| *d <= case.ended)?;
    let pod = case.target.pod?;
    let last_ready = case.endpoints.last_ready(&dialled, began)?;

    let reset = flow.server_reset.as_ref().filter(|r| r.to_syn && !r.has_socket);
    let closed = pod
        .listener_closed(server.port(), case.ended)
        .and_then(|l| Some((l.closed?, l.local)));
    let (stopped, what, how) = match (case.outcome, reset, closed) {
        (Outcome::Refused, Some(reset), Some((closed, local))) if closed <= reset.at => {
            pod.asked_to_stop(closed)?;
            (
                closed,
                format!("listener {local} closed"),
                "had closed its listener",
            )
        }
        (Outcome::TimedOut | Outcome::Unreachable, None, _)
            if flow.translated().is_some_and(|t| !t.replied) =>
        {
            let down = pod.network_down()?;
            if began < down {
                return None;
            }
            let what = "last process of the pod's sandbox ended, its network is removed";
            (down, what.to_owned(), "was gone")
        }
        _ => return None,
    };
    let service = dialled.service;
    let because = format!(
        "{} of {service} {how}, and was chosen because no endpoint was ready: the last had ceased to be {} before",
        case.pod_name(),
        say_ms(began.ms_since(last_ready)),
    );
    let mut evidence = vec![
        case.evidence(deleted, "deletion of the pod seen"),
        case.evidence(
            last_ready,
            format!("slices of {service} have no ready endpoint any more"),
        ),
        case.evidence(stopped, what),
        case.evidence(
            began,
            format!("SYN from {}, sent to {server}", flow.client_as_seen()),
        ),
    ];
    if let Some(terminating) = endpoint.terminating {
        evidence.push(case.evidence(terminating, "slices say: serving and terminating"));
    }
    let end = match reset {
        Some(reset) => {
            let reason = reset.reason.as_deref().unwrap_or("no reason given");
            case.evidence(reset.at, format!("RST to the SYN, {reason}"))
        }
        None => case.evidence(
            case.ended,
            format!("{} after {} SYN retransmits", case.outcome, flow.syn_retransmits),
        ),
    };
    evidence.push(end);
    evidence.sort_by_key(|e| e.at);
    Some(Finding {
        because,
        evidence,
        measures: vec![
            (Measure::WithoutEndpoint, began.ms_since(last_ready)),
            (Measure::StoppedServingAfterDeletion, stopped.ms_since(deleted)),
        ],
    })
}

fn summarise(samples: &[&Sample], _: &Setting) -> String {
    let without = quantile(&sorted(samples, Measure::WithoutEndpoint), 0.5);
    let without = without.map_or_else(String::new, |ms| format!(" (for {})", say_ms(ms)));
    format!("no endpoint was ready{without}: sent to a terminating pod, by design, which served no more")
}

fn advise(samples: &[&Sample], setting: &Setting) -> Option<Advice> {
    samples.first()?;
    Some(Advice {
        setting: "keep an endpoint Ready throughout: maxUnavailable: 0 with maxSurge: 1 or more, and no scaling to 0"
            .to_owned(),
        value: None,
        because: format!(
            "all endpoints were terminating, and node {} had no other to choose",
            setting.node
        ),
        prevents: 0,
    })
}
