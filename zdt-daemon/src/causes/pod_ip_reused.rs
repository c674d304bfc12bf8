//! A7: the address of a dead pod had a new owner by the time a connection came that was meant for the dead one.

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
    name: "pod-ip-reused",
    id: "A7",
    blame: Blame::Rollout,
    what: "a connection that was meant for a pod that was gone came to another pod, which had got its address, and was refused",
    told_by: "a RST answered the SYN after the network of the pod that the endpoint slices meant had ended, and the API has given \
              its address to another pod since. The new owner's own ports say nothing about this (wrong-port, \
              traffic-before-listening: there the connection is meant for the pod that refuses it). A pod that serves the same \
              port answers instead: no failure that a connection shows.",
    remedy: "lifecycle.preStop.sleep.seconds, so that the rules let go of a pod before its address is free; an IPAM that gives \
             no address again for two minutes (the life of an unanswered conntrack entry)",
    fix: Some(fix::PRE_STOP),
    needs: &[
        "inet_sock_set_state",
        "tcp_send_reset",
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
    let server = case.server?;
    let (meant, heir) = (case.target.pod?, case.target.heir?);
    let down = meant.network_down().filter(|down| *down <= reset.at)?;
    let deleted = case.deletion_seen()?;
    // One kernel may carry several clusters with the same addresses.
    if heir
        .netns
        .is_some_and(|netns| reset.netns.0 != 0 && netns != reset.netns)
    {
        return None;
    }
    let began = case.flow.began;
    let routed = began.ms_since(deleted);
    let because = format!(
        "SYN refused by {}, which had got the address of {}: node {} still sent it to {} {} after the deletion",
        heir.state.pod.name,
        case.pod_name(),
        case.node,
        server.ip(),
        say_ms(routed.max(0.0)),
    );
    let reason = reset.reason.as_deref().unwrap_or("no reason given");
    let mut evidence = vec![
        case.evidence(deleted, "deletion of the pod seen"),
        case.evidence(down, "the end of the pod's sandbox, and with it of its network"),
        case.evidence(
            heir.first_seen,
            format!("{} was made, which got {}", heir.state.pod, server.ip()),
        ),
        case.evidence(began, format!("SYN from {}", case.flow.client_as_seen())),
        case.evidence(reset.at, format!("RST to the SYN, {reason}")),
    ];
    let dropped = case.rules_dropped();
    evidence.extend(
        dropped.map(|at| case.evidence(at, format!("rules of node {} let go of {server}", case.node))),
    );
    evidence.sort_by_key(|e| e.at);
    Some(Finding {
        because,
        evidence,
        measures: vec![
            (Measure::StoppedServingAfterDeletion, down.ms_since(deleted)),
            (Measure::RoutedAfterDeletion, routed),
        ],
    })
}

fn summarise(samples: &[&Sample], setting: &Setting) -> String {
    let routed = sorted(samples, Measure::RoutedAfterDeletion);
    let (Some(p50), Some(p99)) = (quantile(&routed, 0.5), quantile(&routed, 0.99)) else {
        return "refused by a pod that had got the address of one that was gone".to_owned();
    };
    format!(
        "refused by a pod that had got the address of one that was gone; node {} kept routing for {} (p99 {})",
        setting.node,
        say_ms(p50),
        say_ms(p99)
    )
}
