//! Where the kernel half finds each field: byte offsets that the daemon reads from the running kernel's BTF at start
//! and passes as one global. Rust emits no CO-RE relocations.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The running kernel has no such field; what would be read from it is 0.
pub const ABSENT: u16 = u16::MAX;

/// How the daemon finds an offset: a struct and the member paths to try, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetSpec {
    /// Name in [`Offsets`].
    pub name: &'static str,
    /// Kernel struct.
    pub of: &'static str,
    /// Member paths, the newest kernel's first (`__sk_common.skc_daddr`).
    pub paths: &'static [&'static str],
    /// zdt cannot run without it.
    pub required: bool,
}

macro_rules! offsets {
    ($($name:ident: $of:literal [$($path:literal)|+] $need:ident;)*) => {
        /// Byte offsets into kernel structs; [`ABSENT`] where the running kernel has none.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct Offsets { $(
            #[doc = concat!("`", $of, "`: ", $("`", $path, "` "),+)]
            pub $name: u16
        ),* }

        /// One entry per field of [`Offsets`], in its order.
        pub const OFFSET_SPECS: &[OffsetSpec] = &[$(
            OffsetSpec { name: stringify!($name), of: $of, paths: &[$($path),+], required: offsets!(@$need) }
        ),*];

        impl Offsets {
            /// Nothing is known: what the object file holds until the daemon sets it.
            pub const UNSET: Self = Self { $($name: ABSENT),* };
        }
    };
    (@required) => { true };
    (@optional) => { false };
}

offsets! {
    // struct sock_common
    sk_family: "sock" ["__sk_common.skc_family"] required;
    sk_state: "sock" ["__sk_common.skc_state"] required;
    sk_dport: "sock" ["__sk_common.skc_dport"] required;
    sk_num: "sock" ["__sk_common.skc_num"] required;
    sk_daddr: "sock" ["__sk_common.skc_daddr"] required;
    sk_rcv_saddr: "sock" ["__sk_common.skc_rcv_saddr"] required;
    sk_v6_daddr: "sock" ["__sk_common.skc_v6_daddr"] optional;
    sk_v6_rcv_saddr: "sock" ["__sk_common.skc_v6_rcv_saddr"] optional;
    sk_net: "sock" ["__sk_common.skc_net.net"] required;
    sk_cookie: "sock" ["__sk_common.skc_cookie.counter"] optional;
    // struct sock
    sk_protocol: "sock" ["sk_protocol"] optional;
    sk_err: "sock" ["sk_err"] required;
    sk_err_soft: "sock" ["sk_err_soft"] required;
    sk_cgrp: "sock" ["sk_cgrp_data.cgroup" | "sk_cgrp_data.val"] optional;
    sk_drops: "sock" ["sk_drops.counter"] optional;
    sk_ack_backlog: "sock" ["sk_ack_backlog"] optional;
    sk_max_ack_backlog: "sock" ["sk_max_ack_backlog"] optional;
    sk_socket: "sock" ["sk_socket"] optional;
    // struct file, struct inode, struct socket
    file_inode: "file" ["f_inode"] optional;
    file_private_data: "file" ["private_data"] optional;
    inode_mode: "inode" ["i_mode"] optional;
    socket_sk: "socket" ["sk"] optional;
    // struct inet_sock
    inet_sport: "inet_sock" ["inet_sport"] required;
    // struct inet_connection_sock
    icsk_retransmits: "inet_connection_sock" ["icsk_retransmits"] required;
    icsk_lrcvtime: "inet_connection_sock" ["icsk_ack.lrcvtime"] required;
    // struct tcp_sock
    tp_bytes_received: "tcp_sock" ["bytes_received"] required;
    tp_bytes_sent: "tcp_sock" ["bytes_sent"] required;
    tp_bytes_acked: "tcp_sock" ["bytes_acked"] required;
    tp_rcv_nxt: "tcp_sock" ["rcv_nxt"] required;
    tp_rcv_wup: "tcp_sock" ["rcv_wup"] required;
    tp_copied_seq: "tcp_sock" ["copied_seq"] required;
    tp_snd_una: "tcp_sock" ["snd_una"] required;
    tp_snd_nxt: "tcp_sock" ["snd_nxt"] required;
    tp_write_seq: "tcp_sock" ["write_seq"] required;
    tp_snd_wl1: "tcp_sock" ["snd_wl1"] required;
    tp_lsndtime: "tcp_sock" ["lsndtime"] required;
    tp_data_segs_in: "tcp_sock" ["data_segs_in"] required;
    tp_data_segs_out: "tcp_sock" ["data_segs_out"] required;
    tp_retrans_stamp: "tcp_sock" ["retrans_stamp"] required;
    // struct sk_buff
    skb_head: "sk_buff" ["head"] required;
    skb_network_header: "sk_buff" ["network_header"] required;
    skb_transport_header: "sk_buff" ["transport_header"] required;
    skb_dev: "sk_buff" ["dev"] required;
    skb_sk: "sk_buff" ["sk"] required;
    skb_pkt_type: "sk_buff" ["pkt_type"] optional;
    skb_len: "sk_buff" ["len"] required;
    skb_refdst: "sk_buff" ["_skb_refdst"] required;
    skb_nfct: "sk_buff" ["_nfct"] optional;
    dst_dev: "dst_entry" ["dev"] required;
    dev_net: "net_device" ["nd_net.net"] required;
    net_inum: "net" ["ns.inum"] required;
    // struct nf_conn; in the BTF of the module nf_conntrack where the kernel itself does not use it
    ct_status: "nf_conn" ["status"] optional;
    ct_l3num: "nf_conn" ["tuplehash[0].tuple.src.l3num"] optional;
    ct_orig_saddr: "nf_conn" ["tuplehash[0].tuple.src.u3.ip6"] optional;
    ct_orig_sport: "nf_conn" ["tuplehash[0].tuple.src.u.all"] optional;
    ct_orig_daddr: "nf_conn" ["tuplehash[0].tuple.dst.u3.ip6"] optional;
    ct_orig_dport: "nf_conn" ["tuplehash[0].tuple.dst.u.all"] optional;
    ct_reply_saddr: "nf_conn" ["tuplehash[1].tuple.src.u3.ip6"] optional;
    ct_reply_sport: "nf_conn" ["tuplehash[1].tuple.src.u.all"] optional;
    ct_reply_daddr: "nf_conn" ["tuplehash[1].tuple.dst.u3.ip6"] optional;
    ct_reply_dport: "nf_conn" ["tuplehash[1].tuple.dst.u.all"] optional;
    // struct task_struct
    task_pid: "task_struct" ["pid"] required;
    task_tgid: "task_struct" ["tgid"] required;
    task_comm: "task_struct" ["comm"] required;
    task_flags: "task_struct" ["flags"] required;
    task_exit_code: "task_struct" ["exit_code"] required;
    task_signal: "task_struct" ["signal"] required;
    task_nsproxy: "task_struct" ["nsproxy"] required;
    task_cgroups: "task_struct" ["cgroups"] optional;
    signal_live: "signal_struct" ["live.counter"] required;
    nsproxy_net: "nsproxy" ["net_ns"] required;
    siginfo_code: "kernel_siginfo" ["si_code"] required;
    // The registers of a system call or of a function's entry: x86_64 | arm64.
    task_stack: "task_struct" ["stack"] optional;
    regs_nr: "pt_regs" ["orig_ax" | "syscallno"] optional;
    regs_arg0: "pt_regs" ["di" | "regs[0]"] optional;
    regs_arg1: "pt_regs" ["si" | "regs[1]"] optional;
    regs_arg2: "pt_regs" ["dx" | "regs[2]"] optional;
    regs_arg3: "pt_regs" ["r10" | "regs[3]"] optional;
    regs_last: "pt_regs" ["ss" | "exit_rcu"] optional;
    // cgroups
    css_set_dfl_cgrp: "css_set" ["dfl_cgrp"] optional;
    cgroup_kn: "cgroup" ["kn"] optional;
    kn_id: "kernfs_node" ["id"] optional;
    kn_name: "kernfs_node" ["name"] optional;
    kn_parent: "kernfs_node" ["__parent" | "parent"] optional;
}
