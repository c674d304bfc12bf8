//! What each hook reports. All times are the kernel's; all ports are in host byte order.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Addr;

/// TASK_COMM_LEN (include/linux/sched.h).
pub const COMM_LEN: usize = 16;

/// Longest cgroup directory name kept. The systemd driver's longest pod slice is
/// `kubepods-besteffort-pod<36>.slice` (65 bytes), its longest scope `cri-containerd-<64>.scope` (85 bytes).
pub const CGROUP_NAME_LEN: usize = 96;

/// `si_code` where the kernel gave no `siginfo`.
pub const SIGNAL_NO_CODE: i32 = i32::MIN;

/// One side of one TCP connection, from its socket; or, where there is no socket, from the packet's headers
/// (then all counters are 0 and `full` is 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockView {
    /// `sk->__sk_common.skc_cookie`; 0 when the kernel has not made one yet.
    pub cookie: u64,
    /// cgroup v2 id of the socket (`sk->sk_cgrp_data`): that of the process that made it or its listener. 0: none.
    pub cgroup_id: u64,
    /// `tcp_sock::bytes_received`; a FIN counts as one byte.
    pub bytes_received: u64,
    /// `tcp_sock::bytes_sent`: payload, retransmissions included.
    pub bytes_sent: u64,
    /// `tcp_sock::bytes_acked`.
    pub bytes_acked: u64,
    pub laddr: Addr,
    pub raddr: Addr,
    pub lport: u16,
    pub rport: u16,
    /// Inode number of the network namespace.
    pub netns: u32,
    pub rcv_nxt: u32,
    pub rcv_wup: u32,
    pub copied_seq: u32,
    pub snd_una: u32,
    pub snd_nxt: u32,
    pub write_seq: u32,
    /// `tcp_sock::snd_wl1`: sequence number of the segment that last acknowledged something of ours
    /// (net/ipv4/tcp_input.c tcp_ack, tcp_update_wl).
    pub snd_wl1: u32,
    pub pad: u32,
    /// `icsk_ack.lrcvtime`, jiffies: when the last payload came.
    pub lrcvtime: u32,
    /// `tcp_sock::lsndtime`, jiffies: when the last payload was sent.
    pub lsndtime: u32,
    pub data_segs_in: u32,
    pub data_segs_out: u32,
    /// `tcp_sock::retrans_stamp`: CLOCK_MONOTONIC in ms, low 32 bits (net/ipv4/tcp_output.c tcp_connect); in SYN_SENT
    /// the time of the first SYN. 0: none.
    pub retrans_stamp: u32,
    /// `sk->sk_err`, positive errno.
    pub err: i32,
    /// `sk->sk_err_soft`, positive errno.
    pub err_soft: i32,
    /// TCP_* state number when the event was made (include/net/tcp_states.h).
    pub state: u8,
    /// `inet_csk->icsk_retransmits`.
    pub retransmits: u8,
    /// 1: read from a full socket. 0: from headers or a mini socket (request, TIME_WAIT), counters are 0.
    pub full: u8,
    /// 1: the local address and port are a known endpoint, so this is the server's side.
    pub server: u8,
}

/// Payload of [`crate::Hook::InetSockSetState`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StateChange {
    pub view: SockView,
    /// The thread that runs; meaningful only when the change comes from its own system call or exit.
    pub pid: u32,
    pub tgid: u32,
    pub old_state: u8,
    pub new_state: u8,
    /// 1: the running thread is exiting (`PF_EXITING`).
    pub exiting: u8,
    pub pad: [u8; 5],
}

/// Payload of [`crate::Hook::Listen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Listener {
    pub cgroup: Cgroup,
    /// All zeroes: any address (0.0.0.0 or ::).
    pub laddr: Addr,
    pub netns: u32,
    pub tgid: u32,
    pub lport: u16,
    /// 1: opened. 0: closed.
    pub open: u8,
    /// 1: closed by the exit of its process.
    pub exiting: u8,
    pub pad: [u8; 4],
}

/// Payload of [`crate::Hook::TcpSendReset`], [`crate::Hook::TcpV4SendReset`] and [`crate::Hook::TcpV6SendReset`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ResetSent {
    /// The sender's side; local is the address the RST comes from.
    pub view: SockView,
    /// `enum sk_rst_reason`, named by the running kernel's BTF. `u32::MAX`: this kernel gives none (before 6.10).
    pub reason: u32,
    /// Flags byte of the TCP header that is answered (FIN 1, SYN 2, RST 4, PSH 8, ACK 16); 0 where there is none.
    pub answered_flags: u8,
    /// 1: there was a socket.
    pub has_sk: u8,
    /// 1: a process holds it (`sk->sk_socket`). 0: it waits to be accepted, or its process has closed it.
    pub held: u8,
    /// 1: it answers a segment.
    pub is_answer: u8,
    /// Sequence number of the segment that is answered: of a SYN the client's initial one, which no translation
    /// changes. 0 where there is no segment.
    pub answered_seq: u32,
    pub pad2: u32,
}

/// Payload of [`crate::Hook::TcpReceiveReset`] and [`crate::Hook::InetSkErrorReport`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockErr {
    pub view: SockView,
}

/// Payload of [`crate::Hook::TcpRetransmitSkb`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Retransmit {
    pub view: SockView,
    /// Result of the transmission, negative errno (6.18 and later); 0 elsewhere.
    pub err: i32,
    /// Jiffies since the last payload came (`icsk_ack.lrcvtime`).
    pub silent: u32,
}

/// Where a process or socket lives, as the kubelet names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Cgroup {
    /// cgroup v2 id (inode number of its directory). 0: none.
    pub id: u64,
    /// Name of the container's directory (`<id>` or `cri-containerd-<id>.scope`), NUL-terminated when shorter.
    pub leaf: [u8; CGROUP_NAME_LEN],
    /// Name of the pod's directory (`pod<uid>` or `kubepods-…-pod<uid>.slice`), NUL-terminated when shorter.
    pub pod: [u8; CGROUP_NAME_LEN],
}

/// A process and where it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Task {
    pub cgroup: Cgroup,
    /// Thread id in the initial pid namespace.
    pub pid: u32,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// Inode number of its network namespace; 0 when it has left it already.
    pub netns: u32,
    pub pad: u32,
    pub comm: [u8; COMM_LEN],
}

/// Payload of [`crate::Hook::SignalGenerate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Signal {
    pub target: Task,
    /// The thread that runs: for `code` <= 0 the sender.
    pub sender_pid: u32,
    pub sender_tgid: u32,
    pub sender_comm: [u8; COMM_LEN],
    pub sig: i32,
    /// `si_code` (0: kill(2), 128: the kernel), or [`SIGNAL_NO_CODE`].
    pub code: i32,
    /// `enum` TRACE_SIGNAL_* (include/trace/events/signal.h): 0 delivered, 1 ignored, 2 already pending, 3 overflow, 4 lost.
    pub result: i32,
    pub pad: u32,
}

/// Payload of [`crate::Hook::SchedProcessExit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcessExit {
    pub task: Task,
    /// `task_struct::exit_code`: as wait(2) encodes it (low 7 bits: signal, bits 8 to 15: exit status).
    pub exit_code: i32,
    pub pad: u32,
}

/// Payload of [`crate::Hook::MarkVictim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OomVictim {
    /// Only `pid` is known on kernels whose tracepoint passes no task (before 6.8).
    pub task: Task,
}

/// XT_TABLE_MAXNAMELEN (include/uapi/linux/netfilter/x_tables.h).
pub const TABLE_NAME_LEN: usize = 32;

/// The replacement of one table is reported at most so often, nanoseconds: what is read later than that after a report
/// holds every replacement that was left out.
pub const TABLE_QUIET_NS: u64 = 1_000_000;

/// Payload of [`crate::Hook::XtReplace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TableReplaced {
    /// `bpf_get_current_pid_tgid()` of the thread that replaced it: process id in the upper half.
    pub pid_tgid: u64,
    /// `ipt_replace::name`, NUL-terminated when shorter; zeroes when it could not be read.
    pub table: [u8; TABLE_NAME_LEN],
    pub comm: [u8; COMM_LEN],
    /// Inode number of the thread's network namespace.
    pub netns: u32,
    /// 4 or 6.
    pub family: u32,
}

/// Payload of [`crate::Hook::ListenQueue`]: a look at a listener, behind an earlier one at `since_ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct QueueLook {
    /// The earlier look: `bpf_ktime_get_ns`.
    pub since_ns: u64,
    /// The local address of the connection that has joined the queue.
    pub laddr: Addr,
    pub lport: u16,
    pub pad: [u8; 2],
    /// Inode number of the network namespace.
    pub netns: u32,
    /// `sock::sk_drops` of the listener at the earlier look, and now: segments that it has dropped, whatever for.
    pub drops_before: u32,
    pub drops: u32,
    /// `sock::sk_ack_backlog`: connections that wait for accept(2), this one included.
    pub backlog: u32,
    /// `sock::sk_max_ack_backlog`: what listen(2) asked for, at most `net.core.somaxconn`. The queue is full with one more.
    pub max: u32,
}
