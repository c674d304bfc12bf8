//! F3: the client is a proxy that ends, by its own rollout or its own reload. Its clients' requests are counted where they
//! failed, at the proxy; what it was asking of a healthy pod is no failure of that pod.

use super::{Rule, reload::replaced};
use crate::{
    correlate::{Case, End, ExitSeen, Phase, PodHistory},
    input::Side,
    verdict::{Blame, Evidence, Finding, Outcome},
};

/// A worker whose time is over closes what it has and exits (nginx: 1 to 3 ms in the recorded fixture); room for many
/// connections. One that waits for its last clients closes an upstream when such a client hangs up, and lives on.
const LAST_ACT_MS: u64 = 50;

pub static RULE: Rule = Rule {
    name: "upstream-client-ended",
    id: "F3",
    blame: Blame::NotARequest,
    what: "a proxy that was ending itself closed a connection to a pod before the answer: its pod had been told to go, or a \
           reload had replaced its worker. The request behind it is counted at the proxy",
    told_by: "the client's side closed first, from a pod that serves others, by a process that had been told to stop, or that a \
              reload had replaced and that exited in the same moment. A client that lives on is client-abort.",
    remedy: "nothing in the workload that was asked: the proxy's own preStop, grace period and drain time; fewer reloads",
    fix: None,
    needs: &["inet_sock_set_state", "signal_generate"],
    judge,
    summarise: |_, _| "an ending proxy closed its connections to the pods".to_owned(),
    advise: |_, _| None,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let flow = case.flow;
    let first = case.phase == Phase::Established
        && case.ended_by == Some(Side::Client)
        && case.outcome == Outcome::TimedOut;
    // The pod was there: it had acknowledged the request, or had not been asked twice. What was sent again later, on either
    // side, was sent by or to a proxy that was gone.
    let end = flow.client_end.as_ref()?;
    if !first || (end.tcp.unacked > 0 && end.tcp.retransmits > 0) {
        return None;
    }
    let proxy = case.client_pod.filter(|p| p.known)?;
    // It serves others.
    case.endpoints.endpoint(flow.client().ip(), flow.began)?;
    let (why, mut evidence) = stopped(case, proxy, end).or_else(|| made_room(case, proxy, end))?;
    evidence.push(case.evidence(
        end.at,
        format!("process {} of it closed the connection", end.tgid),
    ));
    Some(Finding {
        because: format!(
            "{} closed its connection to {} before the answer: {why}",
            case.client_name(),
            case.pod_name()
        ),
        evidence,
        measures: Vec::new(),
    })
}

/// The client's pod is being deleted, or its process exited in the same moment: a signal that was lost may be all that is
/// missing.
pub(super) fn may_be_ending(case: &Case<'_>) -> bool {
    let (Some(proxy), Some(end)) = (case.client_pod, case.flow.client_end.as_ref()) else {
        return false;
    };
    let exited = |e: &ExitSeen| e.tgid == end.tgid && end.at <= e.at && e.at <= end.at.plus_ms(LAST_ACT_MS);
    let exits = || proxy.containers.values().flat_map(|c| &c.exits);
    proxy.ending_at(end.at) || exits().any(exited)
}

fn stopped(case: &Case<'_>, proxy: &PodHistory, end: &End) -> Option<(&'static str, Vec<Evidence>)> {
    let deleted = proxy.deletion_seen.filter(|_| proxy.ending_at(end.at))?;
    let asked = proxy.asked_to_stop(end.at)?;
    let evidence = vec![
        case.evidence(deleted, "deletion of the proxy's pod seen"),
        case.evidence(
            asked.at,
            format!("signal {} to it from {}", asked.sig, asked.sender_comm),
        ),
    ];
    Some(("its own pod was told to go", evidence))
}

fn made_room(case: &Case<'_>, proxy: &PodHistory, end: &End) -> Option<(&'static str, Vec<Evidence>)> {
    let container = proxy.containers.get(&end.cgroup)?;
    let replaced = replaced(container, end.tgid, end.at)?;
    if replaced.exit.at > end.at.plus_ms(LAST_ACT_MS) {
        return None;
    }
    Some((
        "a reload had replaced its worker",
        super::reload::evidence(case, &replaced),
    ))
}
