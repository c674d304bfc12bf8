//! `tcp_v4_send_reset` and `tcp_v6_send_reset`, the functions: this kernel answers a segment with a RST.
//!
//! Prototype: `(const struct sock *sk, struct sk_buff *skb)`, and a third argument from 6.10 (net/ipv4/tcp_ipv4.c,
//! net/ipv6/tcp_ipv6.c). Before 6.10 the tracepoint `tcp_send_reset` fires in them only for a full socket (the condition
//! `sk && sk_fullsock(sk)`), so that the RST to a SYN without a listener, the commonest of a rollout, is seen by these alone;
//! since then they are not loaded. Both are called by pointers (`request_sock_ops::send_reset`), so that no compiler may
//! leave them out.
//!
//! A trampoline (fentry) where the kernel has them: it takes no perf event, which Debian's and Ubuntu's kernels keep for
//! CAP_SYS_ADMIN (`kernel.perf_event_paranoid` 3 and more). A probe elsewhere (64-bit ARM before 6.0).
//!
//! What the tracepoint sees is left to it. At the entry it is not sure yet that a RST is sent: not in answer to a RST, which is
//! asked here, and not where no route is found or memory is out, which is not seen.

use aya_ebpf::{
    EbpfContext as _,
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use zdt_common::Hook;

use super::tcp_send_reset::{is_full, report};
use crate::{
    maps::ANSWERED,
    read::{Ptr, field, tcp},
};

#[fentry]
pub fn tcp_v4_send_reset(ctx: FEntryContext) -> i32 {
    trampoline::<{ Hook::TcpV4SendReset as u16 }>(&ctx);
    0
}

#[kprobe]
pub fn tcp_v4_send_reset_probe(ctx: ProbeContext) -> i32 {
    probe::<{ Hook::TcpV4SendReset as u16 }>(&ctx);
    0
}

#[inline(always)]
pub fn trampoline<const HOOK: u16>(ctx: &FEntryContext) {
    entry::<HOOK>(ctx.arg(0), ctx.arg(1));
}

#[inline(always)]
pub fn probe<const HOOK: u16>(ctx: &ProbeContext) {
    let regs = ctx.as_ptr() as Ptr;
    entry::<HOOK>(field!(regs, regs_arg0), field!(regs, regs_arg1));
}

#[inline(always)]
fn entry<const HOOK: u16>(sk: Ptr, skb: Ptr) {
    // It is dropped behind the RST: nobody else's doing (kfree_skb.rs).
    if let Some(answered) = ANSWERED.get_ptr_mut(0) {
        unsafe { *answered = skb };
    }
    let state: u8 = field!(sk, sk_state);
    // A listener is a full socket to sk_fullsock (include/net/sock.h).
    if skb == 0 || is_full(sk, state) || (sk != 0 && state == tcp::LISTEN) {
        return;
    }
    report::<HOOK>(sk, skb, u32::MAX);
}
