//! What accept-queue-overflow and steady-overload ask first: was this attempt dropped by a listener whose queue was full?

use super::{Sample, Setting, sample::say_ms};
use crate::{
    correlate::{Case, End, Flow, Phase, QueueLook},
    input::Ktime,
    verdict::{Finding, Outcome},
};

/// What the listener dropped when the attempt's first segment came, and when its last one did.
pub(super) struct Dropped {
    first: QueueLook,
    last: QueueLook,
    what: &'static str,
}

/// A living pod that listens had no room for it.
pub(super) fn dropped(case: &Case<'_>) -> Option<Dropped> {
    let flow = case.flow;
    // Whatever dropped it on the node, the listener did not.
    let elsewhere = !flow.drops.is_empty() || flow.icmp.is_some() || flow.seldom().soft_error.is_some();
    if case.outcome != Outcome::TimedOut || case.any_reset() || elsewhere || flow.began_within_ms > 0 {
        return None;
    }
    let server = case.server?;
    let (to, what) = match case.phase {
        Phase::Connect => (at_the_pod(flow, flow.last_syn.unwrap_or(flow.began)), "SYN"),
        Phase::Established if unacknowledged(case) => (flow.began, "end of the handshake"),
        Phase::Established if heard_too_late(case) => (flow.began, "SYN"),
        Phase::Established => return None,
    };
    let first = case.queues.dropped(server, at_the_pod(flow, flow.began))?;
    let last = case.queues.dropped(server, to)?;
    let pod = case.target.pod?;
    let gone = pod.network_down().is_some_and(|down| down <= to);
    // One that was open before zdt is not in the pod's history before it closes; it was looked at all the same.
    let closed = pod.listener_closed(server.port(), to).is_some();
    (!closed && !gone).then_some(Dropped { first, last, what })
}

/// A SYN is sent again after this time at the earliest (TCP_TIMEOUT_INIT, include/net/tcp.h).
const AGAIN_MS: f64 = 1_000.0;

/// When a SYN that was sent at `sent` came to its pod: on a busy machine it may wait for milliseconds on its way, and the listener
/// have room meanwhile.
fn at_the_pod(flow: &Flow, sent: Ktime) -> Ktime {
    let seen = flow.forwarded.iter().flat_map(|seen| [seen.first, seen.last]);
    seen.filter(|at| (0.0..AGAIN_MS).contains(&at.ms_since(sent)))
        .max()
        .unwrap_or(sent)
}

/// The client believes itself connected, and the pod's kernel has acknowledged nothing of its request: it has no connection, or had
/// none until then. That of a server that is slow, or hangs, acknowledges before its process reads.
fn unacknowledged(case: &Case<'_>) -> bool {
    let flow = case.flow;
    let silence = flow.client_end.as_ref().is_some_and(|e| {
        // The SYN counts as one.
        e.nothing_came_back() && e.tcp.bytes_acked <= 1 && e.tcp.unacked > 0
    });
    silence && flow.seldom().request_retransmits > 0
}

/// It got through in the end, when its client had already waited for longer than it then would.
fn heard_too_late(case: &Case<'_>) -> bool {
    let flow = case.flow;
    let silence = flow.client_end.as_deref().is_some_and(End::nothing_came_back);
    let waited = |syn: Ktime| syn.ms_since(flow.began) > case.ended.ms_since(syn);
    silence && flow.last_syn.is_some_and(waited)
}

/// The evidence that both have.
pub(super) fn finding(case: &Case<'_>, dropped: &Dropped) -> Finding {
    let Dropped { first, last, what } = dropped;
    let name = case.pod_name();
    let because = format!(
        "{what} dropped: the queue of {name} was full, with {} connections that waited to be accepted and a backlog of {}",
        u64::from(last.backlog) + 1,
        last.backlog,
    );
    let mut evidence = Vec::new();
    if let Some(pod) = case.target.pod {
        let port = case.server.map(|s| s.port());
        let listener = pod.listening(first.at).find(|l| Some(l.local.port()) == port);
        evidence.extend(listener.and_then(|l| {
            l.opened
                .map(|at| case.evidence(at, format!("listener {} opened", l.local)))
        }));
    }
    let client = case.flow.client_as_seen();
    evidence.push(case.evidence(case.flow.began, format!("SYN from {client}")));
    let looks = if first.at == last.at {
        vec![first]
    } else {
        vec![first, last]
    };
    for look in looks {
        let text = if look.at <= case.flow.began {
            "its queue was full, and nothing has joined it since".to_owned()
        } else {
            format!(
                "it dropped {} attempts in {}, its queue was full",
                look.dropped,
                say_ms(look.at.ms_since(look.since))
            )
        };
        evidence.push(case.evidence(look.at, text));
    }
    let retransmits = case.flow.syn_retransmits + case.flow.seldom().request_retransmits;
    evidence.push(case.evidence(
        case.ended,
        format!("{} after {retransmits} retransmits", case.outcome),
    ));
    evidence.sort_by_key(|e| e.at);
    Finding {
        because,
        evidence,
        measures: Vec::new(),
    }
}

pub(super) fn summarise(samples: &[&Sample], _: &Setting) -> String {
    let mut pods: Vec<&str> = samples.iter().map(|s| s.pod.as_str()).collect();
    pods.sort_unstable();
    pods.dedup();
    match pods.as_slice() {
        [one] => format!("{one} did not accept connections as fast as they came: its queue was full"),
        many => format!(
            "{} pods did not accept connections as fast as they came: their queues were full",
            many.len()
        ),
    }
}
