//! `tcp_receive_reset`: a socket of this node received a RST.
//!
//! Prototype: `(struct sock *sk)` (include/trace/events/tcp.h). Minimum: 4.16. Called by net/ipv4/tcp_input.c
//! tcp_reset before it changes the socket, so state and counters are those before the RST.
//!
//! Every RST that passes the address filter is reported, but for that of a client that hangs up with nothing open (open.rs).

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use zdt_common::{Hook, SockErr};

use crate::{
    emit::emit,
    filter, open,
    read::{self, arg, field},
};

#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn tcp_receive_reset(ctx: BtfTracePointContext) -> i32 {
    report(&ctx);
    0
}

#[inline(always)]
fn report(ctx: &BtfTracePointContext) -> Option<()> {
    let sk = arg(ctx, 0);
    let tuple = read::tuple(sk)?;
    let server = filter::serves_here(&tuple);
    let state: u8 = field!(sk, sk_state);
    if open::hung_up_on(sk, state, server) || !filter::is_ours(&tuple, server) {
        return None;
    }
    emit(Hook::TcpReceiveReset, |event: &mut SockErr| {
        read::full_view(&mut event.view, sk, &tuple, u8::from(server));
    });
    Some(())
}
