//! How full the queues of pods' listeners are. A SYN that finds its listener's queue full is dropped without a tracepoint: on 6.18
//! as before it is freed as one that was used up (net/ipv4/tcp_input.c tcp_conn_request, `consume_skb` in tcp_rcv_state_process).
//! Of the end of a handshake that finds it full, 6.18 says `kfree_skb` with TCP_LISTEN_OVERFLOW, but NO_SOCKET where the
//! listener had answered with a SYN cookie (net/ipv4/syncookies.c cookie_v4_check), which is the commoner under load; older
//! kernels say nothing. All three count in the listener's own `sk_drops` (include/net/tcp.h tcp_listendrop).
//!
//! So the listener is looked at whenever a connection joins its queue: while clients are dropped, that is each time the
//! application has accepted one. A connection does not point to its listener; the listener's address is kept from the time
//! when it opened, and what is read there is used only if it is that listener still. (Sockets' memory is never given back for
//! other things while somebody may read it: SLAB_TYPESAFE_BY_RCU.) Those that were open before zdt are found once, by hooks/task_file.rs.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use zdt_common::{Hook, QueueLook};

use crate::{
    emit::{emit, lost},
    maps::LISTENERS,
    read::{self, Object, Ptr, field, tcp},
};

/// A queue that stays full is reported once in this time.
const QUIET_NS: u64 = 100_000_000;

/// That a queue had room is kept this precisely: what was dropped is known to be so much younger at most.
const LOOKED_NS: u64 = 1_000_000;

/// Where connections come to. A connection's socket has its listener's family, whatever its own addresses are.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Place {
    netns: u32,
    port: u16,
    family: u16,
}

/// A listener, and when it was looked at.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Known {
    sk: Ptr,
    /// The last look, and what had been dropped by then.
    looked_ns: u64,
    reported_ns: u64,
    drops: u32,
    /// 1: the last report said that the queue was full.
    full: u16,
    /// 1: several listeners share the port (SO_REUSEPORT); which one a connection comes from is not known.
    shared: u16,
}

/// A pod's listener opened or closes.
#[inline(always)]
pub fn listener(sk: Ptr, port: u16, open: bool) {
    let place = place(sk, port);
    let known = LISTENERS.get_ptr_mut(place);
    if !open {
        if known.is_some_and(|k| unsafe { (*k).sk == sk || (*k).shared == 1 }) {
            let _ = LISTENERS.remove(place);
        }
        return;
    }
    let shared =
        known.is_some_and(|k| unsafe { (*k).shared == 1 || ((*k).sk != sk && listens((*k).sk, &place)) });
    let new = Known {
        sk,
        looked_ns: unsafe { bpf_ktime_get_ns() },
        reported_ns: 0,
        drops: field!(sk, sk_drops),
        full: 0,
        shared: u16::from(shared),
    };
    if LISTENERS.insert(place, new, 0).is_err() {
        lost(Hook::ListenQueue);
    }
}

/// A connection has joined its listener's queue (net/ipv4/inet_connection_sock.c inet_csk_reqsk_queue_add comes before
/// tcp_child_process).
#[inline(always)]
pub fn joined(child: Object) {
    let port: u16 = field!(child, sk_num);
    let net: Ptr = field!(child, sk_net);
    let place = Place {
        netns: field!(net, net_inum),
        port,
        family: field!(child, sk_family),
    };
    let Some(known) = LISTENERS.get_ptr_mut(place) else {
        return;
    };
    // Two CPUs may look at once: then one interval is told twice.
    let known = unsafe { &mut *known };
    if known.shared == 1 {
        return;
    }
    let sk = known.sk;
    let backlog: u32 = field!(sk, sk_ack_backlog);
    let max: u32 = field!(sk, sk_max_ack_backlog);
    let drops: u32 = field!(sk, sk_drops);
    // include/net/sock.h sk_acceptq_is_full
    let full = u16::from(backlog > max);
    let now = unsafe { bpf_ktime_get_ns() };
    // As nearly always. Of what is no listener any more this says nothing.
    if full == 0 && known.full == 0 && drops == known.drops {
        // A store makes the other CPUs wait for their next look.
        if now - known.looked_ns > LOOKED_NS {
            known.looked_ns = now;
        }
        return;
    }
    if !listens(sk, &place) {
        return;
    }
    // That it is full now is told at once: nothing may come any more.
    if now - known.reported_ns < QUIET_NS && full <= known.full {
        return;
    }
    let Some(tuple) = read::tuple(child.ptr()) else {
        return;
    };
    emit(Hook::ListenQueue, |event: &mut QueueLook| {
        event.since_ns = known.looked_ns;
        event.laddr = tuple.laddr;
        event.lport = port;
        event.netns = place.netns;
        event.drops_before = known.drops;
        event.drops = drops;
        event.backlog = backlog;
        event.max = max;
    });
    known.looked_ns = now;
    known.reported_ns = now;
    known.drops = drops;
    known.full = full;
}

/// Whether a pod listens where this socket is.
#[inline(always)]
pub fn listens_at(sk: Ptr, port: u16) -> bool {
    LISTENERS.get_ptr(place(sk, port)).is_some()
}

#[inline(always)]
fn place(sk: Ptr, port: u16) -> Place {
    Place {
        netns: read::netns_of_sock(sk),
        port,
        family: field!(sk, sk_family),
    }
}

/// It is a listener, and of this place.
#[inline(always)]
fn listens(sk: Ptr, at: &Place) -> bool {
    let state: u8 = field!(sk, sk_state);
    let port: u16 = field!(sk, sk_num);
    state == tcp::LISTEN && port == at.port && read::netns_of_sock(sk) == at.netns
}
