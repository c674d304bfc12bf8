//! A5: an entry that an unanswered connection left in conntrack took a new one to a dead pod.

use super::{Rule, Sample, Setting, sample::say_ms};
use crate::{
    correlate::{Case, Phase, PodHistory},
    verdict::{Advice, Blame, Finding, Outcome},
};

pub static RULE: Rule = Rule {
    name: "stale-conntrack-entry",
    id: "A5",
    blame: Blame::Rollout,
    what: "a client that used its port again met the conntrack entry of an earlier, unanswered connection, which still led \
           to a pod that had ended",
    told_by: "an earlier attempt between the same ends was sent to the same pod and never answered, less than the 120 s ago \
              that such an entry lives, and the pod's network had ended before this one began. Not a fresh connection that \
              the node's rules sent there (pod-ip-gone). The rollout to blame is the one that left the entry.",
    remedy: "a preStop sleep that is long enough leaves no such entries; in the client a short connect timeout and a new \
             port; nf_conntrack_tcp_timeout_syn_sent below 120 s",
    needs: &["inet_sock_set_state", "tcp_retransmit_skb"],
    judge,
    summarise: |_, _| {
        "sent to an ended pod by the conntrack entry of an earlier unanswered connection".to_owned()
    },
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    if case.phase != Phase::Connect || !matches!(case.outcome, Outcome::TimedOut | Outcome::Unreachable) {
        return None;
    }
    let left = case.flow.left?;
    let deleted = case.deletion_seen().filter(|d| *d <= left.ended)?;
    let down = case
        .target
        .pod
        .and_then(PodHistory::network_down)
        .or_else(|| case.target.endpoint.and_then(|e| e.removed))?;
    let began = case.flow.began;
    if began < down || !case.flow.unanswered_syn() {
        return None;
    }
    let because = format!(
        "no answer: the conntrack entry of a connection that began {} earlier still led to {} of {}",
        say_ms(began.ms_since(left.began)),
        left.server,
        case.pod_name(),
    );
    let evidence = vec![
        case.evidence(deleted, "deletion of the pod seen"),
        case.evidence(
            left.began,
            format!("an earlier connection from {}, never answered", case.flow.client),
        ),
        case.evidence(left.ended, "it was given up; its entry stays SYN_SENT for 120 s"),
        case.evidence(
            began,
            format!(
                "first SYN from {} again, translated to {} again",
                case.flow.client, left.server
            ),
        ),
        case.evidence(
            case.ended,
            format!(
                "{} after {} SYN retransmits",
                case.outcome, case.flow.syn_retransmits
            ),
        ),
    ];
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
