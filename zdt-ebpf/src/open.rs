//! What a connection leaves open when it ends: whether a request may be unanswered, by what its socket has counted.
//!
//! **A RST is reported unless it is a client's way to hang up**: load generators, probes and proxies close with SO_LINGER 0, and
//! nothing failed then. So these are not reported:
//! - the RST that a server's socket gets ([`hung_up_on`]), with the end and the error that it makes, when by the server's counters
//!   no request is open ([`for_server`]), and everything that it sent is acknowledged, but for the FIN of one that closed first.
//!   What is not acknowledged may be what drew the RST: an answer that came to the client by a wrong address;
//! - the RST that a process sends ([`hangs_up`]) from a socket that serves nowhere, when it had its answer, has read and
//!   acknowledged all of it and got all of its own acknowledged; or when it had asked nothing and heard nothing.
//!
//! Everything else is: what a server's side sends (a late request, unread bytes, a queue that is flushed, no socket), what a
//! client's side gets while it is open, what answers a segment, and what a timer sends.
//!
//! The counters hold when the hooks look at them: net/ipv4/tcp_input.c tcp_reset drops what waits to be sent without moving
//! `snd_una` or `write_seq` (net/ipv4/tcp.c tcp_write_queue_purge), and tcp_disconnect and __tcp_close send before they clear anything.
//! The RST itself moves none: tcp_validate_incoming comes before tcp_ack.

use crate::{
    queue,
    read::{Fields, Ptr, Tuple, field, tcp},
};

/// errno(3): what tcp_reset leaves in `sk_err`, the second where the peer's FIN had come.
pub const ECONNRESET: i32 = 104;
pub const EPIPE: i32 = 32;

/// What a connection has counted. It is asked before any map, since for nearly all ends of connections it says enough, and each
/// look into a map costs as much as all of it.
pub struct Counted {
    received: u64,
    sent: u64,
    /// The peer's FIN counts as one byte in bytes_received and in rcv_nxt (net/ipv4/tcp_input.c tcp_fin).
    fin: u64,
}

impl Counted {
    /// `fin`: the peer's has come.
    #[inline(always)]
    pub fn of(sk: impl Fields, fin: bool) -> Self {
        Self {
            received: field!(sk, tp_bytes_received),
            sent: field!(sk, tp_bytes_sent),
            fin: u64::from(fin),
        }
    }
}

/// Whether a request may be unanswered, where this is its client: it asked and got nothing, or asked again since the last
/// answer. When the client closes first, only a request without any answer is one: a TLS client's close_notify
/// (RFC 8446 6.1) is data after the last answer, too.
#[inline(always)]
pub fn for_client(sk: impl Fields, new: u8, counted: &Counted) -> bool {
    if counted.sent == 0 {
        return false;
    }
    if counted.received <= counted.fin {
        return true;
    }
    new != tcp::FIN_WAIT1 && after(field!(sk, tp_lsndtime), field!(sk, icsk_lrcvtime))
}

/// The same, where this is its server. One sign alone is not enough: the times have the resolution of a jiffy, and a
/// response that was cut short looks like one that was finished.
#[inline(always)]
pub fn for_server(sk: impl Fields, new: u8, counted: &Counted) -> bool {
    let &Counted { received, sent, fin } = counted;
    if received <= fin {
        // Nobody asked: a probe, or an idle connection. Where the server closes first, the request may be on its way.
        return fin == 0 && sent == 0 && new == tcp::FIN_WAIT1;
    }
    if sent == 0 || fin == 1 {
        return sent == 0;
    }
    if after(field!(sk, icsk_lrcvtime), field!(sk, tp_lsndtime)) {
        return true;
    }
    let rcv_nxt: u32 = field!(sk, tp_rcv_nxt);
    let rcv_wup: u32 = field!(sk, tp_rcv_wup);
    let copied_seq: u32 = field!(sk, tp_copied_seq);
    // Data came after our last segment, or was never read.
    if rcv_nxt != rcv_wup || rcv_nxt != copied_seq {
        return true;
    }
    // Everything we sent is acknowledged, and data came in or after the segment that acknowledged the last of it: a
    // request that the client sent when it had our last answer.
    let snd_wl1: u32 = field!(sk, tp_snd_wl1);
    unacknowledged(sk) == 0 && rcv_nxt != snd_wl1
}

/// What this side has sent or is to send, and the peer has not acknowledged; a FIN is one.
#[inline(always)]
pub fn unacknowledged(sk: impl Fields) -> u32 {
    let write_seq: u32 = field!(sk, tp_write_seq);
    let snd_una: u32 = field!(sk, tp_snd_una);
    write_seq.wrapping_sub(snd_una)
}

/// Whether the RST that this socket gets leaves nothing open. `state`: its state before. What serves nowhere may be the client of a
/// server that sent it, unless its own process had closed it, without ever asking.
#[inline(always)]
pub fn hung_up_on(sk: Ptr, state: u8, server: bool) -> bool {
    if state == tcp::SYN_SENT {
        return false;
    }
    let open = state == tcp::ESTABLISHED || state == tcp::SYN_RECV || state == tcp::CLOSE_WAIT;
    let fin = state == tcp::CLOSE_WAIT || state == tcp::LAST_ACK || state == tcp::CLOSING;
    let counted = Counted::of(sk, fin);
    if !server {
        return !open && counted.sent == 0;
    }
    let (new, own_fin) = if open {
        (tcp::CLOSE, 0)
    } else {
        (tcp::FIN_WAIT1, 1)
    };
    !for_server(sk, new, &counted) && unacknowledged(sk) <= own_fin
}

/// Whether the RST that a process's close(2) sends leaves nothing open, from a socket that serves nowhere. Both places set the
/// state first; what waits to be accepted is not held (net/ipv4/inet_connection_sock.c inet_csk_listen_stop). No service need lead
/// to a pod's listener. That the peer's FIN has come no longer shows: one byte may be it.
#[inline(always)]
pub fn hangs_up(sk: Ptr, state: u8, tuple: &Tuple) -> bool {
    let socket: Ptr = field!(sk, sk_socket);
    if state != tcp::CLOSE || socket == 0 {
        return false;
    }
    let counted = Counted::of(sk, true);
    let rcv_nxt: u32 = field!(sk, tp_rcv_nxt);
    let copied_seq: u32 = field!(sk, tp_copied_seq);
    let done = if counted.sent == 0 {
        counted.received <= 1
    } else {
        !for_client(sk, tcp::CLOSE, &counted) && rcv_nxt == copied_seq && unacknowledged(sk) == 0
    };
    done && !queue::listens_at(sk, tuple.lport)
}

/// `a` is later than `b`, both jiffies (include/linux/jiffies.h time_after).
#[inline(always)]
fn after(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) < 0
}
