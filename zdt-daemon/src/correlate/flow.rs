//! One connection attempt, from up to two socket views, packets without a socket, and the node's translation.

mod answer;
mod live;
mod side;
mod silence;

use std::{
    net::SocketAddr,
    ops::{Deref, DerefMut},
};

use self::side::unanswered;
pub use self::{
    answer::AnswerSeen,
    live::{Live, Seldom},
    side::{End, ResetSeen},
    silence::{GivenUp, LostAnswer},
};
use super::packets::{DropSeen, ForwardedSeen, IcmpSeen};
use crate::{
    input::{Ktime, Protocol, Side, Sock, TcpState, Tuple},
    verdict::Outcome,
};

/// Linux errno numbers that a socket error can be (errno(3)).
const EINVAL: i32 = 22;
const ENETUNREACH: i32 = 101;
const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;
const ECONNREFUSED: i32 = 111;
const EHOSTUNREACH: i32 = 113;
const EPIPE: i32 = 32;

/// Where the node's address translation sent the connection.
#[derive(Clone, Copy, Debug)]
pub struct Translated {
    /// `from`: the pod. `to`: the client as the pod saw it.
    pub reply: Option<Tuple>,
    pub replied: bool,
}

/// An earlier attempt between the same ends that nobody answered: its conntrack entry may still stand.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    pub began: Ktime,
    pub ended: Ktime,
    /// The pod that it was translated to.
    pub server: SocketAddr,
}

/// One connection attempt, handed out to be judged: what was kept of it while it lived, and what is told of it then.
#[derive(Clone, Debug)]
pub struct Flow {
    live: Live,
    pub protocol: Protocol,
    /// Known from packets and conntrack alone: its client has no socket on this node, or none that is watched (UDP).
    pub outside: bool,
    /// It may have begun up to so many milliseconds before `began`; 0: it did then.
    pub began_within_ms: u64,
    /// A RST that the client's kernel sent to the pod's own address, though the client dialled another.
    pub stray_reset: Option<Ktime>,
    /// What this node did with its SYNs (or the datagram): the first few drops, the last ICMP error, what it sent on.
    pub drops: Vec<DropSeen>,
    pub icmp: Option<IcmpSeen>,
    pub forwarded: Option<ForwardedSeen>,
    /// What its client saw, where no socket tells it.
    pub told_by_packets: Option<Outcome>,
    pub left: Option<Left>,
}

impl Deref for Flow {
    type Target = Live;

    fn deref(&self) -> &Live {
        &self.live
    }
}

impl DerefMut for Flow {
    fn deref_mut(&mut self) -> &mut Live {
        &mut self.live
    }
}

impl From<Live> for Flow {
    fn from(live: Live) -> Self {
        Self {
            live,
            protocol: Protocol::Tcp,
            outside: false,
            began_within_ms: 0,
            stray_reset: None,
            drops: Vec::new(),
            icmp: None,
            forwarded: None,
            told_by_packets: None,
            left: None,
        }
    }
}

/// Longest close_notify on the wire: TLS 1.3 24 bytes (RFC 8446 5.2), TLS 1.2 with AES-CBC and HMAC-SHA256 69 (RFC 5246
/// 6.2.3.2). A request line with a Host header does not fit.
const CLOSE_NOTIFY_MOST: u32 = 72;

impl Flow {
    pub(super) fn new(client: SocketAddr, began: Ktime) -> Self {
        Self::from(Live::new(client, began))
    }

    /// Nobody ever answered: what it leaves in conntrack stays SYN_SENT.
    pub fn unanswered_syn(&self) -> bool {
        self.protocol == Protocol::Tcp
            && self.failed_to_connect()
            && self.server_reset.is_none()
            && self.told_by_packets != Some(Outcome::Refused)
            && self.translated().is_some_and(|t| t.reply.is_some() && !t.replied)
    }

    /// Nobody answered it, and its conntrack entry has seen an answer: that was to an earlier connection between the same
    /// ends. Conntrack takes a new SYN for that one's where the pod's side had ended it with a RST
    /// (net/netfilter/nf_conntrack_proto_tcp.c nf_conntrack_tcp_packet reopens what was closed otherwise).
    pub fn met_an_answered_entry(&self) -> bool {
        self.protocol == Protocol::Tcp
            && self.failed_to_connect()
            && self.server_reset.is_none()
            && self.client_got_reset.is_none()
            && self.told_by_packets != Some(Outcome::Refused)
            && self.translated().is_some_and(|t| t.reply.is_some() && t.replied)
    }

    /// The client as every node that saw the connection calls it. What this node dropped before any server saw it has come to
    /// no other, and its translation may have been another connection's a moment before: it failed for want of a free one.
    pub fn client_to_all(&self) -> SocketAddr {
        if self.drops.is_empty() {
            self.client_as_seen()
        } else {
            self.seen_as().unwrap_or(self.client())
        }
    }

    /// The connection was never established.
    pub fn failed_to_connect(&self) -> bool {
        self.told_by_packets.is_some()
            || self.server_reset.as_ref().is_some_and(|r| r.to_syn)
            || self
                .client_end
                .as_ref()
                .is_some_and(|e| e.old == TcpState::SynSent)
    }

    /// When the server's side got a RST, from what its kernel told or from its socket's error.
    pub fn server_was_reset(&self) -> Option<Ktime> {
        let end = self.server_end.as_ref();
        let by_error = end.filter(|e| e.err == ECONNRESET || e.err == EPIPE);
        self.seldom().server_got_reset.or_else(|| by_error.map(|e| e.at))
    }

    /// Which side ended an established connection, from whichever view tells.
    pub fn ended_by(&self) -> Option<Side> {
        // A FIN or RST of one side: its own state change or RST is the proof; the earliest one counts.
        let by_server_end = self.server_end.as_ref().map(|end| match (end.old, end.new) {
            (_, TcpState::FinWait1) => (end.at, Side::Server),
            (TcpState::CloseWait, _) => (end.at.minus_ms(1), Side::Client),
            _ if self.seldom().server_got_reset.is_some() || end.err == ECONNRESET || end.err == EPIPE => {
                (end.at, Side::Client)
            }
            _ => (end.at, Side::Server),
        });
        let by_client_end = self.client_end.as_ref().map(|end| match (end.old, end.new) {
            (_, TcpState::FinWait1) => (end.at, Side::Client),
            (TcpState::CloseWait, _) => (end.at.minus_ms(1), Side::Server),
            _ if self.client_got_reset.is_some() || end.err == ECONNRESET || end.err == EPIPE => {
                (end.at, Side::Server)
            }
            // Its own abort, or its own error.
            _ => (end.at, Side::Client),
        });
        let ends = [
            by_server_end,
            by_client_end,
            self.server_reset.as_ref().map(|r| (r.at, Side::Server)),
            self.seldom().lost_answer.map(|l| (l.at, Side::Server)),
            // Who hangs up on silence has not ended it.
            self.seldom().given_up.as_ref().map(|g| (g.at, Side::Server)),
            self.seldom().client_reset.as_ref().map(|r| (r.at, Side::Client)),
        ];
        let first = ends.into_iter().flatten().min_by_key(|(at, _)| *at);
        first.map(|(_, side)| side)
    }

    /// What the client saw, if a request failed at all.
    pub fn outcome(&self) -> Option<Outcome> {
        if self.told_by_packets.is_some() {
            return self.told_by_packets;
        }
        if self.served_error().is_some() {
            return Some(Outcome::ServedError);
        }
        if self.failed_to_connect() {
            return Some(self.connect_outcome());
        }
        let client_reset_by_peer = self.client_got_reset.is_some()
            || self
                .client_end
                .as_ref()
                .is_some_and(|e| e.err == ECONNRESET || e.err == EPIPE);
        if self.lost().is_some() || self.cut_off().is_some() {
            return Some(Outcome::TimedOut);
        }
        match self.ended_by()? {
            Side::Server => {
                let unanswered = self.server_left_unanswered()
                    || self
                        .client_end
                        .as_ref()
                        .is_some_and(|e| e.nothing_came_back() || (client_reset_by_peer && e.awaiting()));
                let aborted = self.server_reset.as_ref().is_some_and(|r| r.has_socket);
                match (unanswered, aborted || client_reset_by_peer) {
                    // The FIN came first: the client reads the end of the stream.
                    _ if self.late_request().is_some() => Some(Outcome::ClosedEarly),
                    // A RST because of unread data is an unanswered request whatever else is known, and one to a connection
                    // that nobody ever used has failed an attempt.
                    _ if self.aborted_unread() || self.reset_unused() => Some(Outcome::Reset),
                    (true, true) => Some(Outcome::Reset),
                    (true, false) => Some(Outcome::ClosedEarly),
                    (false, _) => None,
                }
            }
            Side::Client => {
                let unanswered = self.server_end.as_deref().is_some_and(End::request_unanswered)
                    || self.client_end.as_deref().is_some_and(End::nothing_came_back);
                match self.client_end.as_ref().map(|e| e.err) {
                    _ if !unanswered => None,
                    Some(EHOSTUNREACH | ENETUNREACH) => Some(Outcome::Unreachable),
                    _ => Some(Outcome::TimedOut),
                }
            }
        }
    }

    /// The server's process ended it: with a FIN, or with a RST because of unread data (TCP_ABORT_ON_CLOSE, or no reason on
    /// kernels that give none). TCP_STATE is a connection that was never accepted, or SO_LINGER 0 (net/ipv4/tcp.c
    /// tcp_disconnect).
    pub fn cut_by_server(&self) -> bool {
        match self.server_reset.as_ref().filter(|r| r.has_socket) {
            Some(reset) => reset.reason.as_deref().is_none_or(|r| r.starts_with("TCP_ABORT")),
            None => self.server_end.as_deref().is_some_and(End::closed_first),
        }
    }

    /// A request came after the server had closed the connection, with everything before it answered: the kernel's RST to
    /// it. Not the rest of a request that was cut (its socket ended unanswered), and not what a client says while it
    /// closes itself, as TLS does (RFC 8446 6.1): a client that waits for an answer has not closed.
    pub fn late_request(&self) -> Option<&ResetSeen> {
        let reset = self.server_reset.as_ref().filter(|r| r.to_bytes_after_close())?;
        let cut = self.server_left_unanswered()
            || reset.tcp.is_some_and(|t| unanswered(&t, t.bytes_received, false));
        let closes_itself = self.client_end.as_ref().is_some_and(|e| {
            // Behind the server's FIN, with what it has just sent not acknowledged: its goodbye, or a request whose answer
            // it does not wait for any more since the end of file came first.
            let goodbye = e.new == TcpState::LastAck && e.tcp.unacked <= CLOSE_NOTIFY_MOST;
            e.new == TcpState::FinWait1 || goodbye
        });
        (!cut && !closes_itself).then_some(reset)
    }

    /// The server closed it before its first request came: nothing had been answered on it, so that it was not idle between
    /// two requests.
    pub fn closed_before_any_answer(&self) -> bool {
        let Some(late) = self.late_request() else {
            return false;
        };
        let server = late.tcp.or(self.server_end.as_ref().map(|e| e.tcp));
        server.is_some_and(|t| t.bytes_sent == 0)
            || self.client_end.as_ref().is_some_and(|e| e.received() == 0)
    }

    /// The server closed with unread data: the kernel answers with a RST (net/ipv4/tcp.c __tcp_close).
    fn aborted_unread(&self) -> bool {
        self.server_reset
            .as_ref()
            .is_some_and(|r| r.reason.as_deref() == Some("TCP_ABORT_ON_CLOSE"))
    }

    /// The server's kernel reset a connection on which it had neither got nor sent a byte, a FIN included: it waited to be
    /// accepted, or its application wanted no request of it (SO_LINGER 0).
    fn reset_unused(&self) -> bool {
        // All that is left of a handshake.
        if self.half_open() {
            return true;
        }
        let reset = self.server_reset.as_ref().filter(|r| r.has_socket && !r.to_syn);
        let unused = reset
            .and_then(|r| r.tcp)
            .is_some_and(|t| t.bytes_received == 0 && t.bytes_sent == 0);
        let client_left = self
            .client_end
            .as_ref()
            .is_some_and(|e| e.new == TcpState::FinWait1);
        unused && !client_left
    }

    /// Known by nothing but a RST that no socket sent, to something else than a SYN.
    pub fn half_open(&self) -> bool {
        let reset = self.server_reset.as_ref();
        reset.is_some_and(|r| !r.has_socket && !r.to_syn)
            && self.server_end.is_none()
            && self.client_end.is_none()
    }

    fn connect_outcome(&self) -> Outcome {
        let Some(end) = &self.client_end else {
            return Outcome::Refused;
        };
        match end.err {
            ECONNREFUSED => Outcome::Refused,
            EHOSTUNREACH | ENETUNREACH | EINVAL => Outcome::Unreachable,
            ETIMEDOUT => Outcome::TimedOut,
            _ if self.server_reset.as_ref().is_some_and(|r| r.to_syn) => Outcome::Refused,
            // The application asked SO_ERROR, which clears it (net/core/sock.c sk_getsockopt), and closed.
            _ if self.seldom().soft_error.is_some() && end.err_soft == 0 && !end.exiting => Outcome::Refused,
            // The application gave up waiting.
            _ => Outcome::TimedOut,
        }
    }
}

/// When the connection of this socket began, as far as the socket tells.
pub(super) fn began(sock: &Sock) -> Option<Ktime> {
    sock.tcp.and_then(|t| t.first_syn)
}
