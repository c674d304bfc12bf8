//! What one side of a connection showed: how its socket ended, and the RST that it sent.

use crate::input::{CgroupId, Ktime, NetnsInum, TcpCounters, TcpState};

/// The end of one socket view.
#[derive(Clone, Debug)]
pub struct End {
    pub at: Ktime,
    pub old: TcpState,
    pub new: TcpState,
    /// Closed by a dying process.
    pub exiting: bool,
    /// The process that ran then: the one that closed it where it closed first.
    pub tgid: u32,
    pub cgroup: CgroupId,
    /// positive errno
    pub err: i32,
    pub err_soft: i32,
    pub tcp: TcpCounters,
}

impl End {
    /// The peer's FIN, when it has come: it counts as one received byte.
    fn fin(&self) -> u64 {
        u64::from(self.old == TcpState::CloseWait)
    }

    /// Payload bytes received.
    pub fn received(&self) -> u64 {
        self.tcp.bytes_received.saturating_sub(self.fin())
    }

    /// Payload bytes that its process had written when it closed first: its FIN is not in them yet
    /// (net/ipv4/tcp.c __tcp_close).
    pub fn written(&self) -> u64 {
        self.tcp.bytes_acked + u64::from(self.tcp.unacked)
    }

    /// This side closed first and in order (a FIN), not after the peer's FIN and not by a RST.
    pub fn closed_first(&self) -> bool {
        self.new == TcpState::FinWait1
    }

    /// A request was in when this server's socket ended, and its answer was not.
    pub fn request_unanswered(&self) -> bool {
        unanswered(&self.tcp, self.received(), self.old == TcpState::CloseWait)
    }

    /// A client's socket ended with a request sent and no byte of an answer.
    pub fn nothing_came_back(&self) -> bool {
        self.tcp.bytes_sent > 0 && self.received() == 0
    }

    /// A client's socket ended with something sent after the last byte came.
    pub fn awaiting(&self) -> bool {
        self.nothing_came_back() || (self.tcp.bytes_sent > 0 && self.tcp.last_in_after_out_jiffies < 0)
    }
}

/// A server's socket has a request in and no answer out. `client_closed`: the client's FIN has come.
pub(super) fn unanswered(tcp: &TcpCounters, received: u64, client_closed: bool) -> bool {
    if received == 0 {
        return false;
    }
    if tcp.bytes_sent == 0 {
        return true;
    }
    // After a client's FIN, only "nothing was ever sent" is proof: a TLS client's close_notify is data after the last
    // answer, too.
    let with_our_answer_in_hand = tcp.unacked == 0 && tcp.since_last_acked > 0;
    !client_closed
        && (tcp.unread > 0
            || tcp.since_last_segment > 0
            || tcp.last_in_after_out_jiffies > 0
            || with_our_answer_in_hand)
}

/// A RST that this kernel sent.
#[derive(Clone, Debug)]
pub struct ResetSeen {
    /// Whose namespace sent it; 0: not known.
    pub netns: NetnsInum,
    pub at: Ktime,
    pub reason: Option<String>,
    pub to_syn: bool,
    pub has_socket: bool,
    /// Whether a process held the socket, where that is told.
    pub held: Option<bool>,
    pub cgroup: CgroupId,
    /// Of the socket that sent it, before it took the segment that it answers; None: headers or a mini socket.
    pub tcp: Option<TcpCounters>,
}

impl ResetSeen {
    /// It answers data that came after this side had closed: a FIN was out already. net/ipv4/tcp_minisocks.c
    /// tcp_timewait_state_process (TCP_TW_RST, a FIN_WAIT2 whose FIN was acknowledged) and net/ipv4/tcp_input.c
    /// tcp_rcv_state_process (FIN_WAIT1 and FIN_WAIT2 of a socket that nobody holds any more).
    pub fn to_bytes_after_close(&self) -> bool {
        matches!(
            self.reason.as_deref(),
            Some("TCP_TIMEWAIT_SOCKET" | "TCP_ABORT_ON_DATA")
        )
    }
}
