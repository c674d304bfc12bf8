//! A3: connections whose handshake was not over when the listener closed.

use super::{Rule, fix, pre_stop::pre_stop_sleep, sample::say_ms};
use crate::{
    correlate::{Case, End, Phase},
    input::{Side, TcpState},
    verdict::{Blame, Finding, Measure},
};

pub static RULE: Rule = Rule {
    name: "half-open-purge",
    id: "A3",
    blame: Blame::Rollout,
    what: "the listener closed while a handshake was under way: the client took itself for connected, and was reset",
    told_by: "the pod's kernel answered something else than a SYN with a RST for want of any socket, the client had got no \
              byte and no FIN, and the port's listener had closed on its way out. A connection that waited to be accepted \
              has a socket (accept-queue-flush); a SYN is refused (endpoint-removal-race); an address that belongs to \
              another pod by now is pod-ip-reused.",
    remedy: "lifecycle.preStop.sleep.seconds, so that no new connections come any more when the listener closes. The request \
             was never read: a retry is safe",
    fix: Some(fix::PRE_STOP),
    needs: &[
        "inet_sock_set_state",
        "tcp_send_reset",
        "signal_generate",
        "tcp_send_reset/no_socket",
    ],
    judge,
    summarise: |_, _| "connections whose handshake was not over when the listener closed".to_owned(),
    advise: pre_stop_sleep,
};

fn judge(case: &Case<'_>) -> Option<Finding> {
    if case.phase != Phase::Established || case.ended_by != Some(Side::Server) {
        return None;
    }
    let flow = case.flow;
    let reset = flow
        .server_reset
        .as_ref()
        .filter(|r| !r.has_socket && !r.to_syn)?;
    let own = |client: &End| client.nothing_came_back() && client.old == TcpState::Established;
    // A client elsewhere has no socket here.
    if !flow.half_open() && (flow.server_end.is_some() || !flow.client_end.as_deref().is_some_and(own)) {
        return None;
    }
    let pod = case.target.pod?;
    let listener = pod.listener_closed(case.server?.port(), reset.at)?;
    let closed = listener.closed?;
    let asked = pod.asked_to_stop(closed)?;
    let deleted = pod.deletion_seen.filter(|_| pod.ending_at(reset.at))?;
    let because = format!(
        "connection reset before its handshake was over: {} closed its listener {} after SIGTERM",
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
            "RST to a segment without SYN: no socket knew the connection",
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
