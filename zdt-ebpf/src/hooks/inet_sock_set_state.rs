//! `inet_sock_set_state`: a TCP socket changes its state. Three events come from it: a pod's listener opened or
//! closed, its queue is full (see queue.rs), and a connection ended while something was unfinished.
//!
//! Prototype: `(const struct sock *sk, const int oldstate, const int newstate)` (include/trace/events/sock.h).
//! Minimum: 4.16. Called by net/ipv4/af_inet.c inet_sock_set_state and inet_sk_set_state before the state is stored.
//!
//! This fires a few times in the life of every connection of the machine, so it looks at the two state numbers
//! first, then at the local address. An end is reported only when the counters leave open that a request was
//! unanswered (see [`suspicious`]); a connection that nobody answered (SYN_SENT to CLOSE) always; and one that the server of
//! a pod in transition ends behind an HTTP answer (see [`last_answer`]), with that answer.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use zdt_common::{Answer, Hook, LastAnswer, Listener, StateChange};

use crate::{
    answer, cgroup,
    emit::emit,
    filter,
    maps::ANSWERS,
    queue, rate,
    read::{self, IPPROTO_TCP, Ptr, Tuple, arg, field, tcp},
};

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let old = ctx.arg::<i32>(1) as u8;
    let new = ctx.arg::<i32>(2) as u8;
    // A connection's socket is born as a copy of its listener and goes from LISTEN to SYN_RECV
    // (net/ipv4/inet_connection_sock.c inet_csk_clone_lock): only LISTEN to CLOSE is a listener's end.
    if new == tcp::LISTEN || (old == tcp::LISTEN && new == tcp::CLOSE) {
        listener(arg(&ctx, 0), new == tcp::LISTEN);
    } else if old == tcp::SYN_RECV && new == tcp::ESTABLISHED {
        queue::joined(arg(&ctx, 0));
    } else if is_end(old, new) {
        end(arg(&ctx, 0), old, new);
    }
    0
}

/// The first state change after which no request of this connection can be answered any more.
#[inline(always)]
fn is_end(old: u8, new: u8) -> bool {
    let open = old == tcp::ESTABLISHED || old == tcp::SYN_RECV;
    match new {
        tcp::FIN_WAIT1 => open,
        tcp::LAST_ACK => old == tcp::CLOSE_WAIT,
        tcp::CLOSE => open || old == tcp::CLOSE_WAIT || old == tcp::SYN_SENT,
        _ => false,
    }
}

#[inline(always)]
fn end(sk: Ptr, old: u8, new: u8) -> Option<()> {
    let protocol: u16 = field!(sk, sk_protocol);
    if protocol != IPPROTO_TCP {
        return None;
    }
    let tuple = read::tuple(sk)?;
    let server = filter::side(&tuple)?;
    let answer = if server == 1 {
        last_answer(sk, &tuple, old)
    } else {
        None
    };
    if old != tcp::SYN_SENT && !suspicious(sk, old, new, server) && answer.is_none() {
        return None;
    }
    let ids = bpf_get_current_pid_tgid();
    emit(Hook::InetSockSetState, |event: &mut StateChange| {
        read::full_view(&mut event.view, sk, &tuple, server);
        event.pid = ids as u32;
        event.tgid = (ids >> 32) as u32;
        event.old_state = old;
        event.new_state = new;
        event.exiting = current_exiting();
    });
    if let Some(answer) = answer {
        emit(Hook::CgroupSkbEgress, |event: &mut Answer| {
            read::full_view(&mut event.view, sk, &tuple, server);
            answer::write_whole(event, answer);
            event.ends_in = new;
        });
        let cookie: u64 = field!(sk, sk_cookie);
        let _ = ANSWERS.remove(cookie);
    }
    Some(())
}

/// The last answer of a connection that its server ends, where it is a pod's in transition, or one of a pod that may go and
/// whose process dies: the daemon reads in its head whether it was whole. A client that closes first has what it wanted.
#[inline(always)]
fn last_answer(sk: Ptr, tuple: &Tuple, old: u8) -> Option<&'static LastAnswer> {
    if !filter::may_go(&tuple.laddr) {
        return None;
    }
    let answer = answer::known(field!(sk, sk_cookie))?;
    let open = old == tcp::ESTABLISHED && answer.begun == 1;
    let ends = open && (filter::is_in_transit(&tuple.laddr) || current_exiting() == 1);
    (ends && rate::has_room(Hook::CgroupSkbEgress, unsafe { bpf_ktime_get_ns() })).then_some(answer)
}

/// Whether a request may be unanswered. One sign alone is not enough: the times have the resolution of a jiffy, and
/// a response that was cut short looks like one that was finished. When the client closes first, only a request
/// without any answer is one: a TLS client's close_notify (RFC 8446 6.1) is data after the last answer, too.
#[inline(always)]
fn suspicious(sk: Ptr, old: u8, new: u8, server: u8) -> bool {
    // The peer's FIN counts as one byte in bytes_received and in rcv_nxt (net/ipv4/tcp_input.c tcp_fin).
    let fin = u32::from(old == tcp::CLOSE_WAIT);
    let err: i32 = field!(sk, sk_err);
    if err != 0 {
        return true;
    }
    let received: u64 = field!(sk, tp_bytes_received);
    let sent: u64 = field!(sk, tp_bytes_sent);
    let lrcvtime: u32 = field!(sk, icsk_lrcvtime);
    let lsndtime: u32 = field!(sk, tp_lsndtime);
    if server == 0 {
        // A client asked and got nothing, or asked again since the last answer.
        let asked_again = new != tcp::FIN_WAIT1 && after(lsndtime, lrcvtime);
        return sent > 0 && (received <= u64::from(fin) || asked_again);
    }
    if received <= u64::from(fin) {
        // Nobody asked: a probe, or an idle connection. Where the server closes first, the request may be on its way.
        return fin == 0 && sent == 0 && new == tcp::FIN_WAIT1;
    }
    if sent == 0 || fin == 1 {
        return sent == 0;
    }
    if after(lrcvtime, lsndtime) {
        return true;
    }
    let rcv_nxt: u32 = field!(sk, tp_rcv_nxt);
    let rcv_wup: u32 = field!(sk, tp_rcv_wup);
    let copied_seq: u32 = field!(sk, tp_copied_seq);
    // Data came after our last segment, or was never read.
    if rcv_nxt != rcv_wup || rcv_nxt != copied_seq {
        return true;
    }
    // Everything we sent is acknowledged, and data came in or after the segment that acknowledged the last of it: a
    // request that the client sent when it had our last answer.
    let write_seq: u32 = field!(sk, tp_write_seq);
    let snd_una: u32 = field!(sk, tp_snd_una);
    let snd_wl1: u32 = field!(sk, tp_snd_wl1);
    write_seq == snd_una && rcv_nxt != snd_wl1
}

/// `a` is later than `b`, both jiffies (include/linux/jiffies.h time_after).
#[inline(always)]
fn after(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) < 0
}

#[inline(always)]
fn listener(sk: Ptr, open: bool) -> Option<()> {
    let protocol: u16 = field!(sk, sk_protocol);
    if protocol != IPPROTO_TCP {
        return None;
    }
    let tuple = read::tuple(sk)?;
    let pod = cgroup::pod_of(read::cgroup_of_sock(sk))?;
    queue::listener(sk, tuple.lport, open);
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    emit(Hook::Listen, |event: &mut Listener| {
        cgroup::write(&mut event.cgroup, &pod);
        event.laddr = tuple.laddr;
        event.netns = read::netns_of_sock(sk);
        event.tgid = tgid;
        event.lport = tuple.lport;
        event.open = u8::from(open);
        event.exiting = u8::from(!open) & current_exiting();
    });
    Some(())
}

#[inline(always)]
fn current_exiting() -> u8 {
    read::exiting(unsafe { bpf_get_current_task() })
}
