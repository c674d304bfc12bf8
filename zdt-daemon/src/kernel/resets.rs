//! Why a RST was sent, where the kernel passes no reason (before 6.10): each reason belongs to one or two places in the
//! kernel's source, and the state of the socket there tells them apart. The names are those of `enum sk_rst_reason`; the
//! kernel-half tests ask for two of them on packets, on kernels that pass a reason and on those that do not.

use zdt_common::ResetSent;

/// TCP_* (include/net/tcp_states.h).
const TIME_WAIT: u8 = 6;
const CLOSE: u8 = 7;

/// The reason, as far as the place tells it.
pub(super) fn told_by_the_place(reset: &ResetSent) -> Option<&'static str> {
    let view = &reset.view;
    match (reset.is_answer == 1, reset.has_sk == 1) {
        // net/ipv4/tcp_ipv4.c tcp_v4_rcv, no_tcp_socket.
        (true, false) => Some("NO_SOCKET"),
        // do_time_wait, TCP_TW_RST.
        (true, true) if view.full == 0 && view.state == TIME_WAIT => Some("TCP_TIMEWAIT_SOCKET"),
        // net/ipv4/tcp_input.c tcp_rcv_state_process, FIN_WAIT1 and FIN_WAIT2: data for a socket that nobody holds; tcp_reset
        // has closed it before the RST is sent. The only other reason there is an end without linger (TCP_LINGER2 below 0),
        // which is answered by the client's bare ACK: nothing was sent behind our FIN then.
        (true, true) if view.full == 1 && view.state == CLOSE && reset.held == 0 => Some("TCP_ABORT_ON_DATA"),
        // net/ipv4/tcp.c __tcp_close: before it lets go of the process's socket.
        (false, true) if view.state == CLOSE && reset.held == 1 => Some(if view.rcv_nxt == view.copied_seq {
            // tcp_disconnect: SO_LINGER 0
            "TCP_STATE"
        } else {
            "TCP_ABORT_ON_CLOSE"
        }),
        // net/ipv4/inet_connection_sock.c inet_csk_listen_stop, by tcp_disconnect: never accepted, so nobody ever held it and it
        // has sent nothing. A closed one that memory is short for (tcp_check_oom) has a FIN or bytes out.
        (false, true) if view.state == CLOSE && view.bytes_sent == 0 => Some("TCP_STATE"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use zdt_common::SockView;

    use super::*;

    fn reset(is_answer: u8, has_sk: u8, held: u8, view: SockView) -> ResetSent {
        ResetSent {
            view,
            has_sk,
            held,
            is_answer,
            ..ResetSent::default()
        }
    }

    fn closed(unread: u32, bytes_sent: u64) -> SockView {
        SockView {
            full: 1,
            state: CLOSE,
            rcv_nxt: 100 + unread,
            copied_seq: 100,
            bytes_sent,
            ..SockView::default()
        }
    }

    #[test]
    fn each_place_has_its_reason() {
        let time_wait = SockView {
            state: TIME_WAIT,
            ..SockView::default()
        };
        let told = |is_answer, has_sk, held, view| told_by_the_place(&reset(is_answer, has_sk, held, view));
        assert_eq!(told(1, 0, 0, SockView::default()), Some("NO_SOCKET"));
        assert_eq!(told(1, 1, 0, time_wait), Some("TCP_TIMEWAIT_SOCKET"));
        assert_eq!(told(1, 1, 0, closed(0, 5)), Some("TCP_ABORT_ON_DATA"));
        assert_eq!(told(0, 1, 1, closed(7, 0)), Some("TCP_ABORT_ON_CLOSE"));
        assert_eq!(told(0, 1, 1, closed(0, 5)), Some("TCP_STATE"));
        assert_eq!(told(0, 1, 0, closed(7, 0)), Some("TCP_STATE"));
    }

    #[test]
    fn what_two_places_share_is_not_told() {
        let open = SockView {
            full: 1,
            state: 1,
            ..SockView::default()
        };
        // tcp_keepalive_timer, tcp_abort: the state is still that of the connection.
        assert_eq!(told_by_the_place(&reset(0, 1, 1, open)), None);
        assert_eq!(told_by_the_place(&reset(0, 1, 0, closed(0, 5))), None);
        // A request socket or a listener.
        assert_eq!(told_by_the_place(&reset(1, 1, 0, SockView::default())), None);
    }
}
