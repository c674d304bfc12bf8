//! D5: an old conntrack entry of UDP took datagrams to a pod that had ended.

use super::{
    Rule, Sample, Setting,
    sample::{say_ms, sorted},
};
use crate::{
    correlate::{Case, PodHistory},
    input::Protocol,
    verdict::{Advice, Blame, Finding, Measure, Outcome},
};

pub static RULE: Rule = Rule {
    name: "stale-udp-entry",
    id: "D5",
    blame: Blame::Rollout,
    what: "datagrams went to a pod that had ended, by a conntrack entry that was made while it lived: each of them keeps the \
           entry alive, however long ago the rules let go of the pod",
    told_by: "a datagram to a service's address that conntrack translated to an ended pod's when the node's rules no longer \
              led there. With the rules still leading there it is pod-ip-gone. kube-proxy removes such entries when it sees \
              the endpoint go, and not always (not those of a service without endpoints, kubernetes#139628).",
    remedy: "a kube-proxy that cleans up (1.32 or later, and its fixes); in the client a new source port for each question; by \
             hand `conntrack -D -p udp --orig-dst ADDRESS`",
    fix: None,
    needs: &["net_dev_queue"],
    judge,
    summarise,
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let flow = case.flow;
    if flow.protocol != Protocol::Udp || case.outcome != Outcome::TimedOut {
        return None;
    }
    let server = case.server?;
    if !case.translated_to_a_pod() || case.routed_when_begun() != Some(false) {
        return None;
    }
    let began = flow.began;
    let deleted = case.deletion_seen().filter(|d| *d <= began)?;
    let removed = case.target.endpoint.and_then(|e| e.removed);
    let down = case.target.pod.map_or(removed, PodHistory::network_down);
    let down = down.filter(|down| *down <= began)?;
    let dropped = case.rules_dropped().filter(|at| *at <= began)?;
    let dialled = flow.dialled().map(|d| d.to_string()).unwrap_or_default();
    let late = began.ms_since(dropped);
    let because = format!(
        "datagram lost: a conntrack entry still led from {} and {dialled} to {server} of {}, {} after the rules had let go of it",
        flow.client(),
        case.pod_name(),
        say_ms(late),
    );
    let evidence = vec![
        case.evidence(deleted, "deletion of the pod seen"),
        case.evidence(down, "the pod's network ended"),
        case.evidence(dropped, format!("rules of node {} let go of {server}", case.node)),
        case.evidence(
            began,
            format!("datagram from {}, translated to {server}", flow.client()),
        ),
    ];
    Some(Finding {
        because,
        evidence,
        measures: vec![(Measure::EntryOutlivedRules, late)],
    })
}

fn summarise(samples: &[&Sample], _: &Setting) -> String {
    let late = sorted(samples, Measure::EntryOutlivedRules);
    let longest = late.last().copied().unwrap_or_default();
    format!(
        "datagrams to an ended pod by a conntrack entry that outlived the rules by {} or more",
        say_ms(longest)
    )
}

fn advise(samples: &[&Sample], setting: &Setting) -> Option<Advice> {
    samples.first()?;
    Some(Advice {
        setting:
            "a kube-proxy that removes the UDP entries of endpoints that go (1.32 or later, with its fixes)"
                .to_owned(),
        value: None,
        because: format!(
            "node {} kept entries to a pod that its rules had let go of",
            setting.node
        ),
        prevents: 0,
    })
}
