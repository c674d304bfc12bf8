//! `cgroup_skb/egress` at the root of cgroup v2: a socket of the machine sends a packet.
//!
//! Minimum: 4.10, and 4.18 for what it calls. Called by net/ipv4/ip_output.c ip_finish_output and net/ipv6/ip6_output.c
//! ip6_finish_output, in the sender's network namespace, before the packet leaves the socket's host or pod. It accepts every
//! packet.
//!
//! A status, and whether an answer was whole, stand nowhere but in the answer, and a tracepoint cannot read what is in
//! paged fragments (`skb->data_len`), which is where sendmsg(2) puts payload. This runs for every packet of every socket of the
//! machine, so it is armed: attached only while an address is in transition. What begins with `HTTP/1.` is taken for an answer's
//! head; TLS and HTTP/2 show nothing. A healthy answer is remembered and not reported: `inet_sock_set_state` reports the last
//! one of a connection that its server ends.

use aya_ebpf::{
    helpers::{bpf_ktime_get_ns, bpf_skb_cgroup_id},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use zdt_common::{Answer, Hook};

use crate::{
    answer,
    emit::emit,
    filter, rate, read,
    segment::{self, Segment, load},
};

/// Accepts the packet (kernel/bpf/cgroup.c __cgroup_bpf_run_filter_skb).
pub const ACCEPT: i32 = 1;

#[cgroup_skb(egress)]
pub fn cgroup_skb_egress(ctx: SkBuffContext) -> i32 {
    let mut segment = Segment::ZERO;
    if segment::read(&mut segment, &ctx, true) {
        sent(&ctx, &segment);
    }
    ACCEPT
}

#[inline(always)]
fn sent(ctx: &SkBuffContext, segment: &Segment) {
    let cookie = answer::cookie(ctx);
    // RFC 9112 4: `HTTP/1.1 200 `.
    let mut start = [0; 12];
    let begins = load(ctx, segment.at, &mut start)
        && start[0] == b'H'
        && start[1] == b'T'
        && start[2] == b'T'
        && start[3] == b'P'
        && start[4] == b'/'
        && start[5] == b'1'
        && start[6] == b'.'
        // RFC 9110 15.2: an interim answer, the final one follows.
        && start[9] != b'1';
    if !begins {
        if let Some(entry) = answer::known(cookie) {
            answer::follow(ctx, segment, entry);
        }
        return;
    }
    let Some(entry) = answer::entry(cookie) else {
        return;
    };
    let next = segment.seq.wrapping_add(segment.len);
    if entry.begun == 1 && (next.wrapping_sub(entry.next) as i32) <= 0 {
        return; // sent again
    }
    entry.begun = 1;
    entry.to_head = entry.head_asked;
    entry.head_asked = 0;
    entry.seq = segment.seq;
    entry.next = segment.seq;
    entry.tail = 0;
    answer::follow(ctx, segment, entry);
    entry.kept = answer::head(ctx, segment, &mut entry.head);
    let error = start[9] >= b'5' && filter::is_in_transit(&segment.tuple.laddr);
    if !error || !rate::has_room(Hook::CgroupSkbEgress, unsafe { bpf_ktime_get_ns() }) {
        return;
    }
    emit(Hook::CgroupSkbEgress, |event: &mut Answer| {
        answer::write(event, entry);
        event.answer.kept = answer::head(ctx, segment, &mut event.answer.head);
        read::ends(&mut event.view, &segment.tuple, 1);
        event.view.cookie = cookie;
        event.view.cgroup_id = unsafe { bpf_skb_cgroup_id(ctx.skb.skb) };
        event.view.state = read::tcp::ESTABLISHED;
    });
}
