//! `icmp_send`: this kernel sends an ICMP error (IPv4; its IPv6 twin has no tracepoint).
//!
//! Prototype: `(const struct sk_buff *skb, int type, int code)` (include/trace/events/icmp.h). Minimum: 6.1 has it, 5.10
//! has not. Called by net/ipv4/icmp.c __icmp_send right before the error is sent, so behind its rate limits. `skb` is
//! the packet that the error is about.
//!
//! It says what the client was told: 3/3 is a REJECT rule's, 3/1 a neighbour that does not answer. Other messages than
//! errors come here too: a redirect is sent where all goes well. Filtered as `kfree_skb` is.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use zdt_common::{Hook, IcmpError};

use crate::{emit::emit, filter, packet, rate, read::arg};

/// RFC 792: destination unreachable, time exceeded, parameter problem.
const ERRORS: [u8; 3] = [3, 11, 12];

#[btf_tracepoint(function = "icmp_send")]
pub fn icmp_send(ctx: BtfTracePointContext) -> i32 {
    let skb = arg(&ctx, 0);
    let (kind, code) = (arg(&ctx, 1) as u8, arg(&ctx, 2) as u8);
    let mut opening = packet::Opening::ZERO;
    if !ERRORS.contains(&kind)
        || !packet::is_the_nodes(skb)
        || !packet::opening(&mut opening, packet::network(skb))
        || !filter::is_for_a_service(skb, &opening)
        || !rate::allows(Hook::IcmpSend, &opening)
    {
        return 0;
    }
    emit(Hook::IcmpSend, |event: &mut IcmpError| {
        packet::write(&mut event.packet, skb, &opening);
        event.kind = kind;
        event.code = code;
    });
    0
}
