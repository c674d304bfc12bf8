//! A2: connections that waited for accept(2) when the listener closed.

use super::{Rule, fix, pre_stop::pre_stop_sleep, sample::say_ms};
use crate::{
    correlate::{Case, ListenerHistory, Phase, PodHistory, ResetSeen},
    input::Side,
    verdict::{Blame, Finding, Measure},
};

/// The flush runs inside the close of the listener (net/ipv4/inet_connection_sock.c inet_csk_listen_stop), one RST a
/// connection; 8 µs lay between close and RST in the recorded fixture. A choice: where nothing says that nobody had accepted
/// the connection, an application that resets what it serves is told from the flush by this alone.
const FLUSH_MS: f64 = 5.0;
/// A queue of 4,096 (net.core.somaxconn) with 10 to 50 µs for each RST, on a slow machine. A choice with room.
const LONG_FLUSH_MS: f64 = 1_000.0;

pub static RULE: Rule = Rule {
    name: "accept-queue-flush",
    id: "A2",
    blame: Blame::Rollout,
    what: "the listener closed while connections waited to be accepted: the kernel had said yes, the application never \
           saw them",
    told_by: "a RST with reason TCP_STATE from a connection that no process held, of a port whose listener had just closed. \
              An application that resets a connection itself (SO_LINGER 0) gives the same reason and holds it; a request that \
              it had accepted gives TCP_ABORT_ON_CLOSE or a FIN.",
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
    let listener = flushed_by(pod, case.server?.port(), reset)?;
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
    // An application with connections in its queue when its listener closes did not serve until then: when it accepted the
    // last one is not known, so that no time after SIGTERM is counted.
    let measures = vec![
        (Measure::ListenerClosedAfterTerm, closed.ms_since(asked.at)),
        (Measure::StoppedServingAfterDeletion, asked.at.ms_since(deleted)),
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
    // What a process holds it has accepted, and resets itself.
    let queued = reset.has_socket && reset.held != Some(true);
    (queued && reset.reason.as_deref() == Some("TCP_STATE")).then_some(reset)
}

/// The listener on `port` whose close flushed its queue: the last that had closed by then. (Its close may be told a moment late.)
pub(super) fn flushed_by<'a>(
    pod: &'a PodHistory,
    port: u16,
    reset: &ResetSeen,
) -> Option<&'a ListenerHistory> {
    let most = match reset.held {
        Some(false) => LONG_FLUSH_MS,
        _ => FLUSH_MS,
    };
    let closed = |l: &&ListenerHistory| {
        l.local.port() == port
            && l.closed
                .is_some_and(|c| (-FLUSH_MS..=most).contains(&reset.at.ms_since(c)))
    };
    pod.listeners.iter().filter(closed).max_by_key(|l| l.closed)
}
