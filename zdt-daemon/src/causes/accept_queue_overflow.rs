//! C3: a cold pod, or too few pods, did not accept connections as fast as they came.

use super::{Rule, Sample, Setting, fix, queue_full};
use crate::{
    correlate::Case,
    input::Ktime,
    verdict::{Advice, Blame, Finding},
};

/// What a pod leaves behind when it goes must fit the others at once: its share of the connections is theirs from the next
/// sync of the rules on. Their overload counts as its doing for as long as a rollout's pods count as new to the load.
const SHARE_MS: f64 = 60_000.0;

pub static RULE: Rule = Rule {
    name: "accept-queue-overflow",
    id: "C3",
    blame: Blame::Rollout,
    what: "the queue of connections that wait for accept(2) was full in a pod that a rollout had just brought, or whose \
           service had just lost another one: it dropped new connections without an answer",
    told_by: "nobody answered the first and the last SYN (or the end of the handshake, and the request behind it), and the \
              listener of that port, in a living pod, counted drops with a full queue in just these intervals; or its queue was \
              full before, and nothing has joined it since. Not a rule or conntrack (their drops are seen on the node), not \
              a pod that is gone, not a server that is slow or hangs (its kernel acknowledges the request). A service that \
              neither lost nor got a pod is steady-overload.",
    remedy: "warm up before Ready (readinessProbe, startupProbe) and minReadySeconds, so that a cold pod gets no full share; \
             maxUnavailable: 0 and maxSurge, so that the others need not take more; a larger backlog in listen(2) and \
             net.core.somaxconn for short bursts",
    fix: Some(fix::MIN_READY),
    needs: &["inet_sock_set_state"],
    judge,
    summarise: queue_full::summarise,
    advise,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let seen = queue_full::dropped(case)?;
    let lost = lost(case);
    if case.brought.is_none() && lost.is_none() {
        return None;
    }
    let mut finding = queue_full::finding(case, &seen);
    if let Some((at, name)) = lost {
        let text = format!("{name} left the service's endpoints: its share went to the others");
        finding.evidence.push(case.evidence(at, text));
        finding.evidence.sort_by_key(|e| e.at);
    }
    Some(finding)
}

/// Another endpoint that the service lost lately.
pub(super) fn lost<'a>(case: &Case<'a>) -> Option<(Ktime, &'a str)> {
    let (at, _, endpoint) = case.lost()?;
    let recently = case.flow.began.ms_since(at) <= SHARE_MS;
    let name = endpoint.pod.as_deref().map_or("an endpoint", |(_, name)| name);
    recently.then_some((at, name))
}

fn advise(samples: &[&Sample], _: &Setting) -> Option<Advice> {
    samples.first()?;
    Some(Advice {
        setting: "minReadySeconds and a readinessProbe that waits until the pod is warm; strategy.rollingUpdate with \
                  maxUnavailable: 0; the backlog of listen(2) up to net.core.somaxconn"
            .to_owned(),
        value: None,
        because: "the pods' queues of connections to accept were full".to_owned(),
        prevents: 0,
    })
}
