//! `tcp_send_reset`: this kernel sends a RST.
//!
//! Prototype: `(const struct sock *sk, const struct sk_buff *skb)` from 4.16, and a third argument
//! `enum sk_rst_reason reason` from 6.10 (include/trace/events/tcp.h). Minimum: 4.16. Before 6.10 it does not fire
//! without a full socket: no answer to a SYN without a listener is seen there, hence tcp_v4_send_reset.rs.
//!
//! `skb` is the received packet that is answered, or null: net/ipv4/tcp_output.c tcp_send_active_reset passes null.
//! `sk` is null when no socket matched, and may be a listener, a request socket or TIME_WAIT. These have no
//! connection of their own, so the ends are taken from the packet.
//!
//! Every RST that passes the address filter is reported, but for that of a client that hangs up with nothing open (open.rs).

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use zdt_common::{Hook, ResetSent};

use crate::{
    emit::emit,
    filter, open,
    read::{self, Ptr, Segment, arg, field, global, tcp},
};

/// RFC 9293 3.1, byte 13.
const RST: u8 = 0x04;

#[btf_tracepoint(function = "tcp_send_reset")]
pub fn tcp_send_reset(ctx: BtfTracePointContext) -> i32 {
    let reason = if global!(RESET_REASON_ARG) == 1 {
        arg(&ctx, 2) as u32
    } else {
        u32::MAX
    };
    report::<{ Hook::TcpSendReset as u16 }>(arg(&ctx, 0), arg(&ctx, 1), reason);
    0
}

/// A socket with a connection of its own.
#[inline(always)]
pub fn is_full(sk: Ptr, state: u8) -> bool {
    sk != 0 && state != tcp::LISTEN && state != tcp::NEW_SYN_RECV && state != tcp::TIME_WAIT
}

/// The hook is part of the type, so that each program has a copy of its own: else the compiler makes one function of it, and calls
/// it (cgroup.rs, `is_pod`).
#[inline(always)]
pub fn report<const HOOK: u16>(sk: Ptr, skb: Ptr, reason: u32) -> Option<()> {
    let hook = const { Hook::from_wire(HOOK).unwrap() };
    let state: u8 = field!(sk, sk_state);
    let full = is_full(sk, state);
    let mut answered = Segment::ZERO;
    let is_answer = skb != 0 && read::received(&mut answered, skb);
    // RFC 9293 3.10.7.1: a RST is never answered with one.
    if answered.flags & RST != 0 {
        return None;
    }
    let tuple = if is_answer && !full {
        answered.tuple
    } else {
        read::tuple(sk)?
    };
    let server = filter::serves_here(&tuple);
    // The functions see no full socket, nor a RST that answers nothing.
    let active = HOOK == Hook::TcpSendReset as u16 && full && skb == 0 && !server;
    if (active && open::hangs_up(sk, state, &tuple)) || !filter::is_ours(&tuple, server) {
        return None;
    }
    let server = u8::from(server);
    emit(hook, |event: &mut ResetSent| {
        if full {
            let socket: Ptr = field!(sk, sk_socket);
            event.held = u8::from(socket != 0);
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
        event.is_answer = u8::from(is_answer);
    });
    Some(())
}
