//! `inet_sock_set_state`: a TCP socket changes its state. Three events come from it: a pod's listener opened or
//! closed, its queue is full (see queue.rs), and a connection ended while something was unfinished.
//!
//! Prototype: `(const struct sock *sk, const int oldstate, const int newstate)` (include/trace/events/sock.h).
//! Minimum: 4.16. Called by net/ipv4/af_inet.c inet_sock_set_state and inet_sk_set_state before the state is stored.
//!
//! This fires a few times in the life of every connection of the machine, so it looks at the two state numbers
//! first, then at the socket's counters, at addresses last. An end is reported only when the counters leave open that a
//! request was unanswered (see open.rs); a connection that nobody answered (SYN_SENT to CLOSE) always; and one that the server of
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
    open::{self, Counted, ECONNRESET, EPIPE},
    queue, rate,
    read::{self, IPPROTO_TCP, Object, Ptr, Tuple, arg, field, tcp},
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
        queue::joined(Object::of(&ctx));
    } else if is_end(old, new) {
        end(Object::of(&ctx), old, new);
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
fn end(sock: Object, old: u8, new: u8) {
    let Some(tcp) = sock.tcp_sock() else {
        return;
    };
    report(tcp, old, new);
    // Nearly none has one: the programs that remember answers ask for it (answer.rs). What they remember is given back while it
    // is still in a cache, since to make room for the next answer costs more.
    let cookie: u64 = field!(tcp, sk_cookie);
    if cookie != 0 {
        let _ = ANSWERS.remove(cookie);
    }
}

#[inline(always)]
fn report(tcp: Object, old: u8, new: u8) -> Option<()> {
    let sk = tcp.ptr();
    let err: i32 = field!(tcp, sk_err);
    // A server's may be a client's way to hang up (open.rs).
    let reset = err == ECONNRESET || err == EPIPE;
    let always = old == tcp::SYN_SENT || (err != 0 && !reset);
    let counted = Counted::of(tcp, old == tcp::CLOSE_WAIT);
    let to_client = open::for_client(tcp, new, &counted);
    let to_server = open::for_server(tcp, new, &counted);
    let unfinished = always || reset || to_client || to_server;
    if !unfinished && old == tcp::CLOSE_WAIT {
        return None;
    }
    let tuple = read::tuple(tcp)?;
    // Only a server that ends what is established may cut an answer. Nearly always nothing is going: that is asked of the small map.
    let may_cut = old == tcp::ESTABLISHED && filter::may_go(&tuple.laddr);
    if !unfinished && !may_cut {
        return None;
    }
    let server = filter::serves_here(&tuple);
    let open = always
        || if server {
            to_server || (reset && open::unacknowledged(tcp) > 0)
        } else {
            reset || to_client
        };
    let answers = server && may_cut;
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
