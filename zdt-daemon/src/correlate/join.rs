//! What belongs to one connection attempt: by its addresses, by the initial sequence number of its SYN, by time.

use std::net::SocketAddr;

use super::{
    endpoints::Endpoints,
    flow::{AnswerSeen, End, GivenUp, Live, LostAnswer, ResetSeen, began},
};
use crate::input::{Ktime, Observation, Side, Sock, TcpState};

/// What trails the end of a connection (the other view, a second RST) comes within this time: both views end within
/// a round trip, and a delayed FIN or ACK within the delayed-ACK time (40 ms, TCP_DELACK_MIN) and one RTO (200 ms).
const TAIL_MS: u64 = 1_000;

/// What an observation says about one side of one connection.
pub(super) struct Seen<'a> {
    pub at: Ktime,
    pub side: Side,
    pub client: SocketAddr,
    /// The other end as this side names it: the pod (server side), or what was dialled (client side).
    pub other: SocketAddr,
    pub sock: &'a Sock,
}

/// Whether `dialled` may have been translated to `server`.
pub(super) fn leads_to(endpoints: &Endpoints, dialled: SocketAddr, server: SocketAddr) -> bool {
    dialled == server
        || endpoints
            .service_at(dialled)
            .or_else(|| endpoints.node_port(dialled.port()))
            .is_some_and(|s| endpoints.serves(s, server))
}

/// The client's address is equal; is the other end the same one under another name?
pub(super) fn same_connection(flow: &Live, seen: &Seen<'_>, endpoints: &Endpoints) -> bool {
    let behind = |dialled, server| leads_to(endpoints, dialled, server);
    match seen.side {
        Side::Server => match (flow.server_addr(), flow.dialled()) {
            (Some(server), _) => server == seen.other,
            (None, Some(dialled)) => behind(dialled, seen.other),
            (None, None) => true,
        },
        Side::Client => match (flow.dialled(), flow.server()) {
            (Some(dialled), _) => dialled == seen.other,
            (None, Some(server)) => behind(seen.other, server),
            (None, None) => true,
        },
    }
}

/// A client may use its port again: is this still the same attempt?
pub(super) fn same_attempt(flow: &Live, seen: &Seen<'_>, observation: &Observation) -> bool {
    // The initial sequence number of its SYN is a connection's name, however long it tries.
    match (flow.isn, isn(observation)) {
        (Some(known), Some(isn)) if known != isn => return false,
        (Some(_), Some(_)) => return true,
        _ => {}
    }
    if flow.ended.is_some_and(|ended| seen.at > ended.plus_ms(TAIL_MS)) {
        return false;
    }
    // A socket that sent its first SYN after the flow's end is another one; the clock of that SYN has 1 ms resolution.
    if let (Some(first_syn), Some(ended)) = (began(seen.sock), flow.ended)
        && first_syn > ended.plus_ms(1)
    {
        return false;
    }
    match observation {
        Observation::ResetSent { to_syn: true, .. } => {
            flow.server_reset.is_none() && flow.client_end.as_ref().is_none_or(|e| seen.at <= e.at)
        }
        Observation::FlowEnd { .. } => match seen.side {
            Side::Server => flow.server_end.is_none(),
            Side::Client => flow.client_end.is_none(),
        },
        _ => true,
    }
}

/// The segment did not leave: no route, no device (negative errno of the transmission; ENETDOWN, ENETUNREACH, EHOSTUNREACH).
fn no_way_out(err: i32) -> bool {
    matches!(err, -100 | -101 | -113)
}

/// Its process has closed it; the kernel alone still owes what is not acknowledged, and the FIN.
fn closed_by_server(state: TcpState) -> bool {
    matches!(state, TcpState::FinWait1 | TcpState::LastAck | TcpState::Closing)
}

/// A RST that was sent.
pub(super) fn reset_seen(at: Ktime, observation: &Observation) -> Option<ResetSeen> {
    let Observation::ResetSent {
        sock,
        reason,
        to_syn,
        has_socket,
        held,
        ..
    } = observation
    else {
        return None;
    };
    Some(ResetSeen {
        netns: sock.netns,
        at,
        reason: reason.clone(),
        to_syn: *to_syn,
        has_socket: *has_socket,
        held: *held,
        cgroup: sock.cgroup,
        tcp: sock.tcp,
    })
}

/// Initial sequence number of the client's SYN, where the observation has one.
pub(super) fn isn(observation: &Observation) -> Option<u32> {
    match observation {
        Observation::ResetSent { isn, .. } => *isn,
        Observation::FlowEnd { sock, .. }
        | Observation::ResetReceived { sock }
        | Observation::SockError { sock }
        | Observation::Retransmit { sock, .. } => sock.tcp.and_then(|t| t.isn),
        _ => None,
    }
}

/// An ICMP error has reached a socket that connect(2) holds: reported, and not yet in `sk_err`.
pub(super) fn soft_error(side: Side, sock: &Sock) -> bool {
    side == Side::Client && sock.state == TcpState::SynSent && sock.err == 0
}

/// Takes what was seen into the flow. Returns the client's other address, when this tells one.
pub(super) fn note(flow: &mut Live, seen: &Seen<'_>, observation: &Observation) -> Option<SocketAddr> {
    let Seen {
        at,
        side,
        other,
        sock,
        ..
    } = *seen;
    flow.last = flow.last.max(at);
    flow.began = flow.began.min(began(sock).unwrap_or(at));
    let mut alias = None;
    if flow.client() != seen.client && flow.client_as_seen() != seen.client {
        alias = Some(seen.client);
        match side {
            Side::Server => flow.set_seen_as(seen.client),
            // The client's own view is the address before any masquerade.
            Side::Client => flow.unmask(seen.client),
        }
    }
    match side {
        Side::Server => flow.set_server(other),
        Side::Client => flow.set_dialled(other),
    }
    let mut ends = false;
    match observation {
        Observation::FlowEnd {
            old,
            new,
            exiting,
            tgid,
            ..
        } => {
            let end = End {
                at,
                old: *old,
                new: *new,
                exiting: *exiting,
                tgid: *tgid,
                cgroup: sock.cgroup,
                err: sock.err,
                err_soft: sock.err_soft,
                tcp: sock.tcp.unwrap_or_default(),
            };
            match side {
                Side::Server => flow.server_end = Some(Box::new(end)),
                Side::Client => flow.client_end = Some(Box::new(end)),
            }
            ends = true;
        }
        Observation::ResetSent {
            to_syn, has_socket, ..
        } => {
            let Some(reset) = reset_seen(at, observation) else {
                return alias;
            };
            match side {
                // A failed connection can draw several RSTs; the first one tells.
                Side::Server => drop(flow.server_reset.get_or_insert_with(|| Box::new(reset))),
                Side::Client => {
                    let seldom = flow.seldom_mut();
                    seldom.client_reset.get_or_insert_with(|| Box::new(reset));
                }
            }
            ends = *to_syn || *has_socket;
        }
        Observation::ResetReceived { .. } => {
            match side {
                Side::Server => flow.seldom_mut().server_got_reset.get_or_insert(at),
                Side::Client => flow.client_got_reset.get_or_insert(at),
            };
            ends = true;
        }
        Observation::Retransmit { err, silent_ms, .. } => match (side, sock.state) {
            (Side::Client, TcpState::SynSent) => {
                flow.syn_retransmits += 1;
                flow.last_syn = flow.last_syn.max(Some(at));
                // Who sends its SYN again has not got the RST: it was lost, as when the pod's network is taken down right
                // behind it.
                if flow.server_reset.as_ref().is_some_and(|r| r.to_syn && r.at < at) {
                    flow.seldom_mut().lost_reset = flow.server_reset.take();
                    flow.ended = None;
                }
            }
            (Side::Client, state) => {
                let seldom = flow.seldom_mut();
                seldom.request_retransmits += 1;
                let tcp = sock.tcp.unwrap_or_default();
                // It has given up, and not even its FIN is acknowledged.
                if matches!(state, TcpState::FinWait1 | TcpState::LastAck)
                    && tcp.retransmits <= 1
                    && seldom.given_up.is_none()
                {
                    seldom.given_up = Some(GivenUp {
                        at,
                        state,
                        tcp,
                        silent_ms: *silent_ms,
                    });
                    ends = true;
                }
            }
            (Side::Server, _) => {
                // The first that cannot be sent, all before it having been seen: a later one is the same loss again.
                let tcp = sock.tcp.unwrap_or_default();
                let seldom = flow.seldom_mut();
                let first = u32::from(tcp.retransmits) <= seldom.answer_retransmits + 1;
                seldom.answer_retransmits += 1;
                if seldom.lost_answer.is_none()
                    && first
                    && no_way_out(*err)
                    && closed_by_server(sock.state)
                    && tcp.unacked > 1
                {
                    seldom.lost_answer = Some(LostAnswer {
                        at,
                        bytes: tcp.unacked - 1,
                        // The FIN is behind all of them.
                        never_left: tcp.unsent.saturating_sub(1),
                        acked: tcp.bytes_acked,
                    });
                    ends = true;
                }
            }
        },
        // The last one of the connection: it comes behind the end.
        Observation::Answer {
            status, body, end, ..
        } => {
            flow.seldom_mut().answer = Some(AnswerSeen {
                at,
                status: *status,
                body: *body,
                end: *end,
                cgroup: sock.cgroup,
            });
        }
        Observation::SockError { .. } if soft_error(side, sock) => {
            flow.seldom_mut().soft_error.get_or_insert(at);
        }
        _ => {}
    }
    if ends {
        flow.ended.get_or_insert(at);
    }
    alias
}
