//! What the causes have in common in which conntrack itself drops a SYN: the drop, what was counted with it, and that no
//! rule can have done it.

use crate::{
    correlate::{Case, Counted, Phase, Policy},
    verdict::{Evidence, Outcome},
};

/// What netfilter drops, rules and conntrack alike (include/net/dropreason-core.h).
const DROPPED: &str = "NETFILTER_DROP";

/// The drop of a SYN that no rule of a service can have dropped, with what conntrack counted meanwhile.
pub(super) fn lost_syn(case: &Case<'_>) -> Option<(Evidence, Counted)> {
    let flow = case.flow;
    if case.phase != Phase::Connect || case.outcome != Outcome::TimedOut || case.any_reset() {
        return None;
    }
    // An ICMP error is a rule's answer.
    if flow.icmp.is_some() || flow.seldom().soft_error.is_some() {
        return None;
    }
    let drop = flow.drops.iter().find(|d| d.reason.as_deref() == Some(DROPPED))?;
    // With endpoints to choose, here where the policy is Local, the service's rules translate and drop nothing.
    let dialled = case.dialled()?;
    let local = dialled.external_local || dialled.internal_local;
    let policy = if local {
        Policy::Local(case.node)
    } else {
        Policy::Cluster
    };
    if case.choice_when_begun(policy)?.is_empty() || case.any_routed_when_begun() == Some(false) {
        return None;
    }
    let counted = case.conntrack.counted(drop.at, drop.at)?;
    let text = format!("node {} dropped the SYN, {DROPPED}", case.node);
    Some((case.evidence(drop.at, text), counted))
}
