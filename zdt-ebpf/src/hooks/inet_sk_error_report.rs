//! `inet_sk_error_report`: a socket error is reported to its owner (RST, timeout, ICMP).
//!
//! Prototype: `(const struct sock *sk)` (include/trace/events/sock.h). Minimum: 5.14. Called by
//! net/core/sock.c sk_error_report for sockets of the internet families of any protocol, hence the filter for TCP.
//! `sk_err` is set by then.
//!
//! Every error that passes the address filter is reported: healthy traffic has none.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use zdt_common::{Hook, SockErr};

use crate::{
    emit::emit,
    filter,
    read::{self, IPPROTO_TCP, arg, field},
};

#[btf_tracepoint(function = "inet_sk_error_report")]
pub fn inet_sk_error_report(ctx: BtfTracePointContext) -> i32 {
    report(&ctx);
    0
}

#[inline(always)]
fn report(ctx: &BtfTracePointContext) -> Option<()> {
    let sk = arg(ctx, 0);
    let protocol: u16 = field!(sk, sk_protocol);
    if protocol != IPPROTO_TCP {
        return None;
    }
    let tuple = read::tuple(sk)?;
    let server = filter::side(&tuple)?;
    emit(Hook::InetSkErrorReport, |event: &mut SockErr| {
        read::full_view(&mut event.view, sk, &tuple, server);
    });
    Some(())
}
