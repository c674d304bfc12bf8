//! `tcp_send_reset`: this kernel sends a RST.
//!
//! Prototype: `(const struct sock *sk, const struct sk_buff *skb)` from 4.16, and a third argument
//! `enum sk_rst_reason reason` from 6.10 (include/trace/events/tcp.h). Minimum: 4.16. Before 6.10 it does not fire
//! without a full socket: no answer to a SYN without a listener is seen there.
//!
//! `skb` is the received packet that is answered, or null: net/ipv4/tcp_output.c tcp_send_active_reset passes null.
//! `sk` is null when no socket matched, and may be a listener, a request socket or TIME_WAIT. These have no
//! connection of their own, so the ends are taken from the packet.
//!
//! Every RST that passes the address filter is reported: healthy traffic sends none.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use zdt_common::{Hook, ResetSent};

use crate::{
    emit::emit,
    filter,
    read::{self, Segment, arg, field, global, tcp},
};

#[btf_tracepoint(function = "tcp_send_reset")]
pub fn tcp_send_reset(ctx: BtfTracePointContext) -> i32 {
    report(&ctx);
    0
}

#[inline(always)]
fn report(ctx: &BtfTracePointContext) -> Option<()> {
    let sk = arg(ctx, 0);
    let skb = arg(ctx, 1);
    let state: u8 = field!(sk, sk_state);
    let full = sk != 0 && state != tcp::LISTEN && state != tcp::NEW_SYN_RECV && state != tcp::TIME_WAIT;
    let mut answered = Segment::ZERO;
    let is_answer = skb != 0 && read::received(&mut answered, skb);
    let tuple = if is_answer && !full {
        answered.tuple
    } else {
        read::tuple(sk)?
    };
    let server = filter::side(&tuple)?;
    let reason = if global!(RESET_REASON_ARG) == 1 {
        arg(ctx, 2) as u32
    } else {
        u32::MAX
    };
    emit(Hook::TcpSendReset, |event: &mut ResetSent| {
        if full {
            read::full_view(&mut event.view, sk, &tuple, server);
        } else if sk != 0 {
            read::mini_view(&mut event.view, sk, &tuple, server);
        } else {
            read::ends(&mut event.view, &tuple, server);
            event.view.netns = read::netns_of_skb(skb);
        }
        event.reason = reason;
        event.answered_seq = answered.seq;
        event.answered_flags = answered.flags;
        event.has_sk = u8::from(sk != 0);
    });
    Some(())
}
