//! A packet of an event with names instead of numbers.

use std::net::SocketAddr;

use zdt_common::{Ends, IPS_SEEN_REPLY, PacketView};

use super::translate::ip;
use crate::input::{Packet, Protocol, Translation, Tuple};

/// IPPROTO_TCP (include/uapi/linux/in.h).
const TCP: u8 = 6;

pub(super) fn packet(view: &PacketView) -> Packet {
    // The kernel half reports TCP and UDP.
    let protocol = Protocol::from_number(view.protocol).unwrap_or_default();
    let Tuple { from, to } = tuple(&view.ends);
    Packet {
        protocol,
        from,
        to,
        isn: (view.protocol == TCP).then_some(view.isn),
        ct: (view.has_ct != 0).then(|| Translation {
            protocol,
            orig: tuple(&view.orig),
            reply: Some(tuple(&view.reply)),
            replied: view.ct_status & IPS_SEEN_REPLY != 0,
        }),
    }
}

fn tuple(ends: &Ends) -> Tuple {
    Tuple {
        from: SocketAddr::new(ip(ends.saddr), ends.sport),
        to: SocketAddr::new(ip(ends.daddr), ends.dport),
    }
}
