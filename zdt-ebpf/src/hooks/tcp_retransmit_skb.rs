//! `tcp_retransmit_skb`: a segment is sent again.
//!
//! Prototype: `(const struct sock *sk, const struct sk_buff *skb)`, and a third argument `int err` from 6.18
//! (include/trace/events/tcp.h). Minimum: 4.16. Called by net/ipv4/tcp_output.c __tcp_retransmit_skb.
//!
//! Fast retransmits and tail loss probes are a healthy network's daily life. What matters is silence: a SYN that
//! nobody answers, and a timeout, which net/ipv4/tcp_timer.c tcp_update_rto_stats has counted in `icsk_retransmits`
//! before the segment is sent.

use aya_ebpf::{helpers::generated::bpf_jiffies64, macros::btf_tracepoint, programs::BtfTracePointContext};
use zdt_common::{Hook, Retransmit};

use crate::{
    emit::emit,
    filter,
    read::{self, arg, field, global, tcp},
};

#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn tcp_retransmit_skb(ctx: BtfTracePointContext) -> i32 {
    report(&ctx);
    0
}

#[inline(always)]
fn report(ctx: &BtfTracePointContext) -> Option<()> {
    let sk = arg(ctx, 0);
    let state: u8 = field!(sk, sk_state);
    let timeouts: u8 = field!(sk, icsk_retransmits);
    if state != tcp::SYN_SENT && timeouts == 0 {
        return None;
    }
    let tuple = read::tuple(sk)?;
    let server = filter::side(&tuple)?;
    let err = if global!(RETRANSMIT_ERR_ARG) == 1 {
        arg(ctx, 2) as i32
    } else {
        0
    };
    emit(Hook::TcpRetransmitSkb, |event: &mut Retransmit| {
        read::full_view(&mut event.view, sk, &tuple, server);
        event.err = err;
        // Its low 32 bits are the clock of lrcvtime (include/linux/jiffies.h tcp_jiffies32).
        event.silent = (unsafe { bpf_jiffies64() } as u32).wrapping_sub(event.view.lrcvtime);
    });
    Some(())
}
