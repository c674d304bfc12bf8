//! One line per hook: its number on the wire, its payload, its name.

/// Declares [`Hook`], so that a hook is one line.
macro_rules! hooks {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $payload:ident, $text:literal;)*) => {
        /// Where in the kernel an event comes from. Numbers are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Hook { $($(#[$doc])* $name = $id),* }

        impl Hook {
            /// Every hook, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The hook of a number on the wire.
            pub const fn from_wire(id: u16) -> Option<Self> {
                match id { $($id => Some(Self::$name),)* _ => None }
            }

            /// Kernel name of the attach point (and of the eBPF program, and of the file that holds it).
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// Length of the hook's payload in bytes.
            pub const fn payload_len(self) -> usize {
                match self { $(Self::$name => core::mem::size_of::<crate::$payload>()),* }
            }
        }

        /// A payload with its type.
        #[derive(Clone, Copy, Debug)]
        pub enum Event<'a> { $($name(&'a crate::$payload)),* }

        pub(crate) fn payload(hook: Hook, bytes: &[u8]) -> Option<Event<'_>> {
            match hook {
                $(Hook::$name => <crate::$payload as zerocopy::FromBytes>::ref_from_bytes(bytes).ok().map(Event::$name)),*
            }
        }
    };
}

hooks! {
    /// A connection's end: `inet_sock_set_state` to FIN_WAIT1, LAST_ACK or CLOSE when something looks wrong.
    InetSockSetState = 0, StateChange, "inet_sock_set_state";
    /// A listener of a pod opened or closed: the same tracepoint, to and from LISTEN.
    Listen = 1, Listener, "inet_sock_set_state/listen";
    /// This kernel sends a RST.
    TcpSendReset = 2, ResetSent, "tcp_send_reset";
    /// A socket of this node received a RST.
    TcpReceiveReset = 3, SockErr, "tcp_receive_reset";
    /// A socket error is reported to its owner.
    InetSkErrorReport = 4, SockErr, "inet_sk_error_report";
    /// A segment is retransmitted after a timeout.
    TcpRetransmitSkb = 5, Retransmit, "tcp_retransmit_skb";
    /// A signal for a process in a pod.
    SignalGenerate = 6, Signal, "signal_generate";
    /// The last thread of a process in a pod exits.
    SchedProcessExit = 7, ProcessExit, "sched_process_exit";
    /// The out-of-memory killer chose a victim.
    MarkVictim = 8, OomVictim, "mark_victim";
    /// A legacy iptables table was replaced: x_tables frees the counters of the table that was there.
    XtReplace = 9, TableReplaced, "percpu_free_percpu/xt_replace";
    /// A packet for a service or an endpoint was dropped in the node's network namespace.
    KfreeSkb = 10, SkbDropped, "kfree_skb";
    /// An ICMP error about a packet for a service or an endpoint was sent in the node's network namespace.
    IcmpSend = 11, IcmpError, "icmp_send";
    /// A packet for an endpoint in transition was handed to a device of the node's network namespace.
    NetDevQueue = 12, Forwarded, "net_dev_queue";
    /// The queue of a pod's listener is full, or has dropped something: the first tracepoint, when a connection joins it.
    ListenQueue = 13, QueueLook, "inet_sock_set_state/queue";
    /// An HTTP answer of a pod in transition: one with a status of 500 or more, or the last one of a connection that its
    /// server ends.
    CgroupSkbEgress = 15, Answer, "cgroup_skb_egress";
    /// This kernel sends a RST over IPv4 without a full socket, where the tracepoint does not tell (before 6.10).
    TcpV4SendReset = 16, ResetSent, "tcp_v4_send_reset";
    /// The same over IPv6.
    TcpV6SendReset = 17, ResetSent, "tcp_v6_send_reset";
}

/// Size of the per-hook arrays: one more than the highest number.
pub const HOOK_COUNT: usize = match Hook::ALL.last() {
    Some(last) => *last as usize + 1,
    None => 0,
};
