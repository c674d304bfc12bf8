//! `inet_sk_error_report`: a socket error is reported to its owner (RST, timeout, ICMP).
//!
//! Prototype: `(const struct sock *sk)` (include/trace/events/sock.h). Minimum: 5.14. Called by
//! net/core/sock.c sk_error_report for sockets of the internet families of any protocol, hence the filter for TCP.
//! `sk_err` is set by then.
//!
//! Every error that passes the address filter is reported, but for two that healthy traffic has: a client's RST with nothing open
//! (open.rs), and that of a socket which its own process has just reset: net/ipv4/tcp.c tcp_disconnect calls this behind having
//! cleared the counters and the peer's port.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use zdt_common::{Hook, SockErr};

use crate::{
    emit::emit,
    filter,
    open::{self, ECONNRESET, EPIPE},
    read::{self, IPPROTO_TCP, arg, field, tcp},
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
    if tuple.rport == 0 {
        return None;
    }
    let server = filter::serves_here(&tuple);
    // The state is CLOSE by now; the error tells what it was.
    let err: i32 = field!(sk, sk_err);
    let before = match err {
        ECONNRESET => tcp::ESTABLISHED,
        EPIPE => tcp::CLOSE_WAIT,
        _ => tcp::SYN_SENT,
    };
    if open::hung_up_on(sk, before, server) || !filter::is_ours(&tuple, server) {
        return None;
    }
    emit(Hook::InetSkErrorReport, |event: &mut SockErr| {
        read::full_view(&mut event.view, sk, &tuple, u8::from(server));
    });
    Some(())
}
