//! `cgroup_skb/ingress` at the root of cgroup v2: a socket of the machine gets a packet.
//!
//! Minimum: 4.10, and 5.x for what it calls. Called by net/core/filter.c sk_filter_trim_cap. It accepts every packet.
//!
//! An answer to a HEAD request has a Content-Length and no body (RFC 9110 9.3.2): without the request it looks like one that was
//! cut behind its head. Nothing but the method is looked at, and nothing is reported. Armed, as `cgroup_skb_egress` is.

use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};

use super::cgroup_skb_egress::ACCEPT;
use crate::{
    answer,
    segment::{self, Segment, load},
};

#[cgroup_skb(ingress)]
pub fn cgroup_skb_ingress(ctx: SkBuffContext) -> i32 {
    let mut segment = Segment::ZERO;
    if segment::read(&mut segment, &ctx, false) {
        came(&ctx, &segment);
    }
    ACCEPT
}

#[inline(always)]
fn came(ctx: &SkBuffContext, segment: &Segment) {
    let mut method = [0; 5];
    if !load(ctx, segment.at, &mut method) || method != *b"HEAD " {
        return;
    }
    if let Some(entry) = answer::entry(answer::cookie(ctx)) {
        entry.head_asked = 1;
    }
}
