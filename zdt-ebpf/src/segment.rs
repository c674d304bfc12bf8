//! TCP segments as the programs of a cgroup see them: the packet begins with its network header (kernel/bpf/cgroup.c
//! __cgroup_bpf_run_filter_skb), and is read by bpf_skb_load_bytes, wherever its bytes are.

use aya_ebpf::{helpers::bpf_skb_load_bytes, programs::SkBuffContext};
use zdt_common::Addr;

use crate::{filter, packet::TCP, read::Tuple};

/// IPv4 and TCP without options: what is no longer carries nothing.
const HEADERS: u32 = 40;

/// A segment with payload.
pub struct Segment {
    /// As the socket has it.
    pub tuple: Tuple,
    pub seq: u32,
    /// Where its payload begins.
    pub at: u32,
    /// Of its payload; of what the device cuts up (GSO) all of it.
    pub len: u32,
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
        at: 0,
        len: 0,
    };
}

/// Reads so many bytes; false: there are not so many.
#[inline(always)]
pub fn load<const N: usize>(ctx: &SkBuffContext, at: u32, to: &mut [u8; N]) -> bool {
    unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), at, to.as_mut_ptr().cast(), N as u32) == 0 }
}

/// Reads a segment with payload whose local end is the server of an endpoint that goes or may go; false: it is something else. The
/// order of the questions is that of their price: this runs for every packet of every socket of the machine.
#[inline(always)]
pub fn read(to: &mut Segment, ctx: &SkBuffContext, outgoing: bool) -> bool {
    let whole = ctx.len();
    if whole <= HEADERS {
        return false;
    }
    // RFC 791 3.1: length of the header at 0, protocol at 9, addresses at 12 and 16. RFC 8200 3: next header at 6,
    // addresses at 8 and 24; nothing is looked for behind extension headers. With them, what nearly every packet has there: the
    // first 14 bytes of TCP's header behind one of 20 bytes.
    let mut start = [0; 34];
    if !load(ctx, 0, &mut start) {
        return false;
    }
    let transport = match start[0] >> 4 {
        4 if start[9] == TCP => 4 * (start[0] & 15) as u32,
        6 if start[6] == TCP => 40,
        _ => return false,
    };
    // RFC 9293 3.1: ports at 0 and 2, sequence number at 4, length of the header at 12.
    let mut tcp: [u8; 14] = core::array::from_fn(|n| start[20 + n]);
    if transport != 20 && !load(ctx, transport, &mut tcp) {
        return false;
    }
    let at = transport + 4 * (tcp[12] >> 4) as u32;
    if whole <= at {
        return false;
    }
    let (mut from, mut dest) = (Addr([0; 16]), Addr([0; 16]));
    if start[0] >> 4 == 4 {
        from = Addr::v4([start[12], start[13], start[14], start[15]]);
        dest = Addr::v4([start[16], start[17], start[18], start[19]]);
    } else if !load(ctx, 8, &mut from.0) || !load(ctx, 24, &mut dest.0) {
        return false;
    }
    (to.tuple.laddr, to.tuple.raddr) = if outgoing { (from, dest) } else { (dest, from) };
    if !filter::may_go(&to.tuple.laddr) {
        return false;
    }
    let sport = u16::from_be_bytes([tcp[0], tcp[1]]);
    let dport = u16::from_be_bytes([tcp[2], tcp[3]]);
    (to.tuple.lport, to.tuple.rport) = if outgoing { (sport, dport) } else { (dport, sport) };
    to.seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    to.at = at;
    to.len = whole - at;
    filter::side(&to.tuple) == Some(1)
}
