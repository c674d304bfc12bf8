//! A connection that began while the rules were wrong, and went on trying after they were right.

use super::Amplifier;
use crate::correlate::{Case, Phase};

pub static AMPLIFIER: Amplifier = Amplifier {
    name: "stuck-after-fix",
    id: "A5",
    what: "the client sent its SYN again after the node's rules had let go of the pod, and its conntrack entry (SYN_SENT) took \
           it there all the same: a new connection would have been answered",
    applies,
};

/// Retransmits use the entry of the first SYN (net/netfilter/nf_nat_core.c nf_nat_inet_fn translates a connection once).
fn applies(case: &Case<'_>) -> bool {
    if case.phase != Phase::Connect || !case.flow.unanswered_syn() || case.routed_when_begun() != Some(true) {
        return false;
    }
    let last = case.flow.last_syn;
    case.rules_dropped()
        .is_some_and(|dropped| last.is_some_and(|last| dropped < last))
}
