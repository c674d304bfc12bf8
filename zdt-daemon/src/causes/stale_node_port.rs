//! D4: a client outside the cluster came through this node, whose rules still led to a gone pod of another node.

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
    name: "stale-node-port",
    id: "D4",
    blame: Blame::Rollout,
    what: "a client outside the cluster reached the service through this node, whose rules still led to a pod of another node \
           that was gone",
    told_by: "the client has no socket in the cluster, this node translated the address that it dialled, to an endpoint of \
              another node, and its rules led there when the connection began, after the slices had let go of that endpoint. \
              When the pod is this node's own it is pod-ip-gone; when the rules had let go it is stale-conntrack-entry.",
    remedy: "preStop sleep longer than the slowest node keeps routing; a load balancer that dials pods (IP targets), or checks \
             the nodes' kube-proxy on /healthz",
    fix: Some(fix::PRE_STOP),
    needs: &["net_dev_queue"],
    judge,
    summarise,
    advise: pre_stop_sleep,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let flow = case.flow;
    let silent = matches!(case.outcome, Outcome::TimedOut | Outcome::Unreachable);
    if case.phase != Phase::Connect || !silent || !flow.outside || case.any_reset() {
        return None;
    }
    let server = case.server?;
    let dialled = case.dialled()?;
    let endpoint = case.target.endpoint.filter(|_| case.target.pod.is_none())?;
    let other = endpoint.node.as_deref().filter(|node| *node != case.node)?;
    if flow.translated().is_none_or(|t| t.replied) || case.routed_when_begun() != Some(true) {
        return None;
    }
    let began = flow.began;
    // Of another node's pod the slices are all that this node is told.
    let deleted = endpoint.terminating.filter(|at| *at <= case.ended)?;
    let gone = endpoint.removed.filter(|at| *at <= case.ended)?;
    let routed = began.ms_since(deleted);
    let because = format!(
        "no answer: node {} sent the connection on to {} of node {other}, {} after its deletion",
        case.node,
        case.pod_name(),
        say_ms(routed),
    );
    let mut evidence = vec![
        case.evidence(
            deleted,
            format!(
                "slices of {}: {} is terminating",
                dialled.service,
                case.pod_name()
            ),
        ),
        case.evidence(gone, format!("{} left the slices", case.pod_name())),
        case.evidence(
            began,
            format!(
                "SYN from {}, outside the cluster, sent on to {server} as {}",
                flow.client(),
                flow.client_as_seen()
            ),
        ),
    ];
    if let Some(at) = case.rules_dropped() {
        evidence.push(case.evidence(at, format!("rules of node {} let go of {server}", case.node)));
    }
    let text = format!("{} after {} SYN retransmits", case.outcome, flow.syn_retransmits);
    evidence.push(case.evidence(case.ended, text));
    evidence.sort_by_key(|e| e.at);
    Some(Finding {
        because,
        evidence,
        measures: vec![
            (Measure::StoppedServingAfterDeletion, gone.ms_since(deleted)),
            (Measure::RoutedAfterDeletion, routed),
        ],
    })
}

fn summarise(samples: &[&Sample], setting: &Setting) -> String {
    let routed = sorted(samples, Measure::RoutedAfterDeletion);
    let p99 = quantile(&routed, 0.99).map_or_else(String::new, |p99| format!(" (p99 {})", say_ms(p99)));
    format!(
        "clients outside, sent on by node {} to a gone pod of another node{p99}",
        setting.node
    )
}
