//! One file a hook, named after its attach point. Each says the kernel prototype it relies on, since when it exists,
//! and why it filters as it does.

mod cgroup_skb_egress;
mod cgroup_skb_ingress;
mod icmp_send;
mod inet_sk_error_report;
mod inet_sock_set_state;
mod kfree_skb;
mod mark_victim;
pub mod net_dev_queue;
pub mod percpu_free_percpu;
mod sched_process_exit;
mod signal_generate;
mod task_file;
mod tcp_receive_reset;
mod tcp_retransmit_skb;
mod tcp_send_reset;
mod tcp_v4_send_reset;
mod tcp_v6_send_reset;
