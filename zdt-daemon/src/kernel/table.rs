//! Which program serves which hook, and where it attaches. (What its absence costs, the causes say: `needs`.)

use zdt_common::Hook;

/// When a hook is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Rare events: always.
    Held,
    /// Dear: only while something is in transition.
    Armed,
}

/// What a program attaches to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Tracepoint,
    /// The entry of a kernel function, with the tracepoint that tells the same on kernels where it has so many arguments.
    Function {
        unless: &'static str,
        arguments: usize,
    },
    /// The root of cgroup v2: what the sockets of the machine send, or get.
    CgroupEgress,
    CgroupIngress,
}

/// One program of the object and what it gives.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name in the object; that of the tracepoint.
    pub name: &'static str,
    /// The BTF tracepoint or the function that it attaches to, or `cgroup_skb_egress` and `cgroup_skb_ingress`.
    pub tracepoint: &'static str,
    /// Arguments that it relies on, beyond which it asks the running kernel's BTF.
    pub min_args: usize,
    pub class: Class,
    /// zdt does not start without it.
    pub required: bool,
    /// First kernel that has the tracepoint.
    pub since: &'static str,
    /// The events that it makes.
    pub hooks: &'static [Hook],
}

impl Program {
    /// What it attaches to.
    pub fn place(&self) -> Place {
        match self.tracepoint {
            "cgroup_skb_egress" => Place::CgroupEgress,
            "cgroup_skb_ingress" => Place::CgroupIngress,
            "tcp_v4_send_reset" | "tcp_v6_send_reset" => Place::Function {
                unless: "tcp_send_reset",
                arguments: 3,
            },
            _ => Place::Tracepoint,
        }
    }
}

/// Something that a hook tells on some kernels only: what a cause may need beside the hook.
#[derive(Clone, Copy, Debug)]
pub struct Detail {
    /// As causes name it: the hook, and what it tells.
    pub name: &'static str,
    /// The tracepoint that passes it from so many arguments on.
    pub tracepoint: &'static str,
    pub arguments: usize,
    /// First kernel that does.
    pub since: &'static str,
    /// The programs that tell it elsewhere.
    pub instead: &'static [&'static str],
}

/// Every detail.
pub const DETAILS: &[Detail] = &[
    Detail {
        name: "tcp_send_reset/no_socket",
        tracepoint: "tcp_send_reset",
        arguments: 3,
        since: "6.10",
        instead: &["tcp_v4_send_reset", "tcp_v6_send_reset"],
    },
    Detail {
        name: "kfree_skb/reason",
        tracepoint: "kfree_skb",
        arguments: 3,
        since: "5.17",
        instead: &[],
    },
    Detail {
        name: "tcp_retransmit_skb/err",
        tracepoint: "tcp_retransmit_skb",
        arguments: 3,
        since: "6.18",
        instead: &[],
    },
];

/// Every program, in the order of attachment: that of answers behind that of the requests that it must know.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "inet_sock_set_state",
        tracepoint: "inet_sock_set_state",
        min_args: 3,
        class: Class::Held,
        required: true,
        since: "4.16",
        hooks: &[Hook::InetSockSetState, Hook::Listen, Hook::ListenQueue],
    },
    Program {
        name: "tcp_send_reset",
        tracepoint: "tcp_send_reset",
        min_args: 2,
        class: Class::Held,
        required: true,
        since: "4.16",
        hooks: &[Hook::TcpSendReset],
    },
    Program {
        name: "tcp_v4_send_reset",
        tracepoint: "tcp_v4_send_reset",
        min_args: 2,
        class: Class::Held,
        required: false,
        since: "4.16",
        hooks: &[Hook::TcpV4SendReset],
    },
    Program {
        name: "tcp_v6_send_reset",
        tracepoint: "tcp_v6_send_reset",
        min_args: 2,
        class: Class::Held,
        required: false,
        since: "4.16",
        hooks: &[Hook::TcpV6SendReset],
    },
    Program {
        name: "tcp_receive_reset",
        tracepoint: "tcp_receive_reset",
        min_args: 1,
        class: Class::Held,
        required: false,
        since: "4.16",
        hooks: &[Hook::TcpReceiveReset],
    },
    Program {
        name: "inet_sk_error_report",
        tracepoint: "inet_sk_error_report",
        min_args: 1,
        class: Class::Held,
        required: false,
        since: "5.14",
        hooks: &[Hook::InetSkErrorReport],
    },
    Program {
        name: "tcp_retransmit_skb",
        tracepoint: "tcp_retransmit_skb",
        min_args: 2,
        class: Class::Held,
        required: true,
        since: "4.16",
        hooks: &[Hook::TcpRetransmitSkb],
    },
    Program {
        name: "signal_generate",
        tracepoint: "signal_generate",
        min_args: 5,
        class: Class::Held,
        required: true,
        since: "4.20",
        hooks: &[Hook::SignalGenerate],
    },
    Program {
        name: "sched_process_exit",
        tracepoint: "sched_process_exit",
        min_args: 1,
        class: Class::Held,
        required: true,
        since: "2.6",
        hooks: &[Hook::SchedProcessExit],
    },
    Program {
        name: "mark_victim",
        tracepoint: "mark_victim",
        min_args: 1,
        class: Class::Held,
        required: false,
        since: "4.14",
        hooks: &[Hook::MarkVictim],
    },
    Program {
        name: "percpu_free_percpu",
        tracepoint: "percpu_free_percpu",
        min_args: 3,
        class: Class::Held,
        required: false,
        since: "4.13",
        hooks: &[Hook::XtReplace],
    },
    Program {
        name: "kfree_skb",
        tracepoint: "kfree_skb",
        min_args: 2,
        class: Class::Held,
        required: false,
        since: "2.6",
        hooks: &[Hook::KfreeSkb],
    },
    Program {
        name: "icmp_send",
        tracepoint: "icmp_send",
        min_args: 3,
        class: Class::Held,
        required: false,
        since: "6.1",
        hooks: &[Hook::IcmpSend],
    },
    Program {
        name: "net_dev_queue",
        tracepoint: "net_dev_queue",
        min_args: 1,
        class: Class::Armed,
        required: false,
        since: "2.6",
        hooks: &[Hook::NetDevQueue],
    },
    Program {
        name: "cgroup_skb_ingress",
        tracepoint: "cgroup_skb_ingress",
        min_args: 0,
        class: Class::Armed,
        required: false,
        since: "4.18",
        hooks: &[],
    },
    Program {
        name: "cgroup_skb_egress",
        tracepoint: "cgroup_skb_egress",
        min_args: 0,
        class: Class::Armed,
        required: false,
        since: "4.18",
        hooks: &[Hook::CgroupSkbEgress],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_has_exactly_one_program() {
        for hook in Hook::ALL {
            let programs = PROGRAMS.iter().filter(|p| p.hooks.contains(hook)).count();
            assert_eq!(programs, 1, "{}", hook.name());
        }
    }

    #[test]
    fn a_detail_is_of_a_program_and_told_instead_by_programs() {
        let known = |name: &str| PROGRAMS.iter().any(|p| p.name == name);
        for detail in DETAILS {
            assert!(known(detail.tracepoint) && detail.name.starts_with(detail.tracepoint));
            assert!(detail.instead.iter().all(|name| known(name)));
        }
    }

    #[test]
    fn a_hook_is_named_after_its_tracepoint() {
        for program in PROGRAMS {
            for hook in program.hooks {
                assert_eq!(hook.name().split('/').next(), Some(program.tracepoint));
            }
        }
    }
}
