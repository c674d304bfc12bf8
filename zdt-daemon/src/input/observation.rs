//! What the kernel and its connection tracking reported, with names instead of numbers.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{CgroupId, Ktime, NetnsInum, Packet, PodUid, Protocol};

/// TCP states by name (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TcpState {
    Established,
    SynSent,
    SynRecv,
    #[serde(rename = "FIN_WAIT1")]
    FinWait1,
    #[serde(rename = "FIN_WAIT2")]
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    NewSynRecv,
    /// A number this zdt has no name for.
    Unknown,
}

/// Which side of the connection a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Local address and port are a known endpoint.
    Server,
    Client,
}

/// One side of a TCP connection. Fields as in `zdt_common::SockView`; zero where there was no full socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sock {
    pub side: Side,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub netns: NetnsInum,
    pub cgroup: CgroupId,
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub cookie: u64,
    pub state: TcpState,
    /// positive errno
    #[serde(default, skip_serializing_if = "is_zero_i32")]
    pub err: i32,
    /// positive errno
    #[serde(default, skip_serializing_if = "is_zero_i32")]
    pub err_soft: i32,
    /// None: no full socket (headers only, request socket or TIME_WAIT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCounters>,
}

/// Counters of a full TCP socket; see `zdt_common::SockView` for each field's kernel source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpCounters {
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub bytes_acked: u64,
    pub data_segs_in: u32,
    pub data_segs_out: u32,
    /// `rcv_nxt - copied_seq`: received and not read, a FIN counts as one.
    pub unread: u32,
    /// `rcv_nxt - rcv_wup`: received since our last segment, a FIN counts as one.
    pub since_last_segment: u32,
    /// `write_seq - snd_una`: written and not acknowledged.
    pub unacked: u32,
    /// `write_seq - snd_nxt`: written and never sent.
    #[serde(default)]
    pub unsent: u32,
    /// `rcv_nxt - snd_wl1`: received in and after the segment that last acknowledged something of ours. When nothing is
    /// unacknowledged, that is what the peer sent with our last answer in its hands.
    #[serde(default)]
    pub since_last_acked: u32,
    /// `lrcvtime - lsndtime` in jiffies, signed: > 0 when the last payload went in.
    pub last_in_after_out_jiffies: i32,
    /// Retransmission timeouts in a row.
    pub retransmits: u8,
    /// In SYN_SENT: when the first SYN was sent (1 ms resolution).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_syn: Option<Ktime>,
    /// In SYN_SENT: the initial sequence number of the SYN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isn: Option<u32>,
}

/// Where a process lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub cgroup: CgroupId,
    pub netns: NetnsInum,
    pub attribution: Attribution,
}

/// Whose process or socket it is, from the cgroup's names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attribution {
    /// A pod's container (its runtime id; empty for a process in the pod's own cgroup).
    Pod {
        uid: PodUid,
        container: String,
    },
    /// A process of the host.
    Host,
    Unknown(String),
}

/// What the kernel half reported, with names instead of numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "hook", rename_all = "snake_case")]
pub enum Observation {
    /// `inet_sock_set_state`: a connection ends (`new` is FIN_WAIT1, LAST_ACK or CLOSE).
    FlowEnd {
        sock: Sock,
        old: TcpState,
        new: TcpState,
        /// The running thread is exiting: the close comes from a dying process.
        exiting: bool,
        tgid: u32,
    },
    /// `inet_sock_set_state` to and from LISTEN.
    Listener {
        place: Place,
        /// Unspecified address: any.
        local: SocketAddr,
        open: bool,
        exiting: bool,
        tgid: u32,
    },
    /// `tcp_send_reset`. `sock.local` sends the RST.
    ResetSent {
        sock: Sock,
        /// Name from BTF without its prefix (`NO_SOCKET`); None on kernels that give none.
        reason: Option<String>,
        /// The RST answers a SYN.
        to_syn: bool,
        has_socket: bool,
        /// A process holds the socket. false: it waits to be accepted, or its process has closed it. None: not told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        held: Option<bool>,
        /// Of the answered SYN: its sequence number, which no translation changes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        isn: Option<u32>,
    },
    /// `tcp_receive_reset`.
    ResetReceived { sock: Sock },
    /// `inet_sk_error_report`.
    SockError { sock: Sock },
    /// `tcp_retransmit_skb` after a timeout.
    Retransmit {
        sock: Sock,
        /// negative errno, 0: sent
        #[serde(default, skip_serializing_if = "is_zero_i32")]
        err: i32,
        /// How long the last payload was ago, where any came.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        silent_ms: Option<u64>,
    },
    /// `signal_generate` for a process in a pod.
    Signal {
        place: Place,
        pid: u32,
        tgid: u32,
        comm: String,
        sig: i32,
        /// `si_code`; None: the kernel gave no siginfo.
        code: Option<i32>,
        /// The signal was not discarded by an ignore disposition.
        delivered: bool,
        sender_tgid: u32,
        sender_comm: String,
    },
    /// `sched_process_exit` of the last thread of a process in a pod.
    Exit {
        place: Place,
        tgid: u32,
        comm: String,
        /// As wait(2) encodes it.
        exit_code: i32,
    },
    /// `mark_victim`: the out-of-memory killer chose it.
    OomVictim { place: Place, pid: u32, comm: String },
    /// A table of this node's legacy iptables was replaced: the new one was in force at this time at the latest.
    TableReplaced {
        netns: NetnsInum,
        /// 4 or 6.
        family: u8,
        /// `nat`, `filter` …; empty when the kernel could not tell.
        table: String,
        /// `comm` of the process that replaced it.
        by: String,
        tgid: u32,
    },
    /// `net_dev_queue`: this node sends a packet on to an endpoint that is, or was a short time ago, in transition. A
    /// bridge makes two of one packet. Seen only while something is in transition (an armed hook).
    Forwarded { packet: Packet },
    /// `kfree_skb` in this node's own namespace: it dropped a packet for a service or an endpoint.
    Dropped {
        packet: Packet,
        /// Name from BTF without its prefix (`NETFILTER_DROP`); None on kernels that give none (before 5.17).
        reason: Option<String>,
    },
    /// `icmp_send` in this node's own namespace: an ICMP error (IPv4 only) for a packet to a service or an endpoint.
    IcmpSent {
        /// The packet that the error is about.
        packet: Packet,
        /// As the ICMP header has them: 3/3 is "port unreachable", what a REJECT rule sends.
        kind: u8,
        code: u8,
    },
    /// `inet_sock_set_state` of a connection that joins its listener's queue: a look at the listener. Seen while the queue is
    /// full or drops, once in 100 ms, and when that is over.
    ListenQueue {
        netns: NetnsInum,
        /// The pod's address, and the listener's port.
        local: SocketAddr,
        /// The look before.
        since: Ktime,
        /// SYNs and ends of handshakes that the listener has dropped since then.
        #[serde(default)]
        dropped: u32,
        /// Connections that wait for accept(2).
        waiting: u32,
        /// What listen(2) asked for, at most `net.core.somaxconn`: the queue is full with one more.
        backlog: u32,
    },
    /// `cgroup_skb/egress`: an HTTP/1 answer of a pod that is, or was a short time ago, in transition. One with a status of
    /// 500 or more when it was sent, and the last one of a connection that its server ended, behind its `FlowEnd`. Seen only
    /// while something is in transition (an armed hook), and in plain text.
    Answer {
        sock: Sock,
        /// 0: unreadable.
        status: u16,
        body: Body,
        /// The connection ended behind it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end: Option<AnswerEnd>,
    },
}

/// What an HTTP answer's head promises of its body (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// It has none: a status without, or the answer to a HEAD request.
    None,
    /// Content-Length.
    Length(u64),
    Chunked,
    /// It ends with the connection.
    UntilClose,
    /// The head is longer than what is kept of it, came in pieces, or contradicts itself.
    Unknown,
}

/// What had gone out of an answer when its connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerEnd {
    /// Bytes of the body. None: not known.
    pub sent: Option<u32>,
    /// Of a chunked body: the last chunk had. None: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminated: Option<bool>,
}

/// Longer bodies are not measured: sequence numbers come round.
const MEASURABLE: u64 = u32::MAX as u64 / 2;

impl AnswerEnd {
    /// Less went out than the head had promised. What is not known is not cut.
    pub fn cuts(&self, body: Body) -> bool {
        match body {
            Body::Length(length) => {
                length <= MEASURABLE && self.sent.is_some_and(|sent| u64::from(sent) < length)
            }
            Body::Chunked => self.terminated == Some(false),
            Body::None | Body::UntilClose | Body::Unknown => false,
        }
    }
}

/// A conntrack entry of this node: looked up when a client socket of this node failed or retransmitted, looked up some
/// time after a packet of a client without a socket here, or read from the packet itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Translation {
    /// Absent in a record: TCP.
    #[serde(default, skip_serializing_if = "Protocol::is_tcp")]
    pub protocol: Protocol,
    /// What the client dialled: its address, and the service's or pod's.
    pub orig: Tuple,
    /// Where replies come from: `reply.from` is the pod that was chosen, `reply.to` is the client as that pod saw it.
    /// None: no entry was found.
    pub reply: Option<Tuple>,
    /// The entry has seen a packet from the pod (not UNREPLIED).
    pub replied: bool,
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tuple {
    pub from: SocketAddr,
    pub to: SocketAddr,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero_u64(v: &u64) -> bool {
    *v == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero_i32(v: &i32) -> bool {
    *v == 0
}
