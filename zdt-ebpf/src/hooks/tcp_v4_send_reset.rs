//! `tcp_v4_send_reset` and `tcp_v6_send_reset`, the functions: this kernel answers a segment with a RST.
//!
//! Prototype: `(const struct sock *sk, struct sk_buff *skb)`, and a third argument from 6.10 (net/ipv4/tcp_ipv4.c,
//! net/ipv6/tcp_ipv6.c). Before 6.10 the tracepoint `tcp_send_reset` fires in them only for a full socket (the condition
//! `sk && sk_fullsock(sk)`), so that the RST to a SYN without a listener, the commonest of a rollout, is seen by these alone;
//! since then they are not loaded. Both are called by pointers (`request_sock_ops::send_reset`), so that no compiler may
//! leave them out.
//!
//! What the tracepoint sees is left to it. At the entry it is not sure yet that a RST is sent: not in answer to a RST, which is
//! asked here, and not where no route is found or memory is out, which is not seen.

use aya_ebpf::{EbpfContext as _, macros::kprobe, programs::ProbeContext};
use zdt_common::Hook;

use super::tcp_send_reset::{is_full, report};
use crate::{
    maps::ANSWERED,
    read::{Ptr, field, tcp},
};

#[kprobe]
pub fn tcp_v4_send_reset(ctx: ProbeContext) -> i32 {
    entry::<{ Hook::TcpV4SendReset as u16 }>(&ctx);
    0
}

#[inline(always)]
pub fn entry<const HOOK: u16>(ctx: &ProbeContext) {
    let regs = ctx.as_ptr() as Ptr;
    let sk: Ptr = field!(regs, regs_arg0);
    let skb: Ptr = field!(regs, regs_arg1);
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
