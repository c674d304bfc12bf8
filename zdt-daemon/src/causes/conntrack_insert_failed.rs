//! D8: no free translation, or two packets that wanted the same one: the entry could not be inserted, the SYN was dropped.

use super::{Rule, Sample, Setting, refused_by_conntrack::lost_syn};
use crate::{
    correlate::Case,
    verdict::{Advice, Blame, Finding},
};

pub static RULE: Rule = Rule {
    name: "conntrack-insert-failed",
    id: "D8",
    blame: Blame::NotTheRollout,
    what: "the translation that this connection needed was taken (no source port was free, or another packet came first): \
           conntrack could not insert its entry, and dropped the SYN",
    told_by: "this node dropped the SYN when it had its translation, the rules led to endpoints that could be used, and \
              conntrack counted failed insertions in the same reading. In a full table a packet gets no translation. Clients that connect anew all at once bring it, after a rollout or \
              at any time.",
    remedy: "more source addresses or ports for the masquerade, and --random-fully (kube-proxy's default); connections that are \
             kept; clients that come back with jitter",
    fix: None,
    needs: &["kfree_skb", "kfree_skb/reason"],
    judge,
    summarise: |_, setting| format!("node {} could not insert the translation", setting.node),
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let (drop, counted) = lost_syn(case)?;
    // It had its translation, and was dropped when the entry was to be inserted (net/netfilter/nf_conntrack_core.c
    // __nf_conntrack_confirm).
    if counted.insert_failed == 0 || !case.translated_to_a_pod() {
        return None;
    }
    let because = format!(
        "SYN dropped: node {} had no free translation for it, or another packet took it first",
        case.node
    );
    let evidence = vec![
        case.evidence(case.flow.began, format!("SYN from {}", case.flow.client())),
        drop,
        case.evidence(
            counted.read,
            format!(
                "conntrack: {} insertions failed since the reading before",
                counted.insert_failed
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
        setting: "more source ports or addresses for the nodes' masquerade, or kept connections".to_owned(),
        value: None,
        because: format!(
            "node {} had no free translation for new connections",
            setting.node
        ),
        prevents: 0,
    })
}
