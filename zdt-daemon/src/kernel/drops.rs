//! Which reasons to drop a packet say nothing about a client's connection. They are named, since their numbers move
//! between releases.

use std::collections::BTreeMap;

/// Not drops, or drops that healthy traffic has.
const QUIET: &[&str] = &[
    "NOT_DROPPED_YET",
    "CONSUMED",
    // Answered with a RST or an ICMP error: both have hooks of their own.
    "NO_SOCKET",
    // A bridge in promiscuous mode hands every packet up, also those between its ports (net/bridge/br_input.c
    // br_handle_frame_finish); the network layer drops them (net/ipv4/ip_input.c ip_rcv_core).
    "OTHERHOST",
    // Copies for those who listen in.
    "SOCKET_FILTER",
    "PACKET_SOCK_ERROR",
    "TAP_FILTER",
    "TAP_TXFILTER",
    // What waits in a socket when it is closed.
    "SOCKET_CLOSE",
    "QUEUE_PURGE",
];

/// A local socket's affairs: old segments, closed windows, resets. The exception is a listener without room.
const LOCAL_TCP: &str = "TCP_";
const NO_ROOM: &str = "TCP_LISTEN_OVERFLOW";

/// The reasons that the kernel half leaves out: bit N of the four words for reason N.
pub(super) fn quiet(names: &BTreeMap<u32, String>) -> [u64; 4] {
    let mut words = [0; 4];
    for (reason, name) in names {
        let word = usize::try_from(reason / 64).ok().and_then(|n| words.get_mut(n));
        if let Some(word) = word
            && (QUIET.contains(&name.as_str()) || (name.starts_with(LOCAL_TCP) && name != NO_ROOM))
        {
            *word |= 1 << (reason % 64);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(reasons: &[(u32, &str)]) -> BTreeMap<u32, String> {
        reasons.iter().map(|(n, name)| (*n, (*name).to_owned())).collect()
    }

    #[test]
    fn only_named_reasons_are_quiet_whatever_their_numbers() {
        let names = named(&[
            (1, "CONSUMED"),
            (63, "NETFILTER_DROP"),
            (64, "OTHERHOST"),
            (200, "TCP_OLD_ACK"),
            (201, "TCP_LISTEN_OVERFLOW"),
            (0xffff_0000, "SUBSYS_MASK"),
        ]);
        assert_eq!(quiet(&names), [1 << 1, 1 << 0, 0, 1 << (200 - 192)]);
    }

    #[test]
    fn a_kernel_without_reasons_leaves_out_none() {
        assert_eq!(quiet(&BTreeMap::new()), [0; 4]);
    }
}
