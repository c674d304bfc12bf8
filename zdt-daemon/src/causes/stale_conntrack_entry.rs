//! A5: an entry that an earlier connection left in conntrack took a new one to a dead pod.

use super::{Rule, Sample, Setting, fix, sample::say_ms};
use crate::{
    correlate::{Case, Phase},
    verdict::{Advice, Blame, Finding, Outcome},
};

pub static RULE: Rule = Rule {
    name: "stale-conntrack-entry",
    id: "A5",
    blame: Blame::Rollout,
    what: "a client that used its port again met the conntrack entry of an earlier connection, unanswered or reset by the \
           pod, which still led to a pod that had ended",
    told_by: "conntrack sent the connection to a pod whose network had ended, and when it began the node's rules no longer \
              did; where the rules are not known, an earlier unanswered attempt between the same ends was sent there, less \
              than the 120 s ago that such an entry lives, or the entry has seen an answer though nobody answered this \
              connection. Not a connection that the rules sent there (pod-ip-gone). The rollout to blame is the one that left the entry.",
    remedy: "a preStop sleep that is long enough leaves no such entries; in the client a short connect timeout and a new \
             port; nf_conntrack_tcp_timeout_syn_sent below 120 s",
    fix: Some(fix::PRE_STOP),
    needs: &["inet_sock_set_state", "tcp_retransmit_skb"],
    judge,
    summarise: |_, _| "sent to an ended pod by the conntrack entry of an earlier connection".to_owned(),
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    if case.phase != Phase::Connect || !matches!(case.outcome, Outcome::TimedOut | Outcome::Unreachable) {
        return None;
    }
    let server = case.server?;
    // No service leads to this port: what a pod of another node does with it is not known here (port-never-served).
    if case.target.pod.is_none() && !case.endpoints.is_endpoint(server) {
        return None;
    }
    // Who dials a pod itself is sent there by nobody.
    if case.flow.dialled() == Some(server) && !case.translated_to_a_pod() {
        return None;
    }
    // Either the rules tell that they did not send it there, or the attempt that left the entry was seen.
    let routed = case.routed_when_begun();
    let left = case.flow.left;
    let answered_earlier = case.flow.met_an_answered_entry();
    let older = left.is_some() || answered_earlier;
    if routed == Some(true) || (routed.is_none() && !older) {
        return None;
    }
    if !answered_earlier && !case.flow.unanswered_syn() {
        return None;
    }
    let began = case.flow.began;
    let deleted = case.deletion_seen().filter(|d| *d <= began)?;
    let down = match case.target.pod {
        Some(pod) => pod.network_down()?,
        None => case.target.endpoint.and_then(|e| e.removed)?,
    };
    if began < down {
        return None;
    }
    let since = match left {
        Some(left) => format!(
            "of a connection that began {} earlier",
            say_ms(began.ms_since(left.began))
        ),
        None => "of an earlier connection".to_owned(),
    };
    // Whose rollout left the entry: that of the pod, however long it is over.
    let whose = case.target.pod.and_then(|p| p.state.workload.as_ref());
    let whose = whose.map_or_else(String::new, |w| format!(" of {} {}", w.kind, w.name));
    let because = format!(
        "no answer: the conntrack entry {since} still led to {server} of {}{whose}, deleted {} before",
        case.pod_name(),
        say_ms(began.ms_since(deleted)),
    );
    let mut evidence = vec![
        case.evidence(
            deleted,
            format!("deletion of the pod{whose} seen: what left the entry"),
        ),
        case.evidence(
            down,
            "last process of the pod's sandbox ended, its network is removed",
        ),
    ];
    if let Some(dropped) = case.rules_dropped() {
        evidence.push(case.evidence(dropped, format!("rules of node {} let go of {server}", case.node)));
    }
    if let Some(left) = left {
        let text = format!(
            "an earlier connection from {}, never answered",
            case.flow.client()
        );
        evidence.push(case.evidence(left.began, text));
        evidence.push(case.evidence(left.ended, "it was given up; its entry stays SYN_SENT for 120 s"));
    }
    if answered_earlier {
        let text = "conntrack: the entry has seen an answer, which was not to this connection";
        evidence.push(case.evidence(began, text));
    }
    evidence.push(case.evidence(
        began,
        format!("first SYN from {}, translated to {server}", case.flow.client()),
    ));
    let text = format!(
        "{} after {} SYN retransmits",
        case.outcome, case.flow.syn_retransmits
    );
    evidence.push(case.evidence(case.ended, text));
    Some(Finding {
        because,
        evidence,
        measures: Vec::new(),
    })
}

fn advise(samples: &[&Sample], _: &Setting) -> Option<Advice> {
    samples.first()?;
    Some(Advice {
        setting: "lifecycle.preStop.sleep.seconds".to_owned(),
        value: None,
        because: "a pod that serves until nobody is sent to it any more leaves no unanswered connections"
            .to_owned(),
        prevents: 0,
    })
}
