//! `inet_sock_set_state`: a TCP socket changes its state. Three events come from it: a pod's listener opened or
//! closed, its queue is full (see queue.rs), and a connection ended while something was unfinished.
//!
//! Prototype: `(const struct sock *sk, const int oldstate, const int newstate)` (include/trace/events/sock.h).
//! Minimum: 4.16. Called by net/ipv4/af_inet.c inet_sock_set_state and inet_sk_set_state before the state is stored.
//!
//! This fires a few times in the life of every connection of the machine, so it looks at the two state numbers
//! first, then at the socket's counters, at addresses last. An end is reported only when the counters leave open that a
//! request was unanswered (see [`suspicious_server`]); a connection that nobody answered (SYN_SENT to CLOSE) always; and one that the server of
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
    read::{self, IPPROTO_TCP, Ptr, Sock, Tuple, arg, field, sock_field, tcp},
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
        queue::joined(Sock::of(&ctx));
    } else if is_end(old, new) {
        end(Sock::of(&ctx), old, new);
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

/// What a connection has counted: whether a request may be unanswered is asked of it first, since for nearly all ends of
/// connections that says enough, and each look into a map costs as much as all of it.
struct Counted {
    received: u64,
    sent: u64,
    /// The peer's FIN counts as one byte in bytes_received and in rcv_nxt (net/ipv4/tcp_input.c tcp_fin).
    fin: u64,
}

#[inline(always)]
fn end(sock: Sock, old: u8, new: u8) -> Option<()> {
    let protocol: u16 = sock_field!(sock, sk_protocol);
    if protocol != IPPROTO_TCP {
        return None;
    }
    let sk = sock.ptr();
    let err: i32 = sock_field!(sock, sk_err);
    let always = old == tcp::SYN_SENT || err != 0;
    let counted = Counted {
        received: field!(sk, tp_bytes_received),
        sent: field!(sk, tp_bytes_sent),
        fin: u64::from(old == tcp::CLOSE_WAIT),
    };
    if !always
        && old == tcp::CLOSE_WAIT
        && !suspicious_client(sk, new, &counted)
        && !suspicious_server(sk, new, &counted)
    {
        return None;
    }
    let tuple = sock.tuple()?;
    let server = filter::serves_here(&tuple);
    let open = always
        || if server {
            suspicious_server(sk, new, &counted)
        } else {
            suspicious_client(sk, new, &counted)
        };
    // Only a server that ends what is established may cut an answer.
    let answers = server && old == tcp::ESTABLISHED && filter::may_go(&tuple.laddr);
    if !open && !answers {
        return None;
    }
    if !filter::is_ours(&tuple, server) {
        return None;
    }
    let server = u8::from(server);
    let answer = if answers { last_answer(sk, &tuple) } else { None };
    if !open && answer.is_none() {
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
fn last_answer(sk: Ptr, tuple: &Tuple) -> Option<&'static LastAnswer> {
    let answer = answer::known(field!(sk, sk_cookie))?;
    let ends = answer.begun == 1 && (filter::is_in_transit(&tuple.laddr) || current_exiting() == 1);
    (ends && rate::has_room(Hook::CgroupSkbEgress, unsafe { bpf_ktime_get_ns() })).then_some(answer)
}

/// Whether a request may be unanswered, where this is its client: it asked and got nothing, or asked again since the last
/// answer. When the client closes first, only a request without any answer is one: a TLS client's close_notify
/// (RFC 8446 6.1) is data after the last answer, too.
#[inline(always)]
fn suspicious_client(sk: Ptr, new: u8, counted: &Counted) -> bool {
    if counted.sent == 0 {
        return false;
    }
    if counted.received <= counted.fin {
        return true;
    }
    new != tcp::FIN_WAIT1 && after(field!(sk, tp_lsndtime), field!(sk, icsk_lrcvtime))
}

/// The same, where this is its server. One sign alone is not enough: the times have the resolution of a jiffy, and a
/// response that was cut short looks like one that was finished.
#[inline(always)]
fn suspicious_server(sk: Ptr, new: u8, counted: &Counted) -> bool {
    let &Counted { received, sent, fin } = counted;
    if received <= fin {
        // Nobody asked: a probe, or an idle connection. Where the server closes first, the request may be on its way.
        return fin == 0 && sent == 0 && new == tcp::FIN_WAIT1;
    }
    if sent == 0 || fin == 1 {
        return sent == 0;
    }
    if after(field!(sk, icsk_lrcvtime), field!(sk, tp_lsndtime)) {
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
