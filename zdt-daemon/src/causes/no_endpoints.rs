//! D1: the service had no usable endpoint, and the node's rules refused the connection.

use super::{
    Rule, Sample, Setting, fix,
    sample::{quantile, say_ms, sorted},
};
use crate::{
    correlate::{Case, Phase, Policy},
    input::Side,
    verdict::{Advice, Blame, Evidence, Finding, Measure, Outcome},
};

pub static RULE: Rule = Rule {
    name: "no-endpoints",
    id: "D1",
    blame: Blame::Rollout,
    what: "every endpoint of the service was gone or not ready, and the node's rules had nowhere to send the connection",
    told_by: "the client dialled the service, the node's rules led to none of its endpoints when the connection began, and \
              the slices had lost the last usable one (ready, or serving while it terminates). Nobody sent a RST, and \
              conntrack holds no translation: a RST is a pod's answer, a translation says that a pod was chosen. The node \
              answers with an ICMP error, but with 6 in a row to each client and then one a second: for the others it \
              looks like a timeout.",
    remedy: "strategy.rollingUpdate with maxUnavailable 0 and maxSurge 1 or more, two replicas or more; a readiness probe \
             that does not ask what all pods share; a selector that matches the new pods before the old ones go",
    fix: Some(fix::NO_GAP),
    needs: &[
        "inet_sock_set_state",
        "tcp_retransmit_skb",
        "inet_sk_error_report",
    ],
    judge,
    summarise,
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let flow = case.flow;
    let possible = matches!(
        case.outcome,
        Outcome::Refused | Outcome::TimedOut | Outcome::Unreachable
    );
    let nobody_chosen = match case.phase {
        Phase::Connect => possible && !case.any_reset() && !case.translated_to_a_pod(),
        // It got through in the end, too late for its client.
        Phase::Established => connected_too_late(case),
    };
    if !nobody_chosen {
        return None;
    }
    let dialled = case.dialled()?;
    let began = flow.began;
    let (lost, _, last) = case.lost()?;
    let none_usable = case.choice_when_begun(Policy::Cluster)?.is_empty();
    let held = match (case.any_routed_when_begun(), none_usable) {
        (Some(false) | None, true) => "no usable endpoint",
        // What the rules did shows it before this daemon is told of them.
        (Some(true), true) if case.turned_away_untranslated() => "no usable endpoint",
        // There is one again, and the rules do not know of it yet.
        (Some(false), false) => "an endpoint again that the rules did not lead to yet",
        // They led to one: it is that one's failure. Or they are no rules that this daemon can read, and there was one.
        (Some(true), _) | (None, false) => return None,
    };
    let service = dialled.service;
    let since = began.ms_since(lost);
    let how = match case.outcome {
        _ if case.phase == Phase::Established => {
            "the client gave up on a connection whose first SYNs the node's rules dropped"
        }
        Outcome::Refused => "SYN refused by the node's rules",
        Outcome::Unreachable => "SYN turned away by the node's rules",
        _ => "SYN dropped by the node's rules, without the ICMP error that it owes (they are limited)",
    };
    let last_name = last
        .pod
        .as_deref()
        .map_or("an endpoint", |(_, name)| name.as_str());
    let because = format!(
        "{how}: {service} had lost its last usable endpoint ({last_name}) {} before",
        say_ms(since)
    );
    let mut evidence = vec![case.evidence(
        lost,
        format!("{last_name}, the last usable endpoint of {service}, left its slices"),
    )];
    let dropped = case.endpoints.behind(&dialled);
    let dropped = dropped.filter_map(|(to, _)| case.routes.let_go(to, began)).max();
    if let Some(at) = dropped {
        let text = format!(
            "rules of node {} led to no endpoint of {service} any more",
            case.node
        );
        evidence.push(case.evidence(at, text));
    }
    evidence.push(case.evidence(began, format!("SYN from {}: {service} has {held}", flow.client())));
    evidence.extend(answer(case));
    evidence.push(case.evidence(
        case.ended,
        format!("{} after {} SYN retransmits", case.outcome, flow.syn_retransmits),
    ));
    evidence.sort_by_key(|e| e.at);
    Some(Finding {
        because,
        evidence,
        measures: vec![(Measure::WithoutEndpoint, since)],
    })
}

/// Its first SYN found nowhere to go, a retransmit a second or more later did, and the client gave up before the answer.
fn connected_too_late(case: &Case<'_>) -> bool {
    case.outcome == Outcome::TimedOut && case.ended_by == Some(Side::Client) && case.flow.syn_retransmits > 0
}

/// What the node did with the SYN and told the client, as far as it was seen.
fn answer(case: &Case<'_>) -> Vec<Evidence> {
    let flow = case.flow;
    let told = flow.icmp.map(|icmp| {
        let text = format!("node {} sent ICMP {}/{}", case.node, icmp.kind, icmp.code);
        case.evidence(icmp.at, text)
    });
    // The end of a socket that the error ends carries it.
    let soft = flow.client_end.as_ref().is_some_and(|e| e.err == 0);
    let text =
        "an ICMP error reached the client's socket in connect(2): only sk_err_soft and SO_ERROR tell it";
    let soft = flow
        .seldom()
        .soft_error
        .filter(|_| soft)
        .map(|at| case.evidence(at, text));
    [case.first_drop(), told, soft].into_iter().flatten().collect()
}

fn summarise(samples: &[&Sample], _: &Setting) -> String {
    let without = sorted(samples, Measure::WithoutEndpoint);
    match without.last() {
        Some(longest) => format!(
            "the service had no usable endpoint, for {} at least (half of them {} after the last one had gone)",
            say_ms(*longest),
            say_ms(quantile(&without, 0.5).unwrap_or(*longest)),
        ),
        None => "the service had no usable endpoint".to_owned(),
    }
}

fn advise(samples: &[&Sample], setting: &Setting) -> Option<Advice> {
    let longest = sorted(samples, Measure::WithoutEndpoint).last().copied()?;
    Some(Advice {
        setting: "keep an endpoint Ready throughout: maxUnavailable: 0 with maxSurge: 1 or more, and no scaling to 0"
            .to_owned(),
        value: None,
        because: format!(
            "node {} refused connections up to {} after the service's last usable endpoint had gone",
            setting.node,
            say_ms(longest)
        ),
        prevents: 0,
    })
}
