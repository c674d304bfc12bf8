//! Packets that open a connection, where there is no socket to ask: what they carry, whose network namespace they are
//! in, and conntrack's entry, read from the packet itself.
//!
//! Everything is written into memory that is zero before: before 6.3 the verifier refuses a copy of a stack slot that
//! was not written as a whole (kernel/bpf/verifier.c check_stack_read_fixed_off), as `Option` of a struct leaves them.

use zdt_common::{Addr, Ends, IPS_TEMPLATE, PacketView};

use crate::read::{
    self, AF_INET, AF_INET6, IPPROTO_TCP, Ptr, field, global, load, netns_of_dev, netns_of_sock,
};

pub const TCP: u8 = IPPROTO_TCP as u8;
pub const UDP: u8 = 17;

/// RFC 9293 3.1, byte 13.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// An entry's address without the kind of connection (include/linux/skbuff.h NFCT_PTRMASK).
const NFCT_PTRMASK: u64 = !7;
/// A destination's address without the mark that no reference is held (include/linux/skbuff.h SKB_DST_PTRMASK).
const SKB_DST_PTRMASK: u64 = !1;

/// What the headers of a packet say.
pub struct Opening {
    pub ends: Ends,
    /// Of a SYN.
    pub isn: u32,
    pub protocol: u8,
}

impl Opening {
    pub const ZERO: Self = Self {
        ends: Ends::ZERO,
        isn: 0,
        protocol: 0,
    };
}

/// Where a packet's network header is.
#[inline(always)]
pub fn network(skb: Ptr) -> Ptr {
    let head: Ptr = field!(skb, skb_head);
    let at: u16 = field!(skb, skb_network_header);
    head + at as u64
}

/// Reads a packet's headers, the first of which is at `ip`; false: it is neither a SYN without ACK nor a UDP datagram. Behind
/// extension headers of IPv6 and in later fragments nothing is looked for.
#[inline(always)]
pub fn opening(to: &mut Opening, ip: Ptr) -> bool {
    // RFC 791 3.1: length of the header at 0, fragment offset at 6, protocol at 9, addresses at 12 and 16. RFC 8200 3: next
    // header at 6, addresses at 8 and 24. With them, what nearly every packet has there: the ports behind a header of 20 bytes.
    // Behind a packet's last byte the kernel has more of its own (include/linux/skbuff.h skb_shared_info).
    let start: [u8; 34] = read::bytes(ip);
    let (protocol, transport) = match start[0] >> 4 {
        4 if (start[6] & 0x1f) | start[7] == 0 => (start[9], 4 * (start[0] & 15) as u64),
        6 => (start[6], 40),
        _ => return false,
    };
    if protocol != TCP && protocol != UDP {
        return false;
    }
    // RFC 9293 3.1, RFC 768: ports at 0 and 2. Sequence number at 4, flags at 13.
    let ports: [u8; 14] = if transport == 20 {
        core::array::from_fn(|n| start[20 + n])
    } else {
        load(ip + transport)
    };
    if protocol == TCP && ports[13] & (SYN | ACK) != SYN {
        return false;
    }
    to.protocol = protocol;
    if protocol == TCP {
        to.isn = u32::from_be_bytes([ports[4], ports[5], ports[6], ports[7]]);
    }
    to.ends.sport = u16::from_be_bytes([ports[0], ports[1]]);
    to.ends.dport = u16::from_be_bytes([ports[2], ports[3]]);
    if start[0] >> 4 == 4 {
        to.ends.saddr = Addr::v4([start[12], start[13], start[14], start[15]]);
        to.ends.daddr = Addr::v4([start[16], start[17], start[18], start[19]]);
    } else {
        to.ends.saddr = Addr(load(ip + 8));
        to.ends.daddr = Addr(load(ip + 24));
    }
    true
}

/// Whether a packet is in the node's own network namespace: that of its device, or on its way out before it has one,
/// of its socket, or of the device that its route leads to.
#[inline(always)]
pub fn is_the_nodes(skb: Ptr) -> bool {
    let wanted = global!(NODE_NETNS);
    if wanted == 0 {
        return true;
    }
    let dev: Ptr = field!(skb, skb_dev);
    if dev != 0 {
        return netns_of_dev(dev) == wanted;
    }
    let sk: Ptr = field!(skb, skb_sk);
    if sk != 0 {
        return netns_of_sock(sk) == wanted;
    }
    let refdst: u64 = field!(skb, skb_refdst);
    let dst = refdst & SKB_DST_PTRMASK;
    let dev: Ptr = field!(dst, dst_dev);
    dst != 0 && netns_of_dev(dev) == wanted
}

/// conntrack's entry of a packet; 0: none, or a template.
#[inline(always)]
pub fn entry(skb: Ptr) -> Ptr {
    let nfct: u64 = field!(skb, skb_nfct);
    let entry = nfct & NFCT_PTRMASK;
    if entry == 0 {
        return 0;
    }
    let status: u64 = field!(entry, ct_status);
    if status & IPS_TEMPLATE == 0 { entry } else { 0 }
}

/// One direction of an entry. Its addresses are unions: of IPv4 only the first four bytes count.
macro_rules! tuple {
    ($to:expr, $entry:expr, $l3num:expr, $saddr:ident $sport:ident $daddr:ident $dport:ident) => {
        if $l3num == AF_INET {
            $to.saddr = Addr::v4(field!($entry, $saddr));
            $to.daddr = Addr::v4(field!($entry, $daddr));
        } else {
            $to.saddr = Addr(field!($entry, $saddr));
            $to.daddr = Addr(field!($entry, $daddr));
        }
        $to.sport = u16::from_be(field!($entry, $sport));
        $to.dport = u16::from_be(field!($entry, $dport));
    };
}

/// Fills in a packet of an event.
#[inline(always)]
pub fn write(to: &mut PacketView, skb: Ptr, opening: &Opening) {
    to.ends = opening.ends;
    to.isn = opening.isn;
    to.protocol = opening.protocol;
    let entry = entry(skb);
    let l3num: u16 = field!(entry, ct_l3num);
    if entry == 0 || (l3num != AF_INET && l3num != AF_INET6) {
        return;
    }
    to.has_ct = 1;
    to.ct_status = field!(entry, ct_status);
    tuple!(to.orig, entry, l3num, ct_orig_saddr ct_orig_sport ct_orig_daddr ct_orig_dport);
    tuple!(to.reply, entry, l3num, ct_reply_saddr ct_reply_sport ct_reply_daddr ct_reply_dport);
}

/// Where a packet was sent to before any translation, and where replies come from; false: it has no entry.
#[inline(always)]
pub fn translated(skb: Ptr, dialled: &mut Ends, chosen: &mut Ends) -> bool {
    let entry = entry(skb);
    let l3num: u16 = field!(entry, ct_l3num);
    if entry == 0 || (l3num != AF_INET && l3num != AF_INET6) {
        return false;
    }
    tuple!(dialled, entry, l3num, ct_orig_saddr ct_orig_sport ct_orig_daddr ct_orig_dport);
    tuple!(chosen, entry, l3num, ct_reply_saddr ct_reply_sport ct_reply_daddr ct_reply_dport);
    true
}
