//! `tcp_v6_send_reset`, the function: this kernel answers a segment with a RST over IPv6. All of it stands at its twin,
//! tcp_v4_send_reset.rs; prototype and minimum are the same (net/ipv6/tcp_ipv6.c).

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use zdt_common::Hook;

use super::tcp_v4_send_reset::{probe, trampoline};

#[fentry]
pub fn tcp_v6_send_reset(ctx: FEntryContext) -> i32 {
    trampoline::<{ Hook::TcpV6SendReset as u16 }>(&ctx);
    0
}

#[kprobe]
pub fn tcp_v6_send_reset_probe(ctx: ProbeContext) -> i32 {
    probe::<{ Hook::TcpV6SendReset as u16 }>(&ctx);
    0
}
