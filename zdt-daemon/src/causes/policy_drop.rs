//! C6: a rule of this node that is no service's dropped connections to a new pod: its network policy was not there yet.

use super::{
    Rule, Sample, Setting, fix,
    sample::{quantile, say_ms, sorted},
};
use crate::{
    correlate::{Case, Phase},
    input::Ktime,
    verdict::{Advice, Blame, Finding, Measure, Outcome},
};

/// What netfilter drops, rules and conntrack alike (include/net/dropreason-core.h).
const DROPPED: &str = "NETFILTER_DROP";

/// Older pods' policies are there. Policy engines follow within seconds; their own limits for waiting on them are of this order.
const YOUNG_MS: f64 = 60_000.0;

pub static RULE: Rule = Rule {
    name: "policy-drop",
    id: "C6",
    blame: Blame::Rollout,
    what: "a new pod was Ready and got connections before the node's network policy engine let them pass: they were dropped",
    told_by: "netfilter dropped each SYN on this node after a service's rule had sent it to a pod (conntrack's entry on the \
              packet says so; each may be sent to another, the last one's pod is named), or the client had dialled the pod \
              itself, and conntrack counted no drop and no failed insertion of its own meanwhile. The pod lives, listens on \
              that port, is new, and a rollout brought it. Drops for want of an endpoint come before any translation \
              (no-endpoints, local-policy-no-endpoint), as those of a full table (conntrack-table-full). In an older pod it \
              is its policy, which says no.",
    remedy: "let pods wait for their policy: the engine's own delay of pod setup (Calico: policy_setup_timeout_seconds), an init \
             container that dials through it, minReadySeconds; maxUnavailable: 0",
    fix: Some(fix::MIN_READY),
    needs: &["kfree_skb", "kfree_skb/reason"],
    judge,
    summarise,
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let flow = case.flow;
    if case.phase != Phase::Connect || case.outcome != Outcome::TimedOut || case.any_reset() {
        return None;
    }
    if flow.icmp.is_some() || flow.seldom().soft_error.is_some() || flow.began_within_ms > 0 {
        return None;
    }
    let server = case.server?;
    let to_the_pod = case.translated_to_a_pod() || flow.dialled() == Some(server);
    if !to_the_pod || !flow.drops.iter().all(|d| d.reason.as_deref() == Some(DROPPED)) {
        return None;
    }
    let (first, last) = (flow.drops.first()?, flow.drops.last()?);
    let counted = case.conntrack.counted(first.at, last.at);
    if counted.is_some_and(|c| c.drop > 0 || c.insert_failed > 0) {
        return None;
    }
    let since = young(case, last.at)?;
    case.brought?;
    let age = last.at.ms_since(since);
    let because = format!(
        "SYN dropped by a rule of node {} that is no service's: {} was {} old, and its policy did not let it pass yet",
        case.node,
        case.pod_name(),
        say_ms(age),
    );
    let mut evidence = vec![
        case.evidence(since, "the pod was made"),
        case.evidence(flow.began, format!("SYN from {}", flow.client())),
    ];
    if let Some(endpoint) = case.target.endpoint.filter(|e| e.added <= first.at) {
        let text = format!("in the endpoint slices of {}", endpoint.service);
        evidence.push(case.evidence(endpoint.added, text));
    }
    let times = flow.drops.len();
    let text = format!(
        "node {} dropped the SYN on its way to {server}, {DROPPED}",
        case.node
    );
    evidence.push(case.evidence(first.at, text));
    if times > 1 {
        evidence.push(case.evidence(last.at, format!("and for the last of {times} times")));
    }
    evidence.push(case.evidence(case.ended, format!("{} for the client", case.outcome)));
    evidence.sort_by_key(|e| e.at);
    Some(Finding {
        because,
        evidence,
        measures: vec![(Measure::DroppedAfterBirth, age)],
    })
}

/// When the pod was made, if that was lately, and it lived and listened when the last SYN was dropped.
fn young(case: &Case<'_>, at: Ktime) -> Option<Ktime> {
    let pod = case.target.pod.filter(|p| p.known && p.from_birth)?;
    let port = case.server?.port();
    let listens = pod.listening(at).any(|l| l.local.port() == port);
    let lives = !pod.ending_at(at) && pod.network_down().is_none_or(|down| down > at);
    (listens && lives && at.ms_since(pod.first_seen) <= YOUNG_MS).then_some(pod.first_seen)
}

fn summarise(samples: &[&Sample], setting: &Setting) -> String {
    let ages = sorted(samples, Measure::DroppedAfterBirth);
    match quantile(&ages, 1.0) {
        Some(oldest) => format!(
            "dropped by a policy of node {} until the pod was {} old",
            setting.node,
            say_ms(oldest)
        ),
        None => format!("dropped by a policy of node {}", setting.node),
    }
}

fn advise(samples: &[&Sample], _: &Setting) -> Option<Advice> {
    let oldest = quantile(&sorted(samples, Measure::DroppedAfterBirth), 1.0)?;
    Some(Advice {
        setting: "let new pods wait for their network policy before they are Ready (the engine's setup delay, or a readinessProbe \
                  that is dialled through it)"
            .to_owned(),
        value: None,
        because: format!("the policy let nobody pass until the pods were {} old at least", say_ms(oldest)),
        prevents: 0,
    })
}
