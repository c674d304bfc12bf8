//! A2: connections that waited for accept(2) when the listener closed.

use super::{Rule, fix, pre_stop::pre_stop_sleep, sample::say_ms};
use crate::{
    correlate::{Case, ListenerHistory, Phase, PodHistory, ResetSeen},
    input::{Ktime, Side},
    verdict::{Blame, Finding, Measure},
};

/// The flush runs inside the close of the listener (net/ipv4/inet_connection_sock.c inet_csk_listen_stop), one RST a
/// connection; 8 µs lay between close and RST in the recorded fixture. A choice with room for a long queue.
const FLUSH_MS: f64 = 5.0;

pub static RULE: Rule = Rule {
    name: "accept-queue-flush",
    id: "A2",
    blame: Blame::Rollout,
    what: "the listener closed while connections waited to be accepted: the kernel had said yes, the application never \
           saw them",
    told_by: "a RST with reason TCP_STATE from a connection of a port whose listener closed in the same moment. An \
              application that resets a connection itself (SO_LINGER 0) gives the same reason without that close; a request \
              that it had accepted gives TCP_ABORT_ON_CLOSE or a FIN.",
    remedy: "lifecycle.preStop.sleep.seconds, so that no new connections come any more when the listener closes; in the \
             application: accept until the queue is empty, then close. The request was never read: a retry is safe",
    fix: Some(fix::PRE_STOP),
    needs: &["inet_sock_set_state", "tcp_send_reset", "signal_generate"],
    judge,
    summarise: |_, _| "connections that waited to be accepted were reset when the listener closed".to_owned(),
    advise: pre_stop_sleep,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    let reset = flushed(case)?;
    let pod = case.target.pod?;
    let listener = closed_in_the_same_moment(pod, case.server?.port(), reset.at)?;
    let closed = listener.closed?;
    let asked = pod.asked_to_stop(closed)?;
    let deleted = pod.deletion_seen.filter(|_| pod.ending_at(reset.at))?;
    let because = format!(
        "connection reset before it was accepted: {} closed its listener {} after SIGTERM with the connection in its queue",
        case.pod_name(),
        say_ms(closed.ms_since(asked.at)),
    );
    let evidence = vec![
        case.evidence(deleted, "deletion of the pod seen"),
        case.evidence(
            asked.at,
            format!("signal {} from {}", asked.sig, asked.sender_comm),
        ),
        case.evidence(closed, format!("listener {} closed", listener.local)),
        case.evidence(
            reset.at,
            "RST to a connection that waited to be accepted, TCP_STATE",
        ),
    ];
    let measures = vec![
        (Measure::ListenerClosedAfterTerm, closed.ms_since(asked.at)),
        (Measure::StoppedServingAfterDeletion, closed.ms_since(deleted)),
        (Measure::RoutedAfterDeletion, reset.at.ms_since(deleted)),
    ];
    Some(Finding {
        because,
        evidence,
        measures,
    })
}

/// The RST to a connection that nobody had accepted.
pub(super) fn flushed<'a>(case: &Case<'a>) -> Option<&'a ResetSeen> {
    if case.phase != Phase::Established || case.ended_by != Some(Side::Server) {
        return None;
    }
    let reset = case.flow.server_reset.as_ref()?;
    (reset.has_socket && reset.reason.as_deref() == Some("TCP_STATE")).then_some(reset)
}

/// The listener on `port` whose close flushed its queue at `at`.
pub(super) fn closed_in_the_same_moment(pod: &PodHistory, port: u16, at: Ktime) -> Option<&ListenerHistory> {
    let moment = |l: &&ListenerHistory| {
        l.local.port() == port && l.closed.is_some_and(|c| at.ms_since(c).abs() <= FLUSH_MS)
    };
    pod.listeners.iter().find(moment)
}
