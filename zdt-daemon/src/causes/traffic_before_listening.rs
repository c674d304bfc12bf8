//! C1: a new pod got connections before it listened.

use super::{
    Rule, Sample, Setting, fix,
    sample::{quantile, say_ms, sorted},
    unheard::never_heard,
};
use crate::{
    correlate::Case,
    verdict::{Advice, Blame, Finding, Measure},
};

pub static RULE: Rule = Rule {
    name: "traffic-before-listening",
    id: "C1",
    blame: Blame::Rollout,
    what: "a new pod counted as Ready before its application listened: the first connections to it were refused",
    told_by: "the kernel of a living pod refused a SYN on a port on which nothing had listened since the pod was made, and \
              nothing that the kernel reported since was lost. Not a pod on its way out (endpoint-removal-race), not one \
              whose listener was there and died (crash-after-ready), not one that listens on another port instead \
              (wrong-port).",
    remedy: "a readinessProbe on the port that serves, and a startupProbe for slow starts; no publishNotReadyAddresses on \
             services that clients use",
    fix: Some(fix::READINESS),
    needs: &[
        "inet_sock_set_state",
        "tcp_send_reset",
        "tcp_send_reset/no_socket",
    ],
    judge,
    summarise,
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let (reset, pod) = never_heard(case)?;
    if !case.whole_since(pod.first_seen) {
        return None;
    }
    let port = case.server?.port();
    let opened = pod
        .listeners
        .iter()
        .filter(|l| l.local.port() == port)
        .filter_map(|l| l.opened)
        .min();
    let age = reset.at.ms_since(pod.first_seen);
    let probe = if pod.state.containers.iter().any(|c| c.readiness) {
        "its readiness probe says nothing about this port"
    } else {
        "it has no readiness probe"
    };
    let later = opened.map_or_else(
        || "does not listen yet".to_owned(),
        |o| format!("listened {} later", say_ms(o.ms_since(reset.at))),
    );
    let because = format!(
        "SYN refused: {}, {} old, {later}; {probe}",
        case.pod_name(),
        say_ms(age)
    );
    let mut evidence = vec![case.evidence(pod.first_seen, "the pod was made")];
    if let Some(endpoint) = case.target.endpoint.filter(|e| e.added <= reset.at) {
        evidence.push(case.evidence(
            endpoint.added,
            format!("in the endpoint slices of {}", endpoint.service),
        ));
    }
    let reason = reset.reason.as_deref().unwrap_or("no reason given");
    evidence.push(case.evidence(reset.at, format!("RST to the SYN, {reason}")));
    evidence.extend(opened.map(|at| case.evidence(at, format!("listener on port {port} opened"))));
    let measures = opened.map(|o| (Measure::ListeningAfterRefusal, o.ms_since(reset.at)));
    Some(Finding {
        because,
        evidence,
        measures: measures.into_iter().collect(),
    })
}

fn summarise(samples: &[&Sample], _: &Setting) -> String {
    match sorted(samples, Measure::ListeningAfterRefusal).last() {
        Some(longest) => format!(
            "SYN refused up to {} before the new pod listened",
            say_ms(*longest)
        ),
        None => "SYN refused by a new pod that did not listen yet".to_owned(),
    }
}

fn advise(samples: &[&Sample], _: &Setting) -> Option<Advice> {
    samples.first()?;
    let late = sorted(samples, Measure::ListeningAfterRefusal);
    let because = match quantile(&late, 1.0) {
        Some(longest) => format!(
            "clients were sent to new pods up to {} before these listened",
            say_ms(longest)
        ),
        None => "clients were sent to new pods that did not listen yet".to_owned(),
    };
    Some(Advice {
        setting: "readinessProbe: on the port that serves".to_owned(),
        value: None,
        because,
        prevents: 0,
    })
}
