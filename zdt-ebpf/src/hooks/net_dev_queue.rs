//! `net_dev_queue`: a packet is handed to a device.
//!
//! Prototype: `(struct sk_buff *skb)` (include/trace/events/net.h). Minimum: 2.6. Called by net/core/dev.c
//! __dev_queue_xmit, behind address translation and masquerade, for devices with and without a queue.
//!
//! This is the only place where a client outside the cluster is seen while all goes well: that this node sends its SYN
//! on to a pod which is just going or coming. It runs for every packet of the machine, so it is armed: attached only
//! while an address is in transition. To attach it takes 0.3 to 0.6 ms; 8 to 17 ms when it was detached a moment before,
//! since the tracepoint then waits for a grace period (kernel/tracepoint.c tp_rcu_cond_sync). The order of the questions is that of their price and of what they leave over:
//! length, headers, SYN or datagram, network namespace, and the address.
//!
//! A bridge makes two events of one packet (the bridge's, then its port's), a bond or VLAN device too. They follow each
//! other on one CPU without anything of the same connection in between, so the repetition is dropped here.

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::btf_tracepoint, programs::BtfTracePointContext};
use zdt_common::{Forwarded, Hook};

use crate::{
    emit::emit,
    filter,
    maps::QUEUED,
    packet::{self, Opening, TCP},
    rate,
    read::{Object, Ptr, field},
};

/// Nothing longer is a SYN, and datagrams of the usual MTU are shorter; what is longer was put together from segments.
const MAX_LEN: u32 = 2048;

/// A retransmit comes 200 ms later at the earliest (include/net/tcp.h TCP_RTO_MIN).
const SAME_NS: u64 = 1_000_000;

/// The SYN that was reported last on a CPU.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Queued {
    at_ns: u64,
    isn: u32,
    sport: u16,
    dport: u16,
}

#[btf_tracepoint(function = "net_dev_queue")]
pub fn net_dev_queue(ctx: BtfTracePointContext) -> i32 {
    let packet = Object::of(&ctx);
    let skb = packet.ptr();
    let len: u32 = field!(packet, skb_len);
    if len > MAX_LEN {
        return 0;
    }
    let head: Ptr = field!(packet, skb_head);
    let network: u16 = field!(packet, skb_network_header);
    let mut opening = Opening::ZERO;
    if !packet::opening(&mut opening, head + network as u64)
        || !packet::is_the_nodes(skb)
        || !filter::is_in_transit(&opening.ends.daddr)
        || is_repeated(&opening)
        || !rate::allows(Hook::NetDevQueue, &opening)
    {
        return 0;
    }
    emit(Hook::NetDevQueue, |event: &mut Forwarded| {
        packet::write(&mut event.packet, skb, &opening);
    });
    0
}

/// Datagrams have no sequence number; of a flow of them one a second is reported (rate.rs).
#[inline(always)]
fn is_repeated(opening: &Opening) -> bool {
    if opening.protocol != TCP {
        return false;
    }
    let Some(last) = QUEUED.get_ptr_mut(0) else {
        return false;
    };
    let last = unsafe { &mut *last };
    let now = unsafe { bpf_ktime_get_ns() };
    let same = last.isn == opening.isn
        && last.sport == opening.ends.sport
        && last.dport == opening.ends.dport
        && now - last.at_ns < SAME_NS;
    if !same {
        last.at_ns = now;
        last.isn = opening.isn;
        last.sport = opening.ends.sport;
        last.dport = opening.ends.dport;
    }
    same
}
