//! The only reader of kernel memory. Each field is read at the offset that the daemon found in the running kernel's
//! BTF. What the kernel does not have, or what cannot be read, is zero.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_probe_read_kernel, generated::bpf_skc_to_tcp_sock},
    programs::BtfTracePointContext,
};
use zdt_common::{ABSENT, Addr, SockView};

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const IPPROTO_TCP: u16 = 6;
/// include/linux/sched.h
const PF_EXITING: u32 = 4;

/// The address of a kernel object, as a number: the verifier keeps no type on it, so it may be null and any offset
/// may be added.
pub type Ptr = u64;

/// TCP_* (include/net/tcp_states.h)
pub mod tcp {
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_SENT: u8 = 2;
    pub const SYN_RECV: u8 = 3;
    pub const FIN_WAIT1: u8 = 4;
    pub const TIME_WAIT: u8 = 6;
    pub const CLOSE: u8 = 7;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LAST_ACK: u8 = 9;
    pub const LISTEN: u8 = 10;
    pub const CLOSING: u8 = 11;
    pub const NEW_SYN_RECV: u8 = 12;
}

/// A global that the daemon set. Volatile, or the compiler would use the value in the object file.
macro_rules! global {
    ($name:ident) => {
        unsafe { core::ptr::read_volatile(&raw const crate::$name) }
    };
}
pub(crate) use global;

/// `field!(base, name)`: the field of [`zdt_common::Offsets`] of that name, of the object that is or is at `base`.
macro_rules! field {
    ($base:expr, $name:ident) => {
        $crate::read::Fields::at($base, unsafe {
            core::ptr::read_volatile(&raw const crate::OFFSETS.$name)
        })
    };
}
pub(crate) use field;

/// What has fields: the address of an object, or an [`Object`].
pub trait Fields: Copy {
    /// The field at an offset; zero where the kernel has none.
    fn at<T: Copy + Default>(self, offset: u16) -> T;
}

impl Fields for Ptr {
    #[inline(always)]
    fn at<T: Copy + Default>(self, offset: u16) -> T {
        if offset == ABSENT {
            return T::default();
        }
        load(self + offset as u64)
    }
}

#[inline(always)]
pub fn load<T: Copy + Default>(address: Ptr) -> T {
    unsafe { bpf_probe_read_kernel(address as *const T) }.unwrap_or_default()
}

/// So many bytes.
#[inline(always)]
pub fn bytes<const N: usize>(address: Ptr) -> [u8; N] {
    unsafe { bpf_probe_read_kernel(address as *const [u8; N]) }.unwrap_or([0; N])
}

/// Argument `n` of a BTF tracepoint, read as memory and not as a typed pointer: before 6.13 the verifier takes every
/// pointer argument for non-null and removes our null checks (kernel/bpf/btf.c, raw_tp_null_args), and it refuses
/// arguments that the tracepoint of the running kernel does not have even where a global says not to read them.
#[inline(always)]
pub fn arg(ctx: &impl EbpfContext, n: usize) -> u64 {
    load(ctx.as_ptr() as u64 + 8 * n as u64)
}

/// A kernel object whose type the verifier knows, for a tracepoint that always passes one: what the struct itself holds is then
/// one instruction away, where the helper takes ten nanoseconds. What surrounds it (`tcp_sock` a `sock`) is not known.
#[derive(Clone, Copy)]
pub struct Object(*const u8);

impl Object {
    /// The first argument.
    #[inline(always)]
    pub fn of(ctx: &BtfTracePointContext) -> Self {
        Self(ctx.arg(0))
    }

    #[inline(always)]
    pub fn ptr(self) -> Ptr {
        self.0 as Ptr
    }

    /// The `tcp_sock` that a `sock` is the beginning of. None: it is of another protocol, or a request's or TIME_WAIT
    /// (net/core/filter.c bpf_skc_to_tcp_sock, since 5.9).
    #[inline(always)]
    pub fn tcp_sock(self) -> Option<Self> {
        let tcp: *const u8 = unsafe { bpf_skc_to_tcp_sock(self.0.cast_mut().cast()) }.cast();
        if tcp.is_null() { None } else { Some(Self(tcp)) }
    }
}

impl Fields for Object {
    /// The offset has to be a number that the verifier knows: one of [`zdt_common::Offsets`], which is read-only to the kernel, too.
    /// An address of IPv6 is an array, which the helper reads.
    #[inline(always)]
    fn at<T: Copy + Default>(self, offset: u16) -> T {
        if size_of::<T>() > 8 {
            return self.ptr().at(offset);
        }
        if offset == ABSENT {
            return T::default();
        }
        unsafe { self.0.add(offset as usize).cast::<T>().read_volatile() }
    }
}

/// Both ends of a connection.
#[derive(Clone, Copy)]
pub struct Tuple {
    pub laddr: Addr,
    pub raddr: Addr,
    pub lport: u16,
    pub rport: u16,
}

/// The ends of a socket of any kind (`sock_common` is common to full sockets, request sockets and TIME_WAIT).
/// None: neither IPv4 nor IPv6.
#[inline(always)]
pub fn tuple(sk: impl Fields) -> Option<Tuple> {
    let family: u16 = field!(sk, sk_family);
    let (laddr, raddr) = if family == AF_INET {
        let laddr: u32 = field!(sk, sk_rcv_saddr);
        let raddr: u32 = field!(sk, sk_daddr);
        (Addr::v4(laddr.to_ne_bytes()), Addr::v4(raddr.to_ne_bytes()))
    } else if family == AF_INET6 {
        (Addr(field!(sk, sk_v6_rcv_saddr)), Addr(field!(sk, sk_v6_daddr)))
    } else {
        return None;
    };
    let mut lport: u16 = field!(sk, sk_num);
    if lport == 0 {
        // net/ipv4/tcp.c tcp_set_state gives the port back before it says CLOSE; this copy stays.
        lport = u16::from_be(field!(sk, inet_sport));
    }
    Some(Tuple {
        laddr,
        raddr,
        lport,
        rport: u16::from_be(field!(sk, sk_dport)),
    })
}

/// What the headers of a received segment say.
pub struct Segment {
    /// As its receiver sees them.
    pub tuple: Tuple,
    pub seq: u32,
    /// The flags byte.
    pub flags: u8,
}

impl Segment {
    pub const ZERO: Self = Self {
        tuple: Tuple {
            laddr: Addr([0; 16]),
            raddr: Addr([0; 16]),
            lport: 0,
            rport: 0,
        },
        seq: 0,
        flags: 0,
    };
}

/// Reads the headers of a received segment; false: it is neither IPv4 nor IPv6. What it is written into was zero: an
/// `Option` of it has parts that nobody wrote, and before 6.3 the verifier refuses to copy these.
#[inline(always)]
pub fn received(to: &mut Segment, skb: Ptr) -> bool {
    let head: Ptr = field!(skb, skb_head);
    let network: u16 = field!(skb, skb_network_header);
    let transport: u16 = field!(skb, skb_transport_header);
    let ip = head + network as u64;
    let tcp = head + transport as u64;
    let version = load::<u8>(ip) >> 4;
    // RFC 791 3.1: source at 12, destination at 16. RFC 8200 3: source at 8, destination at 24.
    let (laddr, raddr) = if version == 4 {
        (Addr::v4(load(ip + 16)), Addr::v4(load(ip + 12)))
    } else if version == 6 {
        (Addr(load(ip + 24)), Addr(load(ip + 8)))
    } else {
        return false;
    };
    // RFC 9293 3.1: source port at 0, destination port at 2, sequence number at 4, flags at 13.
    to.tuple.laddr = laddr;
    to.tuple.raddr = raddr;
    to.tuple.lport = u16::from_be(load(tcp + 2));
    to.tuple.rport = u16::from_be(load(tcp));
    to.seq = u32::from_be(load(tcp + 4));
    to.flags = load(tcp + 13);
    true
}

/// Network namespace of a socket (inode number).
#[inline(always)]
pub fn netns_of_sock(sk: Ptr) -> u32 {
    let net: Ptr = field!(sk, sk_net);
    field!(net, net_inum)
}

/// Network namespace of the device that a packet came in by.
#[inline(always)]
pub fn netns_of_skb(skb: Ptr) -> u32 {
    netns_of_dev(field!(skb, skb_dev))
}

/// Network namespace of a device.
#[inline(always)]
pub fn netns_of_dev(dev: Ptr) -> u32 {
    let net: Ptr = field!(dev, dev_net);
    field!(net, net_inum)
}

/// Network namespace of a task; 0 when it has left it already.
#[inline(always)]
pub fn netns_of_task(task: Ptr) -> u32 {
    let nsproxy: Ptr = field!(task, task_nsproxy);
    let net: Ptr = field!(nsproxy, nsproxy_net);
    field!(net, net_inum)
}

/// `struct cgroup` of a full socket; 0: none.
#[inline(always)]
pub fn cgroup_of_sock(sk: Ptr) -> Ptr {
    let cgroup: Ptr = field!(sk, sk_cgrp);
    // Before 5.15 `sock_cgroup_data::val` holds cgroup v1 values when bit 0 is set (include/linux/cgroup-defs.h).
    if cgroup & 1 == 1 { 0 } else { cgroup }
}

/// Default-hierarchy `struct cgroup` of a task; 0: none.
#[inline(always)]
pub fn cgroup_of_task(task: Ptr) -> Ptr {
    let css_set: Ptr = field!(task, task_cgroups);
    field!(css_set, css_set_dfl_cgrp)
}

/// cgroup v2 id (inode number of the directory).
#[inline(always)]
pub fn cgroup_id(cgroup: Ptr) -> u64 {
    let node: Ptr = field!(cgroup, cgroup_kn);
    field!(node, kn_id)
}

/// What a socket of any kind has: ends, state, network namespace, cookie.
#[inline(always)]
pub fn mini_view(view: &mut SockView, sk: Ptr, tuple: &Tuple, server: u8) {
    ends(view, tuple, server);
    view.netns = netns_of_sock(sk);
    view.state = field!(sk, sk_state);
    view.cookie = field!(sk, sk_cookie);
}

/// The ends alone.
#[inline(always)]
pub fn ends(view: &mut SockView, tuple: &Tuple, server: u8) {
    view.laddr = tuple.laddr;
    view.raddr = tuple.raddr;
    view.lport = tuple.lport;
    view.rport = tuple.rport;
    view.server = server;
}

/// Everything a full TCP socket tells.
#[inline(always)]
pub fn full_view(view: &mut SockView, sk: Ptr, tuple: &Tuple, server: u8) {
    mini_view(view, sk, tuple, server);
    view.full = 1;
    view.cgroup_id = cgroup_id(cgroup_of_sock(sk));
    view.err = field!(sk, sk_err);
    view.err_soft = field!(sk, sk_err_soft);
    view.bytes_received = field!(sk, tp_bytes_received);
    view.bytes_sent = field!(sk, tp_bytes_sent);
    view.bytes_acked = field!(sk, tp_bytes_acked);
    view.rcv_nxt = field!(sk, tp_rcv_nxt);
    view.rcv_wup = field!(sk, tp_rcv_wup);
    view.copied_seq = field!(sk, tp_copied_seq);
    view.snd_una = field!(sk, tp_snd_una);
    view.snd_nxt = field!(sk, tp_snd_nxt);
    view.write_seq = field!(sk, tp_write_seq);
    view.snd_wl1 = field!(sk, tp_snd_wl1);
    view.lrcvtime = field!(sk, icsk_lrcvtime);
    view.lsndtime = field!(sk, tp_lsndtime);
    view.data_segs_in = field!(sk, tp_data_segs_in);
    view.data_segs_out = field!(sk, tp_data_segs_out);
    view.retrans_stamp = field!(sk, tp_retrans_stamp);
    view.retransmits = field!(sk, icsk_retransmits);
}

/// 1: the task is exiting.
#[inline(always)]
pub fn exiting(task: Ptr) -> u8 {
    let flags: u32 = field!(task, task_flags);
    u8::from(flags & PF_EXITING != 0)
}
