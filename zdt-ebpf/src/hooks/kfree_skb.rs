//! `kfree_skb`: a packet is dropped.
//!
//! Prototype: `(struct sk_buff *skb, void *location)`, a third argument `enum skb_drop_reason reason` from 5.17, and
//! later a fourth, `struct sock *rx_sk` (include/trace/events/skb.h). Minimum: 2.6. Called by net/core/skbuff.c
//! sk_skb_reason_drop before anything of the packet is released, so its headers, its device and its conntrack entry
//! can be read.
//!
//! This is what becomes of a client that has no socket here: a rule that rejects or drops, no route, a neighbour that
//! does not answer, a full queue. A node drops packets all the time, most of them for good reasons. So, in this order:
//! reasons that healthy traffic has (a mask, made from their names by the daemon), the network namespace, SYN or
//! datagram, and whether it is for a service, a node port or a pod.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use zdt_common::{Hook, NO_REASON, SkbDropped};

use crate::{
    emit::emit,
    filter,
    maps::ANSWERED,
    packet, rate,
    read::{Ptr, arg, field, global},
};

/// The low bits of a byte, and include/uapi/linux/if_packet.h.
const PKT_TYPE: u8 = 7;
const PACKET_OTHERHOST: u8 = 3;

#[btf_tracepoint(function = "kfree_skb")]
pub fn kfree_skb(ctx: BtfTracePointContext) -> i32 {
    let skb = arg(&ctx, 0);
    let reason = if global!(DROP_REASON_ARG) == 1 {
        arg(&ctx, 2) as u32
    } else {
        NO_REASON
    };
    if is_quiet(reason) || (reason == NO_REASON && is_answered_or_anothers(skb)) {
        return 0;
    }
    let mut opening = packet::Opening::ZERO;
    if !packet::is_the_nodes(skb)
        || !packet::opening(&mut opening, packet::network(skb))
        || !filter::is_for_a_service(skb, &opening)
        || !rate::allows(Hook::KfreeSkb, &opening)
    {
        return 0;
    }
    emit(Hook::KfreeSkb, |event: &mut SkbDropped| {
        packet::write(&mut event.packet, skb, &opening);
        event.reason = reason;
    });
    0
}

/// NO_SOCKET and OTHERHOST, the commonest of the quiet ones, where there are no reasons.
#[inline(always)]
fn is_answered_or_anothers(skb: Ptr) -> bool {
    if let Some(answered) = ANSWERED.get_ptr_mut(0) {
        let answered = unsafe { &mut *answered };
        if *answered == skb {
            *answered = 0;
            return true;
        }
    }
    let kind: u8 = field!(skb, skb_pkt_type);
    kind & PKT_TYPE == PACKET_OTHERHOST
}

/// Reasons above 255 are other subsystems' (include/net/dropreason.h) and are not quiet.
#[inline(always)]
fn is_quiet(reason: u32) -> bool {
    let word = match reason >> 6 {
        0 => global!(QUIET_REASONS_0),
        1 => global!(QUIET_REASONS_1),
        2 => global!(QUIET_REASONS_2),
        3 => global!(QUIET_REASONS_3),
        _ => return false,
    };
    word >> (reason & 63) & 1 == 1
}
