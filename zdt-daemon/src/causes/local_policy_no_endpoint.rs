//! D2: the traffic policy is Local, and the node that the client reached had no endpoint of the service left.

use super::{
    Rule, Sample, Setting, fix,
    sample::{quantile, say_ms, sorted},
};
use crate::{
    correlate::{Case, Phase, Policy},
    verdict::{Advice, Blame, Finding, Measure, Outcome},
};

pub static RULE: Rule = Rule {
    name: "local-policy-no-endpoint",
    id: "D2",
    blame: Blame::Rollout,
    what: "the service's traffic policy is Local, and this node had no usable endpoint: it dropped the connection, without a \
           word, although other nodes had endpoints",
    told_by: "the policy that applies to this client (external, or internal for the service's own address in the cluster) is \
              Local; when the connection began the slices had usable endpoints, and none on this node, and conntrack holds no \
              translation. Without any endpoint it is no-endpoints, which answers; a pod in the cluster that dials a node \
              port is sent to any node (kube-proxy's shortcut).",
    remedy: "two pods or more on each node that gets traffic, or externalTrafficPolicy: Cluster; preStop sleep longer than the \
             load balancer's health check needs to see healthCheckNodePort fail (interval times threshold)",
    fix: Some(fix::TRAFFIC_POLICY),
    needs: &["inet_sock_set_state", "tcp_retransmit_skb", "kfree_skb"],
    judge,
    summarise,
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let flow = case.flow;
    let silent = matches!(case.outcome, Outcome::TimedOut);
    if case.phase != Phase::Connect || !silent || case.any_reset() || case.translated_to_a_pod() {
        return None;
    }
    let dialled = case.dialled()?;
    // What comes from outside comes to a node port or a load balancer's address; of this node's own clients only those that
    // dial the cluster's address are held to a policy.
    let local = if flow.outside {
        dialled.external_local
    } else {
        dialled.internal_local && dialled.by_service_address
    };
    if !local {
        return None;
    }
    let began = flow.began;
    let here = Policy::Local(case.node);
    let elsewhere = case.choice_when_begun(Policy::Cluster)?;
    if elsewhere.is_empty() || !case.choice_when_begun(here)?.is_empty() {
        return None;
    }
    let (lost, addr, last) = case.endpoints.last_lost(&dialled, here, began)?;
    // Its rules still led there: that pod did not answer.
    if case.routes.routed(addr, began) == Some(true) && !case.turned_away_untranslated() {
        return None;
    }
    let service = dialled.service;
    let name = last
        .pod
        .as_deref()
        .map_or("an endpoint", |(_, name)| name.as_str());
    let since = began.ms_since(lost);
    let because = format!(
        "SYN dropped: node {} had lost {name}, its last endpoint of {service}, {} before, and the policy is Local ({} elsewhere)",
        case.node,
        say_ms(since),
        elsewhere.ready + elsewhere.fallback,
    );
    let mut evidence = vec![case.evidence(
        lost,
        format!(
            "{name}, the last usable endpoint of {service} on node {}, left its slices",
            case.node
        ),
    )];
    if let Some(at) = case.routes.let_go(addr, began) {
        evidence.push(case.evidence(at, format!("rules of node {} let go of {addr}", case.node)));
    }
    evidence.push(case.evidence(began, format!("SYN from {}", flow.client())));
    evidence.extend(case.first_drop());
    let text = format!("{} after {} SYN retransmits", case.outcome, flow.syn_retransmits);
    evidence.push(case.evidence(case.ended, text));
    evidence.sort_by_key(|e| e.at);
    Some(Finding {
        because,
        evidence,
        measures: vec![(Measure::WithoutEndpoint, since)],
    })
}

fn summarise(samples: &[&Sample], setting: &Setting) -> String {
    let without = sorted(samples, Measure::WithoutEndpoint);
    let longest = without.last().copied().unwrap_or_default();
    format!(
        "dropped by node {}, which had no endpoint and a Local policy, for {} (half of them within {})",
        setting.node,
        say_ms(longest),
        say_ms(quantile(&without, 0.5).unwrap_or_default()),
    )
}

fn advise(samples: &[&Sample], setting: &Setting) -> Option<Advice> {
    let longest = sorted(samples, Measure::WithoutEndpoint).last().copied()?;
    Some(Advice {
        setting: "two pods or more on each node that gets traffic, or externalTrafficPolicy: Cluster"
            .to_owned(),
        value: None,
        because: format!(
            "clients were still sent to node {} {} after its last endpoint had gone",
            setting.node,
            say_ms(longest)
        ),
        prevents: 0,
    })
}
