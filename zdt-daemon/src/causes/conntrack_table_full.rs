//! D6: conntrack had no room for a new entry, and the packet that needed one was dropped.
//!
//! `nf_conntrack_max` is one for all network namespaces, but each counts its own entries against it: its fixtures come from a
//! node's namespace that was filled up to that bound, which stayed as it was.

use super::{Rule, Sample, Setting, fix, refused_by_conntrack::lost_syn};
use crate::{
    correlate::Case,
    verdict::{Advice, Blame, Finding},
};

pub static RULE: Rule = Rule {
    name: "conntrack-table-full",
    id: "D6",
    blame: Blame::NotTheRollout,
    what: "the node's conntrack table was full: packets that begin a connection were dropped, whatever they were for",
    told_by: "this node dropped the SYN before it had an entry, the rules led to endpoints that could be used, conntrack \
              counted drops in the same reading, and its table was at its bound. A rule that drops moves none of these \
              counters. It meets every service of the node: a rollout is at most what made the clients connect anew.",
    remedy: "kube-proxy's --conntrack-max-per-core (nf_conntrack_max); shorter timeouts of TIME_WAIT and CLOSE_WAIT; kept \
             connections",
    fix: Some(fix::CONNTRACK_MAX),
    needs: &["kfree_skb", "kfree_skb/reason"],
    judge,
    summarise: |_, setting| format!("the conntrack table of node {} was full", setting.node),
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let (drop, counted) = lost_syn(case)?;
    // A failed insertion counts as a drop, too.
    if counted.drop <= counted.insert_failed || !counted.full() || case.translated_to_a_pod() {
        return None;
    }
    let because = format!(
        "SYN dropped: the conntrack table of node {} was full ({} of {} entries)",
        case.node, counted.entries, counted.max
    );
    let evidence = vec![
        case.evidence(case.flow.began, format!("SYN from {}", case.flow.client())),
        drop,
        case.evidence(
            counted.read,
            format!(
                "conntrack: {} packets dropped since the reading before, {} of {} entries",
                counted.drop, counted.entries, counted.max
            ),
        ),
    ];
    Some(Finding {
        because,
        evidence,
        measures: Vec::new(),
    })
}

fn advise(samples: &[&Sample], setting: &Setting) -> Option<Advice> {
    samples.first()?;
    Some(Advice {
        setting: "nf_conntrack_max of the nodes (kube-proxy --conntrack-max-per-core)".to_owned(),
        value: None,
        because: format!("the table of node {} was full", setting.node),
        prevents: 0,
    })
}
